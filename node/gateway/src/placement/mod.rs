//! Where new blocks go: a view of the open volumes, renewed while there are puts, and a choice among them by the power
//! of two choices on load and free space. The view is a hint: the hosts and the commit decide (invariant 4).

pub mod load;
pub mod sending;
pub mod spread;

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use shingle_proto::ids::{OsdId, VolumeId};
use shingle_proto::limits::{
    BLOCK_BYTES_MAX, HOST_SUSPECT_MS, RECORD_ALIGN_BYTES, SUSPECT_MEMORY_MS, VOLUMES_REFRESH_MS, VOLUMES_STALE_MS,
    VOLUMES_WAIT_MS,
};
use shingle_proto::message::{GetVolumes, Lack, Request, Volumes};
use shingle_seam::World;
use shingle_seam::clock::Monotonic;
use tokio::sync::{Notify, Semaphore};

use crate::catalog::{ControlClient, expect_variant};
use crate::request::GatewayError;
use load::Load;
use spread::{Avoid, Placed};

/// Pause between looks at the view while no volume can take a block.
const LOOK_AGAIN_MS: u64 = 200;

/// An open volume and what is known of its room.
#[derive(Debug)]
struct OpenVolume {
    placed: Rc<Placed>,
    free_bytes: Cell<u64>,
    reported_load_bytes: u64,
}

#[derive(Default)]
struct View {
    volumes: Vec<OpenVolume>,
    /// Why the control plane cannot open more of them.
    lack: Lack,
    /// When the request that brought this view was sent; nothing before the first and after a failure.
    fetched: Option<Monotonic>,
    /// Volumes a host or a failed put showed to be closed, since when: skipped until the control plane has followed.
    shut: BTreeMap<VolumeId, Monotonic>,
    /// OSDs that failed a put of this gateway, since when: all of its puts avoid them for `HOST_SUSPECT_MS`, and take
    /// others first where there are others for `SUSPECT_MEMORY_MS`.
    blamed: BTreeMap<OsdId, Monotonic>,
}

impl View {
    /// Whether a member failed within so many milliseconds before the view was asked for: control has followed since.
    fn blames(&self, volume: &Placed, within_ms: u64) -> bool {
        let late =
            |since: &Monotonic| self.fetched.is_some_and(|asked| asked >= *since + Duration::from_millis(within_ms));
        volume.members.iter().filter_map(|member| self.blamed.get(&member.osd)).any(|since| !late(since))
    }
}

/// The chooser of volumes.
pub struct Placement {
    world: World,
    control: Rc<ControlClient>,
    load: Rc<Load>,
    view: RefCell<View>,
    /// Rung when an OSD is blamed: what is in flight to it ends.
    blames: Notify,
    /// One refresh at a time; who waited for it uses its result.
    refreshing: Semaphore,
}

impl Placement {
    pub fn new(world: World, control: Rc<ControlClient>, load: Rc<Load>) -> Self {
        Self { world, control, load, view: RefCell::default(), blames: Notify::new(), refreshing: Semaphore::new(1) }
    }

    /// A volume with room for `sealed_bytes`; SlowDown or Full when none turns up within `VOLUMES_WAIT_MS`.
    pub async fn choose(self: &Rc<Self>, avoid: &Avoid, sealed_bytes: u64) -> Result<Rc<Placed>, GatewayError> {
        self.freshen().await?;
        let asked = self.world.clock.now();
        let give_up = asked + Duration::from_millis(VOLUMES_WAIT_MS);
        loop {
            // The master is given some time to make a volume away from all trouble.
            let patient = self.world.clock.now() - asked < Duration::from_millis(VOLUMES_WAIT_MS / 2);
            if let Some(volume) = self.pick(avoid, sealed_bytes, patient) {
                return Ok(volume);
            }
            if self.world.clock.now() >= give_up {
                return Err(self.refusal("no open volume can take the block"));
            }
            self.world.tasks.sleep(Duration::from_millis(LOOK_AGAIN_MS)).await;
            self.refresh(self.world.clock.now()).await?;
        }
    }

    /// Why no volume took a block: the cell is full, or `otherwise`.
    pub fn refusal(&self, otherwise: &'static str) -> GatewayError {
        match self.view.borrow().lack {
            Lack::Room => GatewayError::Full,
            Lack::Hosts => GatewayError::SlowDown("fewer hosts live than a block has copies"),
            _ => GatewayError::SlowDown(otherwise),
        }
    }

    /// A put failed here: the volume and the OSD are left alone, and the next choice sees a new view.
    /// False when this was known already.
    pub fn distrust(&self, volume: VolumeId, osd: Option<OsdId>) -> bool {
        let mut view = self.view.borrow_mut();
        let now = self.world.clock.now();
        let mut news = view.shut.insert(volume, now).is_none();
        if let Some(osd) = osd {
            let before = view.blamed.insert(osd, now);
            news |= before.is_none_or(|before| now - before >= Duration::from_millis(HOST_SUSPECT_MS));
        }
        view.fetched = None;
        if osd.is_some() {
            self.blames.notify_waiters();
        }
        news
    }

    /// Whether a put has failed on this OSD at `since` or later.
    pub fn blamed_since(&self, osd: OsdId, since: Monotonic) -> bool {
        self.view.borrow().blamed.get(&osd).is_some_and(|&blamed| blamed >= since)
    }

    /// Ends when a put fails on this OSD after `since`, perhaps for another block: one deadline is enough for all.
    pub async fn until_blamed(&self, osd: OsdId, since: Monotonic) {
        loop {
            let blamed = self.blames.notified();
            if self.blamed_since(osd, since) {
                return;
            }
            blamed.await;
        }
    }

    /// A view that is not stale: at once while it is young, renewed in the background at `VOLUMES_REFRESH_MS`.
    async fn freshen(self: &Rc<Self>) -> Result<(), GatewayError> {
        let now = self.world.clock.now();
        let age = self.view.borrow().fetched.map(|fetched| now - fetched);
        match age {
            Some(age) if age < Duration::from_millis(VOLUMES_REFRESH_MS) => Ok(()),
            Some(age) if age < Duration::from_millis(VOLUMES_STALE_MS) => {
                if self.refreshing.available_permits() > 0 {
                    let placement = self.clone();
                    let task = async move {
                        if let Err(error) = placement.refresh(now).await {
                            tracing::debug!(%error, "view of the volumes not renewed");
                        }
                    };
                    self.world.tasks.spawn("refresh volumes", Box::pin(task));
                }
                Ok(())
            }
            _ => self.refresh(now).await,
        }
    }

    /// Fetches the view unless somebody did since `asked`.
    async fn refresh(&self, asked: Monotonic) -> Result<(), GatewayError> {
        let Ok(_turn) = self.refreshing.acquire().await else { return Ok(()) };
        if self.view.borrow().fetched.is_some_and(|fetched| fetched >= asked) {
            return Ok(());
        }
        let sent = self.world.clock.now();
        let volumes = expect_variant!(self.control.call(Request::GetVolumes(Box::new(GetVolumes {}))).await?, Volumes)?;
        self.take(volumes, sent);
        Ok(())
    }

    fn take(&self, volumes: Volumes, sent: Monotonic) {
        let mut view = self.view.borrow_mut();
        view.volumes.clear();
        for volume in volumes.volumes.iter().filter(|volume| volume.open) {
            match Placed::for_writes(volume, usize::from(volumes.copies)) {
                Ok(placed) => view.volumes.push(OpenVolume {
                    placed: Rc::new(placed),
                    free_bytes: Cell::new(volume.free_bytes),
                    reported_load_bytes: volume.load_bytes,
                }),
                Err(error) => tracing::warn!(volume = volume.id, %error, "volume not used"),
            }
        }
        view.lack = volumes.lack;
        view.fetched = Some(sent);
        view.shut.retain(|_, since| sent < *since + Duration::from_millis(HOST_SUSPECT_MS));
        view.blamed.retain(|_, since| sent < *since + Duration::from_millis(SUSPECT_MEMORY_MS));
    }

    fn pick(&self, avoid: &Avoid, sealed_bytes: u64, patient: bool) -> Option<Rc<Placed>> {
        let view = self.view.borrow();
        // Header and padding of a record are at most two alignment units.
        let record_bytes = sealed_bytes + 2 * u64::from(RECORD_ALIGN_BYTES);
        let admits = |volume: &Placed| match patient {
            true => avoid.admits(volume) && !view.blames(volume, HOST_SUSPECT_MS),
            false => avoid.admits_hosts_again(volume),
        };
        let roomy = |volume: &OpenVolume| volume.free_bytes.get() >= record_bytes;
        let shut = |volume: &OpenVolume| view.shut.contains_key(&volume.placed.id);
        let eligible: Vec<&OpenVolume> =
            view.volumes.iter().filter(|volume| roomy(volume) && !shut(volume) && admits(&volume.placed)).collect();
        let good = |volume: &OpenVolume| !view.blames(&volume.placed, SUSPECT_MEMORY_MS);
        let others: Vec<&OpenVolume> = eligible.iter().copied().filter(|volume| good(volume)).collect();
        let chosen = self.better_of_two(if others.is_empty() { &eligible } else { &others })?;
        chosen.free_bytes.set(chosen.free_bytes.get() - record_bytes);
        Some(chosen.placed.clone())
    }

    /// Two drawn at random, the better taken: nearly as even as comparing all, and gateways do not herd.
    fn better_of_two<'a>(&self, eligible: &[&'a OpenVolume]) -> Option<&'a OpenVolume> {
        let count = eligible.len() as u64;
        if count < 2 {
            return eligible.first().copied();
        }
        let first = self.world.entropy.below(count);
        let second = (first + 1 + self.world.entropy.below(count - 1)) % count;
        [first, second].iter().filter_map(|&index| eligible.get(index as usize)).min_by_key(|v| self.cost(v)).copied()
    }

    /// Load in blocks first (a block more or less is noise), then room.
    fn cost(&self, volume: &OpenVolume) -> (u64, Reverse<u64>) {
        let in_flight = volume.placed.members.iter().map(|member| self.load.bytes(member.osd)).max().unwrap_or(0);
        let load_bytes = in_flight.max(volume.reported_load_bytes);
        (load_bytes / u64::from(BLOCK_BYTES_MAX), Reverse(volume.free_bytes.get()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use shingle_proto::message::{Member, Role, Volume};
    use shingle_seam::on_tokio;
    use shingle_seam::rpc::Peers;

    use super::*;

    const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

    fn placement() -> Placement {
        let world = on_tokio::world(1);
        let peers = Rc::new(Peers::new(world.clone(), Role::Gateway, "test".into()));
        let control = Rc::new(ControlClient::new(world.clone(), peers, NOWHERE));
        Placement::new(world, control, Rc::default())
    }

    /// Volume n has the OSDs n and 100.
    fn volumes(count: u64) -> Volumes {
        let member = |osd: u64| Member { osd, host: osd as u32, address: NOWHERE.to_string(), ..Member::default() };
        let volume = |id| Volume {
            id,
            open: true,
            free_bytes: 1 << 40,
            members: vec![member(id), member(100)],
            ..Volume::default()
        };
        Volumes { copies: 2, volumes: (1..=count).map(volume).collect(), ..Volumes::default() }
    }

    fn chosen(placement: &Placement) -> Vec<u64> {
        let pick = |_| placement.pick(&Avoid::default(), 1000, true).map(|volume| volume.id.0);
        let mut ids: Vec<u64> = (0..100).filter_map(pick).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    #[tokio::test]
    async fn an_osd_that_failed_lately_is_taken_last_and_forgiven_later() {
        let placement = placement();
        let now = placement.world.clock.now();
        let later = |ms| now + Duration::from_millis(ms + 1_000);
        placement.take(volumes(3), now);
        assert_eq!(chosen(&placement), [1, 2, 3]);
        placement.distrust(VolumeId(9), Some(OsdId(2)));
        placement.take(volumes(3), later(0));
        assert_eq!(chosen(&placement), [1, 3]);
        placement.take(volumes(3), later(HOST_SUSPECT_MS));
        assert_eq!(chosen(&placement), [1, 3], "it may be taken again, but others come first");
        placement.distrust(VolumeId(9), Some(OsdId(1)));
        placement.distrust(VolumeId(9), Some(OsdId(3)));
        placement.take(volumes(3), later(HOST_SUSPECT_MS));
        assert_eq!(chosen(&placement), [1, 2, 3], "where there are no others it is taken");
        placement.take(volumes(3), later(SUSPECT_MEMORY_MS));
        assert_eq!(chosen(&placement), [1, 2, 3]);
    }

    #[tokio::test]
    async fn what_just_failed_is_avoided_and_news_only_once() {
        let placement = placement();
        placement.take(volumes(1), placement.world.clock.now());
        assert!(placement.distrust(VolumeId(9), Some(OsdId(1))));
        assert!(!placement.distrust(VolumeId(9), Some(OsdId(1))), "known");
        placement.take(volumes(1), placement.world.clock.now());
        assert!(chosen(&placement).is_empty());
    }
}
