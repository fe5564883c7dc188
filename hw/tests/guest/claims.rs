//! Who works on a drive that several tests share: tests run side by side.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Drives that more than one test works on, in the order in which they are claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shared {
    Zns4096,
    Zns512,
    ZnsVfio,
    Smr,
}

static CLAIMS: [Mutex<()>; 4] = [const { Mutex::new(()) }; 4];

/// Waits until no other test works on these drives, and keeps others away until it is dropped. Named in their order, so
/// that two tests never wait for each other.
pub fn claim(drives: &[Shared]) -> Vec<MutexGuard<'static, ()>> {
    assert!(drives.is_sorted(), "{drives:?} are not in order");
    let claims = drives.iter().filter_map(|drive| CLAIMS.get(*drive as usize));
    claims.map(|claim| claim.lock().unwrap_or_else(PoisonError::into_inner)).collect()
}
