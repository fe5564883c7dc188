//! Reading an extent's parts, many at once, and judging each as a scrub does.

use futures_util::future::join;
use shingle_codec::checksum::crc32c;
use shingle_hw::buffer::Buffer;
use shingle_hw::error::DeviceError;
use shingle_proto::limits::SCRUB_READ_BYTES;

use super::contents::{Contents, RecordReport};
use super::fields::{Value, hex};
use super::finding::{Finding, FindingName};
use crate::extent::footer::TocEntry;
use crate::extent::format::SECTOR_BYTES;
use crate::extent::placement::Spot;
use crate::extent::reader;
use crate::extent::record::{RECORD_HEADER_BYTES, Record};
use crate::extent::toc::Place;
use crate::extent::verify::{Expected, Flaw, Part, parts};

type Bytes = Result<Buffer, DeviceError>;

impl Contents<'_> {
    /// Bytes that reading all of it takes.
    pub fn total_bytes(&self) -> u64 {
        parts(&self.toc, self.closing).iter().map(|part| part.place().bytes()).sum()
    }

    /// Reads and judges every part. `progress` hears of bytes, `each` of records.
    pub async fn read_back(&mut self, progress: &mut dyn FnMut(u64), each: &mut dyn FnMut(RecordReport)) {
        let parts = parts(&self.toc, self.closing);
        let runs = self.runs(&parts);
        let mut runs = runs.into_iter().peekable();
        let (device, label, slot) = (self.survey.device, self.label, self.slot);
        let read = async |run: Option<&[Part]>| -> Bytes {
            let Some(run) = run else { return Ok(Buffer::new_unpooled(SECTOR_BYTES)) };
            let first = run.first().map_or(0, |part| part.place().offset_bytes());
            let bytes: u64 = run.iter().map(|part| part.place().bytes()).sum();
            match Spot::at(first, &label.layout) {
                Some(spot) => {
                    reader::read(device, label.layout.zone(slot, spot.zone), spot.offset_bytes, bytes as usize).await
                }
                None => Err(DeviceError::InvalidField { offset_bytes: first, length_bytes: bytes }),
            }
        };
        let mut pending = read(runs.peek().copied()).await;
        while let Some(run) = runs.next() {
            // The device reads on while checksums are computed.
            let ahead = read(runs.peek().copied());
            let bytes: u64 = run.iter().map(|part| part.place().bytes()).sum();
            let (following, ()) = join(ahead, self.judge_run(run, pending, each)).await;
            pending = following;
            self.read_bytes += bytes;
            progress(bytes);
        }
    }

    /// Parts that lie behind each other in one zone, up to what is read at once.
    fn runs<'p>(&self, parts: &'p [Part]) -> Vec<&'p [Part]> {
        let zone_of = |place: Place| place.offset_bytes() / self.label.layout.zone_used_bytes;
        let mut bytes = 0;
        let follows = |before: &Part, part: &Part| {
            let (before, place) = (before.place(), part.place());
            bytes = if bytes == 0 { before.bytes() } else { bytes } + place.bytes();
            let one = before.offset_bytes() + before.bytes() == place.offset_bytes()
                && zone_of(before) == zone_of(place)
                && bytes <= SCRUB_READ_BYTES;
            if !one {
                bytes = 0;
            }
            one
        };
        parts.chunk_by(follows).collect()
    }

    async fn judge_run(&mut self, run: &[Part], bytes: Bytes, each: &mut dyn FnMut(RecordReport)) {
        match bytes {
            Ok(buffer) => {
                let mut at = 0;
                for part in run {
                    let end = at + part.place().bytes() as usize;
                    self.judge(*part, buffer.get(at..end).unwrap_or_default(), each);
                    at = end;
                }
            }
            Err(_) => {
                for part in run {
                    self.judge_alone(*part, each).await;
                }
            }
        }
    }

    /// A part of a run that could not be read as a whole.
    async fn judge_alone(&mut self, part: Part, each: &mut dyn FnMut(RecordReport)) {
        let place = part.place();
        let layout = &self.label.layout;
        let Some(spot) = Spot::at(place.offset_bytes(), layout) else { return };
        let zone = layout.zone(self.slot, spot.zone);
        let failure = match reader::read(self.survey.device, zone, spot.offset_bytes, place.bytes() as usize).await {
            Ok(buffer) => return self.judge(part, buffer.get(..place.bytes() as usize).unwrap_or_default(), each),
            Err(failure) => failure,
        };
        // Which sector it is.
        let mut first = None;
        for within in (0..place.bytes()).step_by(SECTOR_BYTES) {
            let sector = reader::read(self.survey.device, zone, spot.offset_bytes + within, SECTOR_BYTES).await;
            if sector.is_err() && first.is_none() {
                first = Some(place.offset_bytes() + within);
            }
        }
        let at = first.unwrap_or(place.offset_bytes());
        let finding = self.finding(FindingName::RecordUnreadable, at, failure.class(), &failure.to_string());
        self.tell(part, None, Some(finding), each);
    }

    fn judge(&mut self, part: Part, whole: &[u8], each: &mut dyn FnMut(RecordReport)) {
        let layout = &self.label.layout;
        let toc = if matches!(part, Part::Closing(_)) && self.footer_named { &self.footer_toc } else { &self.toc };
        let journal = self.survey.slots.get(&self.slot).filter(|entry| entry.extent == self.extent());
        let here = part.place().offset_bytes();
        let place = journal.and_then(|entry| entry.footer).filter(|footer| footer.offset_in_extent == here);
        let header = &self.found.header;
        let expected = Expected { header, layout, toc, digest: place.map(|footer| footer.digest) };
        let verdict = expected.judge(part, whole);
        let record = Record::decode(whole).ok();
        let flaw = verdict.err().map(|flaw| self.flawed(part, whole, record.as_ref(), flaw));
        match part {
            Part::Header => self.describe_header(whole, flaw.is_none()),
            Part::Closing(_) => {
                if let Some(footer) = &mut self.footer {
                    footer.sound = flaw.is_none();
                }
            }
            Part::Record(_) => {}
        }
        let flaw = flaw.or_else(|| self.against_footer(part, record.as_ref()));
        self.tell(part, record.as_ref(), flaw, each);
    }

    /// A flaw by its name, with what stands there.
    fn flawed(&self, part: Part, whole: &[u8], record: Option<&Record>, flaw: Flaw) -> Finding {
        let name = match flaw {
            Flaw::Header(_) => FindingName::ExtentHeaderDamaged,
            Flaw::OtherHeader => FindingName::ExtentHeaderForeign,
            Flaw::RecordHeader(_) => FindingName::RecordHeaderDamaged,
            Flaw::Misplaced => FindingName::RecordMisplaced,
            Flaw::Payload if matches!(part, Part::Closing(_)) => FindingName::FooterDamaged,
            Flaw::Payload => FindingName::RecordDamaged,
            Flaw::ClosingHeader(_) | Flaw::NotClosing => FindingName::ClosingRecordDamaged,
            Flaw::Footer(_) => FindingName::FooterDamaged,
            Flaw::OtherFooter => FindingName::FooterDisagrees,
        };
        let value = match (flaw, record) {
            (Flaw::Payload, Some(record)) => {
                let computed = crc32c(whole.get(RECORD_HEADER_BYTES..).unwrap_or_default());
                format!("crc {}, computed {}", Value::hex(record.payload_crc), Value::hex(computed))
            }
            (Flaw::Misplaced | Flaw::NotClosing, Some(record)) => {
                format!("record {} of extent {}, block {}", record.sequence, record.extent, record.hash)
            }
            _ => hex(whole),
        };
        self.finding(name, part.place().offset_bytes(), value, &flaw.to_string())
    }

    /// Where a sound record is not what the footer says of it.
    fn against_footer(&self, part: Part, record: Option<&Record>) -> Option<Finding> {
        let (Part::Record(place), Some(record)) = (part, record) else { return None };
        let known = self.known.get(&place.offset_units).filter(|known| known.in_footer)?;
        let found = TocEntry::of(record, place.offset_bytes());
        if found == known.entry {
            return None;
        }
        let value = format!("footer {:?}, record {found:?}", known.entry);
        Some(self.finding(FindingName::FooterDisagrees, place.offset_bytes(), value, "footer and record differ"))
    }

    fn tell(
        &mut self,
        part: Part,
        record: Option<&Record>,
        finding: Option<Finding>,
        each: &mut dyn FnMut(RecordReport),
    ) {
        let verdict = finding.as_ref().map_or("sound", |finding| finding.name.name());
        let Part::Record(place) = part else { return self.findings.extend(finding) };
        let known = self.known.get(&place.offset_units);
        let block = known.map(|known| known.entry.hash);
        self.sound_records += u64::from(finding.is_none());
        let finding = finding.map(|finding| finding.of_block(block));
        let spot = Spot::at(place.offset_bytes(), &self.label.layout);
        if let (Some(known), Some(spot)) = (known, spot) {
            each(RecordReport {
                offset_bytes: place.offset_bytes(),
                zone: self.label.layout.zone(self.slot, spot.zone).0,
                zone_offset_bytes: spot.offset_bytes,
                bytes: place.bytes(),
                block: known.entry.hash.to_string(),
                put_id: known.entry.put_id.to_string(),
                sequence: record.map(|record| record.sequence),
                payload_bytes: known.entry.payload_bytes,
                plain_bytes: known.entry.plain_bytes,
                in_footer: self.footer_named.then_some(known.in_footer),
                verdict,
            });
        }
        self.findings.extend(finding);
    }
}
