//! Fetching one object: hashed while it is written to a temporary file, which gets its name only when the content
//! matches the ETag. A broken connection is continued where it broke.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::header::HeaderMap;
use rusty_s3::Method;
use shingle_proto::ids::BlockHash;
use shingle_seam::entropy::{Entropy, SystemEntropy};
use tokio::sync::mpsc;

use crate::s3::client::{self, Ask, Client, SILENCE_LIMIT, header};
use crate::s3::error::S3Error;
use crate::s3::retry::Retry;
use crate::transfer::attributes::{Attributes, MTIME_HEADER};
use crate::transfer::etag::{BlockHasher, Cut, blocks_in, etag_of};
use crate::transfer::place::Remote;
use crate::transfer::progress::Moved;

/// What came of a download.
#[derive(Debug)]
pub struct Fetched {
    pub bytes: u64,
    pub etag: String,
    /// Whether the bytes were compared with the ETag. Not with one that is not Shingle's, and not when nobody says where
    /// the object's blocks end.
    pub checked: bool,
}

/// Pieces between the connection and the thread that hashes and writes.
const PIECES_WAITING: usize = 16;

/// Asks, with an offset, how the object is cut into blocks from there on; and the answer.
const PIECES_HEADER: &str = "x-shingle-pieces";

/// An object's headers and the hashes of its bytes.
struct Pumped {
    headers: HeaderMap,
    etag: String,
    hashes: Vec<BlockHash>,
    bytes: u64,
    /// The gateway said how the object is cut.
    cut_known: bool,
}

/// What goes to the thread that hashes and writes: how the object is cut, before its first byte, then its bytes.
enum Arrival {
    Cut(Cut),
    Bytes(Bytes),
}

/// An object as its first answer describes it.
struct Described {
    headers: HeaderMap,
    etag: String,
    size_bytes: u64,
    cut_known: bool,
}

/// Fetches an object into a file. `check` off takes what comes (and says so).
pub async fn to_file(
    client: &Client,
    source: &Remote,
    target: &Path,
    keep_attributes: bool,
    check: bool,
    moved: &Moved,
) -> Result<Fetched, S3Error> {
    let local = |error: io::Error| S3Error::Local(format!("{}: {error}", target.display()));
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(local)?;
    let (temporary, file) = Temporary::create(folder).map_err(local)?;
    let (pumped, file) = pump(client, source, file, moved).await?;
    let fetched = judge(&pumped, check)?;
    if keep_attributes && let Some(kept) = Attributes::from_headers(|name| header(&pumped.headers, name)) {
        kept.apply(&file).map_err(local)?;
    }
    temporary.become_file(target).map_err(local)?;
    Ok(fetched)
}

/// Fetches an object into a stream, such as standard output. The bytes are out before the check can speak.
pub async fn to_stream(
    client: &Client,
    source: &Remote,
    stream: impl Write + Send + 'static,
    check: bool,
    moved: &Moved,
) -> Result<Fetched, S3Error> {
    let (pumped, _) = pump(client, source, stream, moved).await?;
    judge(&pumped, check)
}

/// Holds what arrived against the ETag.
fn judge(pumped: &Pumped, check: bool) -> Result<Fetched, S3Error> {
    let computed = etag_of(&pumped.hashes);
    let checked = computed == pumped.etag;
    // Another server's ETag says nothing here.
    let ours = header(&pumped.headers, MTIME_HEADER).is_some();
    let comparable = pumped.cut_known && blocks_in(&pumped.etag).is_some();
    if !checked && check && (ours || comparable) {
        return Err(S3Error::WrongContent { reported: pumped.etag.clone(), computed });
    }
    Ok(Fetched { bytes: pumped.bytes, etag: pumped.etag.clone(), checked })
}

/// Moves the object's bytes into `sink` through a hashing thread.
async fn pump<W: Write + Send + 'static>(
    client: &Client,
    source: &Remote,
    mut sink: W,
    moved: &Moved,
) -> Result<(Pumped, W), S3Error> {
    let (sender, mut receiver) = mpsc::channel::<Arrival>(PIECES_WAITING);
    let writing = tokio::task::spawn_blocking(move || {
        let mut hasher = BlockHasher::default();
        while let Some(arrival) = receiver.blocking_recv() {
            match arrival {
                Arrival::Cut(cut) => hasher = BlockHasher::cut(cut),
                Arrival::Bytes(piece) => {
                    hasher.update(&piece);
                    sink.write_all(&piece)?;
                }
            }
        }
        sink.flush()?;
        Ok::<_, io::Error>((hasher.finish(), sink))
    });
    let received = receive(client, source, sender, moved).await;
    let written = writing.await.map_err(|error| S3Error::Local(error.to_string()))?;
    // A full disk stops the writer first and the receiver because of it: the first is the reason to tell.
    let (hashes, sink) = written.map_err(|error| S3Error::Local(format!("cannot write: {error}")))?;
    let Described { headers, etag, size_bytes: bytes, cut_known } = received?;
    Ok((Pumped { headers, etag, hashes, bytes, cut_known }, sink))
}

/// Receives the whole object, continuing after breaks.
async fn receive(
    client: &Client,
    source: &Remote,
    pieces: mpsc::Sender<Arrival>,
    moved: &Moved,
) -> Result<Described, S3Error> {
    let mut got = 0;
    let mut first: Option<Described> = None;
    let mut attempt = 0;
    loop {
        let before = got;
        match receive_once(client, source, &pieces, moved, &mut got, &mut first).await {
            Ok(()) => break,
            Err(error) if error.is_code("PreconditionFailed") => {
                moved.take_back(got);
                return Err(S3Error::Local("the object was replaced while it was read".into()));
            }
            Err(error) if error.is_passing() && attempt < client.retry.retries => {
                attempt = if got > before { 1 } else { attempt + 1 };
                tracing::debug!(%error, attempt, got, "continuing a broken download");
                tokio::time::sleep(std::time::Duration::from_millis(Retry::wait_ms(attempt))).await;
            }
            Err(error) => {
                moved.take_back(got);
                return Err(error);
            }
        }
    }
    first.ok_or_else(|| S3Error::Malformed("an answer without headers".into()))
}

async fn receive_once(
    client: &Client,
    source: &Remote,
    pieces: &mpsc::Sender<Arrival>,
    moved: &Moved,
    got: &mut u64,
    first: &mut Option<Described>,
) -> Result<(), S3Error> {
    let mut ask = Ask::new(Method::Get, &source.bucket, &source.key);
    match first {
        Some(Described { size_bytes, .. }) if got == size_bytes => return Ok(()),
        Some(Described { etag, .. }) => {
            ask = ask.header("if-match", format!("\"{etag}\"")).header("range", format!("bytes={got}-"));
        }
        None => ask = ask.header(PIECES_HEADER, "0"),
    }
    let answer = client.send(&ask, client::whole(Bytes::new()), 0).await?;
    if first.is_none() {
        let (described, cut) = describe(client, source, answer.headers().clone()).await?;
        pieces.send(Arrival::Cut(cut)).await.map_err(|_| stopped_writing())?;
        *first = Some(described);
    }
    let mut body = answer.into_body();
    loop {
        let frame = tokio::time::timeout(SILENCE_LIMIT, body.frame())
            .await
            .map_err(|_| S3Error::Broken(format!("silent for {} s", SILENCE_LIMIT.as_secs())))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| S3Error::Broken(error.to_string()))?;
        if let Ok(piece) = frame.into_data() {
            let bytes = piece.len() as u64;
            pieces.send(Arrival::Bytes(piece)).await.map_err(|_| stopped_writing())?;
            *got += bytes;
            moved.add(bytes);
        }
    }
    match first {
        Some(Described { size_bytes, .. }) if got != size_bytes => {
            Err(S3Error::Broken(format!("{got} of {size_bytes} bytes came")))
        }
        _ => Ok(()),
    }
}

fn stopped_writing() -> S3Error {
    S3Error::Local("the local side stopped writing".into())
}

/// What the first answer says of the object, and how the object is cut into blocks. An answer has room for thousands of
/// pieces; of an object with more the rest is asked for.
async fn describe(client: &Client, source: &Remote, headers: HeaderMap) -> Result<(Described, Cut), S3Error> {
    let size = header(&headers, "content-length").and_then(|value| value.parse().ok());
    let size_bytes: u64 = size.ok_or_else(|| S3Error::Malformed("no Content-Length in a GET answer".into()))?;
    let etag = client::etag(&headers)?;
    let mut more = header(&headers, PIECES_HEADER).map(cut_of).transpose()?;
    let cut_known = more.is_some();
    let mut cut = Cut::default();
    while let Some(next) = more.take() {
        let came = next.bytes();
        cut.extend(next);
        if came > 0 && cut.bytes() < size_bytes {
            let ask = Ask::new(Method::Head, &source.bucket, &source.key).header("if-match", format!("\"{etag}\""));
            let answer = client.ask(&ask.header(PIECES_HEADER, cut.bytes().to_string()), Bytes::new()).await?;
            more = header(&answer.headers, PIECES_HEADER).map(cut_of).transpose()?;
        }
    }
    Ok((Described { headers, etag, size_bytes, cut_known }, cut))
}

fn cut_of(text: &str) -> Result<Cut, S3Error> {
    Cut::parse(text).ok_or_else(|| S3Error::Malformed(format!("{PIECES_HEADER}: {text:?}")))
}

/// A file without its final name; removed unless it gets it.
struct Temporary {
    path: PathBuf,
    kept: bool,
}

impl Temporary {
    fn create(folder: &Path) -> io::Result<(Self, File)> {
        let path = folder.join(format!(".shingle-{:016x}.part", SystemEntropy.u64()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok((Self { path, kept: false }, file))
    }

    fn become_file(mut self, target: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, target)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a temporary file stays behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use shingle_codec::hash;

    use super::*;

    fn pumped(etag: &str, ours: bool) -> Pumped {
        let mut headers = HeaderMap::new();
        if ours {
            headers.insert(MTIME_HEADER, "1.000000000".parse().unwrap());
        }
        Pumped { headers, etag: etag.into(), hashes: vec![hash::sha256(b"x")], bytes: 1, cut_known: true }
    }

    #[test]
    fn matching_content_is_checked_and_other_content_refused() {
        let right = etag_of(&[hash::sha256(b"x")]);
        assert!(judge(&pumped(&right, false), true).unwrap().checked);
        let wrong = etag_of(&[hash::sha256(b"y")]);
        assert!(matches!(judge(&pumped(&wrong, false), true), Err(S3Error::WrongContent { .. })));
        assert!(!judge(&pumped(&wrong, false), false).unwrap().checked);
    }

    #[test]
    fn an_object_cut_who_knows_how_cannot_be_checked_but_ours_must_be() {
        let odd_parts = etag_of(&[hash::sha256(b"x"), hash::sha256(b"y")]);
        let unknown = |etag: &str, ours| Pumped { cut_known: false, ..pumped(etag, ours) };
        assert!(!judge(&unknown(&odd_parts, false), true).unwrap().checked);
        assert!(judge(&unknown(&odd_parts, true), true).is_err());
        assert!(judge(&pumped(&odd_parts, false), true).is_err());
        let of_another_server = pumped("d41d8cd98f00b204e9800998ecf8427e", false);
        assert!(!judge(&of_another_server, true).unwrap().checked);
    }

    #[test]
    fn a_temporary_file_vanishes_unless_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (temporary, _) = Temporary::create(dir.path()).unwrap();
        drop(temporary);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let (temporary, _) = Temporary::create(dir.path()).unwrap();
        temporary.become_file(&dir.path().join("kept")).unwrap();
        assert!(dir.path().join("kept").exists());
    }
}
