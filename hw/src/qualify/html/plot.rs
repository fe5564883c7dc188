//! Pictures of values over values: axes, lines, dots.

use super::super::findings::Curve;
use super::super::junit::{escape, push};
use super::super::report::{Report, TestResult};
use super::ticks;

pub(super) const WIDTH: f64 = 360.0;
pub(super) const HEIGHT: f64 = 200.0;
pub(super) const LEFT: f64 = 52.0;
pub(super) const BOTTOM: f64 = 34.0;
pub(super) const TOP: f64 = 10.0;

/// Every curve of a report.
pub(super) fn curves(out: &mut String, report: &Report) {
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
pub(super) struct Scale {
    pub x: (f64, f64),
    pub y: (f64, f64),
}

impl Scale {
    pub fn of(points: &[(f64, f64)]) -> Self {
        let span = |values: &mut dyn Iterator<Item = f64>| {
            let (low, high) =
                values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
            (low, high)
        };
        let (left, right) = span(&mut points.iter().map(|(x, _)| *x));
        let (low, high) = span(&mut points.iter().map(|(_, y)| *y));
        // Zero is always there, and room above the highest value.
        let (low, high) = (low.min(0.0), high.max(0.0) * 1.05);
        Self {
            x: if right > left { (left, right) } else { (left - 0.5, right + 0.5) },
            y: if high > low { (low, high) } else { (low, low + 1.0) },
        }
    }

    pub fn x(&self, value: f64) -> f64 {
        LEFT + (value - self.x.0) / (self.x.1 - self.x.0) * (WIDTH - LEFT - 12.0)
    }

    pub fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (value - self.y.0) / (self.y.1 - self.y.0) * (HEIGHT - BOTTOM - TOP)
    }
}

/// Opens a picture with its axes.
pub(super) fn frame(out: &mut String, scale: &Scale, x: &str, y: &str, x_ticks: &[(f64, String)]) {
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
