//! Bytes of a device in memory, kept only where something was written.
//!
//! Invariant: bytes never written, or discarded since, read as zeroes.

use std::collections::BTreeMap;

use crate::zone::ZoneId;

/// Granularity of the store: small enough for sparse writes, large enough for 4 MiB ones.
const CHUNK_BYTES: u64 = 64 * 1024;

/// The bytes of all zones.
#[derive(Default)]
pub(super) struct Medium {
    chunks: BTreeMap<(ZoneId, u64), Box<[u8]>>,
}

impl Medium {
    pub(super) fn write(&mut self, zone: ZoneId, offset_bytes: u64, mut data: &[u8]) {
        let mut at = offset_bytes;
        while !data.is_empty() {
            let (chunk, skip, length) = place(at, data.len());
            let (head, tail) = data.split_at(length);
            let bytes = self.chunks.entry((zone, chunk)).or_insert_with(|| vec![0; CHUNK_BYTES as usize].into());
            bytes[skip..skip + length].copy_from_slice(head);
            at += length as u64;
            data = tail;
        }
    }

    pub(super) fn read(&self, zone: ZoneId, offset_bytes: u64, mut data: &mut [u8]) {
        let mut at = offset_bytes;
        while !data.is_empty() {
            let (chunk, skip, length) = place(at, data.len());
            let (head, tail) = data.split_at_mut(length);
            match self.chunks.get(&(zone, chunk)) {
                Some(bytes) => head.copy_from_slice(&bytes[skip..skip + length]),
                None => head.fill(0),
            }
            at += length as u64;
            data = tail;
        }
    }

    pub(super) fn flip(&mut self, zone: ZoneId, offset_bytes: u64, mask: u8) {
        let (chunk, skip, _) = place(offset_bytes, 1);
        if let Some(byte) = self.chunks.get_mut(&(zone, chunk)).and_then(|bytes| bytes.get_mut(skip)) {
            *byte ^= mask;
        }
    }

    /// Forgets everything of the zone from `offset_bytes` on.
    pub(super) fn discard(&mut self, zone: ZoneId, offset_bytes: u64) {
        let (chunk, skip, _) = place(offset_bytes, 1);
        let mut behind = self.chunks.split_off(&(zone, chunk));
        if let Some(bytes) = behind.get_mut(&(zone, chunk)).filter(|_| skip > 0) {
            bytes[skip..].fill(0);
        }
        behind.retain(|(other, index), _| *other != zone || (*index == chunk && skip > 0));
        self.chunks.append(&mut behind);
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.chunks.len() * CHUNK_BYTES as usize
    }
}

/// The chunk of an offset, the place in it, and how many of `length` bytes lie in that chunk.
fn place(offset_bytes: u64, length: usize) -> (u64, usize, usize) {
    let skip = (offset_bytes % CHUNK_BYTES) as usize;
    (offset_bytes / CHUNK_BYTES, skip, length.min(CHUNK_BYTES as usize - skip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_across_chunks_and_go_with_a_discard() {
        let mut medium = Medium::default();
        let data: Vec<u8> = (0..200_000u32).map(|value| value as u8).collect();
        medium.write(ZoneId(1), 1000, &data);
        medium.write(ZoneId(2), 0, &[7; 10]);
        let mut found = vec![1; 202_000];
        medium.read(ZoneId(1), 0, &mut found);
        assert!(found[..1000].iter().chain(&found[201_000..]).all(|byte| *byte == 0));
        assert_eq!(found[1000..201_000], data);
        medium.discard(ZoneId(1), 70_000);
        medium.read(ZoneId(1), 0, &mut found);
        assert_eq!(found[1000..70_000], data[..69_000]);
        assert!(found[70_000..].iter().all(|byte| *byte == 0));
        medium.read(ZoneId(2), 0, &mut found[..10]);
        assert_eq!(found[..10], [7; 10]);
        medium.discard(ZoneId(1), 0);
        assert_eq!(medium.memory_bytes(), CHUNK_BYTES as usize);
    }
}
