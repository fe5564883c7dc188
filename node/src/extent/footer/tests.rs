//! Footers that lie: each claim a footer makes about its extent is checked before anything relies on it.

use super::*;

const UNIT: u64 = 4096;

fn layout() -> Layout {
    Layout {
        extent_first_zone: 3,
        zones_per_extent: 2,
        extents: 4,
        zone_used_bytes: 16 * UNIT,
        reserve_bytes: 4 * UNIT,
        parity_reserve_bytes: 2 * UNIT,
        records_max: 20,
    }
}

fn entry(number: u8, offset_units: u32, payload_bytes: u32) -> TocEntry {
    let place = Place { offset_units, units: (record_bytes(payload_bytes) / UNIT) as u32 };
    TocEntry {
        hash: BlockHash([number; 32]),
        put_id: PutId(number.into()),
        place,
        payload_bytes,
        plain_bytes: payload_bytes,
        kind: RecordKind::Block,
        fragment: 0,
        fragments: 1,
    }
}

fn footer(entries: &[TocEntry]) -> Footer {
    Footer {
        extent: ExtentId(7),
        osd: OsdId(8),
        slot: 1,
        created_ms: 1,
        closed_ms: 2,
        records: entries.len() as u32,
        record_bytes: entries.iter().map(|entry| entry.place.bytes()).sum(),
        entries: entries.to_vec(),
    }
}

fn decoded(footer: &Footer) -> Result<Footer, FormatError> {
    let mut payload = vec![0; footer_bytes(footer.entries.len() as u32) as usize];
    footer.clone().encode(&mut payload);
    Footer::decode(&payload, &layout(), 24 * UNIT).map(|(footer, _)| footer)
}

#[test]
fn entries_come_back_sorted_by_hash() {
    let found = decoded(&footer(&[entry(9, 1, 100), entry(3, 2, 8000), entry(5, 16, 100)])).unwrap();
    assert!(found.is_complete());
    assert_eq!(found.entries.iter().map(|entry| entry.hash.0[0]).collect::<Vec<_>>(), [3, 5, 9]);
    assert_eq!(found.entries[0].place, Place { offset_units: 2, units: 2 });
}

#[test]
fn closed_without_a_toc_is_told_from_one_without_records() {
    let bare = Footer { records: 5, record_bytes: 40_960, ..footer(&[]) };
    assert!(!decoded(&bare).unwrap().is_complete());
    assert!(decoded(&footer(&[])).unwrap().is_complete());
}

#[test]
fn footers_that_cannot_be_true_are_refused() {
    let refused = |entries: &[TocEntry]| decoded(&footer(entries)).expect_err("impossible");
    assert_eq!(refused(&[entry(1, 1, 8000), entry(2, 2, 100)]), FormatError::Field("overlap"));
    assert_eq!(refused(&[entry(1, 0, 100)]), FormatError::Field("overlap"), "over the extent's header");
    assert_eq!(refused(&[entry(1, 15, 8000)]), FormatError::Field("offset_units"), "across a zone's end");
    assert_eq!(refused(&[entry(1, 24, 100)]), FormatError::Field("offset_units"), "behind the footer");
    assert_eq!(refused(&[entry(1, u32::MAX, 100)]), FormatError::Field("offset_units"), "outside of the extent");
    assert_eq!(refused(&[entry(1, 1, u32::MAX)]), FormatError::Field("payload_bytes"), "a record that claims 4 GiB");
    assert_eq!(refused(&[entry(1, 1, 100), entry(1, 1, 100)]), FormatError::Field("order"), "twice the same");
    let many: Vec<TocEntry> = (0..21).map(|number| entry(number, 1 + u32::from(number), 100)).collect();
    assert_eq!(refused(&many), FormatError::Field("records"));
    let sum = Footer { record_bytes: 1, ..footer(&[entry(1, 1, 100)]) };
    assert_eq!(decoded(&sum), Err(FormatError::Field("record_bytes")));
    let some = Footer { records: 2, ..footer(&[entry(1, 1, 100)]) };
    assert_eq!(decoded(&some), Err(FormatError::Field("entries")));
    let slot = Footer { slot: 4, ..footer(&[]) };
    assert_eq!(decoded(&slot), Err(FormatError::Field("slot")));
}

#[test]
fn unsorted_entries_are_refused() {
    let mut payload = vec![0; footer_bytes(2) as usize];
    footer(&[entry(1, 1, 100), entry(2, 2, 100)]).encode(&mut payload);
    payload[FOOTER_HEADER_BYTES..].rotate_left(FOOTER_ENTRY_BYTES);
    let (head, entries) = payload.split_at_mut(FOOTER_HEADER_BYTES);
    let digest = digest_of(head, entries);
    head[88..120].copy_from_slice(&digest);
    let crc = crc32c(&head[..FOOTER_HEADER_BYTES - 4]);
    head[FOOTER_HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(Footer::decode(&payload, &layout(), 24 * UNIT), Err(FormatError::Field("order")));
}
