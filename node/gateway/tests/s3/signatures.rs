//! Who may ask: one credential, in the header or in the query, within the clock's tolerance. Everybody else gets 403.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};

use super::client::{ACCESS_KEY, Client, REGION, SECRET_KEY};

fn bucket(client: &Client) -> Bucket {
    let endpoint = format!("http://{}", client.address).parse().unwrap();
    Bucket::new(endpoint, UrlStyle::Path, "buc", REGION).unwrap()
}

fn by_url(method: &str, url: &str, body: &'static str) -> Request<Full<Bytes>> {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let request = Request::builder().method(method).uri(format!("/{path}")).header("host", host);
    request.body(Full::new(body.into())).unwrap()
}

#[tokio::test]
async fn presigned_urls_of_another_implementation_put_and_get() {
    let client = Client::start().await;
    let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY);
    let bucket = bucket(&client);
    let life = Duration::from_secs(60);
    let put = bucket.put_object(Some(&credentials), "a key/ü+").sign(life);
    client.send(by_url("PUT", put.as_str(), "by url")).await.expect(200, "");
    let get = bucket.get_object(Some(&credentials), "a key/ü+").sign(life);
    assert_eq!(client.send(by_url("GET", get.as_str(), "")).await.expect(200, "").text(), "by url");

    let other = bucket.get_object(Some(&credentials), "another").sign(life);
    let forged = get.as_str().replace("%C3%BC", "u");
    client.send(by_url("GET", &forged, "")).await.expect(403, "SignatureDoesNotMatch");
    client.send(by_url("GET", other.as_str(), "")).await.expect(404, "NoSuchKey");
    client.send(by_url("PUT", get.as_str(), "x")).await.expect(403, "SignatureDoesNotMatch");
    let long = bucket.get_object(Some(&credentials), "k").sign(Duration::from_secs(8 * 24 * 3600));
    client.send(by_url("GET", long.as_str(), "")).await.expect(400, "AuthorizationQueryParametersError");
    let stranger = Credentials::new("AKIDSTRANGER", SECRET_KEY);
    let strange = bucket.get_object(Some(&stranger), "k").sign(life);
    client.send(by_url("GET", strange.as_str(), "")).await.expect(403, "InvalidAccessKeyId");
}

#[tokio::test]
async fn wrong_secrets_and_unknown_keys_get_403() {
    let client = Client::start().await;
    let wrong = Client { secret_key: "wrong".into(), ..client.clone() };
    wrong.request("GET", "/").send().await.expect(403, "SignatureDoesNotMatch");
    wrong.request("PUT", "/buc/k").body("x").send().await.expect(403, "SignatureDoesNotMatch");
    let unknown = Client { access_key: "AKIDUNKNOWN".into(), ..client.clone() };
    unknown.request("GET", "/").send().await.expect(403, "InvalidAccessKeyId");
    client.request("GET", "/buc/k").send().await.expect(404, "NoSuchKey");
}

#[tokio::test]
async fn requests_without_a_signature_get_403_whatever_they_ask() {
    let client = Client::start().await;
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/buc"),
        ("GET", "/buc/k"),
        ("HEAD", "/buc/k"),
        ("PUT", "/new"),
        ("PUT", "/buc/k"),
        ("DELETE", "/buc"),
        ("POST", "/buc?delete"),
        ("POST", "/buc/k?uploads"),
        ("GET", "/buc?acl"),
    ] {
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let answer = client.send(request.body(Full::new(Bytes::new())).unwrap()).await;
        assert_eq!(answer.status, 403, "{method} {path}: {}", answer.text());
    }
}

#[tokio::test]
async fn clocks_apart_by_more_than_a_quarter_of_an_hour_are_refused() {
    let client = Client::start().await;
    for offset in [-1000, 1000] {
        let late = Client { clock_offset_s: offset, ..client.clone() };
        late.request("GET", "/").send().await.expect(403, "RequestTimeTooSkewed");
        let near = Client { clock_offset_s: offset / 2, ..client.clone() };
        near.request("GET", "/").send().await.expect(200, "");
    }
}

#[tokio::test]
async fn signatures_of_version_2_and_browser_forms_are_refused_unread() {
    let client = Client::start().await;
    let request = |uri: &str| Request::builder().method("GET").uri(uri).header("host", "localhost");
    let old = request("/buc/k").header("authorization", "AWS AKID:c2lnbmF0dXJl").body(Full::default()).unwrap();
    client.send(old).await.expect(400, "InvalidRequest");
    let old = request("/buc/k?AWSAccessKeyId=A&Signature=B&Expires=9999999999").body(Full::default()).unwrap();
    client.send(old).await.expect(400, "InvalidRequest");
    let form = client.request("POST", "/buc").header("content-type", "multipart/form-data; boundary=x").body("--x--");
    form.send().await.expect(501, "NotImplemented");
}
