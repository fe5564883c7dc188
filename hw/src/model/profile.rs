//! The parameters of a modelled drive, as a TOML file.
//!
//! Invariant: every default is named with its source; "assumed" marks what no public document says and what a fit of a
//! real drive's report replaces first.

use serde::{Deserialize, Serialize};

use crate::geometry::{Geometry, GeometryError};

/// A drive family. Files are kebab-case; what is left out has the default of its field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DriveProfile {
    /// Shown as the drive's model.
    pub name: String,
    /// Where the numbers are from: data sheet, or the report they were fitted from.
    pub source: String,
    pub shape: Shape,
    pub interface: Interface,
    pub cache: WriteCache,
    pub zone_commands: ZoneCommands,
    pub media: Media,
}

/// Zones and limits, as in a `Geometry`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Shape {
    /// 55,880 on a 15 TB drive (zonedstorage.io); here fewer, so that a fill stays short.
    pub zones: u32,
    /// 256 MiB on today's SMR hard disks (zonedstorage.io).
    pub zone_bytes: u64,
    /// Equal to `zone-bytes` on hard disks, less on ZNS.
    pub zone_capacity_bytes: u64,
    /// About 1 % on host-managed disks.
    pub conventional_zones: u32,
    pub sector_bytes: u32,
    /// 128 on the 14 to 15 TB generation (zonedstorage.io).
    pub open_zones_max: u32,
    /// 0 is none: SMR hard disks have no active limit.
    pub active_zones_max: u32,
    /// What the emulated drives of this program take at once.
    pub transfer_bytes_max: u32,
}

/// The wire and the controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Interface {
    /// Bytes on the wire, in 10^6 per second: SATA 6 Gb/s carries 600 (Serial ATA 3).
    pub mb_s: f64,
    /// Time of the controller per command, in microseconds: assumed.
    pub overhead_us: f64,
}

/// The volatile write cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct WriteCache {
    /// Writes answer from the cache. Off: every write waits for the medium.
    pub enabled: bool,
    /// Room for unwritten data. 512 MB buffers are sold (Ultrastar DC HC620 and later); what a drive lets stand
    /// unwritten is far less: assumed.
    pub bytes: u64,
    /// What is written back at once before something else may have the arm: about a track; assumed.
    pub destage_bytes: u64,
    /// What a flush costs besides the data, in microseconds: assumed.
    pub flush_us: f64,
}

/// Commands about zones; they occupy the controller, not the arm. All assumed, all replaced by a fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ZoneCommands {
    pub open_us: f64,
    pub close_us: f64,
    pub finish_us: f64,
    pub reset_us: f64,
    /// Per zone of a report.
    pub report_us: f64,
}

/// What the bytes are on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Media {
    Disk(Disk),
    Flash(Flash),
}

/// Platters, heads and arms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Disk {
    /// 7200: one revolution in 8.33 ms (Ultrastar DC HC310 specification, table 7).
    pub rpm: f64,
    /// Seek to the next track with settling, in microseconds: 230 (DC HC310, table 6, read).
    pub seek_track_us: f64,
    /// Mean seek over random pairs, in microseconds: 7400 (DC HC310, table 5, read). Between them the time grows with
    /// the root of the distance (Ruemmler and Wilkes, 1994).
    pub seek_average_us: f64,
    /// Writes settle longer, in microseconds: 800 (DC HC310, table 5, write less read).
    pub write_settle_us: f64,
    /// Change of the head on the same cylinder, in microseconds: assumed, about a track seek and its settling.
    pub head_switch_us: f64,
    /// Heads; consecutive zones are on consecutive heads. 20 for ten platters.
    pub heads: u32,
    /// Independent arms, each with an equal range of the zones. 1, or 2 on dual-actuator drives.
    pub actuators: u32,
    /// Media rate at the first zone, in 10^6 bytes per second: 247, the upper end of 235-243 MiB/s measured on a real
    /// SMR drive (zonedstorage.io, 256 KiB sequential writes) being near the outer diameter.
    pub outer_mb_s: f64,
    /// Media rate at the last zone: half of the outer one, as the radii of a 3.5 inch platter.
    pub inner_mb_s: f64,
    /// What the drive reads on behind a read, in bytes: assumed.
    pub read_ahead_bytes: u64,
    /// Reads in a million that need another revolution: assumed; the published p99.9 of 34-56 ms has several.
    pub retry_ppm: u32,
    /// Places of 64 KiB in a million that always need another revolution: assumed.
    pub slow_spot_ppm: u32,
    /// A command this old goes first, in milliseconds; younger ones gain in proportion: assumed, so that 32 queued 4 KiB
    /// reads reach the 200 a second usual for 7200 rpm. More commands than the drive serves within this time are all old:
    /// it takes them as they came, and is about as slow as with one at a time.
    pub starve_ms: f64,
    pub laser: Laser,
    pub background: Background,
}

/// What a HAMR write head costs; all zero on other drives. The effects are those of US 12,223,983 (pre-heating, then one
/// zone continuously); their sizes are not published: assumed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Laser {
    /// A pause between media writes from which the laser is cold, in milliseconds.
    pub idle_gap_ms: f64,
    /// What the first write of a cold laser costs, in microseconds.
    pub warm_up_us: f64,
    /// What writing into another zone than before costs, in microseconds.
    pub zone_switch_us: f64,
}

/// Work the drive does for itself at regular times; none by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Background {
    /// From start to start, in milliseconds; 0 is never.
    pub period_ms: f64,
    pub duration_ms: f64,
}

/// Flash with power-loss protection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Flash {
    /// Dies that work at once: 128, the usual count of a 4 to 8 TB drive; assumed.
    pub dies: u32,
    /// A page read, in microseconds: 60, TLC (ConfZNS and FEMU use 40 to 65).
    pub read_us: f64,
    /// Programming of one stripe, in microseconds: 400 to 700, TLC (ConfZNS).
    pub program_us: f64,
    /// Bytes that one die programs or reads for a stripe.
    pub stripe_bytes: u64,
    /// Sustained write rate of all dies, in 10^6 bytes per second.
    pub write_mb_s: f64,
    /// Buffer behind the power-loss protection: writes end there.
    pub buffer_bytes: u64,
}

impl Default for DriveProfile {
    fn default() -> Self {
        Self {
            name: "modelled SMR".to_owned(),
            source: "data sheets and published measurements, see the fields".to_owned(),
            shape: Shape::default(),
            interface: Interface::default(),
            cache: WriteCache::default(),
            zone_commands: ZoneCommands::default(),
            media: Media::Disk(Disk::default()),
        }
    }
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            zones: 4096,
            zone_bytes: 256 << 20,
            zone_capacity_bytes: 256 << 20,
            conventional_zones: 40,
            sector_bytes: 4096,
            open_zones_max: 128,
            active_zones_max: 0,
            transfer_bytes_max: 16 << 20,
        }
    }
}

impl From<&Geometry> for Shape {
    fn from(geometry: &Geometry) -> Self {
        Self {
            zones: geometry.zones,
            zone_bytes: geometry.zone_bytes,
            zone_capacity_bytes: geometry.zone_capacity_bytes,
            conventional_zones: geometry.conventional_zones,
            sector_bytes: geometry.sector_bytes,
            open_zones_max: geometry.open_zones_max,
            active_zones_max: geometry.active_zones_max,
            transfer_bytes_max: geometry.transfer_bytes_max,
        }
    }
}

impl Default for Interface {
    fn default() -> Self {
        Self { mb_s: 600.0, overhead_us: 50.0 }
    }
}

impl Default for WriteCache {
    fn default() -> Self {
        Self { enabled: true, bytes: 32 << 20, destage_bytes: 2 << 20, flush_us: 100.0 }
    }
}

impl Default for ZoneCommands {
    fn default() -> Self {
        Self { open_us: 100.0, close_us: 100.0, finish_us: 5_000.0, reset_us: 1_000.0, report_us: 0.2 }
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            rpm: 7200.0,
            seek_track_us: 230.0,
            seek_average_us: 7_400.0,
            write_settle_us: 800.0,
            head_switch_us: 300.0,
            heads: 20,
            actuators: 1,
            outer_mb_s: 247.0,
            inner_mb_s: 123.0,
            read_ahead_bytes: 1 << 20,
            retry_ppm: 500,
            slow_spot_ppm: 50,
            starve_ms: 1_000.0,
            laser: Laser::default(),
            background: Background::default(),
        }
    }
}

impl Default for Flash {
    fn default() -> Self {
        Self {
            dies: 128,
            read_us: 60.0,
            program_us: 600.0,
            stripe_bytes: 64 << 10,
            write_mb_s: 4_000.0,
            buffer_bytes: 64 << 20,
        }
    }
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("the profile is no TOML that fits: {0}")]
    Syntax(#[from] Box<toml::de::Error>),
    #[error("the profile's shape: {0}")]
    Geometry(#[from] GeometryError),
    #[error("the profile's {field} must be a positive number")]
    Number { field: &'static str },
    #[error("the profile cannot be written: {0}")]
    Write(#[from] toml::ser::Error),
}

/// Names of the built-in profiles.
pub const BUILT_IN: [&str; 4] = ["ci", "smr", "hamr", "zns"];

impl DriveProfile {
    /// A built-in profile: `ci` (a tiny disk with every limit and kind of zone), `smr`, `hamr`, `zns`.
    pub fn built_in(name: &str) -> Option<Self> {
        match name {
            "ci" => Some(Self::ci()),
            "smr" => Some(Self::default()),
            "hamr" => Some(Self::hamr()),
            "zns" => Some(Self::zns()),
            _ => None,
        }
    }

    /// Reads and checks a profile.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let profile: Self = toml::from_str(text).map_err(Box::new)?;
        profile.check()?;
        Ok(profile)
    }

    /// The file that `parse` reads.
    pub fn to_toml(&self) -> Result<String, ProfileError> {
        Ok(toml::to_string(self)?)
    }

    /// Whether a drive can be made of it.
    pub fn check(&self) -> Result<(), ProfileError> {
        self.geometry().check()?;
        let positive = |field, value: f64| {
            if value.is_finite() && value > 0.0 { Ok(()) } else { Err(ProfileError::Number { field }) }
        };
        positive("interface.mb-s", self.interface.mb_s)?;
        match &self.media {
            Media::Disk(disk) => {
                positive("media.rpm", disk.rpm)?;
                positive("media.outer-mb-s", disk.outer_mb_s)?;
                positive("media.inner-mb-s", disk.inner_mb_s)?;
                positive("media.heads", f64::from(disk.heads))?;
                positive("media.actuators", f64::from(disk.actuators))
            }
            Media::Flash(flash) => {
                positive("media.dies", f64::from(flash.dies))?;
                positive("media.stripe-bytes", flash.stripe_bytes as f64)?;
                positive("media.write-mb-s", flash.write_mb_s)
            }
        }
    }

    pub fn geometry(&self) -> Geometry {
        let shape = &self.shape;
        Geometry {
            zones: shape.zones,
            zone_bytes: shape.zone_bytes,
            zone_capacity_bytes: shape.zone_capacity_bytes,
            conventional_zones: shape.conventional_zones,
            sector_bytes: shape.sector_bytes,
            open_zones_max: shape.open_zones_max,
            active_zones_max: shape.active_zones_max,
            transfer_bytes_max: shape.transfer_bytes_max,
        }
    }

    /// The same drive with zones of at most 16 MiB and transfers of at most 2 MiB, so that whole zones of data fit into
    /// memory. Rates, seeks and limits stay.
    pub fn for_memory(mut self) -> Self {
        const ZONE_BYTES: u64 = 16 << 20;
        let shape = &mut self.shape;
        if shape.zone_bytes > ZONE_BYTES {
            // The part of a zone that can be written stays the same, in whole 64 KiB.
            let part = shape.zone_capacity_bytes as f64 / shape.zone_bytes as f64;
            shape.zone_capacity_bytes = ((ZONE_BYTES >> 16) as f64 * part) as u64 * (64 << 10);
            shape.zone_bytes = ZONE_BYTES;
        }
        shape.transfer_bytes_max = shape.transfer_bytes_max.min(2 << 20);
        self
    }

    fn ci() -> Self {
        let shape = Shape {
            zones: 40,
            zone_bytes: 256 << 10,
            zone_capacity_bytes: 240 << 10,
            conventional_zones: 2,
            sector_bytes: 4096,
            open_zones_max: 4,
            active_zones_max: 6,
            transfer_bytes_max: 64 << 10,
        };
        let disk = Disk { heads: 4, slow_spot_ppm: 0, ..Disk::default() };
        let cache = WriteCache { bytes: 1 << 20, destage_bytes: 256 << 10, ..WriteCache::default() };
        Self { name: "modelled CI".to_owned(), shape, cache, media: Media::Disk(disk), ..Self::default() }
    }

    fn hamr() -> Self {
        let laser = Laser { idle_gap_ms: 50.0, warm_up_us: 3_000.0, zone_switch_us: 500.0 };
        let disk = Disk { outer_mb_s: 285.0, inner_mb_s: 142.0, laser, ..Disk::default() };
        Self { name: "modelled HAMR".to_owned(), media: Media::Disk(disk), ..Self::default() }
    }

    fn zns() -> Self {
        let shape = Shape {
            zones: 904,
            zone_bytes: 2 << 30,
            zone_capacity_bytes: 1077 << 20,
            conventional_zones: 0,
            open_zones_max: 14,
            active_zones_max: 14,
            transfer_bytes_max: 1 << 20,
            ..Shape::default()
        };
        Self {
            name: "modelled ZNS".to_owned(),
            shape,
            interface: Interface { mb_s: 3_500.0, overhead_us: 8.0 },
            media: Media::Flash(Flash::default()),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_profile_can_be_written_and_read() {
        for name in BUILT_IN {
            let profile = DriveProfile::built_in(name).expect("exists");
            profile.check().expect("sound");
            let text = profile.to_toml().expect("writes");
            assert_eq!(DriveProfile::parse(&text).expect("reads"), profile, "{name}");
            profile.for_memory().check().expect("sound");
        }
        assert_eq!(DriveProfile::built_in("nothing"), None);
    }

    #[test]
    fn what_a_file_leaves_out_has_its_default_and_what_it_misspells_is_refused() {
        let profile = DriveProfile::parse("name = \"x\"\n[media]\nkind = \"disk\"\nheads = 3\n").expect("reads");
        let expected = Media::Disk(Disk { heads: 3, ..Disk::default() });
        assert_eq!((profile.media, profile.shape), (expected, Shape::default()));
        assert!(DriveProfile::parse("[media]\nkind = \"disk\"\nhaeds = 3\n").is_err());
        assert!(DriveProfile::parse("[media]\nkind = \"disk\"\nrpm = 0.0\n").is_err());
        assert!(DriveProfile::parse("[shape]\nsector-bytes = 520\n").is_err());
    }
}
