//! What simulated clients do, and what they may see: every key has one client, so its possible contents are known.
//!
//! Invariant checked (DESIGN 5.1): an acknowledged object reads back exact; one whose put was not acknowledged is
//! absent, or whole, or what it was before.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use shingle_gateway::request::{Body, BodyPiece, CoreRequest, CoreSender, GatewayError, ObjectName};
use shingle_proto::message::{CreateS3Bucket, DeleteObject, ErrorCode, ObjectHeaders, ObjectRow, Request, Response};
use tokio::sync::{mpsc, oneshot};

/// The S3 bucket of every simulated client.
pub const S3_BUCKET: &str = "simulated";

/// One of the contents clients write; few of them, so that blocks are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Content(pub u64);

impl Content {
    /// The bytes: mostly small, now and then more than one block, now and then empty.
    pub fn bytes(self) -> Vec<u8> {
        let mut random = StdRng::seed_from_u64(self.0);
        let length = match self.0 % 8 {
            0 => 0,
            1 => (4 << 20) + random.random_range(0..100_000),
            2 => random.random_range(1..300_000),
            _ => random.random_range(1..40_000),
        };
        let mut bytes = vec![0; length];
        if self.0.is_multiple_of(2) {
            random.fill_bytes(&mut bytes);
        } else {
            bytes.iter_mut().zip((0..=255u8).cycle()).for_each(|(byte, fill)| *byte = fill ^ (self.0 as u8));
        }
        bytes
    }
}

/// What a key may hold: several possibilities after an operation without an answer; `None` is absence.
type Possible = Vec<Option<Content>>;

/// One client and the keys it alone writes.
pub struct Client {
    name: String,
    core: CoreSender,
    random: StdRng,
    keys: BTreeMap<String, Possible>,
    /// Keys with an operation that had no answer: it may still take effect, so they are only read from then on.
    settled: BTreeMap<String, bool>,
    pub acknowledged: u64,
    pub failed: u64,
}

async fn ask<T>(
    core: &CoreSender,
    request: impl FnOnce(oneshot::Sender<Result<T, GatewayError>>) -> CoreRequest,
) -> Result<T, GatewayError> {
    let (reply, answer) = oneshot::channel();
    // A gateway that is gone answers as one that does not.
    core.send(request(reply)).await.map_err(|_| GatewayError::ControlUnavailable)?;
    answer.await.unwrap_or(Err(GatewayError::ControlUnavailable))
}

fn name(key: &str) -> ObjectName {
    ObjectName { s3_bucket: S3_BUCKET.to_owned(), key: key.to_owned() }
}

/// Creates the clients' S3 bucket, however often it takes.
pub async fn create_bucket(core: &CoreSender) -> Result<(), GatewayError> {
    let request = Request::CreateS3Bucket(Box::new(CreateS3Bucket { name: S3_BUCKET.to_owned() }));
    match ask(core, |reply| CoreRequest::Catalog { request: Box::new(request), reply }).await {
        Ok(_) | Err(GatewayError::Refused { code: ErrorCode::BucketExists, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Stores bytes under a key, in chunks.
pub async fn put(core: &CoreSender, key: &str, bytes: Vec<u8>) -> Result<ObjectRow, GatewayError> {
    let (sender, pieces) = mpsc::channel(4);
    let body = Body { pieces, declared_bytes: Some(bytes.len() as u64) };
    let feed = async move {
        for chunk in bytes.chunks(100_000) {
            // The core may have given up on the body: its answer says why.
            if sender.send(BodyPiece::Chunk(Bytes::copy_from_slice(chunk))).await.is_err() {
                return;
            }
        }
        drop(sender.send(BodyPiece::End { checksum: None }).await);
    };
    let headers = ObjectHeaders::default();
    let put = ask(core, |reply| CoreRequest::Put { name: name(key), headers, precondition: None, body, reply });
    futures_util::future::join(put, feed).await.0
}

/// Reads a whole object.
pub async fn get(core: &CoreSender, key: &str) -> Result<Vec<u8>, GatewayError> {
    let get = |reply| CoreRequest::Get { name: name(key), range: None, if_match: None, reply };
    let mut download = ask(core, get).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = download.pieces.recv().await {
        bytes.extend_from_slice(&piece?);
    }
    // A gateway that died closes the channel early: that is no answer, not a short object.
    if bytes.len() as u64 != download.row.size_bytes { Err(GatewayError::ControlUnavailable) } else { Ok(bytes) }
}

/// Deletes an object.
pub async fn delete(core: &CoreSender, key: &str) -> Result<Response, GatewayError> {
    let delete = DeleteObject { s3_bucket: S3_BUCKET.to_owned(), key: key.to_owned(), precondition: None };
    let request = Request::DeleteObject(Box::new(delete));
    ask(core, |reply| CoreRequest::Catalog { request: Box::new(request), reply }).await
}

impl Client {
    pub fn new(number: u64, core: CoreSender, seed: u64) -> Self {
        Self {
            name: format!("client-{number}"),
            core,
            random: StdRng::seed_from_u64(seed ^ (number << 32)),
            keys: BTreeMap::new(),
            settled: BTreeMap::new(),
            acknowledged: 0,
            failed: 0,
        }
    }

    /// Goes on with another gateway.
    pub fn reconnect(&mut self, core: CoreSender) {
        self.core = core;
    }

    /// One random operation on one of the client's keys.
    pub async fn step(&mut self) {
        let key = format!("{}/{}", self.name, self.random.random_range(0..12));
        let unsettled = self.settled.get(&key) == Some(&false);
        match self.random.random_range(0..10) {
            0..5 if !unsettled => self.put(&key).await,
            5 if !unsettled => self.delete(&key).await,
            _ => self.read(&key, false).await,
        }
    }

    async fn put(&mut self, key: &str) {
        // Few contents over all clients: hits, races of one hash and last deletes all happen.
        let content = Content(self.random.random_range(0..24));
        let outcome = put(&self.core, key, content.bytes()).await.map(drop);
        self.record(key, Some(content), outcome);
    }

    async fn delete(&mut self, key: &str) {
        let outcome = delete(&self.core, key).await.map(drop);
        self.record(key, None, outcome);
    }

    fn record(&mut self, key: &str, now: Option<Content>, outcome: Result<(), GatewayError>) {
        let possible = self.keys.entry(key.to_owned()).or_insert_with(|| vec![None]);
        match outcome {
            Ok(()) => {
                *possible = vec![now];
                self.acknowledged += 1;
            }
            Err(_) => {
                possible.push(now);
                self.settled.insert(key.to_owned(), false);
                self.failed += 1;
            }
        }
    }

    /// Reads a key and checks that it may hold what it holds. With `must_answer`, an error is a violation too.
    pub async fn read(&self, key: &str, must_answer: bool) {
        let possible = self.keys.get(key).cloned().unwrap_or_else(|| vec![None]);
        match get(&self.core, key).await {
            Ok(bytes) => {
                let fits = possible.iter().flatten().any(|content| content.bytes() == bytes);
                assert!(fits, "{key}: {} bytes that nobody stored there; possible: {possible:?}", bytes.len());
            }
            Err(GatewayError::Refused { code: ErrorCode::NoSuchKey, .. }) => {
                assert!(possible.contains(&None), "{key}: an acknowledged object is gone; possible: {possible:?}");
            }
            Err(error) => assert!(!must_answer, "{key}: {error} with everything healthy; possible: {possible:?}"),
        }
    }

    /// Reads every key of this client; everything is healthy again, so every read must answer.
    pub async fn read_all(&self) {
        for key in self.keys.keys() {
            self.read(key, true).await;
        }
    }
}
