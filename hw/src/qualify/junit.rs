//! The report as JUnit XML, for continuous integration.

use std::fmt::Write;

use super::findings::Status;
use super::report::Report;

/// One test case per test; warnings pass, with their reason in the output.
pub fn render(report: &Report) -> String {
    let (failures, errors) = (report.count(Status::Fail), report.count(Status::Error));
    let skipped = report.count(Status::Skip) + report.count(Status::Na);
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let name = escape(&format!("{} {}", report.device.model, report.device.serial));
    let total = report.tests.len();
    push(
        &mut out,
        format_args!(
            "<testsuite name=\"{name}\" tests=\"{total}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\">\n"
        ),
    );
    for test in &report.tests {
        let title = escape(&format!("{} {}", test.id, test.title));
        let seconds = test.took_ms / 1e3;
        push(
            &mut out,
            format_args!(
                "  <testcase classname=\"qualify.{}\" name=\"{title}\" time=\"{seconds:.3}\">",
                section(&test.id)
            ),
        );
        let reason = escape(test.reason.as_deref().unwrap_or_default());
        match test.status {
            Status::Fail => push(&mut out, format_args!("<failure message=\"{reason}\"/>")),
            Status::Error => push(&mut out, format_args!("<error message=\"{reason}\"/>")),
            Status::Skip | Status::Na => push(&mut out, format_args!("<skipped message=\"{reason}\"/>")),
            Status::Warn => push(&mut out, format_args!("<system-out>warning: {reason}</system-out>")),
            Status::Pass => {}
        }
        out.push_str("</testcase>\n");
    }
    out.push_str("</testsuite>\n");
    out
}

fn section(id: &str) -> &str {
    id.get(..1).unwrap_or_default()
}

/// Appends to a text; that cannot fail.
pub(super) fn push(out: &mut String, text: std::fmt::Arguments) {
    out.write_fmt(text).unwrap_or_default();
}

/// Text for XML and HTML, in content and in attributes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(' '),
            control if control.is_control() => {}
            plain => out.push(plain),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_drive_breaks_out_of_its_attribute() {
        assert_eq!(escape("a<b>&\"c'\u{1}\n"), "a&lt;b&gt;&amp;&quot;c&#39; ");
    }
}
