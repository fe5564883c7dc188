//! Which manifests are being read: a download under way holds its manifest, and reclaim leaves it alone, so that an object
//! that is deleted or replaced meanwhile is still read to its end.
//!
//! In memory only. A hold ends by itself unless it is renewed, and after a start reclaim waits as long as a hold lasts, so
//! that whoever still reads has renewed his.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use shingle_proto::ids::ManifestId;
use shingle_proto::limits::{READ_HOLD_MAX_MS, READ_HOLD_MS, READ_HOLDS_MAX};
use shingle_seam::World;
use shingle_seam::clock::Monotonic;

/// The manifests in use, each until when.
pub struct ReadHolds {
    world: World,
    until: RefCell<HashMap<ManifestId, Monotonic>>,
}

impl ReadHolds {
    pub fn new(world: World) -> Self {
        Self { world, until: RefCell::default() }
    }

    /// Holds a manifest for `READ_HOLD_MS` from now. Beyond `READ_HOLDS_MAX` of them a download is on its own.
    pub fn hold(&self, manifest: ManifestId) {
        let now = self.world.clock.now();
        let mut until = self.until.borrow_mut();
        if until.len() >= READ_HOLDS_MAX && !until.contains_key(&manifest) {
            until.retain(|_, until| *until > now);
            if until.len() >= READ_HOLDS_MAX {
                tracing::warn!(%manifest, "too many downloads at once: this one ends if its object goes");
                return;
            }
        }
        until.insert(manifest, now + Duration::from_millis(READ_HOLD_MS));
    }

    /// Whether a manifest that waits for reclaim since `queued_ms` is still in use. Nobody reads for ever.
    pub fn keeps(&self, manifest: ManifestId, queued_ms: u64) -> bool {
        let held = self.until.borrow().get(&manifest).is_some_and(|until| *until > self.world.clock.now());
        held && self.world.clock.unix_ms() < queued_ms.saturating_add(READ_HOLD_MAX_MS)
    }
}
