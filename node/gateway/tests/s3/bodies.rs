//! Bodies as SDKs send them: checksums in headers and trailers, chunked, signed; every mismatch is refused and nothing
//! is stored.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::Digest as _;

use super::client::{Client, UNSIGNED, chunked, signed_chunks};

const STREAMING: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const STREAMING_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

fn body() -> Bytes {
    (0..300_000u32).map(|i| (i * 7) as u8).collect()
}

fn crc32(body: &[u8]) -> String {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, body) as u32;
    STANDARD.encode(crc.to_be_bytes())
}

fn crc64nvme(body: &[u8]) -> String {
    STANDARD.encode(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, body).to_be_bytes())
}

async fn is_absent(client: &Client, path: &str) {
    client.request("GET", path).send().await.expect(404, "NoSuchKey");
}

#[tokio::test]
async fn unsigned_chunks_with_a_trailing_checksum_are_stored_and_the_checksum_is_kept() {
    let client = Client::start().await;
    let body = body();
    for (name, value) in [("crc32", crc32(&body)), ("crc64nvme", crc64nvme(&body))] {
        let header = format!("x-amz-checksum-{name}");
        // One chunk for all, as the Go SDK sends it, and chunks of 64 KiB.
        for chunk in [body.len(), 65536] {
            let path = format!("/buc/{name}-{chunk}");
            let put = client
                .request("PUT", &path)
                .payload(UNSIGNED_TRAILER)
                .header("content-encoding", "aws-chunked")
                .header("x-amz-decoded-content-length", &body.len().to_string())
                .header("x-amz-sdk-checksum-algorithm", &name.to_uppercase())
                .header("x-amz-trailer", &header)
                .body(chunked(&body, chunk, &format!("{header}:{value}")))
                .send()
                .await
                .expect(200, "");
            assert_eq!(put.header(&header), value);
            let got =
                client.request("GET", &path).header("x-amz-checksum-mode", "ENABLED").send().await.expect(200, "");
            assert_eq!(got.body, body);
            assert_eq!((got.header(&header), got.header("x-amz-checksum-type")), (value.as_str(), "FULL_OBJECT"));
            assert_eq!(got.header("content-encoding"), "");
            let part =
                client.request("GET", &path).header("x-amz-checksum-mode", "ENABLED").header("range", "bytes=1-2");
            assert_eq!(part.send().await.expect(206, "").header(&header), "");
        }
    }
}

#[tokio::test]
async fn a_wrong_missing_or_unknown_trailer_stores_nothing() {
    let client = Client::start().await;
    let body = body();
    let right = crc32(&body);
    for (announced, trailer, status, code) in [
        ("x-amz-checksum-crc32", "x-amz-checksum-crc32:AAAAAA==", 400, "BadDigest"),
        ("x-amz-checksum-crc32", "x-amz-checksum-crc32:AAAA", 400, "InvalidRequest"),
        ("x-amz-checksum-crc32", "", 400, "MalformedTrailerError"),
        ("x-amz-checksum-crc32c", &format!("x-amz-checksum-crc32:{right}"), 400, "MalformedTrailerError"),
        ("x-amz-checksum-xxhash", "x-amz-checksum-xxhash:AAAA", 400, "InvalidRequest"),
    ] {
        client
            .request("PUT", "/buc/k")
            .payload(UNSIGNED_TRAILER)
            .header("x-amz-decoded-content-length", &body.len().to_string())
            .header("x-amz-trailer", announced)
            .body(chunked(&body, 65536, trailer))
            .send()
            .await
            .expect(status, code);
        is_absent(&client, "/buc/k").await;
    }
}

#[tokio::test]
async fn a_chunked_body_of_another_length_than_announced_stores_nothing() {
    let client = Client::start().await;
    let body = body();
    let trailer = format!("x-amz-checksum-crc32:{}", crc32(&body));
    for length in [body.len() - 1, body.len() + 1] {
        client
            .request("PUT", "/buc/k")
            .payload(UNSIGNED_TRAILER)
            .header("x-amz-decoded-content-length", &length.to_string())
            .header("x-amz-trailer", "x-amz-checksum-crc32")
            .body(chunked(&body, 65536, &trailer))
            .send()
            .await
            .expect(400, "IncompleteBody");
        is_absent(&client, "/buc/k").await;
    }
}

#[tokio::test]
async fn signed_chunks_are_stored_with_and_without_trailers() {
    let client = Client::start().await;
    let body = body();
    let trailer = format!("x-amz-checksum-crc32:{}", crc32(&body));
    for (mode, trailer) in [(STREAMING, None), (STREAMING_TRAILER, Some(trailer.as_str()))] {
        let mut put = client
            .request("PUT", "/buc/signed")
            .payload(mode)
            .header("x-amz-decoded-content-length", &body.len().to_string())
            .body(body.clone());
        if trailer.is_some() {
            put = put.header("x-amz-trailer", "x-amz-checksum-crc32");
        }
        let put = put.build_with(|client, seed, body| signed_chunks(client, seed, &body, 65536, trailer));
        client.send(put).await.expect(200, "");
        assert_eq!(client.request("GET", "/buc/signed").send().await.body, body);
    }
}

#[tokio::test]
async fn a_forged_chunk_or_trailer_stores_nothing() {
    let client = Client::start().await;
    let body = body();
    let wrong = "x-amz-checksum-crc32:AAAAAA==";
    for (forge, code) in [(100_000, "SignatureDoesNotMatch"), (usize::MAX, "BadDigest")] {
        let put = client
            .request("PUT", "/buc/forged")
            .payload(STREAMING_TRAILER)
            .header("x-amz-decoded-content-length", &body.len().to_string())
            .header("x-amz-trailer", "x-amz-checksum-crc32")
            .body(body.clone())
            .build_with(|client, seed, body| {
                let mut sent = signed_chunks(client, seed, &body, 65536, Some(wrong)).to_vec();
                if let Some(byte) = sent.get_mut(forge) {
                    *byte ^= 1;
                }
                sent.into()
            });
        let answer = client.send(put).await;
        assert_eq!(answer.code(), code);
        assert!(answer.status.is_client_error());
        is_absent(&client, "/buc/forged").await;
    }
}

#[tokio::test]
async fn a_signed_chunk_above_the_limit_is_refused() {
    let client = Client::start().await;
    let body = Bytes::from(vec![1; 2 << 20]);
    let put = client
        .request("PUT", "/buc/k")
        .payload(STREAMING)
        .header("x-amz-decoded-content-length", &body.len().to_string())
        .body(body)
        .build_with(|client, seed, body| signed_chunks(client, seed, &body, 2 << 20, None));
    client.send(put).await.expect(400, "InvalidRequest");
}

#[tokio::test]
async fn md5_and_payload_hash_are_verified() {
    let client = Client::start().await;
    let md5 = STANDARD.encode(md5::Md5::digest(body()));
    client.request("PUT", "/buc/k").header("content-md5", &md5).body(body()).send().await.expect(200, "");
    let bad = "1B2M2Y8AsgTpgAmY7PhCfg==";
    client.request("PUT", "/buc/bad").header("content-md5", bad).body(body()).send().await.expect(400, "BadDigest");
    client.request("PUT", "/buc/bad").header("content-md5", "?").body(body()).send().await.expect(400, "InvalidDigest");
    let hash = "0".repeat(64);
    let put = client.request("PUT", "/buc/bad").payload(&hash).body(body());
    put.send().await.expect(400, "XAmzContentSHA256Mismatch");
    is_absent(&client, "/buc/bad").await;
}

#[tokio::test]
async fn checksums_in_headers_are_verified_for_objects_and_parts() {
    let client = Client::start().await;
    let sum = crc64nvme(&body());
    for (name, value, status, code) in [
        ("x-amz-checksum-crc64nvme", sum.as_str(), 200, ""),
        ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA=", 400, "BadDigest"),
        ("x-amz-checksum-sha512", "AAAA", 501, "NotImplemented"),
        ("x-amz-sdk-checksum-algorithm", "CRC32", 400, "InvalidRequest"),
    ] {
        let put = client.request("PUT", "/buc/k").payload(UNSIGNED).header(name, value).body(body());
        put.send().await.expect(status, code);
    }
    let upload = client.create_upload("/buc/parts").await;
    let part = |value: &'static str| {
        let part = client.request("PUT", "/buc/parts").query("partNumber", "1").query("uploadId", &upload);
        part.header("x-amz-checksum-crc32", value).body("123456789").send()
    };
    part("AAAAAA==").await.expect(400, "BadDigest");
    assert_eq!(part("y/Q5Jg==").await.expect(200, "").header("x-amz-checksum-crc32"), "y/Q5Jg==");
}

#[tokio::test]
async fn bodies_of_xml_are_verified_before_they_are_obeyed() {
    let client = Client::start().await;
    client.request("PUT", "/buc/k").body("kept").send().await.expect(200, "");
    let xml = "<Delete><Object><Key>k</Key></Object></Delete>";
    let bad_md5 = "1B2M2Y8AsgTpgAmY7PhCfg==";
    let delete =
        |name: &str, value: &str| client.request("POST", "/buc").query("delete", "").header(name, value).body(xml);
    delete("content-md5", bad_md5).send().await.expect(400, "BadDigest");
    delete("x-amz-checksum-crc32", "AAAAAA==").send().await.expect(400, "BadDigest");
    let unhashed = client.request("POST", "/buc").query("delete", "").payload(&"0".repeat(64)).body(xml);
    unhashed.send().await.expect(400, "XAmzContentSHA256Mismatch");
    client.request("GET", "/buc/k").send().await.expect(200, "");
    let sum = crc32(xml.as_bytes());
    delete("x-amz-checksum-crc32", &sum).send().await.expect(200, "");
    is_absent(&client, "/buc/k").await;
}
