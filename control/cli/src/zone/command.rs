//! `shingle zone`: one command to one zone, its outcome as the device named it.
//!
//! Invariant: nothing is destroyed on a device that carries a Shingle label, or that somebody uses, unless its owner
//! says so by its serial number.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use shingle_hw::backend::file;
use shingle_hw::error::DeviceError;
use shingle_hw::geometry::Geometry;
use shingle_hw::zone::{Zone, ZoneId};

use super::device::{Opened, open};
use super::handover;
use super::ownership;
use super::usage;
use super::view::{ReportDocument, ZoneLine, table};
use crate::failure::Failure;
use crate::output;
use crate::units::ByteSize;

const EXAMPLES: &str = "\
Examples:
  shingle zone create disk.img --size 4GiB --zone-size 64MiB --serial LAB-1
  shingle zone report disk.img --count 8
  shingle zone append disk.img 3 --in data.bin
  shingle zone read disk.img 3 --bytes 4096 > sector.bin
  shingle zone reset disk.img 3 --json
  shingle zone take /dev/ng0n1          then: shingle zone report vfio:0000:01:00.0

A refusal names its class: invalid-field, boundary, full, read-only, offline, write-pointer, too-many-open,
too-many-active, condition, unreadable, failed; the exit code is 6. append, write, finish and reset on a
disk with a Shingle label need --i-own SERIAL; on a device that is mounted or held they need --force as well.";

/// Send one command to a zone of a device or of an emulated drive
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ZoneArgs {
    #[command(subcommand)]
    verb: Verb,
    /// Print the outcome as JSON
    #[arg(long, global = true)]
    json: bool,
    /// The device's serial number: its data may be destroyed
    #[arg(long, global = true, value_name = "SERIAL")]
    i_own: Option<String>,
    /// Go on although the device is mounted, held or partitioned
    #[arg(long, global = true)]
    force: bool,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Make an emulated host-managed drive in a new sparse file
    Create {
        file: PathBuf,
        /// Size of the drive
        #[arg(long, default_value = "4GiB")]
        size: ByteSize,
        /// Size of a zone
        #[arg(long, default_value = "64MiB")]
        zone_size: ByteSize,
        /// Serial number of the drive
        #[arg(long, default_value = "EMULATED-1")]
        serial: String,
    },
    /// Show zones: condition, capacity, write pointer
    Report {
        device: PathBuf,
        /// First zone
        #[arg(long, default_value_t = 0)]
        first: u32,
        /// Zones to show [default: all]
        #[arg(long)]
        count: Option<u32>,
    },
    /// Open a zone explicitly
    Open { device: PathBuf, zone: u32 },
    /// Close an open zone
    Close { device: PathBuf, zone: u32 },
    /// Make a zone full
    Finish { device: PathBuf, zone: u32 },
    /// Make a zone empty
    Reset { device: PathBuf, zone: u32 },
    /// Read from a zone, to standard output or a file
    Read {
        device: PathBuf,
        zone: u32,
        /// First byte within the zone
        #[arg(long, default_value_t = 0)]
        offset: u64,
        /// Bytes to read; one command
        #[arg(long, default_value = "4096")]
        bytes: ByteSize,
        /// File for the bytes [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Write into a conventional zone, and flush
    Write {
        device: PathBuf,
        zone: u32,
        /// First byte within the zone
        #[arg(long, default_value_t = 0)]
        offset: u64,
        /// File with the bytes [default: standard input]
        #[arg(long = "in", value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Append to a sequential zone, and flush
    Append {
        device: PathBuf,
        zone: u32,
        /// File with the bytes [default: standard input]
        #[arg(long = "in", value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Take an NVMe drive from the kernel's driver, to be driven by Shingle itself through VFIO
    Take {
        /// A node of the drive (/dev/nvme0n1, /dev/ng0n1), or its PCI address
        #[arg(value_name = "NODE|ADDRESS")]
        drive: PathBuf,
    },
    /// Give an NVMe drive back to the kernel's driver
    GiveBack {
        /// The drive's PCI address, or its name as a device (vfio:0000:01:00.0)
        #[arg(value_name = "ADDRESS")]
        drive: PathBuf,
    },
}

/// What a command did, for scripts.
#[derive(Serialize)]
struct Outcome {
    zone: ZoneLine,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

/// A refusal, for scripts.
#[derive(Serialize)]
struct Refusal {
    refused: &'static str,
    message: String,
}

/// Runs one command.
pub fn run(args: &ZoneArgs) -> Result<(), Failure> {
    match &args.verb {
        Verb::Create { file, size, zone_size, serial } => create(file, size.0, zone_size.0, serial),
        Verb::Report { device, first, count } => report(args, device, *first, count.unwrap_or(u32::MAX)),
        Verb::Open { device, zone } => {
            let opened = open(device)?;
            let outcome = opened.run(opened.device.open(ZoneId(*zone)));
            finish_change(args, &opened, *zone, outcome, None)
        }
        Verb::Close { device, zone } => {
            let opened = open(device)?;
            let outcome = opened.run(opened.device.close(ZoneId(*zone)));
            finish_change(args, &opened, *zone, outcome, None)
        }
        Verb::Finish { device, zone } => {
            let opened = open_to_destroy(args, device)?;
            let outcome = opened.run(opened.device.finish(ZoneId(*zone)));
            finish_change(args, &opened, *zone, outcome, None)
        }
        Verb::Reset { device, zone } => {
            let opened = open_to_destroy(args, device)?;
            let outcome = opened.run(opened.device.reset(ZoneId(*zone)));
            finish_change(args, &opened, *zone, outcome, None)
        }
        Verb::Read { device, zone, offset, bytes, out } => read(args, device, *zone, *offset, bytes.0, out.as_deref()),
        Verb::Write { device, zone, offset, from } => {
            let data = input(from.as_deref())?;
            let opened = open_to_destroy(args, device)?;
            let buffer = filled(&opened, &data);
            let write = opened.device.write(ZoneId(*zone), *offset, buffer, 0..data.len());
            let (outcome, _) = opened.run(write);
            finish_change(args, &opened, *zone, outcome, Some((*offset, data.len() as u64)))
        }
        Verb::Append { device, zone, from } => {
            let data = input(from.as_deref())?;
            let opened = open_to_destroy(args, device)?;
            let buffer = filled(&opened, &data);
            let (outcome, _) = opened.run(opened.device.append(ZoneId(*zone), buffer, 0..data.len()));
            let at = outcome.as_ref().copied().unwrap_or(0);
            finish_change(args, &opened, *zone, outcome.map(|_| ()), Some((at, data.len() as u64)))
        }
        Verb::Take { drive } => handover::take(drive, args.json),
        Verb::GiveBack { drive } => handover::give_back(drive, args.json),
    }
}

fn create(file: &Path, size_bytes: u64, zone_bytes: u64, serial: &str) -> Result<(), Failure> {
    let geometry = Geometry::smr_with_zones(size_bytes, zone_bytes);
    file::create(file, &geometry, serial).map_err(|error| Failure::failed(error.to_string(), ""))?;
    output::line(format_args!("{}: {} zones, serial {serial}", file.display(), geometry.zones))
}

fn report(args: &ZoneArgs, device: &Path, first: u32, count: u32) -> Result<(), Failure> {
    let opened = open(device)?;
    let zones = opened.run(opened.device.report(ZoneId(first), count));
    let zones = zones.map_err(|error| refused(args, &error))?;
    let document = ReportDocument::new(opened.device.identity(), opened.device.geometry(), &zones);
    if args.json { output::json(&document) } else { output::line(document.text()) }
}

fn read(
    args: &ZoneArgs,
    device: &Path,
    zone: u32,
    offset_bytes: u64,
    bytes: u64,
    out: Option<&Path>,
) -> Result<(), Failure> {
    let opened = open(device)?;
    let length =
        usize::try_from(bytes).unwrap_or(usize::MAX).min(opened.device.geometry().transfer_bytes_max as usize * 2);
    let buffer = opened.device.alloc_buffer(length);
    let (outcome, buffer) = opened.run(opened.device.read(ZoneId(zone), offset_bytes, buffer, 0..length));
    outcome.map_err(|error| refused(args, &error))?;
    let data = buffer.get(..length).unwrap_or_default();
    match out {
        Some(file) => fs::write(file, data).map_err(Failure::io(format!("write {}", file.display()))),
        None => std::io::stdout().lock().write_all(data).map_err(output::closed_or_io),
    }
}

/// Makes the change durable and shows the zone.
fn finish_change(
    args: &ZoneArgs,
    opened: &Opened,
    zone: u32,
    outcome: Result<(), DeviceError>,
    landed: Option<(u64, u64)>,
) -> Result<(), Failure> {
    let changed = outcome.and_then(|()| {
        let zones = opened.run(opened.device.report(ZoneId(zone), 1))?;
        opened.run(opened.device.flush())?;
        Ok(zones)
    });
    let zones: Vec<Zone> = changed.map_err(|error| refused(args, &error))?;
    let line = zones.first().map(|zone| ZoneLine::new(zone, opened.device.geometry()));
    let Some(line) = line else { return Ok(()) };
    if args.json {
        let (offset_bytes, bytes) = (landed.map(|(at, _)| at), landed.map(|(_, bytes)| bytes));
        return output::json(&Outcome { zone: line, offset_bytes, bytes });
    }
    if let Some((at, bytes)) = landed {
        output::line(format_args!("{bytes} bytes at {at} of zone {zone}"))?;
    }
    output::line(table(&[line]))
}

/// The failure of a refused command; with `--json` the refusal is printed as a document as well.
fn refused(args: &ZoneArgs, error: &DeviceError) -> Failure {
    let what = error.to_string();
    if args.json
        && let Err(failure) = output::json(&Refusal { refused: error.class(), message: what.clone() })
    {
        return failure;
    }
    Failure::Refused { class: error.class(), what }
}

/// Opens a device for a command that destroys something.
fn open_to_destroy(args: &ZoneArgs, path: &Path) -> Result<Opened, Failure> {
    let uses = usage::uses(path);
    if let Some(first) = uses.first().filter(|_| !args.force) {
        let what = format!("{} is {first}", path.display());
        return Err(Failure::InUse { what, advice: "stop its use, or add --force if you know better".into() });
    }
    let opened = open(path)?;
    if !uses.is_empty() || ownership::is_labelled(&opened)? {
        let serial = opened.device.identity().serial.clone();
        let why = if uses.is_empty() { "the disk carries a Shingle label" } else { "the device is in use" };
        ownership::check_claim(&serial, args.i_own.as_deref(), why)?;
    }
    Ok(opened)
}

fn input(from: Option<&Path>) -> Result<Vec<u8>, Failure> {
    match from {
        Some(file) => fs::read(file).map_err(Failure::io(format!("read {}", file.display()))),
        None => {
            let mut data = Vec::new();
            std::io::stdin().lock().read_to_end(&mut data).map_err(Failure::io("read standard input"))?;
            Ok(data)
        }
    }
}

fn filled(opened: &Opened, data: &[u8]) -> shingle_hw::buffer::Buffer {
    let mut buffer = opened.device.alloc_buffer(data.len());
    buffer.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
    buffer
}
