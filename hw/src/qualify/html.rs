//! The report as one HTML file: inline SVG, no script, nothing loaded from anywhere, light and dark.
//!
//! Invariant: every text that came from a drive is escaped.

mod ticks;

use super::findings::{Curve, Findings, Status};
use super::junit::{escape, push};
use super::latency::{Latency, row_ms};
use super::registry::SECTIONS;
use super::report::{Report, STATUSES, TestResult};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2733;--soft:#5b6b7b;--line:#d5dde5;--page:#fbfcfd;--card:#fff;--mark:#1668b8;\
--pass:#1a7f4b;--warn:#b26a00;--fail:#c22f2f;--rest:#8794a1}\
@media(prefers-color-scheme:dark){:root{--ink:#e4eaf0;--soft:#9aa8b5;--line:#33404c;--page:#12181e;--card:#1a222a;\
--mark:#5aa9f2;--pass:#46b67c;--warn:#e0a03a;--fail:#ef6b6b;--rest:#6d7b88}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);margin:0 auto;max-width:1080px;padding:24px}\
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:32px 0 8px}h3{font-size:14px;margin:0 0 6px;font-weight:600}\
.soft{color:var(--soft)}.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px 16px}\
.verdict{border-left:8px solid var(--pass)}.verdict.bad{border-left-color:var(--fail)}\
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(330px,1fr));gap:14px}\
.cells{display:flex;flex-wrap:wrap;gap:4px;margin:2px 0 8px}\
.cell{font-size:12px;padding:2px 7px;border-radius:4px;color:#fff;text-decoration:none}\
.pass{background:var(--pass)}.warn{background:var(--warn)}.fail,.error{background:var(--fail)}.na,.skip{background:var(--rest)}\
table{border-collapse:collapse;width:100%;font-size:13px}td,th{text-align:left;padding:4px 8px;border-bottom:1px solid var(--line);\
vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}\
svg{width:100%;height:auto;display:block}svg text{font:11px system-ui,sans-serif;fill:var(--soft)}\
.axis{stroke:var(--line)}.trace{stroke:var(--mark);fill:none;stroke-width:1.8}.dot{fill:var(--mark)}.band{fill:var(--mark);opacity:.18}\
.heat{fill:var(--mark)}code{font-size:13px}@media print{.card{break-inside:avoid}}";

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 52.0;
const BOTTOM: f64 = 34.0;
const TOP: f64 = 10.0;

/// The whole document.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    let title = escape(&format!("{} {}", report.device.model, report.device.serial));
    push(
        &mut out,
        format_args!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head><body>"
        ),
    );
    verdict(&mut out, report);
    grid(&mut out, report);
    curves(&mut out, report);
    latencies(&mut out, report);
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
            "<div class=\"soft\">{} zones of {} MiB (capacity {} MiB), {} conventional, sectors of {}, open at most {}, active at most {}, {}; plan {}</div>",
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

fn curves(out: &mut String, report: &Report) {
    let all: Vec<(&TestResult, &Curve)> =
        report.tests.iter().flat_map(|test| test.findings.curves.iter().map(move |curve| (test, curve))).collect();
    if all.is_empty() {
        return;
    }
    out.push_str("<h2>Profiles and curves</h2><div class=\"grid\">");
    for (test, curve) in all {
        push(out, format_args!("<div class=\"card\"><h3>{} {}</h3>", escape(&test.id), escape(&curve.name)));
        let points: Vec<(f64, f64)> =
            curve.points.iter().map(|[x, y]| (if curve.log_x { x.max(1e-9).log10() } else { *x }, *y)).collect();
        let dots = curve.name == "cohort";
        plot(out, &points, &curve.x, &curve.y, curve.log_x, dots);
        out.push_str("</div>");
    }
    out.push_str("</div>");
}

/// Where values lie in a picture.
struct Scale {
    x: (f64, f64),
    y: (f64, f64),
}

impl Scale {
    fn of(points: &[(f64, f64)]) -> Self {
        let span = |values: &mut dyn Iterator<Item = f64>| {
            let (low, high) =
                values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
            if high > low { (low, high) } else { (low - 0.5, high + 0.5) }
        };
        let (low, high) = span(&mut points.iter().map(|(_, y)| *y));
        Self {
            x: span(&mut points.iter().map(|(x, _)| *x)),
            y: (low.min(0.0), high * if high > 0.0 { 1.05 } else { 1.0 }),
        }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (value - self.x.0) / (self.x.1 - self.x.0) * (WIDTH - LEFT - 12.0)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (value - self.y.0) / (self.y.1 - self.y.0) * (HEIGHT - BOTTOM - TOP)
    }
}

fn frame(out: &mut String, scale: &Scale, x: &str, y: &str, x_ticks: &[(f64, String)]) {
    push(out, format_args!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">"));
    for (value, label) in ticks::linear(scale.y) {
        let at = scale.y(value);
        push(
            out,
            format_args!(
                "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                WIDTH - 12.0,
                LEFT - 5.0,
                at + 4.0,
            ),
        );
    }
    for (value, label) in x_ticks {
        push(
            out,
            format_args!(
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
                scale.x(*value),
                HEIGHT - BOTTOM + 15.0,
            ),
        );
    }
    push(
        out,
        format_args!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text><text transform=\"translate(11 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + WIDTH) / 2.0,
            HEIGHT - 4.0,
            escape(x),
            (HEIGHT - BOTTOM) / 2.0,
            escape(y)
        ),
    );
}

fn plot(out: &mut String, points: &[(f64, f64)], x: &str, y: &str, log_x: bool, dots: bool) {
    let finite: Vec<(f64, f64)> = points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    if finite.is_empty() {
        out.push_str("<p class=\"soft\">no data</p>");
        return;
    }
    let scale = Scale::of(&finite);
    frame(out, &scale, x, y, &if log_x { ticks::logarithmic(scale.x) } else { ticks::linear(scale.x) });
    if !dots {
        let path: Vec<String> = finite.iter().map(|(x, y)| format!("{:.1},{:.1}", scale.x(*x), scale.y(*y))).collect();
        push(out, format_args!("<polyline class=\"trace\" points=\"{}\"/>", path.join(" ")));
    }
    if dots || finite.len() < 40 {
        for (x, y) in &finite {
            push(
                out,
                format_args!("<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.4\"/>", scale.x(*x), scale.y(*y)),
            );
        }
    }
    out.push_str("</svg>");
}

fn latencies(out: &mut String, report: &Report) {
    let all: Vec<(&TestResult, &Latency)> = report
        .tests
        .iter()
        .flat_map(|test| test.findings.latencies.iter().map(move |latency| (test, latency)))
        .collect();
    if all.is_empty() {
        return;
    }
    out.push_str("<h2>Latencies</h2><div class=\"grid\">");
    for (test, latency) in all {
        push(out, format_args!("<div class=\"card\"><h3>{} {}</h3>", escape(&test.id), escape(&latency.name)));
        percentiles(out, latency);
        heat_map(out, latency);
        out.push_str("<table>");
        for quantile in &latency.quantiles {
            let text = quantile.ms.map_or("unresolved: fewer than 100 values beyond it".to_owned(), |ms| {
                format!("{:.3} ms [{:.3}, {:.3}]", ms.v, ms.ci95[0], ms.ci95[1])
            });
            push(out, format_args!("<tr><td>{}</td><td class=\"n\">{text}</td></tr>", escape(&quantile.name)));
        }
        push(
            out,
            format_args!(
                "<tr><td>max of {}</td><td class=\"n\">{:.3} ms</td></tr></table></div>",
                latency.count, latency.max_ms
            ),
        );
    }
    out.push_str("</div>");
}

/// Quantiles over a logarithmic 1/(1-q) axis, with their intervals as a band.
fn percentiles(out: &mut String, latency: &Latency) {
    let resolved: Vec<(f64, [f64; 3])> = latency
        .quantiles
        .iter()
        .filter_map(|quantile| {
            let ms = quantile.ms?;
            Some((-(1.0 - quantile.q).log10(), [ms.v, ms.ci95[0], ms.ci95[1]]))
        })
        .collect();
    if resolved.len() < 2 {
        return;
    }
    let corners: Vec<(f64, f64)> =
        resolved.iter().flat_map(|(x, values)| values.iter().map(move |value| (*x, *value))).collect();
    let scale = Scale::of(&corners);
    let named = resolved.iter().zip(&latency.quantiles).map(|((x, _), quantile)| (*x, quantile.name.clone()));
    frame(out, &scale, "percentile", "ms", &named.collect::<Vec<_>>());
    let at = |x: f64, y: f64| format!("{:.1},{:.1}", scale.x(x), scale.y(y));
    let up = resolved.iter().map(|(x, [_, low, _])| at(*x, *low));
    let back = resolved.iter().rev().map(|(x, [_, _, high])| at(*x, *high));
    let band: Vec<String> = up.chain(back).collect();
    let trace: Vec<String> = resolved.iter().map(|(x, [v, _, _])| at(*x, *v)).collect();
    push(
        out,
        format_args!(
            "<polygon class=\"band\" points=\"{}\"/><polyline class=\"trace\" points=\"{}\"/></svg>",
            band.join(" "),
            trace.join(" ")
        ),
    );
}

/// Latency over time: darker where more commands were.
fn heat_map(out: &mut String, latency: &Latency) {
    let rows = || latency.map.iter().flat_map(|column| column.chunks_exact(2));
    let (Some(low), Some(high)) = (rows().map(|pair| pair[0]).min(), rows().map(|pair| pair[0]).max()) else { return };
    let most = rows().map(|pair| pair[1]).max().unwrap_or(1).max(1);
    let end_s = latency.map_column_ms * latency.map.len() as f64 / 1e3;
    let scale = Scale { x: (0.0, end_s), y: (0.0, f64::from(high - low + 1)) };
    push(out, format_args!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">"));
    let cell = (WIDTH - LEFT - 12.0) / latency.map.len().max(1) as f64;
    let tall = (HEIGHT - BOTTOM - TOP) / f64::from(high - low + 1);
    for (index, column) in latency.map.iter().enumerate() {
        for pair in column.chunks_exact(2) {
            let strength = 0.15 + 0.85 * (f64::from(pair[1]).ln_1p() / f64::from(most).ln_1p());
            push(
                out,
                format_args!(
                    "<rect class=\"heat\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" opacity=\"{strength:.2}\"/>",
                    LEFT + index as f64 * cell,
                    scale.y(f64::from(pair[0] - low + 1)),
                    cell + 0.3,
                    tall + 0.3
                ),
            );
        }
    }
    for row in [low, (low + high) / 2, high] {
        push(
            out,
            format_args!(
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 5.0,
                scale.y(f64::from(row - low)),
                number(row_ms(row))
            ),
        );
    }
    push(
        out,
        format_args!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">time, {} s in all; ms upwards</text></svg>",
            (LEFT + WIDTH) / 2.0,
            HEIGHT - 14.0,
            number(end_s)
        ),
    );
}

/// Zones in rows, the marked ones in colour.
fn zone_map(out: &mut String, report: &Report) {
    let zones = report.device.geometry.zones.max(1);
    let marks: Vec<_> = report.tests.iter().flat_map(|test| &test.findings.marks).collect();
    let cells = zones.min(2_048);
    let per_cell = f64::from(zones) / f64::from(cells);
    let columns = 64;
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
            "</svg><p class=\"soft\">{} marked; conventional zones amber. {} zones a square.</p></div>",
            marks.len(),
            number(per_cell)
        ),
    );
}

fn details(out: &mut String, report: &Report) {
    out.push_str("<h2>Every test</h2><table><tr><th>test</th><th>status</th><th>what was seen</th></tr>");
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
                "<div>{} <b>{mark}</b> <span class=\"soft\">({} [{}, {}], n = {})</span></div>",
                escape(&criterion.expr),
                number(observed.v),
                number(observed.ci95[0]),
                number(observed.ci95[1]),
                observed.n
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
                "<div>{} {} {} <span class=\"soft\">[{}, {}]</span></div>",
                escape(&metric.name),
                number(observed.v),
                escape(&metric.unit),
                number(observed.ci95[0]),
                number(observed.ci95[1])
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
    if zones == 0 { "any number".to_owned() } else { zones.to_string() }
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => "-".to_owned(),
        0.0 => "0".to_owned(),
        size if size >= 1e6 => format!("{value:.2e}"),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.01 => format!("{value:.2}"),
        _ => format!("{value:.1e}"),
    }
}
