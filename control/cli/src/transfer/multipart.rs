//! Storing what is too large, or too unknown in size, for one request: parts of whole blocks, several at a time.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{self, Read};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use rusty_s3::Method;
use shingle_codec::hash;
use shingle_proto::ids::BlockHash;
use shingle_proto::limits::S3_PARTS_MAX;
use tokio::sync::mpsc;

use crate::s3::client::{self, Ask, Client};
use crate::s3::error::S3Error;
use crate::transfer::etag::{BLOCK_BYTES, etag_of};
use crate::transfer::place::Remote;
use crate::transfer::progress::Moved;
use crate::transfer::slots::Slots;
use crate::transfer::upload::{Span, compare, send_span};

/// Files above this size are stored in parts of this size, unless that made too many parts.
pub const PART_BYTES: u64 = 64 << 20;
/// The first parts of a stream of unknown size: they are kept in memory, so that a failed one can be sent again.
const STREAM_PART_BYTES: u64 = 16 << 20;
/// After so many parts a stream's part size doubles: 5 TiB fit into S3's 10,000 parts.
const STREAM_PARTS_PER_SIZE: u32 = 1_000;

/// The part size for a file: whole blocks, at most 10,000 parts.
pub fn part_bytes(file_bytes: u64) -> u64 {
    let least = file_bytes.div_ceil(u64::from(S3_PARTS_MAX));
    least.max(PART_BYTES).next_multiple_of(BLOCK_BYTES as u64)
}

/// The size of part `number` (from 1 on) of a stream.
fn stream_part_bytes(number: u32) -> u64 {
    STREAM_PART_BYTES << ((number - 1) / STREAM_PARTS_PER_SIZE).min(16)
}

/// Uploads that were started and not yet ended: given up when the command is interrupted.
#[derive(Default)]
pub struct OpenUploads(RefCell<BTreeSet<(String, String, String)>>);

impl OpenUploads {
    fn add(&self, object: &Remote, upload: &str) {
        self.0.borrow_mut().insert((object.bucket.clone(), object.key.clone(), upload.into()));
    }

    fn remove(&self, object: &Remote, upload: &str) {
        self.0.borrow_mut().remove(&(object.bucket.clone(), object.key.clone(), upload.into()));
    }

    /// Tells the endpoint to forget them all.
    pub async fn abort_all(&self, client: &Client) {
        let open = std::mem::take(&mut *self.0.borrow_mut());
        for (bucket, key, upload) in open {
            abort(client, &Remote { bucket, key }, &upload).await;
        }
    }
}

async fn abort(client: &Client, object: &Remote, upload: &str) {
    if let Err(error) = client.abort_upload(object, upload).await {
        tracing::warn!(%object, %error, "an unfinished upload stays behind until it is aborted");
    }
}

/// What the uploads of one command share.
pub struct Lanes<'a> {
    pub client: &'a Client,
    pub moved: &'a Moved,
    pub open: &'a OpenUploads,
    /// Shared by all files.
    pub slots: &'a Slots,
    pub jobs: usize,
}

/// One part that has been stored: its number, ETag and blocks.
type Part = (u32, String, Vec<BlockHash>);

impl Lanes<'_> {
    /// Stores a file in parts. The ETag of the object.
    pub async fn upload_file(
        &self,
        whole: &Span,
        target: &Remote,
        headers: Vec<(String, String)>,
    ) -> Result<String, S3Error> {
        let part_bytes = part_bytes(whole.length_bytes);
        let count = whole.length_bytes.div_ceil(part_bytes);
        let spans = (0..count).map(|index| {
            let start = index * part_bytes;
            let length_bytes = part_bytes.min(whole.length_bytes - start);
            let offset_bytes = whole.offset_bytes + start;
            (index as u32 + 1, Span { path: whole.path.clone(), offset_bytes, length_bytes })
        });
        self.in_upload(target, headers, async |upload| {
            let parts = stream::iter(spans).map(|(number, span)| async move {
                let ask = part_ask(target, upload, number);
                let _slots = self.slots.take(span.length_bytes).await;
                let hashes =
                    self.client.retry.run(async || send_span(self.client, &ask, &span, self.moved).await).await?;
                Ok::<Part, S3Error>((number, etag_of(&hashes), hashes))
            });
            parts.buffer_unordered(self.jobs).try_collect().await
        })
        .await
    }

    /// Stores standard input (or any reader): in one request when it is short, in parts otherwise. ETag and size.
    pub async fn upload_stream(
        &self,
        reader: impl Read + Send + 'static,
        target: &Remote,
        headers: Vec<(String, String)>,
    ) -> Result<(String, u64), S3Error> {
        let mut pieces = pieces_of(reader);
        let local = |error: io::Error| S3Error::Local(format!("standard input: {error}"));
        let first = pieces.recv().await.transpose().map_err(local)?.unwrap_or_default();
        let second = pieces.recv().await.transpose().map_err(local)?;
        let Some(second) = second else {
            let mut ask = Ask::new(Method::Put, &target.bucket, &target.key);
            ask.headers = headers;
            let bytes = first.len() as u64;
            let (etag, _) = self.send_bytes(&ask, first).await?;
            return Ok((etag, bytes));
        };
        let mut bytes = (first.len() + second.len()) as u64;
        let early = [Ok(first), Ok(second)];
        let etag = self
            .in_upload(target, headers, async |upload| {
                let late = stream::unfold(&mut pieces, async |pieces| Some((pieces.recv().await?, pieces)));
                let counted = late.inspect_ok(|piece: &Bytes| bytes += piece.len() as u64);
                let numbered = stream::iter(early).chain(counted).enumerate();
                let parts = numbered.map(|(index, piece)| async move {
                    let number = index as u32 + 1;
                    let ask = part_ask(target, upload, number);
                    let (etag, hashes) = self.send_bytes(&ask, piece.map_err(local)?).await?;
                    Ok::<Part, S3Error>((number, etag, hashes))
                });
                // Two at a time: each is in memory.
                parts.buffer_unordered(2).try_collect().await
            })
            .await?;
        Ok((etag, bytes))
    }

    /// Opens an upload, stores its parts with `store`, and completes or aborts it.
    async fn in_upload(
        &self,
        target: &Remote,
        headers: Vec<(String, String)>,
        store: impl AsyncFnOnce(&str) -> Result<Vec<Part>, S3Error>,
    ) -> Result<String, S3Error> {
        let upload = self.client.start_upload(target, headers).await?;
        self.open.add(target, &upload);
        let result = match store(&upload).await {
            Ok(parts) => self.complete(target, &upload, parts).await,
            Err(error) => Err(error),
        };
        if result.is_err() {
            abort(self.client, target, &upload).await;
        }
        self.open.remove(target, &upload);
        result
    }

    async fn complete(&self, target: &Remote, upload: &str, mut parts: Vec<Part>) -> Result<String, S3Error> {
        parts.sort_by_key(|(number, ..)| *number);
        let hashes: Vec<_> = parts.iter().flat_map(|(.., hashes)| hashes.iter().copied()).collect();
        let etags: Vec<_> = parts.into_iter().map(|(_, etag, _)| etag).collect();
        let reported = self.client.complete_upload(target, upload, &etags).await?;
        compare(&reported, &hashes)?;
        Ok(reported)
    }

    /// Sends bytes that are in memory and compares the ETag.
    async fn send_bytes(&self, ask: &Ask, body: Bytes) -> Result<(String, Vec<BlockHash>), S3Error> {
        let _slots = self.slots.take(body.len() as u64).await;
        let to_hash = body.clone();
        let hashing = tokio::task::spawn_blocking(move || to_hash.chunks(BLOCK_BYTES).map(hash::sha256).collect());
        let hashes: Vec<_> = hashing.await.map_err(|error| S3Error::Local(error.to_string()))?;
        let answer = self.client.ask(ask, body.clone()).await?;
        let reported = client::etag(&answer.headers)?;
        compare(&reported, &hashes)?;
        self.moved.add(body.len() as u64);
        Ok((reported, hashes))
    }
}

fn part_ask(target: &Remote, upload: &str, number: u32) -> Ask {
    Ask::new(Method::Put, &target.bucket, &target.key).query("partNumber", number.to_string()).query("uploadId", upload)
}

/// Reads a stream part by part on a blocking thread, one part ahead.
fn pieces_of(mut reader: impl Read + Send + 'static) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        for number in 1..=S3_PARTS_MAX {
            let mut piece = Vec::new();
            let read = (&mut reader).take(stream_part_bytes(number)).read_to_end(&mut piece);
            let end = matches!(read, Ok(0));
            if end || sender.blocking_send(read.map(|_| Bytes::from(piece))).is_err() {
                return;
            }
        }
        let too_long = io::Error::other("more bytes than S3 allows in one object");
        if reader.read(&mut [0]).is_ok_and(|count| count > 0) && sender.blocking_send(Err(too_long)).is_err() {
            tracing::debug!("the upload ended before its stream");
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_blocks_and_never_too_many() {
        for file_bytes in [PART_BYTES + 1, 1 << 40, 5 << 40] {
            let part = part_bytes(file_bytes);
            assert_eq!(part % BLOCK_BYTES as u64, 0);
            assert!(file_bytes.div_ceil(part) <= u64::from(S3_PARTS_MAX), "{file_bytes}");
        }
        assert_eq!(part_bytes(1 << 30), PART_BYTES);
    }

    #[test]
    fn the_parts_of_a_stream_hold_the_largest_object() {
        let total: u64 = (1..=S3_PARTS_MAX).map(stream_part_bytes).sum();
        assert!(total >= 5 << 40);
        assert!((1..=S3_PARTS_MAX).all(|number| stream_part_bytes(number).is_multiple_of(BLOCK_BYTES as u64)));
    }

    #[test]
    fn a_stream_is_cut_into_parts_and_ends() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let lengths = runtime.block_on(async {
            let mut pieces = pieces_of(io::repeat(7).take(STREAM_PART_BYTES + 3));
            let mut lengths = Vec::new();
            while let Some(piece) = pieces.recv().await {
                lengths.push(piece.unwrap().len() as u64);
            }
            lengths
        });
        assert_eq!(lengths, [STREAM_PART_BYTES, 3]);
    }
}
