//! Loading a drive profile, and whether it is about the drive at hand.
//!
//! Invariant: a profile that loaded holds only numbers that make sense; one that matches was measured on this drive, or
//! on one of its family with the same zones.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::{MeasuredProfile, SCHEMA};
use crate::device::Identity;
use crate::geometry::Geometry;

/// Versions of the document that are read.
const READABLE: [&str; 3] = ["shingle-drive/1", "shingle-drive/2", SCHEMA];
/// A profile of the most places is a tenth of this.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Times above this are no drive's: ten minutes.
const TIME_MS_MAX: f64 = 600_000.0;
/// No drive moves more, in 10^6 bytes per second.
const RATE_MB_S_MAX: f64 = 1_000_000.0;
/// Deepest queue of a profile: NVMe queues are as deep.
const QUEUE_DEPTH_MAX: u64 = 1024;
/// Largest batch of a profile, and largest read.
const BATCH_BYTES_MAX: u64 = 1 << 30;
/// Sizes of which a profile tells the depth.
const DEPTHS_MAX: usize = 16;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("is no drive profile: {0}")]
    Syntax(#[from] Box<toml::de::Error>),
    #[error("has the schema {found:?}, this program reads {READABLE:?}")]
    Schema { found: String },
    #[error("{key} = {value}: above 0, at most {most}")]
    Number { key: &'static str, value: f64, most: f64 },
    #[error("depths: at most {DEPTHS_MAX}, each of a larger size than the one before")]
    Depths,
}

/// The profile is about another drive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was measured on a drive with {key} = {profile}, this one has {drive}")]
pub struct Mismatch {
    /// The key of the profile.
    pub key: &'static str,
    pub profile: String,
    pub drive: String,
}

impl MeasuredProfile {
    /// Reads and checks a profile.
    ///
    /// # Errors
    /// [`LoadError`]; it does not name the file.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let mut text = String::new();
        File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
        Self::parse(&text)
    }

    /// As [`MeasuredProfile::load`], from the file's text.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn parse(text: &str) -> Result<Self, LoadError> {
        let table: toml::Table = toml::from_str(text).map_err(Box::new)?;
        let found = table.get("schema").and_then(toml::Value::as_str).unwrap_or_default();
        if !READABLE.contains(&found) {
            return Err(LoadError::Schema { found: found.to_owned() });
        }
        let profile: Self = toml::from_str(text).map_err(Box::new)?;
        profile.check_numbers()?;
        Ok(profile)
    }

    fn check_numbers(&self) -> Result<(), LoadError> {
        let count = |value: u64| value as f64;
        let measured = [
            ("flush-cost-ms", self.flush_cost_ms, TIME_MS_MAX),
            ("batch-bytes", self.batch_bytes.map(count), count(BATCH_BYTES_MAX)),
            ("queue-depth", self.queue_depth.map(f64::from), count(QUEUE_DEPTH_MAX)),
            ("access-ms", self.access_ms, TIME_MS_MAX),
            ("hedge-ms", self.hedge_ms, TIME_MS_MAX),
        ];
        let places = self.envelope.iter().flat_map(|at| {
            [
                ("read-mb-s", Some(at.read_mb_s), RATE_MB_S_MAX),
                ("write-mb-s", at.write_mb_s, RATE_MB_S_MAX),
                ("access-ms", at.access_ms, TIME_MS_MAX),
            ]
        });
        let depths = self.depths.iter().flat_map(|at| {
            [
                ("bytes", Some(count(at.bytes)), count(BATCH_BYTES_MAX)),
                ("in-flight", Some(f64::from(at.in_flight)), count(QUEUE_DEPTH_MAX)),
            ]
        });
        if self.depths.len() > DEPTHS_MAX || !self.depths.is_sorted_by(|one, next| one.bytes < next.bytes) {
            return Err(LoadError::Depths);
        }
        for (key, value, most) in measured.into_iter().chain(places).chain(depths) {
            let Some(value) = value else { continue };
            if !(value > 0.0 && value <= most) {
                return Err(LoadError::Number { key, value, most });
            }
        }
        Ok(())
    }

    /// Whether the profile is about this drive: its serial number, unless the profile names none, its model, its zones.
    /// The largest transfer is not compared: it is the way's to the drive.
    ///
    /// # Errors
    /// The first thing that differs, with both values.
    pub fn check_drive(&self, identity: &Identity, geometry: &Geometry) -> Result<(), Mismatch> {
        let differs = |key, profile: &dyn ToString, drive: &dyn ToString| {
            Err(Mismatch { key, profile: profile.to_string(), drive: drive.to_string() })
        };
        if self.model != identity.model {
            return differs("model", &self.model, &identity.model);
        }
        if !self.serial.is_empty() && self.serial != identity.serial {
            return differs("serial", &self.serial, &identity.serial);
        }
        let both = self.geometry.named().into_iter().zip(geometry.named());
        let mut compared = both.filter(|((key, _), _)| *key != "transfer-bytes-max");
        match compared.find(|(profile, drive)| profile != drive) {
            Some(((key, profile), (_, drive))) => differs(key, &profile, &drive),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qualify::profile::{AtRadius, AtSize};

    /// Documents of every version, as they were written.
    const GOLDEN: [&str; 3] = [
        include_str!("../../../../tests/fixtures/drive/v1.toml"),
        include_str!("../../../../tests/fixtures/drive/v2.toml"),
        include_str!("../../../../tests/fixtures/drive/v3.toml"),
    ];

    fn profile() -> MeasuredProfile {
        MeasuredProfile {
            serial: "S".to_owned(),
            batch_bytes: Some(4 << 20),
            access_ms: Some(12.0),
            hedge_ms: Some(20.0),
            idle_penalty_ms: Some(-0.1),
            power_loss_safe: Some(true),
            depths: vec![AtSize { bytes: 8192, in_flight: 32 }, AtSize { bytes: 65536, in_flight: 16 }],
            envelope: vec![AtRadius { radius: 0.0, read_mb_s: 250.0, write_mb_s: None, access_ms: Some(14.5) }],
            ..MeasuredProfile::unmeasured("M", &Geometry::smr(64 << 30))
        }
    }

    fn drive(model: &str, serial: &str) -> Identity {
        Identity { model: model.to_owned(), serial: serial.to_owned() }
    }

    #[test]
    fn a_profile_fits_its_drive_and_without_a_serial_number_its_family() {
        let (geometry, mut profile) = (Geometry::smr(64 << 30), profile());
        assert_eq!(profile.check_drive(&drive("M", "S"), &geometry), Ok(()));
        let other = profile.check_drive(&drive("M", "T"), &geometry).unwrap_err();
        assert_eq!(other.to_string(), "it was measured on a drive with serial = S, this one has T");
        profile.serial.clear();
        assert_eq!(profile.check_drive(&drive("M", "T"), &geometry), Ok(()));
        assert_eq!(profile.check_drive(&drive("N", "S"), &geometry).unwrap_err().key, "model");
        let larger = Geometry::smr(65 << 30);
        assert_eq!(profile.check_drive(&drive("M", "S"), &larger).unwrap_err().key, "zones");
        let fewer_open = Geometry { open_zones_max: 14, ..geometry };
        let limits = profile.check_drive(&drive("M", "S"), &fewer_open).unwrap_err();
        assert_eq!((limits.key, &*limits.profile, &*limits.drive), ("open-zones-max", "128", "14"));
    }

    #[test]
    fn what_is_written_is_read_and_nonsense_is_refused_by_name() {
        let sound = profile();
        let text = toml::to_string(&sound).unwrap();
        assert_eq!(MeasuredProfile::parse(&text).unwrap(), sound);
        let spoilt = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}: {text}");
            MeasuredProfile::parse(&text.replacen(from, to, 1)).unwrap_err().to_string()
        };
        assert!(spoilt("shingle-drive/3", "shingle-drive/4").contains("shingle-drive/4"));
        for (from, to) in [
            ("access-ms = 12.0", "queue-depth = 0"),
            ("access-ms = 12.0", "queue-depth = 4000000000"),
            ("in-flight = 16", "in-flight = 0"),
            ("in-flight = 16", "in-flight = 1025"),
            ("bytes = 8192", "bytes = 0"),
            ("access-ms = 12.0", "access-ms = nan"),
            ("hedge-ms = 20.0", "hedge-ms = -20.0"),
            ("read-mb-s = 250.0", "read-mb-s = inf"),
            ("access-ms = 14.5", "access-ms = 0.0"),
            ("batch-bytes = 4194304", "batch-bytes = 0"),
            ("access-ms", "acces-ms"),
        ] {
            let told = spoilt(from, to);
            let key = to.split(' ').next().unwrap();
            assert!(told.contains(key), "{key}: {told}");
        }
        for (from, to) in [("bytes = 65536", "bytes = 8192"), ("bytes = 8192", "bytes = 65537")] {
            assert!(spoilt(from, to).starts_with("depths:"), "{to}");
        }
        let many = AtSize { bytes: 1, in_flight: 1 };
        let depths = (1..=DEPTHS_MAX as u64 + 1).map(|bytes| AtSize { bytes, ..many.clone() }).collect();
        let many = toml::to_string(&MeasuredProfile { depths, ..profile() }).unwrap();
        assert!(matches!(MeasuredProfile::parse(&many), Err(LoadError::Depths)));
        assert!(matches!(MeasuredProfile::parse("x = ["), Err(LoadError::Syntax(_))));
        assert!(matches!(MeasuredProfile::load(Path::new("/nonexistent/drive.toml")), Err(LoadError::Read(_))));
    }
    #[test]
    fn documents_of_every_version_are_read() {
        let [first, second, third] = GOLDEN.map(|text| MeasuredProfile::parse(text).unwrap());
        assert_eq!((first.queue_depth, second.queue_depth, third.queue_depth), (Some(32), Some(32), None));
        let accesses = |profile: &MeasuredProfile| profile.envelope.iter().filter_map(|at| at.access_ms).count();
        assert_eq!((accesses(&first), accesses(&second), accesses(&third)), (0, 2, 2), "/1 has no times by radius");
        assert!(first.depths.is_empty() && second.depths.is_empty(), "/1 and /2 have no depths by size");
        let depths = [(4096, 32), (65536, 16), (1 << 20, 4)].map(|(bytes, in_flight)| AtSize { bytes, in_flight });
        assert_eq!(third.depths, depths);
        assert_eq!(toml::to_string(&third).unwrap(), GOLDEN[2], "and the last one is what is written");
        assert_eq!(
            MeasuredProfile { depths: Vec::new(), queue_depth: Some(32), schema: second.schema.clone(), ..third },
            second
        );
    }
}
