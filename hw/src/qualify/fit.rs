//! From a report to a modelled drive: qualify once, then develop against that drive's own latency law.
//!
//! Invariant: what the report does not tell keeps its default, and the profile's `source` says which were fitted.

use super::profile::points;
use super::report::Report;
use super::subject::DeviceKind;
use crate::model::profile::{
    Disk, DriveProfile, Flash, Interface, Media, ProfileError, Shape, WriteCache, ZoneCommands,
};

/// A drive that behaves as the one the report is about, as far as the report tells.
pub fn fit(report: &Report) -> Result<DriveProfile, ProfileError> {
    let device = &report.device;
    let mut fitted = Vec::new();
    let flash = device.kind == DeviceKind::Zns;
    let media = if flash { Media::Flash(Flash::default()) } else { Media::Disk(fit_disk(report, &mut fitted)) };
    let profile = DriveProfile {
        name: format!("{} (fitted)", device.model),
        shape: Shape::from(&device.geometry),
        interface: Interface::default(),
        cache: WriteCache::default(),
        zone_commands: fit_zone_commands(report, &mut fitted),
        media,
        source: String::new(),
    };
    let source = format!("fitted from run {}: {}", report.run.id, fitted.join(", "));
    let profile = DriveProfile { source, ..profile };
    profile.check()?;
    Ok(profile)
}

fn fit_disk(report: &Report, fitted: &mut Vec<&'static str>) -> Disk {
    let mut disk = Disk { heads: report.device.heads.max(1), ..Disk::default() };
    // A line through the rates by radius: its ends are the outer and the inner rate. Short stretches measure the seek.
    let long = report.device.geometry.zone_capacity_bytes >= 16 << 20;
    let reads: Vec<(f64, f64)> = points(report, "P-02", "sequential read").iter().map(|[x, y]| (*x, *y)).collect();
    if long && reads.len() >= 3 {
        let (outer, slope) = super::statistics::line(&reads);
        if outer > 0.0 && outer + slope.v > 0.0 {
            (disk.outer_mb_s, disk.inner_mb_s) = (outer, outer + slope.v);
            fitted.push("rates by radius");
        }
    }
    // A random read is a seek, half a turn and the controller's time.
    if let Some(read_ms) = report.metric("random_read_4k_1") {
        let turn_us = 30e6 / disk.rpm;
        let seek_us = read_ms * 1e3 - turn_us - Interface::default().overhead_us;
        if seek_us > disk.seek_track_us {
            disk.seek_average_us = seek_us;
            fitted.push("average seek");
        }
    }
    if let (Some(penalty_ms), Some(from_ms)) = (report.metric("idle_penalty"), report.metric("idle_penalty_from"))
        && penalty_ms > 1.0
        && from_ms > 0.0
    {
        disk.laser.warm_up_us = penalty_ms * 1e3;
        disk.laser.idle_gap_ms = from_ms;
        fitted.push("warm-up after a pause");
    }
    disk
}

fn fit_zone_commands(report: &Report, fitted: &mut Vec<&'static str>) -> ZoneCommands {
    let mut commands = ZoneCommands::default();
    let overhead_us = Interface::default().overhead_us;
    let cost = |name: &str| report.metric(name).map(|ms| (ms * 1e3 - overhead_us).max(0.0));
    let fields = [
        ("open_worst_mean", &mut commands.open_us),
        ("close_worst_mean", &mut commands.close_us),
        ("finish_worst_mean", &mut commands.finish_us),
        ("reset_worst_mean", &mut commands.reset_us),
    ];
    let mut any = false;
    for (name, field) in fields {
        if let Some(us) = cost(name) {
            *field = us;
            any = true;
        }
    }
    if any {
        fitted.push("zone commands");
    }
    commands
}
