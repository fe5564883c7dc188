//! A comparison as one HTML file: every quantile with its interval beside the margin.

use super::super::diff::{Comparison, Row, Word};
use super::super::junit::{escape, push};
use super::head;

const WIDTH: f64 = 160.0;
const HEIGHT: f64 = 18.0;
/// Least and most that the pictures show to either side.
const REACH: [f64; 2] = [0.2, 1.0];

/// The whole document.
pub fn render(found: &Comparison) -> String {
    let mut out = String::new();
    head(&mut out, "A and B compared");
    let [a, b] = found.drives;
    let pair = if found.this_pair_only { " This pair only: nothing is said about the families." } else { "" };
    let [worse, fine, open] = [Word::Worse, Word::NonInferior, Word::Unresolved]
        .map(|word| found.rows.iter().filter(|row| row.word == word).count());
    let class = if worse > 0 { " bad" } else { "" };
    push(
        &mut out,
        format_args!(
            "<div class=\"card verdict{class}\"><h1>Is B worse than A?</h1><div>{worse} quantiles worse, {fine} not worse, {open} unresolved</div><div class=\"soft\">{a} drives against {b}; worse is more than {:+.0} %.{pair}</div></div>",
            found.margin * 100.0
        ),
    );
    if !found.statuses.is_empty() {
        out.push_str("<h2>Tests that ended differently</h2><div class=\"card\">");
        found.statuses.iter().for_each(|status| push(&mut out, format_args!("<div>{}</div>", escape(status))));
        out.push_str("</div>");
    }
    out.push_str(
        "<h2>Latencies</h2><table class=\"tests\"><tr><th>latency</th><th>A, ms</th><th>B, ms</th><th>change, with 95 %</th><th></th><th></th></tr>",
    );
    let farthest = found.rows.iter().flat_map(|row| row.ci95).map(f64::abs).fold(0.0, f64::max);
    let reach = farthest.clamp(REACH[0], REACH[1]);
    found.rows.iter().for_each(|row| line(&mut out, row, found.margin, reach));
    out.push_str("</table></body></html>\n");
    out
}

fn line(out: &mut String, row: &Row, margin: f64, reach: f64) {
    let [low, high] = row.ci95;
    push(
        out,
        format_args!(
            "<tr><td><b>{}</b> {} {}</td><td class=\"n\">{:.3}</td><td class=\"n\">{:.3}</td><td class=\"n\">{:+.1} % [{:+.1}, {:+.1}]</td><td>",
            escape(&row.test),
            escape(&row.latency),
            escape(&row.quantile),
            row.a_ms,
            row.b_ms,
            row.change * 100.0,
            low * 100.0,
            high * 100.0
        ),
    );
    let x = |change: f64| (change.clamp(-reach, reach) / reach + 1.0) / 2.0 * (WIDTH - 8.0) + 4.0;
    let upright = |class: &str, at: f64| {
        format!("<line class=\"{class}\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"0\" y2=\"{HEIGHT}\"/>")
    };
    push(
        out,
        format_args!(
            "<svg class=\"forest\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">{}{}<line class=\"trace\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{mid}\" y2=\"{mid}\"/><circle class=\"dot\" cx=\"{:.1}\" cy=\"{mid}\" r=\"3\"/></svg>",
            upright("zero", x(0.0)),
            upright("margin", x(margin)),
            x(low),
            x(high),
            x(row.change),
            mid = HEIGHT / 2.0
        ),
    );
    push(out, format_args!("</td><td><span class=\"cell {0}\">{0}</span></td></tr>", row.word.name()));
}
