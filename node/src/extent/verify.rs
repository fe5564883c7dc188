//! Whether the bytes of an extent are what was written: header, records with their padding, closing record with footer.
//!
//! Pure. Every byte below an extent's write pointer that anybody relies on is in exactly one [`Part`], and every bit of a
//! part is covered by a checksum. A sound record at another record's place is a flaw too.

use shingle_proto::ids::ExtentId;

use super::footer::Footer;
use super::format::{FormatError, SECTOR_BYTES};
use super::header::ExtentHeader;
use super::layout::Layout;
use super::record::{RECORD_HEADER_BYTES, Record, RecordKind};
use super::toc::{Place, Toc};

/// One piece of an extent, read and judged as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Header,
    Record(Place),
    /// The closing record with the footer.
    Closing(Place),
}

impl Part {
    /// Offset within the extent and bytes.
    pub fn place(self) -> Place {
        match self {
            Self::Header => Place::new(0, SECTOR_BYTES as u64),
            Self::Record(place) | Self::Closing(place) => place,
        }
    }
}

/// All parts of an extent, in the order they lie in.
pub fn parts(toc: &Toc, closing: Option<Place>) -> Vec<Part> {
    let mut parts: Vec<Part> = toc.places().into_iter().map(Part::Record).collect();
    parts.push(Part::Header);
    parts.extend(closing.map(Part::Closing));
    parts.sort_unstable_by_key(|part| part.place().offset_units);
    parts
}

/// What is wrong with a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("extent header: {0}")]
    Header(FormatError),
    #[error("another extent's header")]
    OtherHeader,
    #[error("record header: {0}")]
    RecordHeader(FormatError),
    #[error("another record where this one was written")]
    Misplaced,
    #[error("record payload or padding: checksum mismatch")]
    Payload,
    #[error("closing record header: {0}")]
    ClosingHeader(FormatError),
    #[error("another record where the closing one was written")]
    NotClosing,
    #[error("footer: {0}")]
    Footer(FormatError),
    #[error("another footer than was written")]
    OtherFooter,
}

/// What an extent should hold.
pub struct Expected<'a> {
    pub header: &'a ExtentHeader,
    pub layout: &'a Layout,
    pub toc: &'a Toc,
    /// The footer's digest, where it is known.
    pub digest: Option<[u8; 32]>,
}

impl Expected<'_> {
    /// Judges the bytes of a part; `whole` is as long as the part.
    pub fn judge(&self, part: Part, whole: &[u8]) -> Result<(), Flaw> {
        match self.judge_quickly(part, whole)? {
            Some(record) if !record.payload_is_whole(whole) => Err(Flaw::Payload),
            _ => Ok(()),
        }
    }

    /// Judges them but for a record's payload, which may be long: the record whose payload has yet to be checked.
    pub fn judge_quickly(&self, part: Part, whole: &[u8]) -> Result<Option<Record>, Flaw> {
        match part {
            Part::Header => self.judge_header(whole).map(|()| None),
            Part::Record(place) => self.judge_record_header(place, whole).map(Some),
            Part::Closing(place) => self.judge_closing(place, whole).map(|()| None),
        }
    }

    fn judge_header(&self, sector: &[u8]) -> Result<(), Flaw> {
        let header = ExtentHeader::decode(sector).map_err(Flaw::Header)?;
        if header == *self.header { Ok(()) } else { Err(Flaw::OtherHeader) }
    }

    fn judge_record_header(&self, place: Place, whole: &[u8]) -> Result<Record, Flaw> {
        let record = Record::decode(whole).map_err(Flaw::RecordHeader)?;
        let ours = record.extent == self.extent() && record.kind != RecordKind::Close;
        if !ours || record.bytes() != place.bytes() || !self.is_at(&record, place) {
            return Err(Flaw::Misplaced);
        }
        Ok(record)
    }

    fn judge_closing(&self, place: Place, whole: &[u8]) -> Result<(), Flaw> {
        let record = Record::decode(whole).map_err(Flaw::ClosingHeader)?;
        let ours = record.extent == self.extent() && record.kind == RecordKind::Close;
        if !ours || record.bytes() != place.bytes() {
            return Err(Flaw::NotClosing);
        }
        if !record.payload_is_whole(whole) {
            return Err(Flaw::Payload);
        }
        let payload = RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + record.payload_bytes as usize;
        let payload = whole.get(payload).unwrap_or_default();
        let decoded = Footer::decode(payload, self.layout, place.offset_bytes());
        let (footer, digest) = decoded.map_err(Flaw::Footer)?;
        let ours = (footer.extent, footer.osd, footer.slot) == (self.extent(), self.header.osd, self.header.slot);
        let same = self.digest.is_none_or(|expected| expected == digest);
        let complete = !footer.is_complete() || footer.entries.len() == self.toc.len();
        let listed = |place, hash, put_id| self.toc.candidates(hash, put_id).contains(&place);
        let agrees = footer.entries.iter().all(|entry| listed(entry.place, &entry.hash, entry.put_id));
        if ours && same && complete && agrees { Ok(()) } else { Err(Flaw::OtherFooter) }
    }

    /// Whether the toc has this record at this place.
    pub fn is_at(&self, record: &Record, place: Place) -> bool {
        self.toc.candidates(&record.hash, record.put_id).contains(&place)
    }

    fn extent(&self) -> ExtentId {
        self.header.extent
    }
}
