//! The shape of a zoned namespace: what it says of itself and what the way to it allows, together.

use super::identify::Identified;
use super::port::{Namespace, REPORT_BYTES};
use super::report::{self, ENTRY_BYTES};
use crate::backend::drive::{Limits, Line};

/// Limits for the layout of a drive, and numbers for its commands.
pub(in crate::backend) struct Shape {
    pub(in crate::backend) limits: Limits,
    pub(in crate::backend) namespace: Namespace,
}

/// The shape of a namespace with at most `most` bytes per command.
pub(in crate::backend) fn shape(identified: &Identified, nsid: u32, most: u64) -> Shape {
    let sector = u64::from(identified.sector_bytes).max(1);
    let whole = |bytes: u64| (bytes / sector * sector).max(sector);
    let transfer_bytes_max = whole(most.min(1 << 30));
    let append_bytes_max = whole(identified.append_bytes_max.unwrap_or(u64::MAX).min(transfer_bytes_max));
    let zone_bytes = identified.zone_sectors.saturating_mul(sector);
    let active = identified.active_zones_max;
    let limits = Limits {
        sector_bytes: identified.sector_bytes,
        zone_bytes,
        open_zones_max: match (identified.open_zones_max, active) {
            (open, 0) => open,
            (open, active) => open.min(active),
        },
        active_zones_max: active,
        transfer_bytes_max: u32::try_from(transfer_bytes_max).unwrap_or(1 << 30),
    };
    let report_bytes = REPORT_BYTES.min(transfer_bytes_max as usize / ENTRY_BYTES * ENTRY_BYTES).max(2 * ENTRY_BYTES);
    let sector_bytes = identified.sector_bytes.max(1);
    Shape { limits, namespace: Namespace { nsid, sector_bytes, zone_bytes, append_bytes_max, report_bytes } }
}

/// The report of all zones. `report` gives the answer to Zone Management Receive with these command words.
pub(in crate::backend) fn reported_zones<E>(
    namespace: &Namespace,
    identified: &Identified,
    mut report: impl FnMut([u32; 6]) -> Result<Vec<u8>, E>,
) -> Result<Vec<Line>, E> {
    let mut lines = Vec::new();
    let mut sector = 0;
    while sector < identified.sectors {
        let data = report(report::words(sector, namespace.report_bytes))?;
        let more = report::parse(&data, namespace.sector_bytes, namespace.zone_bytes);
        if more.is_empty() {
            break;
        }
        sector += more.len() as u64 * identified.zone_sectors;
        lines.extend(more);
    }
    Ok(lines)
}
