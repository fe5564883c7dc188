//! `shingle inspect`: opens a disk to look at it, shows one part of it, and says by its exit code whether it is sound.
//!
//! Invariant: nothing is written to the disk, and whoever uses it is not disturbed.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, Subcommand};
use shingle_hw::backend::Look;
use shingle_hw::ring::block_on;
use shingle_node::inspect::{Finding, FindingName, Findings, SlotReport, Survey};

use super::device::{Sight, look};
use super::document::{Content, DeviceHead, Document, LabelDocument, RecordDocument, VerifyDocument, ZoneEntry};
use super::progress::Bar;
use super::view;
use crate::failure::Failure;
use crate::output;
use crate::zone::device::Opened;
use crate::zone::view::ZoneLine;

const EXAMPLES: &str = "\
Examples:
  shingle inspect cell/hosts/host-1/disk-1.img             both labels, the journal, the disk in a few numbers
  shingle inspect /dev/sdb zones                           every zone and what it is used for
  shingle inspect disk.img extents                         what a start would make of every extent
  shingle inspect disk.img extent 0f3a5c7e                 one extent with every record, read and checked
  shingle inspect disk.img record 9c56cc51b374c3ba         every record of one block
  shingle inspect disk.img verify --json                   read everything back

A disk is opened for reading and without a lock, so that a running host does not notice; it says so when somebody has
the disk open, for then its ends move. What is wrong is a named finding with its place and what stands there; the exit
code is 7 when there is one that somebody has to do something about, 0 otherwise.";

/// Digits of an id or a name that are enough to look for it.
const DIGITS_MIN: usize = 8;

/// Look at a disk without a server, and check it; nothing on it is changed
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct InspectArgs {
    /// A zoned block device, or the file of an emulated drive
    device: PathBuf,
    #[command(subcommand)]
    what: Option<What>,
    /// Print one JSON document
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Both labels field by field, the journal, the disk in a few numbers (this is the default)
    Label,
    /// Every zone: condition, write pointer, what it is used for
    Zones,
    /// Every extent: state, records, where the knowledge is from
    Extents,
    /// One extent: header, footer, every record read and checked
    Extent {
        /// The extent's id, or its first 8 hex digits or more
        id: String,
    },
    /// Every record of a block on this disk
    Record {
        /// The block's name, or its first 8 hex digits or more
        hash: String,
    },
    /// Read everything back and compare it
    Verify,
}

/// Runs the command.
pub fn run(args: &InspectArgs) -> Result<(), Failure> {
    let path = args.device.display().to_string();
    let (opened, seen) = match look(&args.device)? {
        Sight::Open(opened, seen) => (opened, seen),
        Sight::Blind(finding) => {
            let mut findings = Findings::default();
            findings.add(finding);
            return show(args, DeviceHead::unknown(path), None, &findings);
        }
    };
    let mut damages = Findings::default();
    damages.extend(seen.damages.iter().map(Finding::from));
    let head = DeviceHead::of(path, &seen);
    match block_on(&opened.ring, Survey::of(&*opened.device)) {
        Ok(mut survey) => {
            survey.findings.extend(damages.list);
            let content = content(args, &opened, &seen, &mut survey)?;
            show(args, head, Some(&content), &survey.findings)
        }
        Err(cause) => {
            damages.add(Finding::new(FindingName::DeviceFailed, cause.class(), cause.to_string()));
            show(args, head, None, &damages)
        }
    }
}

fn content(args: &InspectArgs, opened: &Opened, seen: &Look, survey: &mut Survey<'_>) -> Result<Content, Failure> {
    Ok(match args.what.as_ref().unwrap_or(&What::Label) {
        What::Label => {
            let slots = block_on(&opened.ring, survey.slots());
            let summary = survey.summary(&slots);
            Content::Label(LabelDocument { labels: survey.labels.clone(), journal: survey.journal.clone(), summary })
        }
        What::Zones => {
            let slots = block_on(&opened.ring, survey.slots());
            let reports = survey.zone_reports(&slots);
            let lines = survey.zones.iter().map(|zone| ZoneLine::new(zone, opened.device.geometry()));
            Content::Zones(lines.zip(reports).map(|(line, report)| ZoneEntry { line, report }).collect())
        }
        What::Extents => Content::Extents(block_on(&opened.ring, survey.slots())),
        What::Extent { id } => {
            let id = digits(id, 32)?;
            let slot = one_slot(&block_on(&opened.ring, survey.slots_named(&id)), &id)?;
            let contents = block_on(&opened.ring, survey.extent(slot));
            let contents = contents.ok_or_else(|| Failure::failed(format!("no extent {id} is on this disk"), ""))?;
            Content::Extent(Box::new(contents))
        }
        What::Record { hash } => {
            let asked = digits(hash, 64)?;
            let search = block_on(&opened.ring, survey.find(&asked));
            if search.blocks.len() > 1 {
                let names: Vec<&str> = search.blocks.iter().map(String::as_str).take(8).collect();
                let what = format!("{} blocks begin with {asked}: {}", search.blocks.len(), names.join(", "));
                return Err(Failure::usage(what, "give more digits"));
            }
            if search.records.is_empty() && survey.findings.bad == 0 {
                return Err(Failure::failed(format!("no record of block {asked} is on this disk"), ""));
            }
            Content::Record(RecordDocument { asked, search, name_proven: false })
        }
        What::Verify => {
            let (bar, start) = (Bar::new(args.json), Instant::now());
            let report = block_on(&opened.ring, survey.verify(seen.in_use, &mut |at| bar.show(at)));
            bar.end();
            let (clean, seconds) = (survey.findings.bad == 0, start.elapsed().as_secs_f64());
            Content::Verify(VerifyDocument { clean, seconds, report })
        }
    })
}

fn show(args: &InspectArgs, head: DeviceHead, content: Option<&Content>, findings: &Findings) -> Result<(), Failure> {
    let document = Document::new(head, content, findings);
    if args.json {
        output::json(&document)?;
    } else {
        output::line(view::text(&document))?;
    }
    match findings.bad {
        0 => Ok(()),
        bad => Err(Failure::Damaged { path: args.device.clone(), bad }),
    }
}

/// Hex digits as they are compared: in lower case, and enough of them.
fn digits(text: &str, most: usize) -> Result<String, Failure> {
    let digits = text.trim().to_ascii_lowercase();
    let valid = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if valid && (DIGITS_MIN..=most).contains(&digits.len()) {
        return Ok(digits);
    }
    Err(Failure::usage(format!("{text:?} is not {DIGITS_MIN} to {most} hex digits"), "give more of it, or all of it"))
}

fn one_slot(named: &[SlotReport], id: &str) -> Result<u32, Failure> {
    match named {
        [] => Err(Failure::failed(
            format!("no extent {id} is on this disk"),
            "`shingle inspect DEVICE extents` lists them",
        )),
        [one] => Ok(one.slot),
        several => {
            let extents: Vec<&str> = several.iter().filter_map(|slot| slot.extent.as_deref()).take(8).collect();
            let what = format!("{} extents begin with {id}: {}", several.len(), extents.join(", "));
            Err(Failure::usage(what, "give more digits"))
        }
    }
}
