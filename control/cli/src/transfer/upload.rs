//! Storing one file: read and hashed on a blocking thread, streamed into the request, compared with the ETag.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use rusty_s3::Method;
use shingle_codec::hash;
use shingle_proto::ids::BlockHash;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::s3::client::{self, Ask, Body, Client};
use crate::s3::error::S3Error;
use crate::transfer::attributes::Attributes;
use crate::transfer::etag::{BLOCK_BYTES, etag_of};
use crate::transfer::place::Remote;
use crate::transfer::progress::Moved;

/// A run of a file's bytes: the whole file, or one part of it.
#[derive(Clone, Debug)]
pub struct Span {
    pub path: PathBuf,
    pub offset_bytes: u64,
    pub length_bytes: u64,
}

/// Counts what one try moved, so that a failed try can be taken back from the total.
pub struct Tally {
    total: Moved,
    mine: Moved,
}

impl Tally {
    pub fn new(total: &Moved) -> Self {
        Self { total: total.clone(), mine: Moved::default() }
    }

    pub fn share(&self) -> Self {
        Self { total: self.total.clone(), mine: self.mine.clone() }
    }

    pub fn add(&self, bytes: u64) {
        self.total.add(bytes);
        self.mine.add(bytes);
    }

    pub fn undo(self) {
        self.total.take_back(self.mine.bytes());
    }
}

type Hashes = JoinHandle<io::Result<Vec<BlockHash>>>;

/// A body that reads the span block by block, and the hashes of what was read. At most two blocks wait in between.
fn body_of(span: &Span, tally: Tally) -> (Body, Hashes) {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(1);
    let span = span.clone();
    let hashes = tokio::task::spawn_blocking(move || {
        let read = read_blocks(&span, |block| {
            tally.add(block.len() as u64);
            // The request has ended early when nobody takes the block: its own error says why.
            sender.blocking_send(Ok(block)).map_err(|_| io::ErrorKind::BrokenPipe.into())
        });
        if let Err(error) = &read {
            let told = io::Error::new(error.kind(), error.to_string());
            if sender.blocking_send(Err(told)).is_err() {
                tracing::debug!(%error, "the request ended before its body");
            }
        }
        read
    });
    let frames = stream::unfold(receiver, async |mut receiver| {
        let block = receiver.recv().await?;
        Some((block.map(Frame::data), receiver))
    });
    (StreamBody::new(frames).boxed_unsync(), hashes)
}

fn read_blocks(span: &Span, mut each: impl FnMut(Bytes) -> io::Result<()>) -> io::Result<Vec<BlockHash>> {
    let mut file = File::open(&span.path)?;
    file.seek(SeekFrom::Start(span.offset_bytes))?;
    let mut hashes = Vec::new();
    let mut left = span.length_bytes;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK_BYTES);
        let mut block = vec![0; length];
        file.read_exact(&mut block).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::other("the file became shorter while it was read"),
            _ => error,
        })?;
        hashes.push(hash::sha256(&block));
        each(Bytes::from(block))?;
        left -= length as u64;
    }
    Ok(hashes)
}

/// Sends the span as the body of `ask`, once; the hashes of its blocks, after the endpoint's ETag has been compared.
pub async fn send_span(client: &Client, ask: &Ask, span: &Span, moved: &Moved) -> Result<Vec<BlockHash>, S3Error> {
    let tally = Tally::new(moved);
    let (body, hashes) = body_of(span, tally.share());
    let sent = client.send(ask, body, span.length_bytes).await;
    let outcome = match (sent, hashes.await) {
        (_, Err(error)) => Err(S3Error::Local(format!("{}: {error}", span.path.display()))),
        // A pipe broken by the request's end is the request's error, anything else the file's.
        (sent, Ok(Err(error))) if error.kind() != io::ErrorKind::BrokenPipe || sent.is_ok() => {
            Err(S3Error::Local(format!("{}: {error}", span.path.display())))
        }
        (Err(error), _) => Err(error),
        (Ok(_), Ok(Err(error))) => Err(S3Error::Broken(error.to_string())),
        (Ok(answer), Ok(Ok(hashes))) => {
            client::etag(answer.headers()).and_then(|reported| compare(&reported, &hashes)).map(|()| hashes)
        }
    };
    if outcome.is_err() {
        tally.undo();
    }
    outcome
}

/// Holds a stored object's ETag against the bytes that were sent.
pub fn compare(reported: &str, hashes: &[BlockHash]) -> Result<(), S3Error> {
    let computed = etag_of(hashes);
    if reported.trim_matches('"') == computed {
        Ok(())
    } else {
        Err(S3Error::WrongContent { reported: reported.into(), computed })
    }
}

/// Request headers that go with a new object: its attributes and a content type by its name.
pub fn object_headers(source: &Path, attributes: Option<Attributes>) -> Vec<(String, String)> {
    let mut headers = attributes.map(|kept| kept.headers()).unwrap_or_default();
    headers.push(("content-type".into(), content_type(source).into()));
    headers
}

/// The types browsers need; everything else is just bytes.
fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "html" | "htm" => "text/html",
        "txt" | "md" | "log" => "text/plain",
        "css" => "text/css",
        "js" => "text/javascript",
        "json" => "application/json",
        "csv" => "text/csv",
        "xml" => "application/xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        "webp" => "image/webp",
        "pdf" => "application/pdf",
        "mp4" => "video/mp4",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}

/// Stores a whole file in one request, trying again after errors that pass. The ETag.
pub async fn put(
    client: &Client,
    span: &Span,
    target: &Remote,
    headers: Vec<(String, String)>,
    moved: &Moved,
) -> Result<String, S3Error> {
    let mut ask = Ask::new(Method::Put, &target.bucket, &target.key);
    ask.headers = headers;
    let hashes = client.retry.run(async || send_span(client, &ask, span, moved).await).await?;
    Ok(etag_of(&hashes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span_of(path: &Path, offset_bytes: u64, length_bytes: u64) -> Span {
        Span { path: path.into(), offset_bytes, length_bytes }
    }

    #[test]
    fn a_span_is_read_in_whole_blocks() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let data: Vec<u8> = (0..2 * BLOCK_BYTES + 5).map(|i| (i % 251) as u8).collect();
        std::fs::write(file.path(), &data).unwrap();
        let mut lengths = Vec::new();
        let hashes = read_blocks(&span_of(file.path(), BLOCK_BYTES as u64, BLOCK_BYTES as u64 + 5), |block| {
            lengths.push(block.len());
            Ok(())
        })
        .unwrap();
        assert_eq!(lengths, [BLOCK_BYTES, 5]);
        assert_eq!(hashes, [hash::sha256(&data[BLOCK_BYTES..2 * BLOCK_BYTES]), hash::sha256(&data[2 * BLOCK_BYTES..])]);
    }

    #[test]
    fn a_file_that_shrinks_is_an_error_not_a_short_object() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"short").unwrap();
        let error = read_blocks(&span_of(file.path(), 0, 6), |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("shorter"), "{error}");
    }

    #[test]
    fn a_different_etag_is_wrong_content() {
        let hashes = [hash::sha256(b"x")];
        assert_eq!(compare(&format!("\"{}\"", etag_of(&hashes)), &hashes), Ok(()));
        assert!(matches!(compare(&etag_of(&[]), &hashes), Err(S3Error::WrongContent { .. })));
    }
}
