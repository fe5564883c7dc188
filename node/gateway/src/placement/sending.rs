//! How much may be on its way to one address at once. A member's silence is judged from the moment its block can go
//! out, so blocks wait here and not inside the connection, where waiting would look like a member's fault.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use shingle_proto::limits::{CONNECTION_CREDIT_BYTES, CONNECTION_REQUESTS_MAX, KIB};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a connection's credit allows in flight.
const IN_FLIGHT_KIB: u32 = CONNECTION_CREDIT_BYTES / KIB as u32;
/// A small block counts as this much, so that small ones take at most half of a connection's requests.
const COUNTED_KIB_MIN: u32 = 2 * IN_FLIGHT_KIB / CONNECTION_REQUESTS_MAX as u32;

/// One lane per address.
#[derive(Default)]
pub struct Sending {
    lanes: RefCell<BTreeMap<SocketAddr, Arc<Semaphore>>>,
}

impl Sending {
    /// Waits until `bytes` may go to `address`; they count until the permit is dropped.
    pub async fn place(&self, address: SocketAddr, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(KIB as usize)).unwrap_or(u32::MAX);
        let lane = self.lane(address);
        lane.acquire_many_owned(kib.clamp(COUNTED_KIB_MIN, IN_FLIGHT_KIB)).await.ok()
    }

    fn lane(&self, address: SocketAddr) -> Arc<Semaphore> {
        let mut lanes = self.lanes.borrow_mut();
        // Hosts move; an address nobody sends to is forgotten before a new one is added.
        if !lanes.contains_key(&address) {
            lanes.retain(|_, lane| lane.available_permits() < IN_FLIGHT_KIB as usize);
        }
        lanes.entry(address).or_insert_with(|| Arc::new(Semaphore::new(IN_FLIGHT_KIB as usize))).clone()
    }
}
