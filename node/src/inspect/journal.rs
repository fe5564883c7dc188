//! The metadata journal as a start would read it, and what each of its two zones holds.

use serde::Serialize;
use shingle_hw::geometry::Geometry;

use super::fields::Value;
use super::finding::{Finding, FindingName};
use crate::extent::journal::replay::{JournalFound, Replayed, Side};
use crate::extent::layout::JOURNAL_FIRST_ZONE;

/// The journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JournalReport {
    /// `whole`, `stale`, `damaged`, `foreign` or `absent`.
    pub state: &'static str,
    /// The zone whose chain counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<u32>,
    /// Slots it tells of.
    pub slots: usize,
    pub sides: Vec<SideReport>,
}

/// One of its zones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SideReport {
    /// `A` or `B`.
    pub side: char,
    pub zone: u32,
    /// Whether its chain is the one that counts.
    pub current: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_batches: Option<u32>,
    pub batches: u32,
    pub chain_bytes: u64,
    pub snapshot_whole: bool,
    /// Batches of another disk, or from before this one was labelled.
    pub foreign: bool,
    pub flaws: Vec<FlawReport>,
}

/// A place that is no batch and should be one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlawReport {
    /// Within the zone.
    pub offset_bytes: u64,
    pub cause: String,
}

/// The side of a journal zone.
pub(super) fn side_of(zone: u32) -> char {
    if zone == JOURNAL_FIRST_ZONE { 'A' } else { 'B' }
}

impl JournalReport {
    pub(super) fn of(replayed: &Replayed) -> Self {
        let side = |side: &Side| SideReport {
            side: side_of(side.zone.0),
            zone: side.zone.0,
            current: replayed.zone == Some(side.zone),
            chain: side.chain.map(|chain| Value::Text(format!("{:016x}", chain.chain))),
            epoch: side.chain.map(|chain| chain.epoch),
            snapshot_batches: side.chain.map(|chain| chain.snapshot_batches),
            batches: side.batches,
            chain_bytes: side.chain_bytes,
            snapshot_whole: side.usable,
            foreign: side.foreign,
            flaws: side
                .flaws
                .iter()
                .map(|flaw| FlawReport {
                    offset_bytes: flaw.offset_bytes,
                    cause: flaw.cause.map_or_else(|| "unreadable".to_owned(), |cause| cause.to_string()),
                })
                .collect(),
        };
        Self {
            state: match replayed.found {
                JournalFound::Absent => "absent",
                JournalFound::Whole => "whole",
                JournalFound::Stale => "stale",
                JournalFound::Damaged => "damaged",
                JournalFound::Foreign => "foreign",
            },
            zone: replayed.zone.map(|zone| zone.0),
            slots: replayed.slots.len(),
            sides: replayed.sides.iter().map(side).collect(),
        }
    }
}

/// What is wrong with a journal.
pub(super) fn findings(replayed: &Replayed, geometry: &Geometry) -> Vec<Finding> {
    let first = crate::extent::journal::log::journal_zones().next().unwrap_or_default();
    let (name, detail) = match replayed.found {
        JournalFound::Whole => (None, ""),
        JournalFound::Absent => (Some(FindingName::JournalAbsent), "no journal: a start scans every extent"),
        JournalFound::Stale => (
            Some(FindingName::JournalStale),
            "batches that were durable are gone behind what can be read: a start scans",
        ),
        JournalFound::Damaged => {
            (Some(FindingName::JournalDamaged), "no chain has its whole snapshot: a start scans every extent")
        }
        JournalFound::Foreign => {
            (Some(FindingName::JournalForeign), "the journal is another disk's, or from before this one was labelled")
        }
    };
    let whole = replayed.found == JournalFound::Whole;
    let batches: u32 = replayed.sides.iter().map(|side| side.batches).sum();
    let all = name.map(|name| {
        let zone = replayed.zone.unwrap_or(first);
        Finding::new(name, format!("{batches} batches read"), detail).at(geometry, zone, 0)
    });
    let flaws = replayed.sides.iter().flat_map(|side| {
        side.flaws.iter().map(move |flaw| {
            // Nothing proves that more was durable: the end of the chain was torn, or its last batch is damaged.
            let (name, detail) = match whole {
                true => {
                    (FindingName::JournalTornTail, "the chain ends here; no later batch relies on what was written")
                }
                false => (FindingName::JournalBatchDamaged, "no sound batch where one should be"),
            };
            let cause = flaw.cause.map_or_else(|| "unreadable".to_owned(), |cause| cause.to_string());
            Finding::new(name, cause, detail).at(geometry, side.zone, flaw.offset_bytes)
        })
    });
    all.into_iter().chain(flaws).collect()
}
