//! A small S3 client for tests: signs as the documents of AWS say, sends exactly what a test wants sent, and keeps
//! nothing from the answer. Independent of the library under test.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use shingle_gateway::s3::{S3Options, S3Server};
use tokio::net::TcpStream;

use super::fake_core;

pub const ACCESS_KEY: &str = "AKIDTESTTESTTESTTEST";
pub const SECRET_KEY: &str = "secretsecretsecretsecretsecretsecretsecr";
pub const REGION: &str = "us-east-1";
pub const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// A server over a fake core, and a way to talk to it.
#[derive(Clone)]
pub struct Client {
    pub address: SocketAddr,
    pub access_key: String,
    pub secret_key: String,
    /// Added to the time that requests are signed with.
    pub clock_offset_s: i64,
}

/// One connection to the server.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The `<Code>` of an error.
    pub fn code(&self) -> String {
        let text = String::from_utf8_lossy(&self.body).into_owned();
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        code.map(|(code, _)| code.to_owned()).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    #[track_caller]
    pub fn expect(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status.as_u16(), self.code().as_str()), (status, code), "{}", self.text());
        self
    }
}

/// A request in the making.
pub struct Sent<'c> {
    client: &'c Client,
    method: &'static str,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: Bytes,
    payload: Option<String>,
}

/// What a chunked body's signatures continue from.
pub struct Seed {
    pub signature: String,
    pub date: String,
}

impl Client {
    /// Starts a server with a bucket `buc` in this runtime.
    pub async fn start() -> Self {
        let options = S3Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            access_key: ACCESS_KEY.into(),
            secret_key: SECRET_KEY.into(),
            region: REGION.into(),
        };
        let server = S3Server::bind(options, fake_core::start(), 7).await.unwrap();
        let address = server.local_address();
        tokio::spawn(server.run(std::future::pending()));
        let client = Self { address, access_key: ACCESS_KEY.into(), secret_key: SECRET_KEY.into(), clock_offset_s: 0 };
        client.request("PUT", "/buc").send().await.expect(200, "");
        client
    }

    /// A request for a path, in its escaped form.
    pub fn request(&self, method: &'static str, path: &str) -> Sent<'_> {
        Sent {
            client: self,
            method,
            path: path.to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            body: Bytes::new(),
            payload: None,
        }
    }

    /// Sends a request as it is.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        self.try_send(request).await.unwrap()
    }

    pub async fn try_send(&self, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        self.connect().await?.try_send(request).await
    }

    /// A connection for several requests.
    pub async fn connect(&self) -> Result<Connection, hyper::Error> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection { sender })
    }

    fn date(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 + self.clock_offset_s;
        let (days, seconds) = (now.div_euclid(86_400), now.rem_euclid(86_400));
        // Civil date from days since 1970 (Howard Hinnant's algorithm).
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
        let year = yoe + era * 400 + i64::from(month <= 2);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
    }

    pub fn sign(&self, date: &str, text: &str) -> String {
        let mac = |key: &[u8], data: &str| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data.as_bytes()).as_ref().to_vec()
        };
        let key = mac(format!("AWS4{}", self.secret_key).as_bytes(), &date[..8]);
        let key = mac(&mac(&mac(&key, REGION), "s3"), "aws4_request");
        hex(&mac(&key, text))
    }
}

impl Connection {
    /// Sends a request on this connection.
    pub async fn try_send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        let (parts, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }
}

impl Sent<'_> {
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((escape(name), escape(value)));
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets x-amz-content-sha256; the body's own hash without it.
    pub fn payload(mut self, payload: &str) -> Self {
        self.payload = Some(payload.to_owned());
        self
    }

    /// Signs, and lets `finish` make the body from the signature.
    pub fn build_with(mut self, finish: impl FnOnce(&Client, Seed, Bytes) -> Bytes) -> Request<Full<Bytes>> {
        let client = self.client;
        let date = client.date();
        let payload = self.payload.take().unwrap_or_else(|| sha256_hex(&self.body));
        self.headers.push(("host".into(), client.address.to_string()));
        self.headers.push(("x-amz-date".into(), date.clone()));
        self.headers.push(("x-amz-content-sha256".into(), payload.clone()));
        self.headers.sort();
        self.query.sort();
        let query: Vec<String> = self.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let query = query.join("&");
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(";");
        let lines: String = self.headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let canonical = format!("{}\n{}\n{query}\n{lines}\n{names}\n{payload}", self.method, self.path);
        let scope = format!("{}/{REGION}/s3/aws4_request", &date[..8]);
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256_hex(canonical.as_bytes()));
        let signature = client.sign(&date, &text);
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            client.access_key
        );
        let uri = if query.is_empty() { self.path.clone() } else { format!("{}?{query}", self.path) };
        let mut request = Request::builder().method(self.method).uri(uri).header("authorization", authorization);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(finish(client, Seed { signature, date }, self.body))).unwrap()
    }

    pub fn build(self) -> Request<Full<Bytes>> {
        self.build_with(|_, _, body| body)
    }

    pub async fn send(self) -> Answer {
        let client = self.client;
        client.send(self.build()).await
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

pub fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// An unsigned aws-chunked body with one trailer.
pub fn chunked(body: &[u8], chunk: usize, trailer: &str) -> Bytes {
    let mut out = Vec::new();
    for piece in body.chunks(chunk) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("0\r\n{trailer}\r\n\r\n").as_bytes());
    out.into()
}

/// A signed aws-chunked body, with a signed trailer if there is one.
pub fn signed_chunks(client: &Client, seed: Seed, body: &[u8], chunk: usize, trailer: Option<&str>) -> Bytes {
    let Seed { mut signature, date } = seed;
    let scope = format!("{}/{REGION}/s3/aws4_request", &date[..8]);
    let empty = sha256_hex(b"");
    let mut out = Vec::new();
    for piece in body.chunks(chunk).chain([&b""[..]]) {
        let text = format!("AWS4-HMAC-SHA256-PAYLOAD\n{date}\n{scope}\n{signature}\n{empty}\n{}", sha256_hex(piece));
        signature = client.sign(&date, &text);
        out.extend_from_slice(format!("{:x};chunk-signature={signature}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        if !piece.is_empty() || trailer.is_none() {
            out.extend_from_slice(b"\r\n");
        }
    }
    if let Some(trailer) = trailer {
        let text = format!(
            "AWS4-HMAC-SHA256-TRAILER\n{date}\n{scope}\n{signature}\n{}",
            sha256_hex(format!("{trailer}\n").as_bytes())
        );
        let signature = client.sign(&date, &text);
        out.extend_from_slice(format!("{trailer}\r\nx-amz-trailer-signature:{signature}\r\n\r\n").as_bytes());
    }
    out.into()
}
