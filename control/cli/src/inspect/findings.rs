//! Findings for people: name, place, value, reason.

use shingle_node::inspect::{Finding, Findings, Severity};

use crate::output::visible;
use crate::units;

/// Findings shown one by one; the document has more.
const SHOWN: usize = 200;

/// Two lines for each finding, and what is not shown.
pub fn text(findings: &Findings) -> Vec<String> {
    let mut bad_first: Vec<&Finding> = findings.list.iter().collect();
    bad_first.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let mut lines: Vec<String> = bad_first.iter().take(SHOWN).flat_map(|finding| lines_of(finding)).collect();
    let rest = findings.list.len().saturating_sub(SHOWN) as u64 + findings.unlisted;
    if rest > 0 {
        lines.push(format!("and {} more; by name:", units::counted(rest, "finding")));
        lines.extend(findings.counts.iter().map(|(name, count)| format!("  {count:>8} {}", name.name())));
    }
    lines
}

/// How many there are, in words.
pub fn verdict(findings: &Findings) -> String {
    let notes = findings.list.len() as u64 + findings.unlisted - findings.bad;
    let notes = if notes > 0 { format!(" ({})", units::counted(notes, "note")) } else { String::new() };
    match findings.bad {
        0 => format!("{}{notes}", console::style("clean").green().bold()),
        bad => format!("{}{notes}", console::style(units::counted(bad, "finding")).red().bold()),
    }
}

fn lines_of(finding: &Finding) -> [String; 2] {
    let name = console::style(finding.name.name());
    let name = match finding.severity {
        Severity::Bad => name.red().bold(),
        Severity::Note => name.yellow(),
    };
    let mut place = Vec::new();
    match (finding.zone, finding.offset_bytes, finding.device_bytes) {
        (Some(zone), Some(offset), Some(device)) => place.push(format!("zone {zone} at {offset} (device {device})")),
        (_, _, Some(device)) => place.push(format!("at {device}")),
        _ => {}
    }
    place.extend(finding.slot.map(|slot| format!("slot {slot}")));
    place.extend(finding.extent.as_ref().map(|extent| format!("extent {extent}")));
    place.extend(finding.block.as_ref().map(|block| format!("block {block}")));
    let value = if finding.value.is_empty() { String::new() } else { format!(": {}", visible(&finding.value)) };
    [format!("{name}  {}", place.join(", ")), format!("    {}{value}", visible(&finding.detail))]
}
