//! What was found, for people: tables, and findings below them. Pure: a document in, text out.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{Cell, Table};
use shingle_node::inspect::{
    ExtentContents, Fields, Hit, JournalReport, LabelsReport, OutcomeCount, SlotReport, Value, VerifyReport, ZoneUse,
};

use super::document::{Content, DeviceHead, Document, LabelDocument, RecordDocument, VerifyDocument, ZoneEntry};
use super::findings;
use crate::output::visible;
use crate::status::view::{new_table, right};
use crate::units;

/// Cells of a bar that shows how full a zone is.
const BAR_CELLS: u32 = 10;

/// The whole output.
pub fn text(document: &Document<'_>) -> String {
    let mut lines = head(&document.device);
    match document.content {
        None => {}
        Some(Content::Label(label)) => lines.extend(label_lines(label, &document.device)),
        Some(Content::Zones(zones)) => lines.push(zone_table(zones).to_string()),
        Some(Content::Extents(slots)) => lines.extend(extent_lines(slots)),
        Some(Content::Extent(contents)) => lines.extend(content_lines(contents)),
        Some(Content::Record(record)) => lines.extend(record_lines(record)),
        Some(Content::Verify(verify)) => lines.extend(verify_lines(verify)),
    }
    lines.push(String::new());
    lines.extend(findings::text(document.findings));
    lines.push(findings::verdict(document.findings));
    lines.join("\n")
}

fn head(device: &DeviceHead) -> Vec<String> {
    let mut lines = Vec::new();
    if let (Some(model), Some(serial), Some(geometry)) = (&device.model, &device.serial, &device.geometry) {
        lines.push(format!("{}: {} {}", visible(&device.path), visible(model), visible(serial)));
        lines.push(format!(
            "{} zones of {} (capacity {}), {} conventional, sectors of {}",
            geometry.zones,
            units::bytes(geometry.zone_bytes),
            units::bytes(geometry.zone_capacity_bytes),
            geometry.conventional_zones,
            units::bytes(geometry.sector_bytes.into()),
        ));
    } else {
        lines.push(visible(&device.path).into_owned());
    }
    if device.in_use {
        let users: Vec<String> =
            device.users.iter().map(|user| format!("{} (process {})", visible(&user.name), user.pid)).collect();
        let by = if users.is_empty() { "another process".to_owned() } else { users.join(", ") };
        let text = format!("in use by {by}: the ends of journal and open extents move while they are looked at");
        lines.push(console::style(text).yellow().to_string());
    }
    lines.push(String::new());
    lines
}

fn time(ms: u64) -> String {
    let stamp = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    match stamp {
        _ if ms == 0 => "never".to_owned(),
        Some(stamp) => stamp.to_string(),
        None => ms.to_string(),
    }
}

/// A value with what it means to people.
fn shown(name: &str, value: &Value) -> String {
    match value {
        Value::Number(ms) if name.ends_with("_ms") => format!("{ms} ({})", time(*ms)),
        value => visible(&value.to_string()).into_owned(),
    }
}

fn label_lines(label: &LabelDocument, device: &DeviceHead) -> Vec<String> {
    let mut lines = vec![label_table(&label.labels, device).to_string()];
    let differing: Vec<&str> = label.labels.disagreements.iter().map(|difference| difference.field).collect();
    lines.push(match (label.labels.agree, &differing[..]) {
        (true, _) => "the labels agree".to_owned(),
        (false, []) => "there is no second label to agree with".to_owned(),
        (false, fields) => console::style(format!("the labels differ in {}", fields.join(", "))).red().to_string(),
    });
    lines.push(String::new());
    if let Some(journal) = &label.journal {
        lines.push(format!("journal {}, tells of {}", journal.state, units::counted(journal.slots as u64, "slot")));
        lines.push(journal_table(journal).to_string());
        lines.push(String::new());
    }
    let summary = &label.summary;
    lines.push(format!("slots: {}", counts(&summary.slots)));
    lines.push(format!(
        "{} in {} of {}",
        units::counted(summary.records, "record"),
        units::bytes(summary.record_bytes),
        units::bytes(summary.room_bytes)
    ));
    lines.push(format!("zones: {}", counts(&summary.zones)));
    lines
}

fn counts(counts: &BTreeMap<&'static str, u32>) -> String {
    let words: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    if words.is_empty() { "none known".to_owned() } else { words.join(", ") }
}

fn label_table(labels: &LabelsReport, device: &DeviceHead) -> Table {
    let mut table = new_table(&["FIELD", "FIRST LABEL", "LAST LABEL", "DEVICE"]);
    let column = |of: &dyn Fn(&shingle_node::inspect::CopyReport) -> String| -> Vec<String> {
        let mut cells: Vec<String> = labels.copies.iter().map(of).collect();
        cells.resize(2, String::new());
        cells
    };
    let mut row = |name: &str, cells: Vec<String>, device: String| {
        let cells = cells.into_iter().chain([device]);
        table.add_row(std::iter::once(name.to_owned()).chain(cells));
    };
    row("zone", column(&|copy| copy.zone.to_string()), String::new());
    let state = |copy: &shingle_node::inspect::CopyReport| {
        copy.error.clone().map_or_else(|| "sound".to_owned(), |error| visible(&error).into_owned())
    };
    row("state", column(&state), String::new());
    let names = labels.copies.iter().find_map(|copy| copy.fields.as_ref());
    for (name, _) in names.iter().flat_map(|fields| &fields.0) {
        let cells = column(&|copy| {
            let value = copy.fields.as_ref().and_then(|fields| fields.get(name));
            value.map_or_else(|| "-".to_owned(), |value| shown(name, value))
        });
        row(name, cells, of_device(name, device));
    }
    if names.is_some() {
        let computed = |copy: &shingle_node::inspect::CopyReport| copy.crc_computed.clone().unwrap_or("-".into());
        row("crc computed", column(&computed), String::new());
    }
    table
}

/// What the device itself says, beside what the label claims.
fn of_device(field: &str, device: &DeviceHead) -> String {
    let Some(geometry) = &device.geometry else { return String::new() };
    match field {
        "serial" => device.serial.as_deref().map(visible).unwrap_or_default().into_owned(),
        "zones" => geometry.zones.to_string(),
        "conventional_zones" => geometry.conventional_zones.to_string(),
        "zone_bytes" => geometry.zone_bytes.to_string(),
        "zone_capacity_bytes" => geometry.zone_capacity_bytes.to_string(),
        "sector_bytes" => geometry.sector_bytes.to_string(),
        _ => String::new(),
    }
}

fn journal_table(journal: &JournalReport) -> Table {
    let header = ["SIDE", "ZONE", "CURRENT", "CHAIN", "EPOCH", "BATCHES", "SNAPSHOT", "BYTES", "FLAWS"];
    let mut table = new_table(&header);
    for side in &journal.sides {
        let snapshot = match (side.snapshot_batches, side.snapshot_whole) {
            (Some(batches), true) => format!("{batches} whole"),
            (Some(batches), false) => format!("{batches} not whole"),
            (None, _) => "-".to_owned(),
        };
        let flaws = if side.foreign { "foreign".to_owned() } else { side.flaws.len().to_string() };
        table.add_row([
            Cell::new(side.side),
            right(side.zone),
            Cell::new(if side.current { "yes" } else { "" }),
            Cell::new(side.chain.as_ref().map_or("-".to_owned(), ToString::to_string)),
            right(side.epoch.map_or("-".to_owned(), |epoch| epoch.to_string())),
            right(side.batches),
            Cell::new(snapshot),
            right(side.chain_bytes),
            right(flaws),
        ]);
    }
    table
}

fn zone_table(zones: &[ZoneEntry]) -> Table {
    let mut table = new_table(&["ZONE", "CONDITION", "WRITE POINTER", "FILLED", "USE"]);
    for zone in zones {
        let pointer = zone.line.write_pointer_bytes.map_or("-".to_owned(), |bytes| bytes.to_string());
        let bar = zone.report.filled_permille.map(bar).unwrap_or_default();
        table.add_row([
            right(zone.line.zone),
            Cell::new(zone.line.condition),
            right(pointer),
            Cell::new(bar),
            Cell::new(use_text(&zone.report.used_for)),
        ]);
    }
    table
}

fn bar(permille: u32) -> String {
    // Anything at all is a cell, and only a full zone is all of them.
    let cells = (permille * BAR_CELLS).div_ceil(1000).min(if permille < 1000 { BAR_CELLS - 1 } else { BAR_CELLS });
    let filled = "█".repeat(cells as usize);
    let empty = "░".repeat((BAR_CELLS - cells) as usize);
    format!("{filled}{empty} {:>3}%", permille / 10)
}

fn use_text(used_for: &ZoneUse) -> String {
    match used_for {
        ZoneUse::Label { copy } => format!("label, {copy}"),
        ZoneUse::Journal { side, current } => format!("journal {side}{}", if *current { ", current" } else { "" }),
        ZoneUse::Extent { slot, zone_in_extent, extent, state } => {
            format!("slot {slot}.{zone_in_extent}: {state} extent {extent}")
        }
        ZoneUse::Free { slot } => format!("slot {slot}: free"),
        ZoneUse::Retired { slot, state } => format!("slot {slot}: retired, {state}"),
        ZoneUse::Unused => "unused".to_owned(),
        ZoneUse::Unknown => "not known".to_owned(),
    }
}

/// What a scan met at the end of an extent, by its names in FORMAT.md.
fn tail(outcomes: &[OutcomeCount]) -> String {
    let words: Vec<String> = outcomes.iter().map(|met| format!("{} {}", met.count, met.outcome)).collect();
    if words.is_empty() { "clean".to_owned() } else { words.join(", ") }
}

fn extent_lines(slots: &[SlotReport]) -> Vec<String> {
    let header = ["SLOT", "STATE", "EXTENT", "RECORDS", "BYTES", "WRITE POINTER", "JOURNAL", "KNOWN FROM", "TAIL"];
    let mut table = new_table(&header);
    let free = |slot: &&SlotReport| slot.state == "free" && slot.extent.is_none();
    for slot in slots.iter().filter(|slot| !free(slot)) {
        table.add_row([
            right(slot.slot),
            Cell::new(slot.state),
            Cell::new(slot.extent.as_deref().unwrap_or("-")),
            right(slot.records),
            right(slot.record_bytes),
            right(slot.write_pointer_bytes.map_or("-".to_owned(), |bytes| bytes.to_string())),
            Cell::new(slot.journal.as_ref().map_or("-", |journal| journal.state)),
            Cell::new(slot.known_from.unwrap_or("-")),
            Cell::new(if slot.extent.is_some() { tail(&slot.outcomes) } else { String::new() }),
        ]);
    }
    let free = slots.iter().filter(free).count() as u64;
    vec![table.to_string(), format!("{} free", units::counted(free, "slot"))]
}

fn field_lines(title: &str, fields: &Fields) -> Vec<String> {
    let mut table = new_table(&[title, ""]);
    for (name, value) in &fields.0 {
        table.add_row([(*name).to_owned(), shown(name, value)]);
    }
    vec![table.to_string(), String::new()]
}

fn content_lines(contents: &ExtentContents) -> Vec<String> {
    let slot = &contents.slot;
    let mut lines = vec![
        format!(
            "extent {}: {}, slot {}, zones {} to {}",
            slot.extent.as_deref().unwrap_or("-"),
            slot.state,
            slot.slot,
            slot.first_zone,
            slot.first_zone + slot.zones.saturating_sub(1)
        ),
        format!(
            "{} in {}, known from {}; tail: {}",
            units::counted(slot.records.into(), "record"),
            units::bytes(slot.record_bytes),
            slot.known_from.unwrap_or("-"),
            tail(&slot.outcomes)
        ),
    ];
    lines.push(match &slot.journal {
        Some(journal) => format!(
            "journal: {} since {}, zones {}, {} named, last found good {}",
            journal.state,
            time(journal.changed_ms),
            journal.health,
            units::counted(journal.records.into(), "record"),
            time(journal.verified_ms)
        ),
        None => "journal: says nothing of this slot".to_owned(),
    });
    lines.push(String::new());
    let sound = |sound: bool| if sound { "sound" } else { "NOT SOUND" };
    match &contents.header.fields {
        Some(fields) => lines.extend(field_lines(&format!("HEADER ({})", sound(contents.header.sound)), fields)),
        None => lines.push(format!("header: {}", sound(contents.header.sound))),
    }
    if let Some(footer) = &contents.footer {
        let title = format!("FOOTER at {}, {} ({})", footer.offset_bytes, footer.bytes, sound(footer.sound));
        match &footer.fields {
            Some(fields) => lines.extend(field_lines(&title, fields)),
            None => lines.push(title),
        }
    }
    let header = ["OFFSET", "ZONE", "BYTES", "SEQUENCE", "BLOCK", "PUT", "PAYLOAD", "PLAIN", "VERDICT"];
    let mut table = new_table(&header);
    for record in &contents.records {
        table.add_row([
            right(record.offset_bytes),
            right(record.zone),
            right(record.bytes),
            right(record.sequence.map_or("-".to_owned(), |sequence| sequence.to_string())),
            Cell::new(&record.block),
            Cell::new(&record.put_id),
            right(record.payload_bytes),
            right(record.plain_bytes),
            Cell::new(record.verdict),
        ]);
    }
    lines.push(table.to_string());
    lines
}

fn record_lines(record: &RecordDocument) -> Vec<String> {
    let mut lines: Vec<String> = record.search.records.iter().flat_map(hit_lines).collect();
    match record.search.records.is_empty() {
        true => lines.push(format!("no record of block {} was found", record.asked)),
        false => lines.push(
            "The payload is ciphertext: its checksum was compared here. That the plain bytes have this name is proven \
             only by decrypting them, with the key that the catalog holds."
                .to_owned(),
        ),
    }
    lines
}

fn hit_lines(hit: &Hit) -> Vec<String> {
    let mut lines = vec![format!(
        "{}: {} bytes at {} of {} extent {} (slot {}), zone {} at {}, device {}; known from its {}",
        hit.verdict,
        hit.bytes,
        hit.offset_bytes,
        hit.state,
        hit.extent,
        hit.slot,
        hit.zone,
        hit.zone_offset_bytes,
        hit.device_bytes,
        hit.known_from
    )];
    if let Some(fields) = &hit.fields {
        lines.extend(field_lines("RECORD", fields));
    }
    if let (Some(header), Some(payload)) = (&hit.header_crc_computed, &hit.payload_crc_computed) {
        lines.push(format!("computed: header crc {header}, payload crc {payload}"));
    }
    lines.push(String::new());
    lines
}

fn verify_lines(verify: &VerifyDocument) -> Vec<String> {
    let report: &VerifyReport = &verify.report;
    let mut table = new_table(&["WHAT", "READ", "SOUND"]);
    let mut row = |what: &str, read: u64, sound: u64| {
        table.add_row([Cell::new(what), right(read), right(sound)]);
    };
    row("labels", 2, report.labels.into());
    row("extent headers", report.extents.into(), report.headers_sound.into());
    row("records", report.records, report.records_sound);
    row("footers", report.footers.into(), report.footers_sound.into());
    let seconds = Duration::from_secs_f64(verify.seconds.clamp(0.0, 1e9));
    let mut lines = vec![
        table.to_string(),
        format!(
            "journal {} ({})",
            report.journal.unwrap_or("not read"),
            units::counted(report.journal_batches.into(), "batch")
        ),
        format!("slots: {}", counts(&report.summary.slots)),
        format!("zones: {}", counts(&report.summary.zones)),
        format!(
            "{} read in {}, {}",
            units::bytes(report.read_bytes),
            units::duration(seconds),
            units::rate(report.read_bytes, seconds)
        ),
    ];
    if report.looked_again > 0 {
        let extents = units::counted(report.looked_again.into(), "slot");
        lines.push(format!("{extents} looked at twice: the disk is in use, and what was seen first may have moved"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_empty_only_when_nothing_is_written_and_full_only_when_all_is() {
        let cells = |permille| bar(permille).matches('█').count();
        assert_eq!([0, 1, 500, 999, 1000].map(cells), [0, 1, 5, 9, 10]);
    }

    #[test]
    fn what_a_disk_says_cannot_move_the_cursor() {
        let fields = Fields(vec![("serial", Value::Text("a\u{1b}[2J".into())), ("created_ms", Value::Number(0))]);
        let text = field_lines("LABEL", &fields).join("\n");
        assert!(text.contains("\\u{1b}[2J") && text.contains("0 (never)"), "{text}");
    }
}
