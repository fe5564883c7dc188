//! Why a comparison came out as it did, and why not as published: sentences with numbers that follow from the parameters
//! and the simulated runs, none of them put in beforehand.

use super::host::Point;
use super::parameters::{
    PEAK_SHARE, Parameters, SEED_P95_AT_AVERAGE_PERCENT, SEED_P95_AT_PEAK_PERCENT, SEED_PEAK_RATIO,
};
use super::report::{Comparison, p95_change_percent};

/// The sentences.
pub(super) fn explain(comparison: &Comparison) -> Vec<String> {
    let (Some(staged), Some(direct)) = (comparison.staged.last(), comparison.direct.last()) else { return Vec::new() };
    let mut lines = vec![bounds(comparison, staged, direct), peak_ratio(comparison, direct)];
    if let (Some(lonely_staged), Some(lonely_direct)) = (comparison.staged.first(), comparison.direct.first()) {
        lines.push(at_peak(comparison, lonely_staged, lonely_direct));
        lines.push(at_average(comparison));
    }
    lines
}

fn percent(part: f64) -> String {
    format!("{:.0} %", 100.0 * part)
}

/// What each design ends on.
fn bounds(comparison: &Comparison, staged: &Point, direct: &Point) -> String {
    let (staged_by, staged_busy) = staged.stations.busiest();
    let (direct_by, direct_busy) = direct.stations.busiest();
    format!(
        "what bounds them at their own peaks: staged {staged_by}, {} busy (the disks' arms {}); direct {direct_by}, {} busy \
         (its arms {} of the time positioning, {} with bytes under the head; network {}). A disk gets {:.0} MB/s of it.",
        percent(staged_busy),
        percent(staged.stations.arms()),
        percent(direct_busy),
        percent(direct.stations.arms_positioning),
        percent(direct.stations.arms_transfer),
        percent(direct.stations.network),
        comparison.direct_peak_mb_s / comparison.variant.parameters.disks as f64,
    )
}

/// What would make the ratio of the peaks the published one.
fn peak_ratio(comparison: &Comparison, direct: &Point) -> String {
    let (low, high) = SEED_PEAK_RATIO;
    let ratio = comparison.peak_ratio();
    if (low..=high).contains(&ratio) {
        return format!("peak ratio {ratio:.2}: as published.");
    }
    let parameters = &comparison.variant.parameters;
    let (busiest, _) = direct.stations.busiest();
    let which = if ratio > high { "above" } else { "below" };
    let wanted_mb_s = |wanted: f64| wanted * comparison.staged_peak_mb_s;
    format!(
        "peak ratio {ratio:.2}, {which} the published {low}-{high}: direct ends on {busiest}, staged on the SSD's write rate, \
         whatever the disks could do. The published ratio is {:.1} to {:.1} GB/s direct, a host that gets {:.0} to {:.0} MB/s out of \
         each of its {} disks, or has so much network ({:.0} to {:.0} Gbit/s; here {:.0}).",
        wanted_mb_s(low) / 1e3,
        wanted_mb_s(high) / 1e3,
        wanted_mb_s(low) / parameters.disks as f64,
        wanted_mb_s(high) / parameters.disks as f64,
        parameters.disks,
        wanted_mb_s(low) / 125.0,
        wanted_mb_s(high) / 125.0,
        parameters.network_mb_s / 125.0,
    )
}

/// Waiting at the SSD against what a disk takes at least.
fn at_peak(comparison: &Comparison, lonely_staged: &Point, lonely_direct: &Point) -> String {
    let (staged, direct) = &comparison.at_peak;
    let change = p95_change_percent(&comparison.at_peak);
    let (low, high) = SEED_P95_AT_PEAK_PERCENT;
    let start = format!(
        "p95 at peak {change:+.0} %: with nobody else there, a put takes {:.1} ms staged and {:.1} ms direct (medians). At {} of \
         the staged peak {:.1} ms of its p95 are waiting for {} ({} busy); direct its arms are {} busy.",
        lonely_staged.p50_ms,
        lonely_direct.p50_ms,
        percent(PEAK_SHARE),
        staged.p95_ms - lonely_staged.p50_ms,
        staged.stations.busiest().0,
        percent(staged.stations.busiest().1),
        percent(direct.stations.arms()),
    );
    if (low..=high).contains(&change) {
        return start + " As published.";
    }
    let needed_ms = direct.p95_ms / (1.0 + (low + high) / 200.0);
    let blocks = |ms: f64| ms / 1e3 * comparison.staged_peak_mb_s / block_mb(&comparison.variant.parameters);
    let why = if needed_ms > staged.p95_ms {
        "burstier arrivals than this Poisson stream, an SSD that pauses, or more of its peak"
    } else {
        "less of its peak"
    };
    format!(
        "{start} The published {high} to {low} % goes with a staged p95 of {needed_ms:.0} ms, {:.0} blocks waiting instead of {:.0}: \
         {why}.",
        blocks(needed_ms),
        blocks(staged.p95_ms),
    )
}

/// A latency that both designs had and this model has not.
fn at_average(comparison: &Comparison) -> String {
    let (staged, direct) = &comparison.at_average;
    let change = p95_change_percent(&comparison.at_average);
    let (low, high) = SEED_P95_AT_AVERAGE_PERCENT;
    if (low..=high).contains(&change) {
        return format!("p95 at average load {change:+.0} %: as published.");
    }
    let more_ms = direct.p95_ms - staged.p95_ms;
    let parameters = &comparison.variant.parameters;
    let ends = if parameters.durable {
        format!("on the medium of a disk (positioning, {:.1} MB under the head)", block_mb(parameters))
    } else {
        format!("behind a disk's wire of {:.0} MB/s", parameters.disk.interface.mb_s)
    };
    let start = format!(
        "p95 at average load {change:+.0} %: direct takes {more_ms:+.1} ms, because a put ends {ends} and not on an SSD whose wire \
         takes {:.0} MB/s.",
        parameters.ssd.interface.mb_s
    );
    if change < high {
        return start;
    }
    // (direct + x) / (staged + x) = 1 + published
    let common_ms = |published: f64| more_ms / (published / 100.0) - staged.p95_ms;
    format!(
        "{start} It is the published {low} to {high} % of a request in which {:.0} to {:.0} ms are common to both designs: what \
         comes before and after the disk (client, frontend, the slowest of several copies) is not in this model.",
        common_ms(high),
        common_ms(low),
    )
}

fn block_mb(parameters: &Parameters) -> f64 {
    parameters.block_bytes as f64 / 1e6
}
