//! A file's modification time and mode, carried as user metadata so that a copy back restores them.

use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Header with the modification time: seconds since 1970, a point, nine digits of nanoseconds.
pub const MTIME_HEADER: &str = "x-amz-meta-shingle-mtime";
/// Header with the permission bits in octal.
pub const MODE_HEADER: &str = "x-amz-meta-shingle-mode";

/// What is kept of a file besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Nanoseconds since 1970; negative before.
    pub mtime_ns: i128,
    /// Permission bits, 0o7777 at most.
    pub mode: u32,
}

const SECOND_NS: i128 = 1_000_000_000;

impl Attributes {
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            mtime_ns: i128::from(metadata.mtime()) * SECOND_NS + i128::from(metadata.mtime_nsec()),
            mode: metadata.mode() & 0o7777,
        }
    }

    /// As signed request headers.
    pub fn headers(&self) -> Vec<(String, String)> {
        let seconds = self.mtime_ns.div_euclid(SECOND_NS);
        let nanos = self.mtime_ns.rem_euclid(SECOND_NS);
        vec![(MODE_HEADER.into(), format!("{:o}", self.mode)), (MTIME_HEADER.into(), format!("{seconds}.{nanos:09}"))]
    }

    /// From response headers; `None` when the object was not stored by `shingle cp` or the values make no sense.
    pub fn from_headers<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let (seconds, nanos) = header(MTIME_HEADER)?.split_once('.')?;
        if nanos.len() != 9 || !nanos.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let seconds: i64 = seconds.parse().ok()?;
        let nanos: i64 = nanos.parse().ok()?;
        let mode = u32::from_str_radix(header(MODE_HEADER)?, 8).ok().filter(|mode| *mode <= 0o7777)?;
        Some(Self { mtime_ns: i128::from(seconds) * SECOND_NS + i128::from(nanos), mode })
    }

    /// Gives a downloaded file its mode and time back. Set-uid, set-gid and sticky bits stay off: whoever can write
    /// to a bucket must not hand out privileges on this machine.
    pub fn apply(&self, file: &File) -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(self.mode & 0o777))?;
        let nanos = u64::try_from(self.mtime_ns.unsigned_abs()).map_err(io::Error::other)?;
        let distance = Duration::from_nanos(nanos);
        let time = if self.mtime_ns < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
        file.set_modified(time.unwrap_or_else(SystemTime::now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through_headers(attributes: Attributes) -> Option<Attributes> {
        let headers = attributes.headers();
        Attributes::from_headers(|name| {
            headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
        })
    }

    #[test]
    fn attributes_survive_the_headers() {
        for mtime_ns in [0, 1_700_000_000_123_456_789, -1, -1_500_000_000] {
            let attributes = Attributes { mtime_ns, mode: 0o644 };
            assert_eq!(through_headers(attributes), Some(attributes));
        }
    }

    #[test]
    fn attributes_that_make_no_sense_are_ignored() {
        for (mtime, mode) in
            [("1", "644"), ("1.5", "644"), ("x.000000000", "644"), ("1.000000000", "99"), ("1.000000000", "77777")]
        {
            let header = |name: &str| Some(if name == MTIME_HEADER { mtime } else { mode });
            assert_eq!(Attributes::from_headers(header), None, "{mtime} {mode}");
        }
    }

    #[test]
    fn a_file_gets_its_time_and_mode_back_but_no_privileges() {
        let file = tempfile::tempfile().unwrap();
        let attributes = Attributes { mtime_ns: 1_600_000_000_000_000_001, mode: 0o4751 };
        attributes.apply(&file).unwrap();
        let restored = Attributes::of(&file.metadata().unwrap());
        assert_eq!(restored, Attributes { mode: 0o751, ..attributes });
    }
}
