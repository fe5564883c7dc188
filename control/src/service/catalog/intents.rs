//! Upload intents: opened, renewed, aborted; and the one check that makes the put token mean something.

use shingle_proto::ids::{ManifestId, PutToken};
use shingle_proto::limits::INTENT_LEASE_MS;
use shingle_proto::message::{AbortIntent, ErrorCode, IntentOpened, OpenIntent, RenewIntent, Response};

use super::s3_buckets::require_s3_bucket;
use super::{Catalog, check, done};
use crate::tables::intents::{Intent, IntentState};
use crate::tables::reclaim_queue::{Reclaim, ReclaimKey, Why};
use crate::tables::work::{TableError, Work};

/// The lease or the put token is over; nothing was committed.
pub(super) fn intent_expired(manifest: ManifestId) -> TableError {
    TableError::refused(ErrorCode::IntentExpired, 0, format!("the upload intent of manifest {manifest} is over"))
}

/// An intent whose holder may still act. Read in the transaction that acts: reclaim clears the row before it takes
/// anything away, so a gateway that was paused in between conflicts, or finds no row.
pub(super) async fn require_intent(
    work: &Work,
    manifest: ManifestId,
    token: PutToken,
    now_ms: u64,
) -> Result<Intent, TableError> {
    match work.get::<Intent>(&manifest).await? {
        Some(intent) if intent.put_token == token && now_ms <= intent.expires_ms => Ok(intent),
        _ => Err(intent_expired(manifest)),
    }
}

/// As [`require_intent`], for a manifest that still takes blocks.
pub(super) async fn require_open_intent(
    work: &Work,
    manifest: ManifestId,
    token: PutToken,
    now_ms: u64,
) -> Result<Intent, TableError> {
    let intent = require_intent(work, manifest, token, now_ms).await?;
    match intent.state {
        IntentState::Open => Ok(intent),
        IntentState::Sealed => Err(intent_expired(manifest)),
    }
}

impl Catalog {
    pub(super) async fn open_intent(&self, request: OpenIntent) -> Result<Response, TableError> {
        let name = check::object_name(request.s3_bucket, request.key)?;
        let entropy = &self.tables.world().entropy;
        let (manifest, put_token) = (ManifestId(entropy.u128()), PutToken(entropy.u64()));
        let intent = Intent {
            put_token,
            expires_ms: self.now_ms() + INTENT_LEASE_MS,
            state: IntentState::Open,
            s3_bucket: name.s3_bucket,
            key: name.key,
        };
        self.tables
            .run(async |work: &Work| {
                require_s3_bucket(work, &intent.s3_bucket).await?;
                assert!(work.get::<Intent>(&manifest).await?.is_none(), "128 random bits do not repeat");
                work.insert(&manifest, &intent);
                Ok(())
            })
            .await?;
        Ok(Response::IntentOpened(Box::new(IntentOpened {
            manifest: manifest.into(),
            put_token: put_token.0,
            lease_ms: INTENT_LEASE_MS,
        })))
    }

    pub(super) async fn renew_intent(&self, request: RenewIntent) -> Result<Response, TableError> {
        let (manifest, token) = (ManifestId::from(&request.manifest), PutToken(request.put_token));
        self.tables
            .run(async |work: &Work| {
                let now_ms = self.now_ms();
                let intent = require_intent(work, manifest, token, now_ms).await?;
                let renewed = Intent { expires_ms: now_ms + INTENT_LEASE_MS, ..intent.clone() };
                work.replace(&manifest, &intent, &renewed);
                Ok(())
            })
            .await?;
        Ok(done())
    }

    /// Gives an upload up. One that is over already, in whatever way, is `Done`.
    pub(super) async fn abort_intent(&self, request: AbortIntent) -> Result<Response, TableError> {
        let manifest = ManifestId::from(&request.manifest);
        self.tables
            .run(async |work: &Work| {
                let Some(intent) = work.get::<Intent>(&manifest).await? else { return Ok(()) };
                if intent.put_token.0 != request.put_token {
                    return Err(intent_expired(manifest));
                }
                end_intent(work, manifest, &intent, self.now_ms(), Why::Aborted).await
            })
            .await?;
        Ok(done())
    }
}

/// Clears the intent's row and queues what it holds, in one step: from here on nobody can add to it.
pub(crate) async fn end_intent(
    work: &Work,
    manifest: ManifestId,
    intent: &Intent,
    now_ms: u64,
    why: Why,
) -> Result<(), TableError> {
    work.remove(&manifest, intent);
    Reclaim::queue(work, ReclaimKey::Manifest(manifest), now_ms, why).await
}
