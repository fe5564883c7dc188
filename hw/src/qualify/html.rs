//! The report as one HTML file: inline SVG, no script, nothing loaded from anywhere, light and dark.
//!
//! Invariant: every text that came from a drive is escaped.

mod comparison;
mod latencies;
mod plot;
mod ticks;

pub use comparison::render as render_comparison;

use super::findings::{Findings, Status};
use super::junit::{escape, push};
use super::registry::SECTIONS;
use super::report::{Report, STATUSES, TestResult};
use super::statistics::Observed;

const STYLE: &str = include_str!("html/style.css");

/// The whole document.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    head(&mut out, &format!("{} {}", report.device.model, report.device.serial));
    verdict(&mut out, report);
    grid(&mut out, report);
    plot::curves(&mut out, report);
    latencies::latencies(&mut out, report);
    zone_map(&mut out, report);
    details(&mut out, report);
    push(
        &mut out,
        format_args!(
            "<h2>How to repeat it</h2><p><code>{}</code></p><p class=\"soft\">{} on {} ({}), clock {}, seed {}</p></body></html>\n",
            escape(&report.run.command),
            escape(&report.run.tool),
            escape(&report.host.kernel),
            escape(&report.host.cpu),
            report.run.clock,
            report.run.seed
        ),
    );
    out
}

/// The beginning of a document.
fn head(out: &mut String, title: &str) {
    push(
        out,
        format_args!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{}</title><style>{STYLE}</style></head><body>",
            escape(title)
        ),
    );
}

fn verdict(out: &mut String, report: &Report) {
    let (class, word) = if report.verdict.qualified { ("", "Qualified") } else { (" bad", "Not qualified") };
    let (device, geometry) = (&report.device, &report.device.geometry);
    push(
        out,
        format_args!(
            "<div class=\"card verdict{class}\"><h1>{word}</h1><div>{} &middot; serial {} &middot; firmware {}</div>",
            escape(&device.model),
            escape(&device.serial),
            escape(&device.firmware)
        ),
    );
    push(
        out,
        format_args!(
            "<div class=\"soft\">{} zones of {} MiB (capacity {} MiB), {} conventional, sectors of {}, open {}, active {}, {}; plan {}</div>",
            geometry.zones,
            geometry.zone_bytes as f64 / 1048576.0,
            geometry.zone_capacity_bytes as f64 / 1048576.0,
            geometry.conventional_zones,
            geometry.sector_bytes,
            limit(geometry.open_zones_max),
            limit(geometry.active_zones_max),
            if device.heads > 0 { format!("{} heads", device.heads) } else { "heads unknown".to_owned() },
            report.run.plan.name()
        ),
    );
    let counted: Vec<String> = STATUSES
        .iter()
        .filter(|status| report.count(**status) > 0)
        .map(|status| format!("{} {}", report.count(*status), status.name()))
        .collect();
    push(out, format_args!("<p>{}</p>", counted.join(", ")));
    for (name, ids) in [
        ("Blocking", &report.verdict.blocking),
        ("Warnings", &report.verdict.warnings),
        ("Unproven", &report.verdict.unproven),
    ] {
        if !ids.is_empty() {
            let list: Vec<String> = ids.iter().map(|id| escape(id)).collect();
            push(out, format_args!("<div><b>{name}:</b> {}</div>", list.join("; ")));
        }
    }
    out.push_str("</div>");
}

fn grid(out: &mut String, report: &Report) {
    out.push_str("<h2>Tests</h2><div class=\"card\">");
    for (section, name) in SECTIONS {
        let tests: Vec<&TestResult> = report.tests.iter().filter(|test| test.id.starts_with(section)).collect();
        if tests.is_empty() {
            continue;
        }
        push(out, format_args!("<h3>{section} {name}</h3><div class=\"cells\">"));
        for test in tests {
            push(
                out,
                format_args!(
                    "<a class=\"cell {}\" href=\"#{id}\" title=\"{}\">{id}</a>",
                    test.status.name(),
                    escape(&test.title),
                    id = escape(&test.id)
                ),
            );
        }
        out.push_str("</div>");
    }
    out.push_str("</div>");
}

/// Zones in rows, the marked ones in colour.
fn zone_map(out: &mut String, report: &Report) {
    let zones = report.device.geometry.zones.max(1);
    let marks: Vec<_> = report.tests.iter().flat_map(|test| &test.findings.marks).collect();
    let cells = zones.min(2_048);
    let per_cell = f64::from(zones) / f64::from(cells);
    let columns = if cells > 512 { 128 } else { 64 };
    let rows = cells.div_ceil(columns);
    let (size, conventional) = (16.0, report.device.geometry.conventional_zones);
    push(
        out,
        format_args!(
            "<h2>Zone map</h2><div class=\"card\"><svg viewBox=\"0 0 {} {}\" role=\"img\">",
            f64::from(columns) * size,
            f64::from(rows) * size
        ),
    );
    for cell in 0..cells {
        let first = (f64::from(cell) * per_cell) as u32;
        let last = ((f64::from(cell + 1) * per_cell) as u32).max(first + 1);
        let mark = marks.iter().find(|mark| (first..last).contains(&mark.zone));
        let (colour, opacity) = match mark {
            Some(_) => ("var(--fail)", 1.0),
            None if first < conventional => ("var(--warn)", 0.6),
            None => ("var(--mark)", 0.25),
        };
        let what = mark.map_or_else(String::new, |mark| escape(&mark.what));
        push(
            out,
            format_args!(
                "<rect x=\"{:.0}\" y=\"{:.0}\" width=\"{:.0}\" height=\"{:.0}\" fill=\"{colour}\" opacity=\"{opacity}\"><title>zone {first} {what}</title></rect>",
                f64::from(cell % columns) * size,
                f64::from(cell / columns) * size,
                size - 2.0,
                size - 2.0
            ),
        );
    }
    push(
        out,
        format_args!(
            "</svg><p class=\"soft\">{} marked red; {conventional} conventional zones amber. {} to a square.</p></div>",
            marks.len(),
            if cells == zones { "One zone".to_owned() } else { format!("{} zones", number(per_cell)) }
        ),
    );
}

fn details(out: &mut String, report: &Report) {
    out.push_str(
        "<h2>Every test</h2><table class=\"tests\"><tr><th>test</th><th>status</th><th>what was seen</th></tr>",
    );
    for test in &report.tests {
        push(
            out,
            format_args!(
                "<tr id=\"{id}\"><td><b>{id}</b> {}<br><span class=\"soft\">{}</span></td><td><span class=\"cell {status}\">{status}</span></td><td>",
                escape(&test.title),
                escape(&test.criterion),
                id = escape(&test.id),
                status = test.status.name()
            ),
        );
        if let Some(reason) = test.reason.as_deref().filter(|_| test.status != Status::Pass) {
            push(out, format_args!("<div>{}</div>", escape(reason)));
        }
        seen(out, &test.findings);
        if !test.telemetry_delta.is_empty() {
            let delta: Vec<String> =
                test.telemetry_delta.iter().map(|(name, delta)| format!("{} {delta:+}", escape(name))).collect();
            push(out, format_args!("<div class=\"soft\">{}</div>", delta.join(", ")));
        }
        out.push_str("</td></tr>");
    }
    out.push_str("</table>");
}

fn seen(out: &mut String, findings: &Findings) {
    for criterion in &findings.criteria {
        let mark = if criterion.ok { "holds" } else { "violated" };
        let observed = &criterion.observed;
        push(
            out,
            format_args!(
                "<div>{} <b>{mark}</b> <span class=\"soft\">({}{}{})</span></div>",
                escape(&criterion.expr),
                number(observed.v),
                interval(observed),
                if observed.n > 1 { format!(", n = {}", observed.n) } else { String::new() }
            ),
        );
        for example in &criterion.examples {
            push(out, format_args!("<div class=\"soft\">{}</div>", escape(example)));
        }
    }
    for metric in &findings.metrics {
        let observed = &metric.observed;
        push(
            out,
            format_args!(
                "<div>{} {} {}{}</div>",
                escape(&metric.name),
                number(observed.v),
                escape(&metric.unit),
                interval(observed)
            ),
        );
    }
    for variant in &findings.variants {
        push(
            out,
            format_args!(
                "<div class=\"soft\">variant: {}: {}</div>",
                escape(&variant.rule),
                escape(&variant.behaviour)
            ),
        );
    }
}

/// Zero is none.
fn limit(zones: u32) -> String {
    if zones == 0 { "without limit".to_owned() } else { format!("at most {zones}") }
}

/// The interval of a value that was sampled; nothing of one that was counted.
fn interval(observed: &Observed) -> String {
    let [low, high] = observed.ci95;
    if low == high {
        String::new()
    } else {
        format!(" <span class=\"soft\">[{}, {}]</span>", number(low), number(high))
    }
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => "-".to_owned(),
        size if size.fract() == 0.0 && size < 1e6 => format!("{value:.0}"),
        size if size >= 1e6 => format!("{value:.2e}"),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.01 => format!("{value:.2}"),
        _ => format!("{value:.1e}"),
    }
}
