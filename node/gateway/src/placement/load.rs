//! Bytes this gateway has in flight towards each OSD: what placement and reads steer by before any report arrives.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use shingle_proto::ids::OsdId;

/// In-flight bytes per OSD.
#[derive(Default)]
pub struct Load {
    bytes: RefCell<BTreeMap<OsdId, u64>>,
}

/// Bytes on their way; gone from the load on drop, however the transfer ended.
pub struct InFlight {
    load: Rc<Load>,
    osd: OsdId,
    bytes: u64,
}

impl Load {
    pub fn begin(self: &Rc<Self>, osd: OsdId, bytes: u64) -> InFlight {
        *self.bytes.borrow_mut().entry(osd).or_default() += bytes;
        InFlight { load: self.clone(), osd, bytes }
    }

    pub fn bytes(&self, osd: OsdId) -> u64 {
        self.bytes.borrow().get(&osd).copied().unwrap_or(0)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut bytes = self.load.bytes.borrow_mut();
        let left = bytes.get(&self.osd).copied().unwrap_or(0).saturating_sub(self.bytes);
        if left == 0 {
            bytes.remove(&self.osd);
        } else {
            bytes.insert(self.osd, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_follows_transfers_and_forgets_idle_osds() {
        let load = Rc::new(Load::default());
        let first = load.begin(OsdId(1), 10);
        let second = load.begin(OsdId(1), 5);
        assert_eq!(load.bytes(OsdId(1)), 15);
        drop(first);
        assert_eq!(load.bytes(OsdId(1)), 5);
        drop(second);
        assert!(load.bytes.borrow().is_empty());
    }
}
