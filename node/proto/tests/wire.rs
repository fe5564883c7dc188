//! Holds WIRE.md against the code, and the code against golden frames of every version that was ever released.

use std::collections::BTreeMap;

use proptest::prelude::*;
use shingle_proto::frame::{
    Class, FrameError, HEADER_BYTES, HELLO_VERSION, Header, Kind, MAGIC, Reject, RejectReason, VERSIONS, checksum,
    common_version,
};
use shingle_proto::ids::{Generation, PutToken};
use shingle_proto::limits::{CONNECTION_REQUESTS_MAX, FRAME_STALL_MS, HANDSHAKE_DEADLINE_MS};

const WIRE: &str = include_str!("../WIRE.md");

/// The rows of the table whose first heading cells are these.
fn table(heading: &[&str]) -> Vec<Vec<String>> {
    let cells =
        |line: &str| -> Vec<String> { line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect() };
    let mut lines = WIRE.lines().skip_while(|line| {
        !(line.starts_with('|')
            && cells(line).starts_with(&heading.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>()))
    });
    lines.next().expect("WIRE.md has the table");
    lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// The second table with the same heading: the body of a REJECT.
fn reject_table() -> Vec<Vec<String>> {
    let at = WIRE.find("## The body of a Reject").expect("WIRE.md has the section");
    WIRE[at..]
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// Takes the fields a table lists out of `bytes`; asserts that they follow each other and cover everything.
fn fields(rows: &[Vec<String>], bytes: &[u8]) -> BTreeMap<String, u64> {
    let mut end = 0;
    let mut fields = BTreeMap::new();
    for row in rows {
        let (offset, length): (usize, usize) = (row[0].parse().unwrap(), row[1].parse().unwrap());
        assert_eq!(offset, end, "{row:?}");
        end = offset + length;
        let mut value = [0; 8];
        value[..length].copy_from_slice(&bytes[offset..end]);
        fields.insert(row[2].clone(), u64::from_le_bytes(value));
    }
    assert_eq!(end, bytes.len(), "the table ends where the bytes end");
    fields
}

fn sample() -> Header {
    Header {
        version: 1,
        kind: Kind::Request,
        class: Class::Compaction,
        request_id: 0x0102_0304_0506_0708,
        trace_id: 0x1112_1314_1516_1718,
        generation: Generation(0x2122_2324_2526_2728),
        put_token: PutToken(0x3132_3334_3536_3738),
        deadline_ms: 0x4142_4344,
        credit_bytes: 0x5152_5354,
        body_bytes: 0x0031_3233,
        payload_bytes: 0x0012_3456,
        body_crc: 0x6162_6364,
        payload_crc: 0x7172_7374,
    }
}

#[test]
fn every_byte_of_the_header_lies_where_wire_md_says() {
    let header = sample();
    let bytes = header.encode();
    let found = fields(&table(&["offset", "bytes", "field"]), &bytes);
    let expected: [(&str, u64); 16] = [
        ("magic", u64::from(u32::from_le_bytes(MAGIC))),
        ("version", header.version.into()),
        ("kind", header.kind as u64),
        ("class", header.class as u64),
        ("request_id", header.request_id),
        ("trace_id", header.trace_id),
        ("generation", header.generation.0),
        ("put_token", header.put_token.0),
        ("deadline_ms", header.deadline_ms.into()),
        ("credit_bytes", header.credit_bytes.into()),
        ("body_bytes", header.body_bytes.into()),
        ("payload_bytes", header.payload_bytes.into()),
        ("body_crc", header.body_crc.into()),
        ("payload_crc", header.payload_crc.into()),
        ("reserved", 0),
        ("header_crc", checksum(&bytes[..HEADER_BYTES - 4]).into()),
    ];
    assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)).into());
}

#[test]
fn every_byte_of_a_reject_lies_where_wire_md_says() {
    let reject = Reject { reason: RejectReason::Oversize, versions: (0x0102, 0x0304), number: 0x1112_1314_1516_1718 };
    let found = fields(&reject_table(), &reject.encode());
    let expected =
        [("reason", 3), ("versions_min", 0x0102), ("versions_max", 0x0304), ("padding", 0), ("number", reject.number)];
    assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)).into());
    assert_eq!(Reject::decode(&reject.encode()), Ok(reject));
}

#[test]
fn numbers_and_limits_are_those_of_wire_md() {
    let kinds: Vec<_> = Kind::ALL
        .iter()
        .map(|kind| {
            vec![
                format!("{kind:?}"),
                (*kind as u8).to_string(),
                kind.body_bytes_max().to_string(),
                kind.payload_bytes_max().to_string(),
            ]
        })
        .collect();
    assert_eq!(table(&["kind", "number"]), kinds);
    let classes: Vec<_> =
        Class::ALL.iter().map(|class| vec![format!("{class:?}"), (*class as u8).to_string()]).collect();
    assert_eq!(table(&["class", "number"]), classes);
    let reasons: Vec<_> =
        RejectReason::ALL.iter().map(|reason| (format!("{reason:?}"), (*reason as u16).to_string())).collect();
    let listed: Vec<_> =
        table(&["reason", "number", "meaning"]).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(listed, reasons);
    assert!(WIRE.contains(&format!("within {} seconds", HANDSHAKE_DEADLINE_MS / 1000)));
    assert!(WIRE.contains(&format!("the {CONNECTION_REQUESTS_MAX} requests")));
    assert!(WIRE.contains(&format!("at most {} seconds may pass", FRAME_STALL_MS / 1000)));
    assert_eq!((checksum(b""), checksum(b"123456789")), (0, 0xe306_9283), "the check value of CRC-32C");
}

/// A file of hex digits; white space and lines that begin with `#` are not looked at.
fn fixture(text: &str) -> Vec<u8> {
    let digits: String = text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace).collect();
    let digits = digits.as_bytes().chunks_exact(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn golden_frames_of_version_1_are_written_and_read_as_ever() {
    let golden = fixture(include_str!("../../../tests/fixtures/wire/v1-request.hex"));
    let (body, payload) = (b"a body", b"some payload");
    let mut header = Header::new(Kind::Request, 1, body, payload).unwrap();
    header.class = Class::Scrub;
    header.request_id = 42;
    header.trace_id = 0xfeed_f00d;
    header.generation = Generation(7);
    header.put_token = PutToken(0x0123_4567_89ab_cdef);
    header.deadline_ms = 10_000;
    assert_eq!([&header.encode()[..], body, payload].concat(), golden);
    assert_eq!(Header::decode(golden.first_chunk().unwrap(), 1), Ok(header));

    let golden = fixture(include_str!("../../../tests/fixtures/wire/v1-reject.hex"));
    let body = Reject { reason: RejectReason::NoCommonVersion, versions: (1, 1), number: 0 }.encode();
    let header = Header::new(Kind::Reject, HELLO_VERSION, &body, &[]).unwrap();
    assert_eq!([&header.encode()[..], &body].concat(), golden);
    assert_eq!(Header::decode(golden.first_chunk().unwrap(), 9), Ok(header), "REJECT is read in any version");

    let golden = fixture(include_str!("../../../tests/fixtures/wire/v1-credit.hex"));
    let mut header = Header::new(Kind::Credit, 1, &[], &[]).unwrap();
    header.credit_bytes = 1 << 20;
    assert_eq!(header.encode()[..], golden);
}

#[test]
fn every_flipped_bit_of_a_header_is_noticed() {
    let good = sample().encode();
    for bit in 0..HEADER_BYTES * 8 {
        let mut bad = good;
        bad[bit / 8] ^= 1 << (bit % 8);
        let error = Header::decode(&bad, 1).unwrap_err();
        match bit / 8 {
            0..4 => assert!(matches!(error, FrameError::BadMagic { .. }), "bit {bit}: {error}"),
            _ => assert!(matches!(error, FrameError::HeaderChecksum { .. }), "bit {bit}: {error}"),
        }
    }
}

/// A header with one field replaced and the right checksum.
fn altered(at: usize, value: &[u8]) -> Result<Header, FrameError> {
    let mut bytes = sample().encode();
    bytes[at..at + value.len()].copy_from_slice(value);
    let crc = checksum(&bytes[..HEADER_BYTES - 4]);
    bytes[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    Header::decode(&bytes, 1)
}

#[test]
fn values_that_no_version_knows_are_named_in_the_error() {
    assert_eq!(altered(4, &[2, 0]), Err(FrameError::WrongVersion { found: 2, expected: 1 }));
    assert_eq!(altered(6, &[8]), Err(FrameError::UnknownKind { found: 8 }));
    assert_eq!(altered(7, &[4]), Err(FrameError::UnknownClass { found: 4 }));
    assert_eq!(altered(64, &[0, 1, 0, 0]), Err(FrameError::ReservedNotZero { found: 256 }));
    let (kind, max) = (Kind::Request, Kind::Request.body_bytes_max());
    assert_eq!(altered(48, &[0xff; 4]), Err(FrameError::BodyTooLarge { kind, bytes: u32::MAX, max }));
    let max = kind.payload_bytes_max();
    assert_eq!(altered(52, &(max + 1).to_le_bytes()), Err(FrameError::PayloadTooLarge { kind, bytes: max + 1, max }));
    assert_eq!(Reject::decode(&[0; 15]), Err(FrameError::RejectLength { bytes: 15 }));
    assert_eq!(Reject::decode(&[9; 16]), Err(FrameError::UnknownReason { found: 0x0909 }));
}

#[test]
fn bodies_and_payloads_are_held_against_their_checksums() {
    let header = Header::new(Kind::Request, 1, b"body", b"payload").unwrap();
    assert_eq!((header.check_body(b"body"), header.check_payload(checksum(b"payload"))), (Ok(()), Ok(())));
    assert!(matches!(header.check_body(b"bodY"), Err(FrameError::BodyChecksum { .. })));
    assert!(matches!(header.check_payload(checksum(b"payloaD")), Err(FrameError::PayloadChecksum { .. })));
    assert!(matches!(Header::new(Kind::Cancel, 1, b"x", b""), Err(FrameError::BodyTooLarge { .. })));
}

#[test]
fn two_ranges_agree_on_the_highest_version_of_both() {
    assert_eq!(common_version((1, 3), (2, 5)), Some(3));
    assert_eq!(common_version((2, 5), (1, 3)), Some(3));
    assert_eq!(common_version((4, 4), (4, 4)), Some(4));
    assert_eq!(common_version((1, 2), (3, 4)), None);
    assert_eq!(common_version((3, 4), (1, 2)), None);
    assert_eq!(common_version(VERSIONS, (9, 3)), None, "a range that ends before it begins");
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in any::<[u8; HEADER_BYTES]>(), version in any::<u16>()) {
        prop_assert!(Header::decode(&bytes, version).is_err());
    }

    #[test]
    fn any_fields_with_the_right_magic_and_checksum_are_judged_without_a_panic(mut bytes in any::<[u8; HEADER_BYTES]>()) {
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&[1, 0]);
        bytes[6] %= 9;
        bytes[7] %= 5;
        let crc = checksum(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        if let Ok(header) = Header::decode(&bytes, 1) {
            prop_assert_eq!(header.encode(), bytes);
        }
    }

    #[test]
    fn any_header_survives_the_wire(
        request_id in any::<u64>(), trace_id in any::<u64>(), generation in any::<u64>(), token in any::<u64>(),
        deadline_ms in any::<u32>(), credit_bytes in any::<u32>(), class in 0..4_usize,
        body in any::<Vec<u8>>(), payload in any::<Vec<u8>>(),
    ) {
        let header = Header {
            class: Class::ALL[class], request_id, trace_id, generation: Generation(generation),
            put_token: PutToken(token), deadline_ms, credit_bytes,
            ..Header::new(Kind::Response, 1, &body, &payload).unwrap()
        };
        prop_assert_eq!(Header::decode(&header.encode(), 1), Ok(header));
    }
}
