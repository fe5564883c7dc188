//! Batches: bounded, and refused when they say what no writer says.

use super::*;

fn batch(entries: usize) -> Batch {
    let chain = Chain { osd: OsdId(1), disk: 2, chain: 3, epoch: 4, snapshot_batches: 1 };
    let entry = |slot| SlotEntry { slot: slot as u32, state: SlotState::Open, ..SlotEntry::default() };
    Batch { chain, index: 0, durable_batches: 0, entries: (0..entries).map(entry).collect() }
}

fn encoded(batch: &Batch) -> Vec<u8> {
    let mut whole = vec![0xff; batch.bytes() as usize];
    batch.encode(&mut whole);
    whole
}

/// Changes a byte and makes the checksums right again.
fn forged(change: impl Fn(&mut [u8])) -> Result<Batch, FormatError> {
    let mut whole = encoded(&batch(2));
    change(&mut whole);
    let crc = crc32c(&whole[BATCH_HEADER_BYTES..]);
    whole[84..88].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32c(&whole[..BATCH_HEADER_BYTES - 4]);
    whole[BATCH_HEADER_BYTES - 4..BATCH_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    Batch::decode(&whole)
}

#[test]
fn batches_of_all_sizes_come_back() {
    for entries in [0, 1, 41, 42, BATCH_ENTRIES_MAX] {
        let batch = batch(entries);
        let whole = encoded(&batch);
        assert!(whole.len() <= JOURNAL_BATCH_BYTES_MAX as usize && whole.len().is_multiple_of(4096));
        assert_eq!(Batch::length(&whole), Ok(whole.len() as u64));
        assert_eq!(Batch::decode(&whole), Ok(batch));
    }
}

#[test]
fn snapshots_fit_where_they_are_said_to() {
    for bytes in (0..300).map(|units| units * 4096) {
        let mut left = slots_within(bytes) as usize;
        let mut used = 0;
        while left > 0 {
            let part = left.min(BATCH_ENTRIES_MAX);
            used += batch_bytes(part);
            left -= part;
        }
        assert!(used <= bytes, "{bytes}");
    }
    assert_eq!(slots_within(4096), 41);
}

#[test]
fn values_that_nobody_writes_are_refused() {
    assert!(forged(|_| ()).is_ok());
    let header = |at: usize, value: u32| forged(move |whole| whole[at..at + 4].copy_from_slice(&value.to_le_bytes()));
    assert_eq!(header(12, u32::MAX), Err(FormatError::Field("entries")), "no number makes us read or allocate more");
    assert_eq!(header(60, 0), Err(FormatError::Field("snapshot_batches")));
    assert_eq!(header(64, 1), Err(FormatError::Field("durable_batches")));
    let entry = |at: usize, value: u8| forged(move |whole| whole[BATCH_HEADER_BYTES + at] = value);
    assert_eq!(entry(0, 2), Err(FormatError::Field("kind")));
    assert_eq!(entry(1, 6), Err(FormatError::Field("state")));
    assert_eq!(entry(2, 4), Err(FormatError::Field("health")));
    assert_eq!(entry(24, 1), Err(FormatError::Field("footer_offset")));
    assert_eq!(entry(39, 1), Err(FormatError::Field("footer_bytes")));
}
