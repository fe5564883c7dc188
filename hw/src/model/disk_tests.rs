//! The disk's time against what data sheets and published measurements say of real ones.

use super::*;
use crate::model::profile::DriveProfile;
use crate::model::service_time::ServiceTime;

const MIB: u64 = 1 << 20;

/// Ends a command and returns when.
fn end(time: &mut ServiceTime, ticket: Ticket, mut now_ns: u64) -> u64 {
    loop {
        match time.progress(now_ns, ticket) {
            Progress::Ends { at_ns } => return at_ns,
            Progress::Waits { until_ns } => now_ns = until_ns,
        }
    }
}

fn smr() -> ServiceTime {
    ServiceTime::new(&DriveProfile::default(), 1)
}

#[test]
fn random_reads_take_seek_and_half_a_turn() {
    let mut time = smr();
    let mut draw = Draw::new(5);
    let mut now_ns = 0;
    let count = 4_000;
    for _ in 0..count {
        let (zone, offset_bytes) = (draw.below(4096) as u32, draw.below(60_000) * 4096);
        let ticket = time.submit(now_ns, Work::Read { zone, offset_bytes, bytes: 4096 });
        now_ns = end(&mut time, ticket, now_ns);
    }
    let mean_ms = now_ns as f64 / f64::from(count) / 1e6;
    // 7.4 seek + 4.17 turn + 0.05 overhead and a few retries.
    assert!((11.3..12.1).contains(&mean_ms), "{mean_ms}");
}

/// Random reads a second with so many in flight.
fn random_read_rate(mut time: ServiceTime, depth: usize) -> f64 {
    let mut draw = Draw::new(5);
    let mut now_ns = 0;
    let mut tickets: Vec<Ticket> = Vec::new();
    let mut ended = 0u64;
    while ended < 2_000 {
        while tickets.len() < depth {
            let (zone, offset_bytes) = (draw.below(4096) as u32, draw.below(60_000) * 4096);
            tickets.push(time.submit(now_ns, Work::Read { zone, offset_bytes, bytes: 4096 }));
        }
        let mut until_ns = u64::MAX;
        tickets.retain(|ticket| match time.progress(now_ns, *ticket) {
            Progress::Ends { at_ns } if at_ns <= now_ns => {
                ended += 1;
                false
            }
            Progress::Ends { at_ns: at } | Progress::Waits { until_ns: at } => {
                until_ns = until_ns.min(at);
                true
            }
        });
        now_ns = if tickets.len() < depth { now_ns } else { until_ns };
    }
    ended as f64 / (now_ns as f64 / 1e9)
}

#[test]
fn a_deeper_queue_serves_more_random_reads() {
    let (one, many) = (random_read_rate(smr(), 1), random_read_rate(smr(), 32));
    assert!((75.0..95.0).contains(&one), "{one}");
    assert!(many > 2.0 * one && many < 400.0, "{one} {many}");
}

#[test]
fn more_reads_than_are_served_within_the_bound_are_served_in_their_order() {
    let rate = |starve_ms: f64, depth| {
        let mut profile = DriveProfile::default();
        if let crate::model::profile::Media::Disk(disk) = &mut profile.media {
            disk.starve_ms = starve_ms;
        }
        random_read_rate(ServiceTime::new(&profile, 1), depth)
    };
    let (within, beyond, no_bound) = (rate(1_000.0, 64), rate(1_000.0, 512), rate(1e6, 512));
    assert!(beyond < within / 2.0 && no_bound > within, "{within} {beyond} {no_bound}");
}

#[test]
fn sequential_transfers_run_at_the_media_rate() {
    let mut time = smr();
    let mut now_ns = 0;
    for at in 0..256 {
        let ticket = time.submit(now_ns, Work::Write { zone: 0, offset_bytes: at * MIB, bytes: MIB });
        now_ns = end(&mut time, ticket, now_ns);
    }
    let flush = time.submit(now_ns, Work::Flush);
    let written_ns = end(&mut time, flush, now_ns);
    let write_mb_s = (256 * MIB) as f64 * 1e3 / written_ns as f64;
    assert!((225.0..250.0).contains(&write_mb_s), "{write_mb_s}");
    let mut now_ns = written_ns;
    for at in 0..256 {
        let ticket = time.submit(now_ns, Work::Read { zone: 0, offset_bytes: at * MIB, bytes: MIB });
        now_ns = end(&mut time, ticket, now_ns) + 30_000;
    }
    let read_mb_s = (256 * MIB) as f64 * 1e3 / (now_ns - written_ns) as f64;
    assert!((225.0..250.0).contains(&read_mb_s), "{read_mb_s}");
}

#[test]
fn inner_zones_are_slower() {
    let mut time = smr();
    let read_ns = |time: &mut ServiceTime, now_ns, zone| {
        let ticket = time.submit(now_ns, Work::Read { zone, offset_bytes: 0, bytes: 64 * MIB });
        end(time, ticket, now_ns) - now_ns
    };
    let outer_ns = read_ns(&mut time, 0, 0);
    let inner_ns = read_ns(&mut time, 10_000_000_000, 4095);
    assert!((1.8..2.2).contains(&(inner_ns as f64 / outer_ns as f64)), "{outer_ns} {inner_ns}");
}

#[test]
fn a_flush_waits_for_the_medium_and_only_a_flush_does() {
    let mut time = smr();
    let write = time.submit(0, Work::Write { zone: 3000, offset_bytes: 0, bytes: MIB });
    assert!(end(&mut time, write, 0) < 3_000_000, "the cache answers");
    let flush = time.submit(2_000_000, Work::Flush);
    let ends_ns = end(&mut time, flush, 2_000_000);
    assert!(ends_ns > 10_000_000, "the medium takes a seek: {ends_ns}");
    let again = time.submit(ends_ns, Work::Flush);
    assert!(end(&mut time, again, ends_ns) - ends_ns < 1_000_000, "nothing is left to write");
}

#[test]
fn a_full_cache_makes_writes_wait_for_the_medium() {
    let mut time = smr();
    let mut tickets = Vec::new();
    for zone in 0..64 {
        tickets.push(time.submit(0, Work::Write { zone: zone * 60, offset_bytes: 0, bytes: MIB }));
    }
    let first = end(&mut time, tickets[0], 0);
    let last = end(&mut time, tickets[63], 0);
    assert!(first < 3_000_000 && last > 200_000_000, "{first} {last}");
}

#[test]
fn nothing_is_read_where_nothing_was_written() {
    let mut time = smr();
    let ticket = time.submit(0, Work::Read { zone: 4000, offset_bytes: 0, bytes: 0 });
    assert!(end(&mut time, ticket, 0) < 1_000_000);
}

#[test]
fn periodic_work_of_the_drive_shows() {
    let mut profile = DriveProfile::default();
    if let crate::model::profile::Media::Disk(disk) = &mut profile.media {
        disk.background.period_ms = 1_000.0;
        disk.background.duration_ms = 300.0;
    }
    let mut time = ServiceTime::new(&profile, 1);
    let ticket = time.submit(1_010_000_000, Work::Read { zone: 9, offset_bytes: 0, bytes: 4096 });
    assert!(end(&mut time, ticket, 1_010_000_000) > 1_300_000_000);
}

#[test]
fn a_power_cut_ends_everything() {
    let mut time = smr();
    let write = time.submit(0, Work::Write { zone: 1, offset_bytes: 0, bytes: MIB });
    let flush = time.submit(1, Work::Flush);
    time.power_cut(1_000);
    assert_eq!([write, flush].map(|ticket| end(&mut time, ticket, 1_000)), [1_000; 2]);
}

#[test]
fn arms_account_for_what_they_did() {
    let mut time = smr();
    let bytes = 64u64 << 20;
    let ticket = time.submit(0, Work::Read { zone: 100, offset_bytes: 0, bytes });
    let took_ns = end(&mut time, ticket, 0);
    let arm = time.arm_time();
    assert!(arm.positioning_ns + arm.transfer_ns <= took_ns && arm.transfer_ns > took_ns / 10 * 9, "{arm:?} {took_ns}");
    assert!((1_000_000..40_000_000).contains(&arm.positioning_ns), "{arm:?}");
}
