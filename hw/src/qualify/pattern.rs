//! Sectors that say where they belong: which run, zone, generation and offset, and a checksum over all of it.
//!
//! Invariant: a sector that differs from the expected one in any bit is never judged good, and what it is instead is
//! told as exactly as its bytes allow.

use std::fmt;

use crate::draw::Draw;
use crate::zone::ZoneId;

const MAGIC: u32 = 0x5347_5142;

/// Bytes of the description in front of a sector.
const HEAD_BYTES: usize = 32;

/// Where a sector belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Of this run on this drive.
    pub run: u64,
    pub zone: ZoneId,
    /// Resets of the zone in this run.
    pub generation: u32,
    pub offset_bytes: u64,
}

/// What a sector turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// All zeroes, or bytes nobody of this run wrote: the write never arrived.
    Lost,
    /// Right place, older generation.
    Stale { generation: u32 },
    /// Written for another place.
    Misdirected { zone: u32, offset_bytes: u64 },
    /// The description fits, the bytes do not, or the checksum fails.
    Corrupt,
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => write!(formatter, "lost"),
            Self::Stale { generation } => write!(formatter, "stale (generation {generation})"),
            Self::Misdirected { zone, offset_bytes } => {
                write!(formatter, "misdirected (written for zone {zone} at {offset_bytes})")
            }
            Self::Corrupt => write!(formatter, "corrupt"),
        }
    }
}

/// Fills a sector.
pub fn fill(sector: &mut [u8], stamp: &Stamp) {
    let mut draw = Draw::new(
        stamp.run ^ (u64::from(stamp.zone.0) << 40) ^ stamp.offset_bytes ^ (u64::from(stamp.generation) << 20),
    );
    for word in sector.chunks_mut(8) {
        word.copy_from_slice(&draw.next().to_le_bytes()[..word.len()]);
    }
    let head = encode(stamp);
    sector.iter_mut().zip(head).for_each(|(to, from)| *to = from);
    let crc = checksum(sector);
    sector.iter_mut().skip(HEAD_BYTES - 4).zip(crc.to_le_bytes()).for_each(|(to, from)| *to = from);
}

/// Compares a sector with what should be there.
pub fn judge(sector: &[u8], expected: &Stamp) -> Result<(), Damage> {
    let Some(found) = decode(sector) else {
        let plain = sector.iter().all(|byte| *byte == 0) || !sector.starts_with(&MAGIC.to_le_bytes());
        return Err(if plain { Damage::Lost } else { Damage::Corrupt });
    };
    if found == *expected {
        return Ok(());
    }
    if found.run != expected.run {
        return Err(Damage::Lost);
    }
    if (found.zone, found.offset_bytes) == (expected.zone, expected.offset_bytes) {
        return Err(Damage::Stale { generation: found.generation });
    }
    Err(Damage::Misdirected { zone: found.zone.0, offset_bytes: found.offset_bytes })
}

/// Whether a sector holds anything that some run wrote, of whatever place: what must not be readable behind a write
/// pointer.
pub fn is_stamped(sector: &[u8]) -> bool {
    decode(sector).is_some()
}

fn encode(stamp: &Stamp) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    let fields = [
        &MAGIC.to_le_bytes()[..],
        &stamp.run.to_le_bytes()[..],
        &stamp.zone.0.to_le_bytes()[..],
        &stamp.generation.to_le_bytes()[..],
        &stamp.offset_bytes.to_le_bytes()[..],
    ];
    head.iter_mut().zip(fields.concat()).for_each(|(to, from)| *to = from);
    head
}

fn decode(sector: &[u8]) -> Option<Stamp> {
    let word = |at: usize| sector.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let long = |at: usize| sector.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let stamp = Stamp { run: long(4)?, zone: ZoneId(word(12)?), generation: word(16)?, offset_bytes: long(20)? };
    (word(0)? == MAGIC && word(HEAD_BYTES - 4)? == checksum(sector)).then_some(stamp)
}

/// Of the whole sector but the checksum's own place.
fn checksum(sector: &[u8]) -> u32 {
    let (front, back) = sector.split_at((HEAD_BYTES - 4).min(sector.len()));
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(front);
    digest.update(back.get(4..).unwrap_or_default());
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        Stamp { run: 7, zone: ZoneId(3), generation: 2, offset_bytes: 8192 }
    }

    #[test]
    fn every_flipped_bit_shows() {
        let mut sector = vec![0; 512];
        fill(&mut sector, &stamp());
        assert_eq!(judge(&sector, &stamp()), Ok(()));
        for bit in 0..512 * 8 {
            sector[bit / 8] ^= 1 << (bit % 8);
            assert!(judge(&sector, &stamp()).is_err(), "bit {bit}");
            sector[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn the_kind_of_damage_is_told() {
        let mut sector = vec![0; 4096];
        assert_eq!(judge(&sector, &stamp()), Err(Damage::Lost));
        fill(&mut sector, &Stamp { generation: 1, ..stamp() });
        assert_eq!(judge(&sector, &stamp()), Err(Damage::Stale { generation: 1 }));
        fill(&mut sector, &Stamp { offset_bytes: 0, ..stamp() });
        assert_eq!(judge(&sector, &stamp()), Err(Damage::Misdirected { zone: 3, offset_bytes: 0 }));
        fill(&mut sector, &Stamp { run: 8, ..stamp() });
        assert_eq!(judge(&sector, &stamp()), Err(Damage::Lost), "of another run");
        fill(&mut sector, &stamp());
        sector[2048..].fill(0);
        assert_eq!(judge(&sector, &stamp()), Err(Damage::Corrupt), "torn");
        assert!(!is_stamped(&sector));
    }
}
