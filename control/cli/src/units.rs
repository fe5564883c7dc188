//! Sizes, rates and times as people write and read them. Binary units: 1 KiB is 1024 bytes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes, written `64GiB`, `256MiB`, `4096`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ByteSize(pub u64);

/// A text that is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a size: write a whole number and one of KiB, MiB, GiB, TiB (K, M, G, T for short), as in 64GiB")]
pub struct NotASize(String);

const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl FromStr for ByteSize {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let trimmed = text.trim();
        let digits = trimmed.chars().take_while(char::is_ascii_digit).count();
        let (number, unit) = trimmed.split_at(digits);
        let factor = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            _ => return Err(NotASize(text.into())),
        };
        let number: u64 = number.parse().map_err(|_| NotASize(text.into()))?;
        number.checked_mul(factor).map(Self).ok_or_else(|| NotASize(text.into()))
    }
}

/// Exact: the largest unit that divides it, so that it reads back as the same number.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Rounded for reading: `1.4 GiB`, `37 B`.
pub fn bytes(count: u64) -> String {
    match UNITS.iter().find(|(_, factor)| count >= *factor) {
        Some((unit, factor)) => {
            let value = count as f64 / *factor as f64;
            if value < 9.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
        }
        None => format!("{count} B"),
    }
}

/// `123 MiB/s`.
pub fn rate(count: u64, time: Duration) -> String {
    let seconds = time.as_secs_f64().max(1e-3);
    format!("{}/s", bytes((count as f64 / seconds) as u64))
}

/// `850 ms`, `4.2 s`, `3 min 5 s`, `2 h 10 min`, `9 d 3 h`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Microseconds as `950 µs` or `12.3 ms`.
pub fn micros(count: u32) -> String {
    if count < 1000 { format!("{count} µs") } else { format!("{:.1} ms", f64::from(count) / 1000.0) }
}

/// `1 file`, `3 files`.
pub fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_binary_units() {
        for (text, expected) in
            [("64GiB", 64 << 30), ("256 MiB", 256 << 20), ("4g", 4 << 30), ("1T", 1 << 40), ("4096", 4096), ("0", 0)]
        {
            assert_eq!(text.parse(), Ok(ByteSize(expected)), "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_sizes_are_refused() {
        for text in ["", "GiB", "1.5GiB", "-1", "64GB", "99999999999TiB", "1 2", "٣GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_reads_back_as_the_same_number() {
        for number in [0, 1, 1023, 1024, 1 << 20, (1 << 20) + 1, 3 << 30, 5 << 40] {
            assert_eq!(ByteSize(number).to_string().parse(), Ok(ByteSize(number)));
        }
    }

    #[test]
    fn people_read_rounded_numbers() {
        assert_eq!(bytes(37), "37 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(12 << 30), "12 GiB");
        assert_eq!(rate(10 << 20, Duration::from_secs(2)), "5.0 MiB/s");
        assert_eq!(duration(Duration::from_millis(3_700)), "3.7 s");
        assert_eq!(duration(Duration::from_secs(185)), "3 min 5 s");
        assert_eq!(duration(Duration::from_secs(86_399)), "23 h 59 min");
        assert_eq!(duration(Duration::from_secs(9 * 86_400 + 3 * 3600)), "9 d 3 h");
        assert_eq!(counted(1, "file"), "1 file");
        assert_eq!(counted(0, "file"), "0 files");
    }
}
