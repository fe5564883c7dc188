//! The time of flash: dies that work side by side, a shared wire, a protected buffer that writes end in.
//!
//! Invariant: the end of every command is known when it is submitted.

use std::collections::BTreeMap;

use super::profile::{DriveProfile, Flash, Interface, ZoneCommands};
use super::service_time::{Progress, Ticket, Work, micros, transfer_ns};

/// Flash under way.
pub struct FlashTime {
    flash: Flash,
    interface: Interface,
    zone_commands: ZoneCommands,
    die_free_ns: Vec<u64>,
    wire_free_ns: u64,
    /// When everything in the buffer is programmed.
    drained_ns: u64,
    ends: BTreeMap<u64, u64>,
    next: u64,
}

impl FlashTime {
    pub(super) fn new(profile: &DriveProfile, flash: &Flash) -> Self {
        Self {
            flash: flash.clone(),
            interface: profile.interface.clone(),
            zone_commands: profile.zone_commands.clone(),
            die_free_ns: vec![0; flash.dies.max(1) as usize],
            wire_free_ns: 0,
            drained_ns: 0,
            ends: BTreeMap::new(),
            next: 0,
        }
    }

    pub(super) fn submit(&mut self, now_ns: u64, work: Work) -> Ticket {
        let began_ns = now_ns + micros(self.interface.overhead_us);
        let ends_ns = match work {
            Work::Read { zone, offset_bytes, bytes } => self.read(began_ns, zone, offset_bytes, bytes),
            Work::Write { zone, offset_bytes, bytes } => self.write(began_ns, zone, offset_bytes, bytes),
            Work::Flush => began_ns,
            Work::Report { zones } => began_ns + micros(f64::from(zones) * self.zone_commands.report_us),
            Work::Open => began_ns + micros(self.zone_commands.open_us),
            Work::Close => began_ns + micros(self.zone_commands.close_us),
            Work::Finish { left_bytes, .. } => {
                self.buffered(began_ns, left_bytes) + micros(self.zone_commands.finish_us)
            }
            Work::Reset { zone } => {
                let erase_ns = micros(self.zone_commands.reset_us);
                self.on_die(began_ns, zone, 0, erase_ns)
            }
        };
        self.next += 1;
        self.ends.insert(self.next, ends_ns);
        Ticket(self.next)
    }

    pub(super) fn progress(&mut self, now_ns: u64, ticket: Ticket) -> Progress {
        Progress::Ends { at_ns: self.ends.get(&ticket.0).copied().unwrap_or(now_ns) }
    }

    pub(super) fn forget(&mut self, ticket: Ticket) {
        self.ends.remove(&ticket.0);
    }

    pub(super) fn power_cut(&mut self, now_ns: u64) {
        self.ends.clear();
        self.die_free_ns.fill(now_ns);
        (self.wire_free_ns, self.drained_ns) = (now_ns, now_ns);
    }

    fn read(&mut self, began_ns: u64, zone: u32, offset_bytes: u64, bytes: u64) -> u64 {
        let read_ns = micros(self.flash.read_us);
        let mut sensed_ns = began_ns;
        for stripe in self.stripes(offset_bytes, bytes) {
            sensed_ns = sensed_ns.max(self.on_die(began_ns, zone, stripe, read_ns));
        }
        self.over_the_wire(sensed_ns, bytes)
    }

    fn write(&mut self, began_ns: u64, zone: u32, offset_bytes: u64, bytes: u64) -> u64 {
        let program_ns = micros(self.flash.program_us);
        let sent_ns = self.over_the_wire(began_ns, bytes);
        for stripe in self.stripes(offset_bytes, bytes) {
            // A read behind it on the same die waits; the write itself ended in the buffer.
            self.on_die(sent_ns, zone, stripe, program_ns);
        }
        self.buffered(sent_ns, bytes)
    }

    /// When `bytes` more have found room in the buffer.
    fn buffered(&mut self, now_ns: u64, bytes: u64) -> u64 {
        self.drained_ns = self.drained_ns.max(now_ns) + transfer_ns(bytes, self.flash.write_mb_s);
        now_ns.max(self.drained_ns.saturating_sub(transfer_ns(self.flash.buffer_bytes, self.flash.write_mb_s)))
    }

    fn stripes(&self, offset_bytes: u64, bytes: u64) -> std::ops::Range<u64> {
        let stripe_bytes = self.flash.stripe_bytes.max(1);
        let stripes = offset_bytes / stripe_bytes..(offset_bytes + bytes).div_ceil(stripe_bytes);
        // No more than every die once: one command does not queue behind itself.
        stripes.start..stripes.end.min(stripes.start + self.die_free_ns.len() as u64)
    }

    fn on_die(&mut self, from_ns: u64, zone: u32, stripe: u64, cost_ns: u64) -> u64 {
        let dies = self.die_free_ns.len() as u64;
        let die = (u64::from(zone).wrapping_mul(7) + stripe) % dies;
        let Some(free_ns) = self.die_free_ns.get_mut(die as usize) else { return from_ns };
        *free_ns = (*free_ns).max(from_ns) + cost_ns;
        *free_ns
    }

    fn over_the_wire(&mut self, now_ns: u64, bytes: u64) -> u64 {
        self.wire_free_ns = self.wire_free_ns.max(now_ns) + transfer_ns(bytes, self.interface.mb_s);
        self.wire_free_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::service_time::ServiceTime;

    #[test]
    fn writes_end_in_the_buffer_until_it_is_full() {
        let mut time = ServiceTime::new(&DriveProfile::built_in("zns").expect("exists"), 1);
        let mut last_ns = 0;
        let mut first_ns = 0;
        for at in 0..2_000u64 {
            let ticket = time.submit(0, Work::Write { zone: 0, offset_bytes: at << 20, bytes: 1 << 20 });
            let Progress::Ends { at_ns } = time.progress(0, ticket) else { panic!("known at once") };
            first_ns = if at == 0 { at_ns } else { first_ns };
            last_ns = at_ns;
        }
        assert!(first_ns < 1_000_000, "{first_ns}");
        let mb_s = (2_000u64 << 20) as f64 * 1e3 / last_ns as f64;
        assert!((3_000.0..4_000.0).contains(&mb_s), "{mb_s}");
    }

    #[test]
    fn a_small_read_takes_a_page_read() {
        let mut time = ServiceTime::new(&DriveProfile::built_in("zns").expect("exists"), 1);
        let ticket = time.submit(0, Work::Read { zone: 3, offset_bytes: 0, bytes: 4096 });
        let Progress::Ends { at_ns } = time.progress(0, ticket) else { panic!("known at once") };
        assert!((60_000..100_000).contains(&at_ns), "{at_ns}");
    }
}
