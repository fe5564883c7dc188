//! From a drive's own zone report to a geometry and the state of every zone.
//!
//! Invariant: every zone of the geometry is as the report says, or the drive is refused. Conventional zones come first;
//! a smaller last zone and conventional zones at the end, which some drives have, are left alone.

use super::port::{Line, LineKind};
use crate::geometry::{Geometry, GeometryError};
use crate::zone::{ZoneCondition, ZoneId};
use crate::zone_state::ZoneStates;

/// What a drive says of itself besides its zones.
pub struct Limits {
    pub sector_bytes: u32,
    pub zone_bytes: u64,
    /// 0 is no limit.
    pub open_zones_max: u32,
    pub active_zones_max: u32,
    pub transfer_bytes_max: u32,
}

/// Why a drive's zones are not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    #[error("the drive reports no zones")]
    NoZones,
    #[error("zone {zone} starts at {start_bytes}, which is not behind the zone before it")]
    Gap { zone: u32, start_bytes: u64 },
    #[error("zone {zone} is host-aware: only host-managed drives are used")]
    HostAware { zone: u32 },
    #[error("zone {zone} has {found_bytes} bytes of capacity, the others {expected_bytes}")]
    Capacity { zone: u32, found_bytes: u64, expected_bytes: u64 },
    #[error("zone {zone} is conventional, between sequential ones")]
    Conventional { zone: u32 },
}

/// The geometry and the states of a drive's zones.
pub fn understand(limits: &Limits, lines: &[Line]) -> Result<ZoneStates, LayoutError> {
    let whole = match lines.last() {
        None => return Err(LayoutError::NoZones),
        Some(last) if last.length_bytes < limits.zone_bytes => lines.len() - 1,
        Some(_) => lines.len(),
    };
    let is_conventional = |line: &Line| line.kind == LineKind::Conventional;
    let lines = lines.get(..whole).unwrap_or_default();
    let used = lines.len() - lines.iter().rev().take_while(|line| is_conventional(line)).count();
    let lines = if used == 0 { lines } else { lines.get(..used).unwrap_or_default() };
    let conventional_zones = lines.iter().take_while(|line| is_conventional(line)).count();
    let capacity = lines.get(conventional_zones).map_or(limits.zone_bytes, |line| line.capacity_bytes);
    let mut start_bytes = 0;
    for (zone, line) in (0u32..).zip(lines) {
        if line.start_bytes != start_bytes || line.length_bytes != limits.zone_bytes {
            return Err(LayoutError::Gap { zone, start_bytes: line.start_bytes });
        }
        start_bytes += line.length_bytes;
        let expected_bytes = match line.kind {
            LineKind::Other => return Err(LayoutError::HostAware { zone }),
            LineKind::Conventional if zone as usize >= conventional_zones => {
                return Err(LayoutError::Conventional { zone });
            }
            LineKind::Conventional => limits.zone_bytes,
            LineKind::Sequential => capacity,
        };
        if line.capacity_bytes != expected_bytes && line.condition != ZoneCondition::Offline {
            return Err(LayoutError::Capacity { zone, found_bytes: line.capacity_bytes, expected_bytes });
        }
    }
    let geometry = Geometry {
        zones: u32::try_from(lines.len()).unwrap_or(u32::MAX),
        zone_bytes: limits.zone_bytes,
        zone_capacity_bytes: capacity,
        conventional_zones: u32::try_from(conventional_zones).unwrap_or(u32::MAX),
        sector_bytes: limits.sector_bytes,
        open_zones_max: limits.open_zones_max,
        active_zones_max: limits.active_zones_max,
        transfer_bytes_max: limits.transfer_bytes_max,
    };
    geometry.check()?;
    let mut states = ZoneStates::new(geometry);
    for (id, line) in (0u32..).map(ZoneId).zip(lines) {
        let written = match line.condition {
            ZoneCondition::NotWritePointer => continue,
            ZoneCondition::Empty => 0,
            // How much was written is not known: the drive decides what can be read.
            ZoneCondition::Full | ZoneCondition::ReadOnly | ZoneCondition::Offline => capacity,
            _ => line.write_pointer_in_zone().min(capacity),
        };
        states.adopt(id, line.condition, written);
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZONE: u64 = 1 << 20;

    fn limits() -> Limits {
        Limits {
            sector_bytes: 4096,
            zone_bytes: ZONE,
            open_zones_max: 2,
            active_zones_max: 0,
            transfer_bytes_max: 4096,
        }
    }

    fn lines(kinds: &[LineKind]) -> Vec<Line> {
        (0..)
            .zip(kinds)
            .map(|(index, kind)| Line {
                start_bytes: index * ZONE,
                length_bytes: ZONE,
                capacity_bytes: ZONE,
                kind: *kind,
                condition: match kind {
                    LineKind::Conventional => ZoneCondition::NotWritePointer,
                    _ => ZoneCondition::Empty,
                },
                write_pointer_bytes: index * ZONE,
            })
            .collect()
    }

    use LineKind::{Conventional, Other, Sequential};

    #[test]
    fn zones_at_the_end_that_are_unlike_the_others_are_left_alone() {
        let mut odd = lines(&[Conventional, Sequential, Sequential, Sequential]);
        if let Some(last) = odd.last_mut() {
            last.length_bytes = ZONE / 2;
            last.capacity_bytes = ZONE / 2;
        }
        let states = understand(&limits(), &odd).expect("understood");
        assert_eq!((states.geometry().zones, states.geometry().conventional_zones), (3, 1));
        let trailing = lines(&[Conventional, Sequential, Sequential, Conventional]);
        assert_eq!(understand(&limits(), &trailing).expect("understood").geometry().zones, 3);
        let all = lines(&[Conventional, Conventional]);
        assert_eq!(understand(&limits(), &all).expect("understood").geometry().conventional_zones, 2);
    }

    #[test]
    fn what_would_not_fit_a_geometry_is_refused() {
        let refused = |lines: &[Line]| understand(&limits(), lines).map(|_| ()).expect_err("refused");
        assert_eq!(refused(&[]), LayoutError::NoZones);
        assert_eq!(refused(&lines(&[Sequential, Other])), LayoutError::HostAware { zone: 1 });
        let between = lines(&[Sequential, Conventional, Sequential]);
        assert_eq!(refused(&between), LayoutError::Conventional { zone: 1 });
        let mut gap = lines(&[Sequential, Sequential, Sequential]);
        gap.remove(1);
        assert_eq!(refused(&gap), LayoutError::Gap { zone: 1, start_bytes: 2 * ZONE });
        let mut uneven = lines(&[Sequential, Sequential]);
        uneven[1].capacity_bytes -= 4096;
        assert!(matches!(refused(&uneven), LayoutError::Capacity { zone: 1, .. }));
    }

    #[test]
    fn zones_are_as_the_drive_left_them() {
        let mut found = lines(&[Sequential; 4]);
        found[1].condition = ZoneCondition::ExplicitOpen;
        found[1].write_pointer_bytes = ZONE + 8192;
        found[2].condition = ZoneCondition::Full;
        found[3].condition = ZoneCondition::ReadOnly;
        let states = understand(&limits(), &found).expect("understood");
        let zone = states.zone(ZoneId(1)).expect("exists");
        assert_eq!((zone.condition, zone.write_pointer_bytes), (ZoneCondition::ExplicitOpen, 8192));
        assert_eq!(states.check_read(ZoneId(2), 0, 4096), Ok(4096));
        assert_eq!(states.open_zones(), 1);
    }
}
