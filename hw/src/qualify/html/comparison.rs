//! A comparison as one HTML file: every quantile with its interval beside the margin.
//!
//! Invariant: every value says whose it is where it stands: a narrow screen shows no line of headings.

use super::super::diff::{Comparison, Row, Word};
use super::super::junit::{escape, push};
use super::head;

const WIDTH: f64 = 160.0;
const HEIGHT: f64 = 18.0;
/// Least and most that the pictures show to either side.
const REACH: [f64; 2] = [0.2, 1.0];

/// Of the columns with values; each value carries its own for narrow screens.
const HEADINGS: [&str; 3] = ["A, ms", "B, ms", "change, with 95 %"];

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
    let [a, b, change] = HEADINGS;
    push(
        &mut out,
        format_args!(
            "<h2>Latencies</h2><table class=\"tests\"><tr><th>latency</th><th class=\"n\">{a}</th><th class=\"n\">{b}</th><th class=\"n\">{change}</th><th>beside the margin</th><th>B is</th></tr>"
        ),
    );
    let farthest = found.rows.iter().flat_map(|row| row.ci95).map(f64::abs).fold(0.0, f64::max);
    let reach = farthest.clamp(REACH[0], REACH[1]);
    found.rows.iter().for_each(|row| line(&mut out, row, found.margin, reach));
    out.push_str("</table></body></html>\n");
    out
}

fn line(out: &mut String, row: &Row, margin: f64, reach: f64) {
    let [low, high] = row.ci95;
    let [a, b, change] = HEADINGS;
    push(
        out,
        format_args!(
            "<tr><td><b>{}</b> {} {}</td><td class=\"n\" data-heading=\"{a}\">{:.3}</td><td class=\"n\" data-heading=\"{b}\">{:.3}</td><td class=\"n\" data-heading=\"{change}\">{:+.1} % [{:+.1}, {:+.1}]</td><td>",
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
            "<svg class=\"forest\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"change of {:+.1} %, margin of {:+.0} %\">{}{}<line class=\"trace\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{mid}\" y2=\"{mid}\"/><circle class=\"dot\" cx=\"{:.1}\" cy=\"{mid}\" r=\"3\"/></svg>",
            row.change * 100.0,
            margin * 100.0,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_says_whose_it_is_where_it_stands() {
        let row = Row {
            test: "P-03".to_owned(),
            latency: "read <4 KiB>".to_owned(),
            quantile: "p95".to_owned(),
            a_ms: 4.25,
            b_ms: 5.5,
            change: 0.294,
            ci95: [0.2, 0.4],
            word: Word::Worse,
        };
        let rows = vec![row.clone(), row];
        let found = Comparison { margin: 0.1, drives: [1, 1], this_pair_only: true, rows, statuses: Vec::new() };
        let page = render(&found);
        for labelled in [
            "data-heading=\"A, ms\">4.250</td>",
            "data-heading=\"B, ms\">5.500</td>",
            "data-heading=\"change, with 95 %\">+29.4 % [+20.0, +40.0]</td>",
        ] {
            assert_eq!(page.matches(labelled).count(), 2, "{labelled}: {page}");
        }
        let narrow = page.split("@media(max-width:640px)").nth(1).expect("narrow screens have rules of their own");
        assert!(narrow.contains("td[data-heading]::before{content:attr(data-heading)"), "{narrow}");
        assert!(page.contains("read &lt;4 KiB&gt;"), "what a drive says is escaped");
    }
}
