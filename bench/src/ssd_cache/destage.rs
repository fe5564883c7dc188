//! The staging SSD's side of a host: blocks are acknowledged when the SSD has them and go to the disks in runs.
//!
//! Invariant: the space of a block on the SSD is free again only when its run is durable on the disk.

use rand::Rng;
use shingle_hw::model::service_time::Work;

use super::host::{Host, Purpose, SSD};

/// Blocks of a run that are between SSD and disk at once.
const AHEAD: u64 = 2;

/// Blocks on their way from the SSD to one disk.
pub(super) struct DestageRun {
    blocks: u64,
    to_read: u64,
    to_write: u64,
    /// Being read, or read and not yet written.
    ahead: u64,
    /// Read and not yet being written.
    ready: u64,
    writing: bool,
}

impl Host<'_> {
    /// Writes a put to the SSD, or lets it wait for room there.
    pub(super) fn stage(&mut self, put: u64) {
        if self.staged_bytes + self.parameters.block_bytes > self.parameters.staging_bytes {
            self.full.push_back(put);
            return;
        }
        self.staged_bytes += self.parameters.block_bytes;
        let (zone, offset_bytes, bytes) = self.next_place();
        self.submit(SSD, Work::Write { zone, offset_bytes, bytes }, Purpose::Stage { put });
    }

    /// A put is on the SSD; which disk it is for was decided before.
    pub(super) fn staged(&mut self) {
        let disk = self.random.random_range(0..self.disks.len());
        self.disks[disk].staged += 1;
        self.start_run(disk);
    }

    /// The next place of the SSD, for reads as well: flash does not care which.
    fn next_place(&mut self) -> (u32, u64, u64) {
        let shape = &self.parameters.ssd.shape;
        let bytes = self.parameters.block_bytes;
        let place = (self.staged_address / shape.zone_bytes % u64::from(shape.zones), self.staged_address);
        self.staged_address += bytes;
        (place.0 as u32, place.1 % shape.zone_bytes, bytes)
    }

    /// Starts a run of a disk that has enough staged, if one is free.
    fn start_run(&mut self, disk: usize) {
        let blocks = (self.parameters.destage_bytes / self.parameters.block_bytes).max(1);
        let state = &mut self.disks[disk];
        if self.destaging < self.parameters.destage_runs && state.run.is_none() && state.staged >= blocks {
            state.staged -= blocks;
            state.run =
                Some(DestageRun { blocks, to_read: blocks, to_write: blocks, ahead: 0, ready: 0, writing: false });
            self.destaging += 1;
            self.carry_on(disk);
        }
    }

    /// Reads ahead and writes, as far as a run may.
    fn carry_on(&mut self, disk: usize) {
        while let Some(run) = self.disks[disk].run.as_mut().filter(|run| run.to_read > 0 && run.ahead < AHEAD) {
            run.to_read -= 1;
            run.ahead += 1;
            let (zone, offset_bytes, bytes) = self.next_place();
            self.submit(SSD, Work::Read { zone, offset_bytes, bytes }, Purpose::DestageRead { disk });
        }
        let state = &mut self.disks[disk];
        if let Some(run) = state.run.as_mut().filter(|run| run.ready > 0 && !run.writing) {
            run.ready -= 1;
            run.writing = true;
            let work = state.destage_zone.place(self.parameters.block_bytes, self.parameters, &mut self.random);
            self.submit(disk, work, Purpose::DestageWrite);
        }
    }

    /// A block has left the SSD.
    pub(super) fn destage_read(&mut self, disk: usize) {
        if let Some(run) = self.disks[disk].run.as_mut() {
            run.ready += 1;
        }
        self.carry_on(disk);
    }

    /// A block has reached the disk.
    pub(super) fn destage_written(&mut self, disk: usize) {
        let Some(run) = self.disks[disk].run.as_mut() else { return };
        run.writing = false;
        run.ahead -= 1;
        run.to_write -= 1;
        if run.to_write == 0 {
            self.submit(disk, Work::Flush, Purpose::DestageFlush);
        } else {
            self.carry_on(disk);
        }
    }

    /// The run is durable: its space is free, and so is its place for another disk's run.
    pub(super) fn destaged(&mut self, disk: usize) {
        let Some(run) = self.disks[disk].run.take() else { return };
        self.staged_bytes -= run.blocks * self.parameters.block_bytes;
        self.destaging -= 1;
        let waiting = std::mem::take(&mut self.full);
        waiting.into_iter().for_each(|put| self.stage(put));
        // Round robin from the next disk on, so that none waits for ever.
        let disks = self.disks.len();
        (1..=disks).for_each(|step| self.start_run((disk + step) % disks));
    }
}
