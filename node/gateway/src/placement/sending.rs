//! How much may be on its way to one address at once, and to one OSD behind it. A member's silence is judged from the
//! moment its block can go out, so blocks wait here and not inside the connection, where waiting would look like a
//! member's fault. Whoever waits for an OSD holds no part of its address: a disk that stalls holds up only its own blocks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use shingle_proto::ids::OsdId;
use shingle_proto::limits::{CONNECTION_CREDIT_BYTES, CONNECTION_REQUESTS_MAX, KIB, OSD_IN_FLIGHT_BYTES};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a connection's credit allows in flight.
const IN_FLIGHT_KIB: u32 = CONNECTION_CREDIT_BYTES / KIB as u32;
/// A small block counts as this much, so that small ones take at most half of a connection's requests.
const COUNTED_KIB_MIN: u32 = 2 * IN_FLIGHT_KIB / CONNECTION_REQUESTS_MAX as u32;

/// A lane's whole width for one OSD.
const OSD_IN_FLIGHT_KIB: u32 = (OSD_IN_FLIGHT_BYTES / KIB) as u32;

/// Lanes by whom they lead to.
struct Lanes<K> {
    width_kib: u32,
    lanes: RefCell<BTreeMap<K, Arc<Semaphore>>>,
}

/// One lane per address, and one per OSD.
pub struct Sending {
    addresses: Lanes<SocketAddr>,
    osds: Lanes<OsdId>,
}

/// A block's place on its way; given back on drop.
pub struct Place {
    _osd: OwnedSemaphorePermit,
    _address: OwnedSemaphorePermit,
}

impl Default for Sending {
    fn default() -> Self {
        Self { addresses: Lanes::new(IN_FLIGHT_KIB), osds: Lanes::new(OSD_IN_FLIGHT_KIB) }
    }
}

impl Sending {
    /// Waits until `bytes` may go to an OSD at `address`; they count until the place is dropped.
    pub async fn place(&self, osd: OsdId, address: SocketAddr, bytes: usize) -> Option<Place> {
        let kib = u32::try_from(bytes.div_ceil(KIB as usize)).unwrap_or(u32::MAX).max(COUNTED_KIB_MIN);
        let osd = self.osds.enter(osd, kib).await?;
        let address = self.addresses.enter(address, kib).await?;
        Some(Place { _osd: osd, _address: address })
    }
}

impl<K: Ord + Copy> Lanes<K> {
    fn new(width_kib: u32) -> Self {
        Self { width_kib, lanes: RefCell::default() }
    }

    async fn enter(&self, key: K, kib: u32) -> Option<OwnedSemaphorePermit> {
        let lane = self.lane(key);
        lane.acquire_many_owned(kib.min(self.width_kib)).await.ok()
    }

    fn lane(&self, key: K) -> Arc<Semaphore> {
        let mut lanes = self.lanes.borrow_mut();
        // Hosts move and disks go; a lane nobody is on is forgotten before a new one is added.
        if !lanes.contains_key(&key) {
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        lanes.entry(key).or_insert_with(|| Arc::new(Semaphore::new(self.width_kib as usize))).clone()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const BLOCK: usize = (4 << 20) + 16;

    fn address() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }

    #[test]
    fn one_osd_never_takes_all_of_its_address() {
        let sending = Sending::default();
        let enter = |osd| sending.place(OsdId(osd), address(), BLOCK).now_or_never().flatten();
        let first: Vec<_> = std::iter::from_fn(|| enter(1)).collect();
        assert_eq!(first.len(), 4);
        let second: Vec<_> = std::iter::from_fn(|| enter(2)).collect();
        assert_eq!(second.len(), 3, "what is left of the address is another one's");
        assert!(enter(3).is_none(), "the connection's credit is spent");
        drop(first);
        assert!(enter(3).is_some());
    }

    #[test]
    fn lanes_nobody_is_on_are_forgotten() {
        let sending = Sending::default();
        let held = sending.place(OsdId(1), address(), BLOCK).now_or_never().flatten();
        for osd in 2..100 {
            drop(sending.place(OsdId(osd), address(), BLOCK).now_or_never().flatten());
        }
        assert_eq!(sending.osds.lanes.borrow().len(), 2);
        drop(held);
    }
}
