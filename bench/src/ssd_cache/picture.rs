//! A self-contained page with the throughput-latency curves: one SVG per set of parameters, latency on a logarithmic
//! axis, and the report as text below.

use std::fmt::Write;

use super::host::Point;
use super::report::{Comparison, SsdCacheReport};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 45.0;
/// Latencies shown, in milliseconds.
const MS_MIN: f64 = 0.5;
const MS_MAX: f64 = 1_000.0;
const STAGED: &str = "#c2410c";
const DIRECT: &str = "#1d4ed8";

/// The page.
pub fn to_html(report: &SsdCacheReport) -> String {
    let mut html = String::from(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Staging SSD or direct writes</title>\n\
         <style>body{font:14px sans-serif;max-width:960px;margin:2em auto;color:#222}pre{white-space:pre-wrap}\
         text{font:12px sans-serif;fill:#444}h2{margin-bottom:0}</style>\n\
         <h1>A staging SSD in front of SMR disks, or direct writes</h1>\n\
         <p>Latency of durable puts over the throughput of one host, in virtual time. Solid: p95, dashed: p50.</p>\n",
    );
    for comparison in &report.comparisons {
        html.push_str(&panel(comparison));
    }
    let _ = writeln!(html, "<pre>{}</pre>\n</html>", escape(&report.to_string())); // a String takes everything
    html
}

fn panel(comparison: &Comparison) -> String {
    let most_mb_s = comparison.direct_peak_mb_s.max(comparison.staged_peak_mb_s).max(1.0);
    let step = nice_step(most_mb_s / 1e3 / 6.0);
    let most = (most_mb_s / 1e3 / step).ceil() * step;
    let x = |gb_s: f64| LEFT + gb_s / most * (WIDTH - LEFT - RIGHT);
    let mut svg = format!(
        "<h2>{}</h2><p>{}</p>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">\n",
        escape(comparison.variant.name),
        escape(comparison.variant.what)
    );
    for ms in [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0] {
        let at = y(ms);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{ms} ms</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
    }
    let mut gb_s = 0.0;
    while gb_s <= most + step / 2.0 {
        let label = format!("{gb_s:.1}");
        let at = x(gb_s);
        let _ = writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            HEIGHT - BOTTOM + 18.0
        );
        gb_s += step;
    }
    let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">GB/s acknowledged</text>", WIDTH / 2.0, HEIGHT - 8.0);
    for (name, colour, points, row) in
        [("staging SSD", STAGED, &comparison.staged, 0.0), ("direct", DIRECT, &comparison.direct, 1.0)]
    {
        svg.push_str(&line(points, colour, "", &x, |point| point.p95_ms));
        svg.push_str(&line(points, colour, "5 4", &x, |point| point.p50_ms));
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" style=\"fill:{colour}\">{name}</text>",
            LEFT + 10.0 + 100.0 * row,
            TOP - 12.0
        );
    }
    svg + "</svg>\n"
}

fn y(ms: f64) -> f64 {
    let part = (ms.clamp(MS_MIN, MS_MAX) / MS_MIN).ln() / (MS_MAX / MS_MIN).ln();
    HEIGHT - BOTTOM - part * (HEIGHT - BOTTOM - TOP)
}

fn line(points: &[Point], colour: &str, dashes: &str, x: &impl Fn(f64) -> f64, ms: impl Fn(&Point) -> f64) -> String {
    let places: Vec<String> =
        points.iter().map(|point| format!("{:.1},{:.1}", x(point.acknowledged_mb_s / 1e3), y(ms(point)))).collect();
    format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>\n",
        places.join(" ")
    )
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn nice_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= least).unwrap_or(power)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!(nice_step(0.3), 0.5);
        assert_eq!(nice_step(1.4), 2.0);
        assert_eq!(nice_step(6.0), 10.0);
    }

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("a<b & c>d"), "a&lt;b &amp; c&gt;d");
    }
}
