//! Whether a disk keeps its promises: mounted by the real code, read through the real OSD, mounted again, used, and
//! mounted once more after a further loss of power.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::image::Image;
use shingle_hw::zone::ZoneId;
use shingle_node::extent::journal::log::journal_zones;
use shingle_node::extent::layout::Layout;
use shingle_node::extent::placement::Spot;
use shingle_node::osd::refusal::Refusal;
use shingle_proto::ids::{ExtentId, Generation};
use shingle_proto::limits::RECORD_ALIGN_BYTES;
use shingle_proto::message::{ExtentReport, ExtentState};

use super::ledger::Promises;
use crate::disk::{self, Block, Mounted, SERIAL};
use crate::sim::executor::{Executor, ProcessId};
use crate::sim::net::Network;
use crate::sim::process::world;

const LIMIT: Duration = Duration::from_secs(3600);
/// The first extent made after a crash; scripts use smaller numbers.
const AFTERWARDS: u128 = 1 << 64;
/// Numbers of the blocks put after a crash; scripts draw theirs from all 64 bits.
const AFTERWARDS_BLOCK: u64 = 0xaf7e_0000;

/// With so many extents open, the disk's limits of open zones may leave none for another.
const OPEN_ENOUGH: usize = 4;

/// One image to check.
pub struct Case {
    pub image: Image,
    pub promises: Arc<Promises>,
    /// A zone that failed with the loss of power.
    pub failed_zone: Option<ZoneId>,
    /// Zones that had failed before.
    pub failed_before: Vec<ZoneId>,
    /// Bytes that nobody was promised cannot be read.
    pub unreadable: bool,
    pub seed: u64,
}

/// What one start of the disk showed.
struct Seen {
    extents: Vec<ExtentReport>,
    readable: BTreeMap<(u128, Block), bool>,
}

/// Checks one image; what is wrong with it.
///
/// # Panics
/// When the code under test does, or waits for what never comes.
pub fn check(case: Arc<Case>) -> Result<(), String> {
    let executor = Executor::new(case.seed);
    let device = MemoryDevice::from_image(&case.image, SERIAL);
    let checking = Checking { case, executor: executor.clone(), device };
    let outcome = executor.run(LIMIT, async move { checking.run().await });
    (0..4).for_each(|process| executor.kill(ProcessId(process)));
    outcome
}

struct Checking {
    case: Arc<Case>,
    executor: Executor,
    device: MemoryDevice,
}

impl Checking {
    async fn run(&self) -> Result<(), String> {
        let promises = &self.case.promises;
        let mounted = self.start(1).await?;
        let first = self.verify(&mounted, promises, "first start").await?;
        drop(mounted);
        self.executor.kill(ProcessId(1));

        let mounted = self.start(2).await?;
        let second = self.verify(&mounted, promises, "second start").await?;
        if first.extents != second.extents || first.readable != second.readable {
            return Err(format!("a second start differs: {:?} then {:?}", first.extents, second.extents));
        }
        let mut promises = (**promises).clone();
        self.go_on(&mounted, &mut promises).await?;
        drop(mounted);
        self.device.crash(self.case.seed);
        self.executor.kill(ProcessId(2));

        let mounted = self.start(3).await?;
        self.verify(&mounted, &promises, "start after going on").await.map(|_| ())
    }

    /// Mounts the disk in a process of its own.
    async fn start(&self, process: u32) -> Result<Mounted, String> {
        let world = world(&self.executor, &Network::new(&self.executor), ProcessId(process));
        let started = disk::start(&world, Rc::new(self.device.clone())).await;
        started.map_err(|error| format!("start {process}: the disk does not mount: {error}"))
    }

    fn failed_zones(&self) -> impl Iterator<Item = ZoneId> + '_ {
        self.case.failed_zone.into_iter().chain(self.case.failed_before.iter().copied())
    }

    /// Whether a zone of the slot has failed.
    fn concerns(&self, layout: &Layout, slot: u32) -> bool {
        (0..layout.zones_per_extent).any(|zone| self.failed_zones().any(|failed| failed == layout.zone(slot, zone)))
    }

    async fn verify(&self, mounted: &Mounted, promises: &Promises, when: &str) -> Result<Seen, String> {
        let extents = disk::extents(&mounted.osd);
        let by_id: BTreeMap<u128, &ExtentReport> = extents.iter().map(|e| (ExtentId::from(&e.extent).0, e)).collect();
        if let Some(invented) = by_id.keys().find(|id| !promises.create_attempted.contains(id)) {
            return Err(format!("{when}: extent {invented} was never created"));
        }
        for (extent, slot) in &promises.created {
            let state = by_id.get(extent).map(|report| report.state);
            self.check_state(promises, *extent, *slot, state, &mounted.osd.label.layout)
                .map_err(|error| format!("{when}: extent {extent}: {error}"))?;
        }
        let mut readable = BTreeMap::new();
        let (mut whole_of, mut held) = (BTreeMap::<u128, u32>::new(), BTreeMap::<u128, u32>::new());
        for (extent, block) in &promises.attempted {
            let found = self.check_block(mounted, promises, *extent, *block).await;
            let found = found.map_err(|error| format!("{when}: extent {extent}, {block:?}: {error}"))?;
            if let Some(whole) = found {
                readable.insert((*extent, *block), whole);
                *held.entry(*extent).or_default() += 1;
                *whole_of.entry(*extent).or_default() += u32::from(whole);
            }
        }
        for (extent, report) in &by_id {
            // Names of an offline zone may be gone with it, and the disk says so of each it is asked for.
            let of = |counts: &BTreeMap<u128, u32>| counts.get(extent).copied().unwrap_or(0);
            let (whole, known) = (of(&whole_of), of(&held));
            if !(whole..=known).contains(&report.records) {
                let records = report.records;
                return Err(format!("{when}: extent {extent} has {records} records; {known} appended, {whole} whole"));
            }
        }
        self.check_findings(mounted, promises, when)?;
        Ok(Seen { extents, readable })
    }

    fn check_state(
        &self,
        promises: &Promises,
        extent: u128,
        slot: u32,
        state: Option<ExtentState>,
        layout: &Layout,
    ) -> Result<(), String> {
        let Some(state) = state else {
            // Its header may be in a zone that is offline; nothing else knows of an extent without records.
            let lost = promises.may_be_gone(extent) || self.concerns(layout, slot);
            return if lost { Ok(()) } else { Err("was created and is gone".to_owned()) };
        };
        let may_end = promises.troubled.contains(&extent)
            || self.case.unreadable
            || self.concerns(layout, slot)
            || self.may_end_torn(layout, slot)
            || self.journal_failed();
        let fine = match state {
            ExtentState::Failed => may_end,
            ExtentState::Open => !promises.closed.contains(&extent) || promises.troubled.contains(&extent),
            _ => promises.close_attempted.contains(&extent),
        };
        if fine { Ok(()) } else { Err(format!("is {state:?}")) }
    }

    /// Without a whole journal only a clean end proves that an extent goes on.
    fn journal_failed(&self) -> bool {
        self.failed_zones().any(|failed| journal_zones().any(|zone| zone == failed))
    }

    /// A torn sector in an extent's last zone leaves no place to go on.
    fn may_end_torn(&self, layout: &Layout, slot: u32) -> bool {
        let image = &self.case.image;
        let last = image.zone(layout.zone(slot, layout.zones_per_extent - 1));
        image.geometry().sector_bytes < RECORD_ALIGN_BYTES && last.is_some_and(|zone| !zone.sectors().is_empty())
    }

    /// `None`: not there. Otherwise whether its bytes can be had.
    async fn check_block(
        &self,
        mounted: &Mounted,
        promises: &Promises,
        extent: u128,
        block: Block,
    ) -> Result<Option<bool>, String> {
        let stored = promises.stored.get(&(extent, block));
        match disk::get(&mounted.osd, extent, block, Generation(0)).await {
            Ok(true) => Ok(Some(true)),
            Ok(false) => Err("has other bytes".to_owned()),
            Err(refusal @ (Refusal::BlockNotFound | Refusal::UnknownExtent)) => match stored {
                Some(offset) if !self.is_lost(mounted, promises, extent, *offset) => {
                    let slot = promises.created.get(&extent);
                    Err(format!("was acknowledged and is gone: {refusal}; it was at {offset} in slot {slot:?}"))
                }
                _ => Ok(None),
            },
            // Known and not readable: only where a zone has gone.
            Err(_) if self.case.failed_zone.is_some() || !self.case.failed_before.is_empty() => match stored {
                Some(offset) if !self.is_lost(mounted, promises, extent, *offset) => {
                    Err("was acknowledged, its zone is well, and it cannot be read".to_owned())
                }
                _ => Ok(Some(false)),
            },
            Err(refusal) => Err(format!("refused: {refusal}")),
        }
    }

    /// Whether a record lies in a zone that can no longer be read.
    fn is_lost(&self, mounted: &Mounted, promises: &Promises, extent: u128, offset_bytes: u64) -> bool {
        let layout = &mounted.osd.label.layout;
        let (Some(slot), Some(spot)) = (promises.created.get(&extent), Spot::at(offset_bytes, layout)) else {
            return false;
        };
        let zone = layout.zone(*slot, spot.zone);
        let offline = |zone: &ZoneId| {
            let image = self.case.image.zone(*zone);
            image.is_some_and(|image| image.condition() == shingle_hw::zone::ZoneCondition::Offline)
        };
        self.failed_zones().any(|failed| failed == zone) && offline(&zone)
    }

    /// A torn tail is no damage; a failed zone is a finding of exactly the extents it concerns.
    fn check_findings(&self, mounted: &Mounted, promises: &Promises, when: &str) -> Result<(), String> {
        let (findings, _) = mounted.findings.batch();
        let layout = &mounted.osd.label.layout;
        for finding in &findings {
            let extent = ExtentId::from(&finding.extent).0;
            let slot = promises.created.get(&extent);
            let concerned =
                slot.is_none_or(|slot| self.concerns(layout, *slot)) && self.failed_zones().next().is_some();
            if !concerned && !self.case.unreadable && !promises.troubled.contains(&extent) {
                return Err(format!("{when}: a torn tail is no damage: {finding:?}"));
            }
        }
        for report in disk::extents(&mounted.osd) {
            let extent = ExtentId::from(&report.extent).0;
            let slot = promises.created.get(&extent).filter(|slot| self.concerns(layout, **slot));
            if slot.is_some() && !findings.iter().any(|finding| ExtentId::from(&finding.extent).0 == extent) {
                return Err(format!("{when}: a zone of extent {extent} has failed and nobody was told"));
            }
        }
        Ok(())
    }

    /// Uses the disk: a new extent, a record in it and in every open one.
    async fn go_on(&self, mounted: &Mounted, promises: &mut Promises) -> Result<(), String> {
        let osd = &mounted.osd;
        let open = disk::extents(osd).iter().filter(|report| report.state == ExtentState::Open).count();
        let is_full = osd.report(([127, 0, 0, 1], 1).into()).extents_free == 0 || open >= OPEN_ENOUGH;
        promises.create_attempted.insert(AFTERWARDS);
        match disk::create(osd, AFTERWARDS).await {
            Ok(_) => {
                let slot = osd.extent(ExtentId(AFTERWARDS)).ok_or("a created extent is there")?.header.slot;
                promises.created.insert(AFTERWARDS, slot);
                // The slot may have been an unused extent's.
                let gone: Vec<u128> = promises
                    .created
                    .iter()
                    .filter(|(id, of)| **of == slot && **id != AFTERWARDS)
                    .map(|(id, _)| *id)
                    .collect();
                gone.iter().for_each(|id| {
                    promises.created.remove(id);
                });
            }
            Err(Refusal::NoFreeExtent(_)) if is_full => {}
            Err(refusal) => return Err(format!("no extent can be created: {refusal}")),
        }
        let open = disk::extents(osd).into_iter().filter(|report| report.state == ExtentState::Open);
        for (report, number) in open.zip(0..) {
            let extent = ExtentId::from(&report.extent).0;
            let block = Block { number: AFTERWARDS_BLOCK + number, bytes: 5_000 };
            promises.attempted.insert((extent, block));
            match disk::put(osd, extent, block, Generation(0)).await {
                Ok(appended) => {
                    promises.stored.insert((extent, block), appended.offset_bytes);
                }
                Err(Refusal::ExtentFull { .. }) => continue,
                Err(refusal) => return Err(format!("the next append to extent {extent} fails: {refusal}")),
            }
            if disk::get(osd, extent, block, Generation(0)).await != Ok(true) {
                return Err(format!("the next append to extent {extent} cannot be read back"));
            }
        }
        Ok(())
    }
}
