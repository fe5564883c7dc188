//! Which devices are opened, and what is said of those that are not.

use std::path::Path;
use std::rc::Rc;

use shingle_hw::backend::{self, OpenError, blkzoned, look, nvme};
use shingle_hw::error::DeviceError;
use shingle_hw::ring::block_on;
use shingle_hw::zone::{ZoneCondition, ZoneId};

use crate::claims::Shared::{Smr, Zns512, Zns4096};
use crate::claims::claim;
use crate::conforming::{empty, open, pool};
use crate::devices::{NullBlk, scsi_debug, zns_block, zns_generic};
use crate::rig::{Rig, new_ring, pattern};

fn refusal(node: &Path) -> OpenError {
    match backend::open(node, new_ring(), pool()) {
        Ok(_) => panic!("{} was opened", node.display()),
        Err(error) => error,
    }
}

#[test]
fn devices_that_are_not_ours_to_use_are_refused() {
    use blkzoned::OpenError as Block;
    let plain = NullBlk::new("plain", &[("size", 16)]);
    assert!(matches!(refusal(&plain.node), OpenError::Block(Block::NotHostManaged { zoned, .. }) if zoned == "none"));
    let anonymous = NullBlk::zoned("anonymous", &[("size", 16), ("zone_size", 1)]);
    assert!(matches!(refusal(&anonymous.node), OpenError::Block(Block::NoSerial { .. })));
    assert!(matches!(refusal(Path::new("/dev/null")), OpenError::Nvme(nvme::OpenError::NotGeneric { .. })));
    assert!(matches!(refusal(Path::new("/dev/nowhere")), OpenError::File(_)));
    assert!(matches!(refusal(Path::new("/bin/init")), OpenError::File(_)));
}

#[test]
fn a_device_is_opened_once_whichever_way() {
    let _claim = claim(&[Zns512]);
    use OpenError::{Block, Nvme};
    let (block, generic) = (zns_block("zns-512"), zns_generic("zns-512"));
    let by_block = open(&block, new_ring());
    assert!(matches!(refusal(&block), Block(blkzoned::OpenError::Held { .. })));
    assert!(matches!(refusal(&generic), Nvme(nvme::OpenError::Held { .. })));
    drop(by_block);
    let by_passthrough = open(&generic, new_ring());
    assert!(matches!(refusal(&block), Block(blkzoned::OpenError::Held { .. })));
    assert!(matches!(refusal(&generic), Nvme(nvme::OpenError::Held { .. })));
    drop(by_passthrough);
    drop(open(&block, new_ring()));
}

#[test]
fn zones_are_found_as_they_were_left() {
    let _claim = claim(&[Zns4096, Smr]);
    for node in [scsi_debug(), zns_block("zns-4096"), zns_generic("zns-4096")] {
        let ring = new_ring();
        let rig = Rig::with(open(&node, Rc::clone(&ring)), ring);
        empty(&rig);
        let data = pattern(1, 3 * 4096);
        for zone in 8..11 {
            rig.append(zone, &data).expect("appends");
        }
        rig.run(rig.device.open(ZoneId(8))).expect("opens");
        rig.run(rig.device.finish(ZoneId(9))).expect("finishes");
        rig.run(rig.device.close(ZoneId(10))).expect("closes");
        let identity = rig.device.identity().clone();
        drop(rig);
        let ring = new_ring();
        let rig = Rig::with(open(&node, Rc::clone(&ring)), ring);
        assert_eq!(rig.device.identity(), &identity);
        assert!(!identity.serial.is_empty() && !identity.model.is_empty(), "{identity:?}");
        use ZoneCondition::{Closed, Empty, ExplicitOpen, Full};
        let zones = rig.run(rig.device.report(ZoneId(8), 4)).expect("reports");
        let conditions: Vec<_> = zones.iter().map(|zone| zone.condition).collect();
        assert_eq!(conditions, [ExplicitOpen, Full, Closed, Empty], "{node:?}");
        assert_eq!(zones[0].write_pointer_bytes, 3 * 4096);
        for zone in 8..11 {
            assert_eq!(rig.read(zone, 0, data.len()).expect("reads"), data);
        }
        assert_eq!(rig.append(8, &data), Ok(3 * 4096));
        assert_eq!(rig.append(10, &data), Ok(3 * 4096));
    }
}

#[test]
fn a_device_in_use_can_be_looked_at_and_nothing_else() {
    let _claim = claim(&[Zns4096, Smr]);
    for node in [scsi_debug(), zns_block("zns-4096")] {
        let ring = new_ring();
        let rig = Rig::with(open(&node, Rc::clone(&ring)), Rc::clone(&ring));
        empty(&rig);
        let data = pattern(3, 3 * 4096);
        rig.append(8, &data).expect("appends");
        rig.run(rig.device.flush()).expect("flushes");
        let looked = look(&node, Rc::clone(&ring), pool()).expect("needs nothing for itself");
        assert!(looked.in_use && looked.users.iter().any(|user| user.pid == std::process::id()), "{:?}", looked.users);
        assert_eq!(looked.device.identity(), rig.device.identity());
        let device = Rc::clone(&looked.device);
        let zones = block_on(&ring, device.report(ZoneId(8), 1)).expect("reports");
        assert_eq!(zones[0].write_pointer_bytes, 3 * 4096);
        let (outcome, buffer) =
            block_on(&ring, device.read(ZoneId(8), 0, device.alloc_buffer(data.len()), 0..data.len()));
        outcome.expect("reads");
        assert!(buffer[..data.len()] == data);
        let refused = block_on(&ring, device.append(ZoneId(8), device.alloc_buffer(4096), 0..4096)).0;
        assert_eq!(refused, Err(DeviceError::LookOnly));
        assert_eq!(block_on(&ring, device.reset(ZoneId(8))), Err(DeviceError::LookOnly));
        assert_eq!(rig.append(8, &data), Ok(3 * 4096), "the owner goes on");
    }
    let generic = look(&zns_generic("zns-4096"), new_ring(), pool()).err();
    assert!(matches!(generic, Some(OpenError::NoBlockNode { .. })));
}
