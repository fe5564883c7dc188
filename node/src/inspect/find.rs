//! Every record of one block on a disk: where it is, what its header says, whether its checksums hold.
//!
//! What is on a disk is ciphertext: that its plain bytes have the block's name is proven only by who has the key.

use std::collections::BTreeSet;

use serde::Serialize;
use shingle_codec::checksum::crc32c;
use shingle_proto::ids::BlockHash;
use zerocopy::FromBytes;

use super::fields::{Fields, Value, hex};
use super::finding::{Finding, FindingName};
use super::slots::SlotLook;
use super::survey::Survey;
use crate::extent::footer::TocEntry;
use crate::extent::placement::Spot;
use crate::extent::reader::{self, Found, examine};
use crate::extent::record::{RECORD_HEADER_BYTES, RECORD_MAGIC, Record, RecordHeader};

/// What a search came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RecordSearch {
    /// Blocks whose names begin as was asked for; more than one: ask for more digits.
    pub blocks: BTreeSet<String>,
    pub records: Vec<Hit>,
}

/// One record of the block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hit {
    pub slot: u32,
    pub extent: String,
    /// Of the extent.
    pub state: &'static str,
    pub zone: u32,
    pub zone_offset_bytes: u64,
    /// From the device's start.
    pub device_bytes: u64,
    /// Within the extent.
    pub offset_bytes: u64,
    /// On disk.
    pub bytes: u64,
    /// `footer` or `scan`.
    pub known_from: &'static str,
    /// `sound`, or the name of the finding about it.
    pub verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_crc_computed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_crc_computed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<Fields>,
}

impl Survey<'_> {
    /// Looks for the records of a block by its name's first hex digits, in lower case. Damage is added to the survey's
    /// findings.
    pub async fn find(&mut self, digits: &str) -> RecordSearch {
        let mut search = RecordSearch::default();
        for slot in 0..self.layout().map_or(0, |layout| layout.extents) {
            let Some(look) = self.look_at(slot).await else { break };
            let mut findings = Vec::new();
            for (entry, known_from) in self.named(&look, digits).await {
                search.blocks.insert(entry.hash.to_string());
                if let Some((hit, finding)) = self.hit(&look, &entry, known_from).await {
                    search.records.push(hit);
                    findings.extend(finding);
                }
            }
            self.findings.extend(findings);
        }
        search
    }

    /// The records of a slot whose blocks' names begin so.
    async fn named(&self, look: &SlotLook, digits: &str) -> Vec<(TocEntry, &'static str)> {
        let Some(contents) = self.contents(look).await else { return Vec::new() };
        let known = contents.known.values().filter(|known| begins(&known.entry.hash, digits));
        known.map(|known| (known.entry, if known.in_footer { "footer" } else { "scan" })).collect()
    }

    async fn hit(&self, look: &SlotLook, entry: &TocEntry, known_from: &'static str) -> Option<(Hit, Option<Finding>)> {
        let (layout, found) = (self.layout()?, look.recovered.as_deref()?);
        let (slot, offset_bytes, bytes) = (look.report.slot, entry.place.offset_bytes(), entry.place.bytes());
        let spot = Spot::at(offset_bytes, &layout)?;
        let zone = layout.zone(slot, spot.zone);
        let mut hit = Hit {
            slot,
            extent: found.header.extent.to_string(),
            state: look.report.state,
            zone: zone.0,
            zone_offset_bytes: spot.offset_bytes,
            device_bytes: u64::from(zone.0) * self.geometry().zone_bytes + spot.offset_bytes,
            offset_bytes,
            bytes,
            known_from,
            verdict: "sound",
            payload_crc_computed: None,
            header_crc_computed: None,
            fields: None,
        };
        let (name, value, detail) = match reader::read(self.device, zone, spot.offset_bytes, bytes as usize).await {
            Ok(buffer) => {
                let whole = buffer.get(..bytes as usize).unwrap_or_default();
                describe(&mut hit, whole);
                match examine(whole, found.header.extent, &entry.hash, entry.put_id) {
                    Found::Whole(_) => return Some((hit, None)),
                    Found::Other => (FindingName::RecordMisplaced, hex(whole), "another block's record".to_owned()),
                    Found::Damaged(why) if Record::decode(whole).is_err() => {
                        (FindingName::RecordHeaderDamaged, hex(whole), why.to_owned())
                    }
                    Found::Damaged(why) => {
                        let computed = hit.payload_crc_computed.clone().unwrap_or_default();
                        (FindingName::RecordDamaged, format!("payload crc computed {computed}"), why.to_owned())
                    }
                }
            }
            Err(cause) => (FindingName::RecordUnreadable, cause.class().to_owned(), cause.to_string()),
        };
        hit.verdict = name.name();
        let finding = Finding::new(name, value, detail).within(self.geometry(), &layout, slot, offset_bytes);
        Some((hit, Some(finding.of_slot(slot, Some(found.header.extent)).of_block(Some(entry.hash)))))
    }
}

fn begins(hash: &BlockHash, digits: &str) -> bool {
    digits.len() <= 64
        && digits
            .bytes()
            .zip(hash.0.iter().flat_map(|byte| [byte >> 4, byte & 15]))
            .all(|(digit, nibble)| char::from(digit).to_digit(16) == Some(u32::from(nibble)))
}

/// What the header says, and what the checksums should be.
fn describe(hit: &mut Hit, whole: &[u8]) {
    let Ok((raw, rest)) = RecordHeader::ref_from_prefix(whole) else { return };
    if raw.magic != RECORD_MAGIC {
        return;
    }
    let covered = whole.get(..RECORD_HEADER_BYTES - 4).unwrap_or_default();
    hit.header_crc_computed = Some(Value::hex(crc32c(covered)).to_string());
    hit.payload_crc_computed = Some(Value::hex(crc32c(rest)).to_string());
    hit.fields = Some(Fields(vec![
        ("version", raw.version.get().into()),
        ("kind", raw.kind.into()),
        ("member", raw.member.into()),
        ("fragment", raw.fragment.into()),
        ("fragments", raw.fragments.into()),
        ("hash", Value::text(BlockHash(raw.hash))),
        ("put_id", Value::text(shingle_proto::ids::PutId(raw.put_id.get()))),
        ("extent", Value::text(shingle_proto::ids::ExtentId(raw.extent.get()))),
        ("bucket", Value::text(shingle_proto::ids::BucketId(raw.bucket.get()))),
        ("volume", Value::text(shingle_proto::ids::VolumeId(raw.volume.get()))),
        ("sequence", raw.sequence.get().into()),
        ("life_sequence", raw.life_sequence.get().into()),
        ("durable_sequence", raw.durable_sequence.get().into()),
        ("plain_bytes", raw.plain_bytes.get().into()),
        ("payload_bytes", raw.payload_bytes.get().into()),
        ("payload_crc", Value::hex(raw.payload_crc.get())),
        ("header_crc", Value::hex(raw.header_crc.get())),
    ]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_digit_by_digit() {
        let mut hash = BlockHash([0; 32]);
        hash.0[..3].copy_from_slice(&[0xab, 0xcd, 0x12]);
        assert!(begins(&hash, "abcd1") && begins(&hash, "abcd12") && begins(&hash, &hash.to_string()));
        assert!(!begins(&hash, "abcd13") && !begins(&hash, "abcx") && !begins(&hash, &format!("{hash}0")));
    }
}
