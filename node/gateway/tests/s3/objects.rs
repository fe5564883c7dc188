//! The verbs, as far as the scripts in `tests/clients` do not say it better through real clients.

use super::client::Client;

impl Client {
    /// Starts a multipart upload; its id.
    pub async fn create_upload(&self, path: &'static str) -> String {
        let created = self.request("POST", path).query("uploads", "").send().await.expect(200, "").text();
        let id = created.split_once("<UploadId>").and_then(|(_, rest)| rest.split_once("</UploadId>"));
        id.map(|(id, _)| id.to_owned()).unwrap()
    }
}

#[tokio::test]
async fn an_object_comes_back_with_its_headers_and_its_etag() {
    let client = Client::start().await;
    let put = client
        .request("PUT", "/buc/dir/key%20%2B")
        .header("content-type", "text/plain")
        .header("cache-control", "no-cache")
        .header("x-amz-meta-colour", "blue")
        .body("some text")
        .send()
        .await
        .expect(200, "");
    for method in ["GET", "HEAD"] {
        let got = client.request(method, "/buc/dir/key%20%2B").send().await.expect(200, "");
        assert_eq!(got.header("etag"), put.header("etag"));
        assert_eq!((got.header("content-type"), got.header("cache-control")), ("text/plain", "no-cache"));
        assert_eq!((got.header("x-amz-meta-colour"), got.header("accept-ranges")), ("blue", "bytes"));
        assert_eq!(got.header("content-length"), "9");
        assert_eq!(got.text(), if method == "GET" { "some text" } else { "" });
        assert!(!got.header("last-modified").is_empty() && !got.header("x-amz-request-id").is_empty());
    }
}

#[tokio::test]
async fn ranges_are_cut_at_the_end_and_named() {
    let client = Client::start().await;
    client.request("PUT", "/buc/k").body("0123456789").send().await.expect(200, "");
    for (range, text, named) in [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=8-", "89", "bytes 8-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
        ("bytes=5-99", "56789", "bytes 5-9/10"),
    ] {
        let got = client.request("GET", "/buc/k").header("range", range).send().await.expect(206, "");
        assert_eq!((got.text().as_str(), got.header("content-range")), (text, named));
        let head = client.request("HEAD", "/buc/k").header("range", range).send().await.expect(206, "");
        assert_eq!(
            (head.header("content-length"), head.header("content-range")),
            (text.len().to_string().as_str(), named)
        );
    }
    let behind = client.request("GET", "/buc/k").header("range", "bytes=10-").send().await.expect(416, "InvalidRange");
    assert_eq!(behind.header("content-range"), "bytes */10");
}

#[tokio::test]
async fn ranges_that_say_nothing_are_ignored() {
    let client = Client::start().await;
    client.request("PUT", "/buc/k").body("0123456789").send().await.expect(200, "");
    for range in ["bytes=0-1,4-5", "bytes=5-2", "bytes=x-", "lines=0-1", "bytes", "bytes=99999999999999999999-"] {
        for method in ["GET", "HEAD"] {
            let got = client.request(method, "/buc/k").header("range", range).send().await.expect(200, "");
            assert_eq!((got.header("content-length"), got.header("content-range")), ("10", ""), "{range}");
            assert!(!got.header("x-amz-request-id").is_empty());
        }
    }
    let stranger = Client { secret_key: "wrong".into(), ..client.clone() };
    let forged = stranger.request("GET", "/buc/k").header("range", "bytes=5-2").send().await;
    forged.expect(403, "SignatureDoesNotMatch");
    let request = hyper::Request::get("/buc/k").header("host", "localhost").header("range", "bytes=5-2");
    let unsigned = client.send(request.body(http_body_util::Full::default()).unwrap()).await;
    unsigned.expect(403, "AccessDenied");
}

#[tokio::test]
async fn conditions_answer_304_and_412() {
    let client = Client::start().await;
    let etag = client.request("PUT", "/buc/k").body("x").send().await.header("etag").to_owned();
    let get = |name: &str, value: &str| client.request("GET", "/buc/k").header(name, value).send();
    let unchanged = get("if-none-match", &etag).await.expect(304, "");
    assert_eq!(unchanged.header("etag"), etag);
    get("if-none-match", "\"other\"").await.expect(200, "");
    get("if-match", "\"other\"").await.expect(412, "PreconditionFailed");
    get("if-match", "*").await.expect(200, "");
    get("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT").await.expect(304, "");
    get("if-unmodified-since", "Wed, 01 Jan 2020 00:00:00 GMT").await.expect(412, "PreconditionFailed");
    let put = |name: &str, value: &str| client.request("PUT", "/buc/k").header(name, value).body("y").send();
    put("if-none-match", "*").await.expect(412, "PreconditionFailed");
    put("if-match", "\"other\"").await.expect(412, "PreconditionFailed");
    put("if-match", &etag).await.expect(200, "");
    let delete = client.request("DELETE", "/buc/k").header("if-match", &etag);
    delete.send().await.expect(412, "PreconditionFailed");
    client.request("DELETE", "/buc/k").send().await.expect(204, "");
}

#[tokio::test]
async fn listings_page_fold_and_escape() {
    let client = Client::start().await;
    for key in ["a%20b", "dir/1", "dir/2", "%C3%BC", "z"] {
        client.request("PUT", &format!("/buc/{key}")).send().await.expect(200, "");
    }
    let list = |extra: [(&'static str, String); 2]| {
        let list = client.request("GET", "/buc").query("list-type", "2").query("delimiter", "/").query("max-keys", "2");
        extra.into_iter().fold(list, |list, (name, value)| list.query(name, &value)).send()
    };
    let first = list([("encoding-type", "url".into()), ("fetch-owner", "true".into())]).await.expect(200, "").text();
    assert!(first.contains("<Key>a%20b</Key>") && first.contains("<Prefix>dir/</Prefix>"), "{first}");
    assert!(first.contains("<IsTruncated>true</IsTruncated>") && first.contains("<KeyCount>2</KeyCount>"), "{first}");
    assert!(first.contains("<Owner>"), "{first}");
    let token = first.split_once("<NextContinuationToken>").unwrap().1.split_once('<').unwrap().0.to_owned();
    let second = list([("continuation-token", token), ("start-after", "ignored".into())]).await.expect(200, "").text();
    assert!(second.contains("<Key>z</Key>") && second.contains("<Key>ü</Key>"), "{second}");
    assert!(second.contains("<IsTruncated>false</IsTruncated>") && !second.contains("<Owner>"), "{second}");
    let none =
        client.request("GET", "/buc").query("list-type", "2").query("max-keys", "0").send().await.expect(200, "");
    assert!(none.text().contains("<IsTruncated>false</IsTruncated>"));
    let old =
        client.request("GET", "/buc").query("max-keys", "1").query("marker", "dir/1").send().await.expect(200, "");
    assert!(old.text().contains("<NextMarker>dir/2</NextMarker>"), "{}", old.text());
}

#[tokio::test]
async fn a_copy_keeps_what_it_is_told_to_keep() {
    let client = Client::start().await;
    let put = client.request("PUT", "/buc/from").header("x-amz-meta-a", "1").header("x-amz-checksum-crc32", "y/Q5Jg==");
    let etag = put.body("123456789").send().await.expect(200, "").header("etag").to_owned();
    let copy = |path: &'static str| client.request("PUT", path).header("x-amz-copy-source", "buc/from");
    copy("/buc/same").send().await.expect(200, "");
    copy("/buc/other")
        .header("x-amz-metadata-directive", "REPLACE")
        .header("x-amz-meta-b", "2")
        .send()
        .await
        .expect(200, "");
    for (path, a, b) in [("/buc/same", "1", ""), ("/buc/other", "", "2")] {
        let head = client.request("HEAD", path).header("x-amz-checksum-mode", "ENABLED").send().await.expect(200, "");
        assert_eq!((head.header("x-amz-meta-a"), head.header("x-amz-meta-b")), (a, b), "{path}");
        assert_eq!(head.header("x-amz-checksum-crc32"), "y/Q5Jg==", "the bytes are the same");
    }
    copy("/buc/from").send().await.expect(400, "InvalidRequest");
    copy("/buc/x").header("x-amz-copy-source-if-match", "\"other\"").send().await.expect(412, "PreconditionFailed");
    copy("/buc/x").header("x-amz-copy-source-if-none-match", &etag).send().await.expect(412, "PreconditionFailed");
    copy("/buc/same").header("if-none-match", "*").send().await.expect(412, "PreconditionFailed");
    copy("/buc/x").header("x-amz-copy-source-if-match", &etag).send().await.expect(200, "");
}

impl Client {
    /// Stores an object of parts, each with its checksum; `completed` adds to the request that completes it.
    async fn put_in_parts(
        &self,
        path: &'static str,
        parts: &[&[u8]],
        completed: &[(&'static str, &str)],
    ) -> super::client::Answer {
        let crc = |bytes: &[u8]| {
            let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bytes) as u32;
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, crc.to_be_bytes())
        };
        let create = self.request("POST", path).query("uploads", "").header("x-amz-checksum-algorithm", "CRC32");
        let created = create.header("x-amz-checksum-type", "FULL_OBJECT").send().await.expect(200, "");
        assert_eq!(created.header("x-amz-checksum-type"), "FULL_OBJECT");
        let created = created.text();
        let upload = created.split_once("<UploadId>").unwrap().1.split_once('<').unwrap().0.to_owned();
        let mut xml = String::new();
        for (number, part) in (1..).zip(parts) {
            let put = self.request("PUT", path).query("partNumber", &number.to_string()).query("uploadId", &upload);
            let put = put.header("x-amz-checksum-crc32", &crc(part)).body(part.to_vec()).send().await.expect(200, "");
            let (etag, sum) = (put.header("etag"), put.header("x-amz-checksum-crc32"));
            xml += &format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><ChecksumCRC32>{sum}</ChecksumCRC32></Part>"
            );
        }
        let listed = self.request("GET", path).query("uploadId", &upload).send().await.expect(200, "").text();
        let sum = crc(parts[0]);
        assert!(listed.contains(&format!("<ChecksumCRC32>{sum}</ChecksumCRC32>")), "{listed}");
        assert!(listed.contains("<ChecksumType>FULL_OBJECT</ChecksumType>"), "{listed}");
        let xml = format!("<CompleteMultipartUpload>{xml}</CompleteMultipartUpload>");
        let complete = self.request("POST", path).query("uploadId", &upload).body(xml);
        completed.iter().fold(complete, |complete, (name, value)| complete.header(name, value)).send().await
    }
}

#[tokio::test]
async fn an_object_of_parts_is_read_part_by_part() {
    let client = Client::start().await;
    let parts: [&[u8]; 3] = [&vec![1; 5 << 20], &vec![2; 6 << 20], b"tail"];
    client.put_in_parts("/buc/k", &parts, &[]).await.expect(200, "");
    let at = [(0, 5 << 20), (5 << 20, 6 << 20), (11 << 20, 4)];
    for (number, (part, (first, length))) in (1..).zip(parts.iter().zip(at)) {
        let named = format!("bytes {first}-{}/{}", first + length - 1, (11 << 20) + 4);
        for method in ["GET", "HEAD"] {
            let got = client.request(method, "/buc/k").query("partNumber", &number.to_string()).send().await;
            let got = got.expect(206, "");
            assert_eq!((got.header("content-range"), got.header("x-amz-mp-parts-count")), (named.as_str(), "3"));
            assert_eq!(got.header("content-length"), length.to_string());
            assert!(method == "HEAD" || got.body == *part);
        }
    }
    let whole = client.request("HEAD", "/buc/k").send().await.expect(200, "");
    assert_eq!(whole.header("x-amz-mp-parts-count"), "", "said to who asks for a part");
    let part = |number: &str| client.request("GET", "/buc/k").query("partNumber", number);
    part("4").send().await.expect(416, "InvalidPartNumber");
    part("0").send().await.expect(400, "InvalidArgument");
    part("1").header("range", "bytes=0-1").send().await.expect(400, "InvalidRequest");
    part("1").header("if-match", "\"other\"").send().await.expect(412, "PreconditionFailed");
    client.request("PUT", "/buc/one").body("whole").send().await.expect(200, "");
    let one = client.request("GET", "/buc/one").query("partNumber", "1").send().await.expect(206, "");
    assert_eq!((one.text().as_str(), one.header("x-amz-mp-parts-count")), ("whole", ""));
    client.request("PUT", "/buc/empty").send().await.expect(200, "");
    client.request("GET", "/buc/empty").query("partNumber", "1").send().await.expect(200, "");
}

#[tokio::test]
async fn the_checksum_of_a_completed_object_is_answered_with_its_type() {
    let client = Client::start().await;
    let claimed = [("x-amz-checksum-crc32", "y/Q5Jg=="), ("x-amz-checksum-type", "FULL_OBJECT")];
    let done = client.put_in_parts("/buc/k", &[b"123456789"], &claimed).await.expect(200, "").text();
    assert!(done.contains("<ChecksumCRC32>y/Q5Jg==</ChecksumCRC32>"), "{done}");
    assert!(done.contains("<ChecksumType>FULL_OBJECT</ChecksumType>"), "{done}");
    let head = client.request("HEAD", "/buc/k").header("x-amz-checksum-mode", "ENABLED").send().await.expect(200, "");
    assert_eq!((head.header("x-amz-checksum-crc32"), head.header("x-amz-checksum-type")), ("y/Q5Jg==", "FULL_OBJECT"));
}

#[tokio::test]
async fn who_asks_is_told_how_an_object_is_cut_into_blocks() {
    let client = Client::start().await;
    let (five, four) = (vec![1; 5 << 20], vec![2; 8 << 20]);
    client.put_in_parts("/buc/odd", &[&five, &five, &four, b"tail"], &[]).await.expect(200, "");
    client.request("PUT", "/buc/even").body(vec![1; 9 << 20]).send().await.expect(200, "");
    client.request("PUT", "/buc/small").body("x").send().await.expect(200, "");
    let cut = |path: &str, from: u64| client.request("HEAD", path).header("x-shingle-pieces", &from.to_string()).send();
    let odd = format!("{0}x2,{1}", 5 << 20, (8 << 20) + 4);
    for (path, pieces) in [("/buc/odd", odd.as_str()), ("/buc/even", "9437184"), ("/buc/small", "1")] {
        assert_eq!(cut(path, 0).await.expect(200, "").header("x-shingle-pieces"), pieces, "{path}");
    }
    let rest = cut("/buc/odd", 10 << 20).await.expect(200, "");
    assert_eq!(rest.header("x-shingle-pieces"), ((8 << 20) + 4).to_string());
    let got = client.request("GET", "/buc/odd").header("x-shingle-pieces", "0").send().await.expect(200, "");
    assert_eq!((got.header("x-shingle-pieces"), got.body.len()), (odd.as_str(), (18 << 20) + 4));
    assert_eq!(client.request("HEAD", "/buc/odd").send().await.header("x-shingle-pieces"), "");
    for bad in ["x", "-1", "1"] {
        let head = client.request("GET", "/buc/odd").header("x-shingle-pieces", bad).send().await;
        head.expect(400, "InvalidArgument");
    }
}

#[tokio::test]
async fn an_upload_says_how_long_it_will_be() {
    let client = Client::start().await;
    let upload = client.create_upload("/buc/k").await;
    let part = client.request("PUT", "/buc/k").query("partNumber", "1").query("uploadId", &upload).body("12345");
    let etag = part.send().await.expect(200, "").header("etag").to_owned();
    let xml = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    );
    for (size, status, code) in [("4", 400, "InvalidRequest"), ("5", 200, "")] {
        let complete = client.request("POST", "/buc/k").query("uploadId", &upload).header("x-amz-mp-object-size", size);
        complete.body(xml.clone()).send().await.expect(status, code);
    }
    assert_eq!(client.request("GET", "/buc/k").send().await.text(), "12345");
}
