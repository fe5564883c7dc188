//! Latencies: quantiles with their intervals, and a heat map over time.

use super::super::junit::{escape, push};
use super::super::latency::{Latency, row_ms};
use super::super::report::{Report, TestResult};
use super::number;
use super::plot::{BOTTOM, HEIGHT, LEFT, Scale, TOP, WIDTH, frame};

/// Every latency of a report.
pub(super) fn latencies(out: &mut String, report: &Report) {
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
            if let Some(ms) = quantile.ms {
                let text = format!("{:.3} ms [{:.3}, {:.3}]", ms.v, ms.ci95[0], ms.ci95[1]);
                push(out, format_args!("<tr><td>{}</td><td class=\"n\">{text}</td></tr>", escape(&quantile.name)));
            }
        }
        if let Some(first) = latency.quantiles.iter().find(|quantile| quantile.ms.is_none()) {
            let text = "<td class=\"n soft\">unresolved: fewer than 100 values beyond</td>";
            push(out, format_args!("<tr><td>{} and up</td>{text}</tr>", escape(&first.name)));
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
    let names = latency.quantiles.iter().filter(|quantile| quantile.ms.is_some()).map(|quantile| quantile.name.clone());
    let named = resolved.iter().map(|(x, _)| *x).zip(names);
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
