//! What must not hurt: malformed, oversized, half-sent and nonsensical input, each with its error and without effect.

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{Client, UNSIGNED};

#[tokio::test]
async fn names_that_are_not_there_or_not_allowed() {
    let client = Client::start().await;
    client.request("PUT", "/absent/k").body("x").send().await.expect(404, "NoSuchBucket");
    client.request("GET", "/absent").send().await.expect(404, "NoSuchBucket");
    client.request("DELETE", "/absent").send().await.expect(404, "NoSuchBucket");
    client.request("PUT", "/Not_Allowed").send().await.expect(400, "InvalidBucketName");
    client.request("PUT", "/buc").send().await.expect(409, "BucketAlreadyOwnedByYou");
    let longest = "k".repeat(1024);
    client.request("PUT", &format!("/buc/{longest}")).body("x").send().await.expect(200, "");
    client.request("PUT", &format!("/buc/{longest}k")).body("x").send().await.expect(400, "KeyTooLongError");
    client.request("GET", &format!("/buc/{longest}k")).send().await.expect(400, "KeyTooLongError");
    let keys = format!("<Delete><Object><Key>{longest}k</Key></Object><Object><Key>a</Key></Object></Delete>");
    let deleted =
        client.request("POST", "/buc").query("delete", "").body(keys).send().await.expect(200, "KeyTooLongError");
    assert!(deleted.text().contains("<Key>a</Key>"));
}

#[tokio::test]
async fn an_empty_object_is_an_object() {
    let client = Client::start().await;
    client.request("PUT", "/buc/empty").send().await.expect(200, "");
    let got = client.request("GET", "/buc/empty").send().await.expect(200, "");
    assert_eq!((got.body.len(), got.header("content-length")), (0, "0"));
    assert_eq!(got.header("etag"), "\"e3b0c44298fc1c149afbf4c8996fb924-0\"");
    client.request("GET", "/buc/empty").header("range", "bytes=0-").send().await.expect(416, "InvalidRange");
}

#[tokio::test]
async fn a_client_that_disconnects_half_way_stores_nothing() {
    let client = Client::start().await;
    let mut head = Vec::new();
    let request = client.request("PUT", "/buc/half").payload(UNSIGNED).header("content-length", "1000000").build();
    head.extend_from_slice(b"PUT /buc/half HTTP/1.1\r\n");
    for (name, value) in request.headers() {
        head.extend_from_slice(format!("{name}: {}\r\n", value.to_str().unwrap()).as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    for sent in [0, 1, 400_000, 999_999] {
        let mut stream = TcpStream::connect(client.address).await.unwrap();
        stream.write_all(&head).await.unwrap();
        stream.write_all(&vec![7; sent]).await.unwrap();
        stream.flush().await.unwrap();
        drop(stream);
        client.request("GET", "/buc/half").send().await.expect(404, "NoSuchKey");
    }
    client.request("PUT", "/buc/whole").body("still serving").send().await.expect(200, "");
}

#[tokio::test]
async fn garbage_on_the_port_closes_that_connection_only() {
    let client = Client::start().await;
    let noise: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let long_header = [b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'a'; 100_000]].concat();
    for bytes in [
        &noise[..],
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: banana\r\n\r\n",
        b"PUT /buc/%ff%zz HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzzzz\r\n",
        &long_header,
    ] {
        let mut stream = TcpStream::connect(client.address).await.unwrap();
        // The server may close before it has read all of it.
        let written = stream.write_all(bytes).await;
        let closed = written.is_err() || stream.shutdown().await.is_err();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer).await;
        assert!(closed || read.is_err() || answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{answer:?}");
    }
    client.request("GET", "/").send().await.expect(200, "");
}

#[tokio::test]
async fn promises_that_would_not_be_kept_are_refused() {
    let client = Client::start().await;
    for (name, value, status, code) in [
        ("x-amz-acl", "public-read", 400, "AccessControlListNotSupported"),
        ("x-amz-grant-read", "id=x", 400, "AccessControlListNotSupported"),
        ("x-amz-storage-class", "GLACIER", 400, "InvalidStorageClass"),
        ("x-amz-server-side-encryption", "aws:kms", 501, "NotImplemented"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256", 501, "NotImplemented"),
        ("x-amz-tagging", "a=b", 501, "NotImplemented"),
        ("x-amz-object-lock-mode", "COMPLIANCE", 501, "NotImplemented"),
        ("x-amz-website-redirect-location", "/x", 501, "NotImplemented"),
        ("x-amz-expected-bucket-owner", "111122223333", 403, "AccessDenied"),
        ("x-amz-acl", "private", 200, ""),
        ("x-amz-server-side-encryption", "AES256", 200, ""),
        ("x-amz-storage-class", "STANDARD", 200, ""),
    ] {
        client.request("PUT", "/buc/k").header(name, value).body("x").send().await.expect(status, code);
    }
    for (method, query) in [("GET", "tagging"), ("DELETE", "tagging"), ("GET", "acl")] {
        client.request(method, "/buc/k").query(query, "1").send().await.expect(501, "NotImplemented");
    }
    client.request("GET", "/buc/k").query("versionId", "v1").send().await.expect(404, "NoSuchVersion");
    let metadata = "v".repeat(2048);
    client.request("PUT", "/buc/k").header("x-amz-meta-m", &metadata).send().await.expect(400, "MetadataTooLarge");
}

#[tokio::test]
async fn sizes_above_the_limits_are_refused_before_their_bytes_come() {
    let client = Client::start().await;
    let put = client
        .request("PUT", "/buc/k")
        .payload("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        .header("x-amz-decoded-content-length", &(5u64 * 1024 * 1024 * 1024 + 1).to_string())
        .header("x-amz-trailer", "x-amz-checksum-crc32")
        .body("0\r\n\r\n");
    put.send().await.expect(400, "EntityTooLarge");
    let xml = vec![b' '; 9 << 20];
    let delete = client.request("POST", "/buc").query("delete", "").body(Bytes::from(xml));
    delete.send().await.expect(400, "MaxMessageLengthExceeded");
}

#[tokio::test]
async fn malformed_xml_and_parameters_are_refused() {
    let client = Client::start().await;
    for body in [
        "",
        "<",
        "<Delete>",
        "<Delete></Delete>",
        "not xml at all",
        "<!DOCTYPE x [<!ENTITY a \"b\">]><Delete>&a;</Delete>",
    ] {
        let answer = client.request("POST", "/buc").query("delete", "").body(body).send().await;
        assert!(answer.status.is_client_error(), "{body}: {}", answer.text());
    }
    for (name, value) in
        [("max-keys", "-1"), ("max-keys", "many"), ("continuation-token", "garbage!"), ("encoding-type", "base64")]
    {
        let list = client.request("GET", "/buc").query("list-type", "2").query(name, value);
        list.send().await.expect(400, "InvalidArgument");
    }
    let many = (0..1001).map(|i| format!("<Object><Key>{i}</Key></Object>")).collect::<String>();
    let delete = client.request("POST", "/buc").query("delete", "").body(format!("<Delete>{many}</Delete>"));
    delete.send().await.expect(400, "MalformedXML");
}

#[tokio::test]
async fn uploads_and_parts_that_make_no_sense_are_refused() {
    let client = Client::start().await;
    let upload = client.create_upload("/buc/k").await;
    for (number, code) in [("0", "InvalidArgument"), ("10001", "InvalidArgument"), ("-1", "InvalidArgument")] {
        let part = client.request("PUT", "/buc/k").query("partNumber", number).query("uploadId", &upload).body("x");
        part.send().await.expect(400, code);
    }
    for upload in ["garbage", &"f".repeat(32), ""] {
        let part = client.request("PUT", "/buc/k").query("partNumber", "1").query("uploadId", upload).body("x");
        part.send().await.expect(404, "NoSuchUpload");
    }
    let many: String =
        (1..=10_001).map(|i| format!("<Part><PartNumber>{i}</PartNumber><ETag>e</ETag></Part>")).collect();
    for (parts, status, code) in [
        (String::new(), 400, "MalformedXML"),
        (many, 400, "InvalidArgument"),
        ("<Part><PartNumber>1</PartNumber></Part>".into(), 400, "MalformedXML"),
        ("<Part><PartNumber>1</PartNumber><ETag>e</ETag></Part>".into(), 400, "InvalidPart"),
        (
            "<Part><PartNumber>2</PartNumber><ETag>e</ETag></Part><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part>".into(),
            400,
            "InvalidPartOrder",
        ),
    ] {
        let xml = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let complete = client.request("POST", "/buc/k").query("uploadId", &upload).body(xml);
        complete.send().await.expect(status, code);
    }
    for (name, value) in [("x-amz-checksum-type", "HALF_OBJECT"), ("x-amz-checksum-type", "FULL_OBJECT")] {
        let create = client.request("POST", "/buc/k").query("uploads", "").header(name, value);
        create.send().await.expect(400, "InvalidRequest");
    }
    for (algorithm, kind) in [("CRC64NVME", "COMPOSITE"), ("SHA256", "FULL_OBJECT")] {
        let create = client.request("POST", "/buc/k").query("uploads", "").header("x-amz-checksum-type", kind);
        create.header("x-amz-checksum-algorithm", algorithm).send().await.expect(400, "InvalidRequest");
    }
}

#[tokio::test]
async fn a_busy_core_is_slow_down_even_while_the_body_is_still_coming() {
    let client = Client::start().await;
    let body = Bytes::from(vec![1; 8 << 20]);
    client.request("PUT", "/buc/fault/slow-down").body(body).send().await.expect(503, "SlowDown");
}

#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_still_gets_its_answer() {
    let client = Client::start().await;
    let body_bytes = 64 << 20;
    let request = client.request("PUT", "/buc/fault/slow-down").payload(UNSIGNED);
    let request = request.header("content-length", &body_bytes.to_string()).build();
    let mut stream = TcpStream::connect(client.address).await.unwrap();
    stream.write_all(b"PUT /buc/fault/slow-down HTTP/1.1\r\n").await.unwrap();
    for (name, value) in request.headers() {
        stream.write_all(format!("{name}: {}\r\n", value.to_str().unwrap()).as_bytes()).await.unwrap();
    }
    stream.write_all(b"\r\n").await.unwrap();
    let piece = vec![1; 1 << 20];
    for _ in 0..body_bytes / piece.len() {
        stream.write_all(&piece).await.unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("<Code>SlowDown</Code>"), "{answer}");
}

#[tokio::test]
async fn every_error_says_what_and_where_and_under_which_id() {
    let client = Client::start().await;
    let stranger = Client { secret_key: "wrong".into(), ..client.clone() };
    for (answer, resource) in [
        (client.request("GET", "/buc/absent").send().await, "/buc/absent"),
        (client.request("GET", "/absent").query("list-type", "2").send().await, "/absent"),
        (client.request("PUT", "/Not_Allowed").send().await, "/Not_Allowed"),
        (client.request("GET", &format!("/buc/{}", "k".repeat(1025))).send().await, "/buc/kk"),
        (client.request("PATCH", "/buc/k").send().await, "/buc/k"),
        (client.request("GET", "/buc").query("acl", "").send().await, "/buc"),
        (client.request("POST", "/buc").query("delete", "").body("<").send().await, "/buc"),
        (client.request("PUT", "/buc/k").header("content-md5", "?").body("x").send().await, "/buc/k"),
        (client.request("GET", "/buc/k").query("versionId", "v").send().await, "/buc/k"),
        (stranger.request("GET", "/buc/k").send().await, "/buc/k"),
        (client.request("GET", "/buc/%ff").send().await, "/buc/%ff"),
    ] {
        let (text, id) = (answer.text(), answer.header("x-amz-request-id"));
        assert!(answer.status.is_client_error() || answer.status.is_server_error(), "{resource}: {}", answer.status);
        assert_eq!(answer.header("content-type"), "application/xml");
        assert!(!answer.code().is_empty() && !id.is_empty(), "{text}");
        assert!(text.contains("<Message>") && !text.contains("<Message></Message>"), "{text}");
        assert!(text.contains(&format!("<Resource>{resource}")), "{text}");
        assert!(text.contains(&format!("<RequestId>{id}</RequestId>")), "{text}");
    }
}

#[tokio::test]
async fn a_read_that_fails_in_the_middle_is_never_a_short_success() {
    let client = Client::start().await;
    client.request("PUT", "/buc/fault/half").body(Bytes::from(vec![1; 4 << 20])).send().await.expect(200, "");
    let request = client.request("GET", "/buc/fault/half").build();
    assert!(client.try_send(request).await.is_err());
    client.request("GET", "/").send().await.expect(200, "");
}

#[tokio::test]
async fn a_refusal_says_whether_its_connection_ends() {
    let client = Client::start().await;
    let put = |key: &str, bytes: usize| client.request("PUT", key).body(Bytes::from(vec![1; bytes]));
    for (request, status) in [
        (put("/absent/k", 100), 404),
        (put("/buc/k", 100).header("content-md5", "not base64"), 400),
        (put("/buc/k", 4 << 20).header("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="), 400),
        (put("/buc/k", 4 << 20).header("x-amz-acl", "public-read"), 400),
        (put("/buc/fault/slow-down", 8 << 20), 503),
        (client.request("GET", "/buc/absent"), 404),
        (client.request("HEAD", "/absent"), 404),
    ] {
        let mut connection = client.connect().await.unwrap();
        let answer = connection.try_send(request.build()).await.unwrap();
        assert_eq!(answer.status, status);
        if answer.header("connection") == "close" {
            continue;
        }
        let next = connection.try_send(client.request("GET", "/").build()).await;
        assert!(next.is_ok_and(|answer| answer.status == 200), "a connection that was not announced to end");
    }
    // An idle connection stays: nothing was left unread.
    let kept = client.request("GET", "/buc/absent").send().await;
    assert_eq!((kept.status.as_u16(), kept.header("connection")), (404, ""));
}
