//! What an OSD says of itself in heartbeats and to whoever asks.

use std::net::SocketAddr;

use shingle_proto::message::{ExtentReport, OsdReport, OsdState, ReadTimes};

use super::extent::State;
use super::store::Osd;

impl Osd {
    /// The OSD's state, counters and every extent. `address` is where its shard listens.
    pub fn report(&self, address: SocketAddr) -> OsdReport {
        let mut extents = Vec::new();
        let report = self.report_showing(address, &mut |extent| extents.push(extent));
        OsdReport { extents, listed: true, ..report }
    }

    /// The OSD's state and counters; `each` is shown every extent, in the order of their ids. The report itself names none.
    pub fn report_showing(&self, address: SocketAddr, each: &mut dyn FnMut(ExtentReport)) -> OsdReport {
        let mut stored_bytes = 0;
        // Slots that a new extent can have, now or after a reset.
        let mut slots_left = self.free_slots.borrow().len() as u32;
        // One that is being created is nobody's yet.
        for extent in self.extents.borrow().values().filter(|extent| extent.state.get() != State::Creating) {
            slots_left += u32::from(self.is_unused(extent));
            let extent = extent.report();
            stored_bytes += extent.record_bytes;
            each(extent);
        }
        let lacks_room = self.lacks_room();
        let now = self.world.clock.now();
        let metrics = &self.metrics;
        let (append_p50_us, append_p99_us) = metrics.append_latencies.p50_p99_us(now);
        let (read_p50_us, read_p99_us) = metrics.read_latencies.p50_p99_us(now);
        OsdReport {
            osd: self.id().0,
            address: address.to_string(),
            path: self.path.clone(),
            serial: self.device.identity().serial.clone(),
            state: match self.state.get() {
                OsdState::Healthy if lacks_room => OsdState::NoSpace,
                state => state,
            },
            extents_total: self.layout().extents,
            extents_free: if lacks_room { 0 } else { slots_left },
            capacity_bytes: u64::from(self.layout().extents) * self.layout().payload_bytes(),
            stored_bytes,
            appends: metrics.appends.get(),
            append_bytes: metrics.append_bytes.get(),
            reads: metrics.reads.get(),
            read_bytes: metrics.read_bytes.get(),
            flushes: metrics.flushes.get(),
            queue_bytes: self.commit.accepted_bytes(),
            append_p50_us,
            append_p99_us,
            read_p50_us,
            read_p99_us,
            extents: Vec::new(),
            gone: Vec::new(),
            listed: false,
            scrub: Some(Box::new(self.scrub_status())),
            read_times: self.read_times().map(Box::new),
        }
    }

    /// How long reads take, when the disk's profile says.
    fn read_times(&self) -> Option<ReadTimes> {
        let policy = &self.budgets.disk;
        policy.late_us.map(|late_us| ReadTimes { late_us, bandwidth_bytes: policy.bandwidth_bytes })
    }
}
