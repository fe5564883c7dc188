//! Zones for people and for scripts.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, Table};
use serde::Serialize;
use shingle_hw::device::Identity;
use shingle_hw::geometry::Geometry;
use shingle_hw::zone::{Zone, ZoneCondition};

use crate::units;

/// A line of a report.
#[derive(Serialize)]
pub struct ZoneLine {
    pub zone: u32,
    pub condition: &'static str,
    pub start_bytes: u64,
    pub capacity_bytes: u64,
    /// Absent where a write pointer means nothing.
    pub write_pointer_bytes: Option<u64>,
}

/// A report with what the device says of itself.
#[derive(Serialize)]
pub struct ReportDocument {
    pub model: String,
    pub serial: String,
    #[serde(flatten)]
    pub geometry: Geometry,
    pub report: Vec<ZoneLine>,
}

impl ZoneLine {
    pub fn new(zone: &Zone, geometry: &Geometry) -> Self {
        let meaningful = matches!(
            zone.condition,
            ZoneCondition::Empty | ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen | ZoneCondition::Closed
        );
        Self {
            zone: zone.id.0,
            condition: zone.condition.name(),
            start_bytes: u64::from(zone.id.0) * geometry.zone_bytes,
            capacity_bytes: zone.capacity_bytes,
            write_pointer_bytes: meaningful.then_some(zone.write_pointer_bytes),
        }
    }
}

impl ReportDocument {
    pub fn new(identity: &Identity, geometry: &Geometry, zones: &[Zone]) -> Self {
        Self {
            model: identity.model.clone(),
            serial: identity.serial.clone(),
            geometry: geometry.clone(),
            report: zones.iter().map(|zone| ZoneLine::new(zone, geometry)).collect(),
        }
    }

    /// Two lines about the device, then a table.
    pub fn text(&self) -> String {
        let geometry = &self.geometry;
        let limit = |count: u32| if count == 0 { "no limit".to_owned() } else { count.to_string() };
        let head = format!(
            "{} {}: {} zones of {} (capacity {}), {} conventional\nopen at most {}, active at most {}, sectors of {}, transfers up to {}",
            self.model,
            self.serial,
            geometry.zones,
            units::bytes(geometry.zone_bytes),
            units::bytes(geometry.zone_capacity_bytes),
            geometry.conventional_zones,
            limit(geometry.open_zones_max),
            limit(geometry.active_zones_max),
            units::bytes(u64::from(geometry.sector_bytes)),
            units::bytes(u64::from(geometry.transfer_bytes_max)),
        );
        format!("{head}\n{}", table(&self.report))
    }
}

/// Zones as a table.
pub fn table(lines: &[ZoneLine]) -> Table {
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header([
        right("ZONE".into()),
        Cell::new("CONDITION"),
        right("START".into()),
        right("CAPACITY".into()),
        right("WRITE POINTER".into()),
    ]);
    for line in lines {
        let pointer = line.write_pointer_bytes.map_or("-".to_owned(), |bytes| bytes.to_string());
        table.add_row([
            right(line.zone.to_string()),
            Cell::new(line.condition),
            right(line.start_bytes.to_string()),
            right(line.capacity_bytes.to_string()),
            right(pointer),
        ]);
    }
    table
}
