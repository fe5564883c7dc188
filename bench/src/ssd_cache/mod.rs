//! `shingle bench ssd-cache`: what a write-back staging SSD does to a host of many SMR disks, in virtual time.
//!
//! The product has no such SSD; this is the experiment that says what its absence costs and gains. The model's numbers
//! are in `parameters.rs`, fixed beforehand.

mod destage;
mod explain;
mod host;
pub mod parameters;
mod picture;
mod report;
mod stations;

pub use host::{Design, Point, simulate};
pub use parameters::Parameters;
pub use picture::to_html;
pub use report::{Comparison, SsdCacheReport};
pub use stations::Stations;

use self::parameters::{
    AVERAGE_SHARE, KEEPS_UP_P95_MS, KEEPS_UP_SHARE, PEAK_SHARE, READS_PER_DISK_S, SSD_WRITE_MB_S_HIGH,
    SSD_WRITE_MB_S_LOW, ssd,
};
use self::report::Variant;

/// Loads of the curves, as parts of the respective peak.
const CURVE: [f64; 12] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0];
/// Halvings of the interval that a peak is searched in: to 1/256 of it.
const PEAK_STEPS: u32 = 8;

/// Runs everything; minutes of one core, less with several.
pub fn run(seed: u64) -> SsdCacheReport {
    let default = Parameters::default();
    let variants = vec![
        Variant::new(
            "writes only",
            "every write durable on its disk's medium; nothing else on the disks",
            default.clone(),
        ),
        Variant::new(
            "writes and reads",
            "as before, while every disk serves reads of whole blocks",
            Parameters { reads_per_disk_s: READS_PER_DISK_S, ..default.clone() },
        ),
        Variant::new(
            "volatile acknowledgement",
            "direct writes answered from the drive's volatile cache, without a flush: this project never does it",
            Parameters { durable: false, ..default.clone() },
        ),
        Variant::new(
            "SSD of 15 Gbit/s",
            "the slow end of what is called typical",
            Parameters { ssd: ssd(SSD_WRITE_MB_S_LOW), ..default.clone() },
        ),
        Variant::new("SSD of 20 Gbit/s", "the fast end", Parameters { ssd: ssd(SSD_WRITE_MB_S_HIGH), ..default }),
    ];
    let comparisons = std::thread::scope(|scope| {
        let running: Vec<_> = variants.into_iter().map(|variant| scope.spawn(move || compare(variant, seed))).collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    SsdCacheReport { seed, comparisons }
}

/// Both designs under the same loads.
pub fn compare(variant: Variant, seed: u64) -> Comparison {
    let parameters = &variant.parameters;
    let staged_peak_mb_s = peak(parameters, Design::Staged, seed);
    let direct_peak_mb_s = peak(parameters, Design::Direct, seed);
    let curve = |design, peak_mb_s: f64| -> Vec<Point> {
        CURVE.iter().map(|share| simulate(parameters, design, share * peak_mb_s, seed)).collect()
    };
    let both = |share: f64| {
        let load = share * staged_peak_mb_s;
        (simulate(parameters, Design::Staged, load, seed), simulate(parameters, Design::Direct, load, seed))
    };
    let mut comparison = Comparison {
        explanations: Vec::new(),
        at_peak: both(PEAK_SHARE),
        at_average: both(AVERAGE_SHARE),
        staged: curve(Design::Staged, staged_peak_mb_s),
        direct: curve(Design::Direct, direct_peak_mb_s),
        staged_peak_mb_s,
        direct_peak_mb_s,
        variant,
    };
    comparison.explanations = explain::explain(&comparison);
    comparison
}

/// The highest load a host keeps up with, in 10^6 bytes a second.
pub fn peak(parameters: &Parameters, design: Design, seed: u64) -> f64 {
    let (mut low, mut high) = (0.0, bound_mb_s(parameters, design));
    for _ in 0..PEAK_STEPS {
        let load = (low + high) / 2.0;
        let point = simulate(parameters, design, load, seed);
        let keeps_up = point.acknowledged_mb_s >= KEEPS_UP_SHARE * point.offered_mb_s && point.p95_ms < KEEPS_UP_P95_MS;
        if keeps_up { low = load } else { high = load }
    }
    low
}

/// No host takes more than its network, nor more than what the bytes end on.
pub fn bound_mb_s(parameters: &Parameters, design: Design) -> f64 {
    use shingle_hw::model::profile::Media;
    let medium_mb_s = match (design, &parameters.ssd.media, &parameters.disk.media) {
        (Design::Staged, Media::Flash(flash), _) => flash.write_mb_s,
        (Design::Direct, _, Media::Disk(disk)) => disk.outer_mb_s * parameters.disks as f64,
        _ => f64::INFINITY,
    };
    medium_mb_s.min(parameters.network_mb_s)
}
