//! The model behind `shingle bench ssd-cache`: deterministic, and never better than queueing theory allows. What the
//! comparison answers is not tested: it is whatever the parameters say.

use shingle_bench::ssd_cache::parameters::ssd;
use shingle_bench::ssd_cache::{Design, Parameters, bound_mb_s, simulate};
use shingle_hw::model::profile::Media;

const BLOCK_MB: f64 = (4u64 << 20) as f64 / 1e6;

/// A tenth of a host for a few seconds.
fn small() -> Parameters {
    Parameters { disks: 10, warm_up_s: 2.0, measured_s: 8.0, ..Parameters::default() }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_one_another() {
    let parameters = Parameters { reads_per_disk_s: 5.0, ..small() };
    for design in [Design::Staged, Design::Direct] {
        let run = |seed| simulate(&parameters, design, 500.0, seed);
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }
}

#[test]
fn no_host_acknowledges_more_than_its_bottleneck_carries() {
    let parameters = small();
    for design in [Design::Staged, Design::Direct] {
        let bound = bound_mb_s(&parameters, design);
        let point = simulate(&parameters, design, 1.5 * bound, 1);
        let (acknowledged, offered) = (point.acknowledged_mb_s, point.offered_mb_s);
        assert!(offered > 1.4 * bound, "an open loop does not slow down: {offered}");
        assert!(acknowledged < 1.01 * bound, "{design:?}: {acknowledged} of {bound} MB/s");
        assert!(acknowledged > 0.2 * bound, "{design:?}: {acknowledged} of {bound} MB/s");
    }
}

#[test]
fn a_lonely_put_takes_its_service_time() {
    let parameters = small();
    let network_ms = BLOCK_MB / parameters.network_mb_s * 1e3;
    let staged = simulate(&parameters, Design::Staged, 10.0, 1);
    let wire_ms = network_ms + BLOCK_MB / parameters.ssd.interface.mb_s * 1e3;
    assert!((wire_ms..wire_ms + 0.1).contains(&staged.p50_ms), "{} of {wire_ms} ms", staged.p50_ms);

    let Media::Disk(disk) = &parameters.disk.media else { panic!("an SMR disk") };
    let direct = simulate(&parameters, Design::Direct, 10.0, 1);
    let least_ms = network_ms + BLOCK_MB / disk.outer_mb_s * 1e3;
    let turn_ms = 60e3 / disk.rpm;
    // Over the wire into the cache, the longest seek, a turn for each piece that goes from the cache to the medium.
    let pieces = (parameters.block_bytes as f64 / parameters.disk.cache.destage_bytes as f64).ceil() + 1.0;
    let longest_seek_ms = 2.0 * disk.seek_average_us / 1e3;
    let most_ms = network_ms
        + BLOCK_MB / parameters.disk.interface.mb_s * 1e3
        + longest_seek_ms
        + pieces * turn_ms
        + BLOCK_MB / disk.inner_mb_s * 1e3
        + 1.0;
    assert!((least_ms..most_ms).contains(&direct.p50_ms), "{} in {least_ms} .. {most_ms} ms", direct.p50_ms);
}

/// Poisson arrivals, one server, constant service: Pollaczek and Khinchine.
#[test]
fn the_staging_ssd_waits_as_its_queue_must() {
    let rate_mb_s = 2_000.0;
    let mut profile = ssd(rate_mb_s);
    profile.interface.mb_s = 1e6;
    let Media::Flash(flash) = &mut profile.media else { panic!("flash") };
    flash.buffer_bytes = 0;
    let parameters = Parameters {
        ssd: profile,
        network_mb_s: 1e6,
        destage_bytes: 1 << 60,
        staging_bytes: 1 << 60,
        warm_up_s: 5.0,
        measured_s: 100.0,
        ..small()
    };
    let service_ms = BLOCK_MB / rate_mb_s * 1e3;
    for load in [0.5, 0.8] {
        let point = simulate(&parameters, Design::Staged, load * rate_mb_s, 3);
        let expected_ms = service_ms + load * service_ms / (2.0 * (1.0 - load));
        let error = (point.mean_ms / expected_ms - 1.0).abs();
        assert!(error < 0.1, "load {load}: {} instead of {expected_ms} ms", point.mean_ms);
    }
}

#[test]
fn latency_grows_with_load() {
    let parameters = small();
    for design in [Design::Staged, Design::Direct] {
        let bound = bound_mb_s(&parameters, design);
        let p95 = [0.1, 0.4, 1.2].map(|share| simulate(&parameters, design, share * bound, 1).p95_ms);
        assert!(p95[0] <= p95[1] * 1.05 && p95[1] < p95[2], "{design:?}: {p95:?}");
    }
}

#[test]
fn each_station_is_as_busy_as_its_load_says() {
    let parameters = small();
    for design in [Design::Staged, Design::Direct] {
        let point = simulate(&parameters, design, 400.0, 1);
        let network = point.offered_mb_s / parameters.network_mb_s;
        assert!((point.stations.network / network - 1.0).abs() < 0.05, "{:?}", point.stations);
        let Media::Flash(flash) = &parameters.ssd.media else { panic!("flash") };
        let ssd = if design == Design::Staged { point.offered_mb_s / flash.write_mb_s } else { 0.0 };
        assert!((point.stations.ssd_flash - ssd).abs() < 0.02, "{:?}", point.stations);
        let Media::Disk(disk) = &parameters.disk.media else { panic!("an SMR disk") };
        let share_mb_s = point.acknowledged_mb_s / parameters.disks as f64;
        let transfer = share_mb_s / disk.outer_mb_s * 0.8..share_mb_s / disk.inner_mb_s * 1.2;
        assert!(transfer.contains(&point.stations.arms_transfer), "{transfer:?} {:?}", point.stations);
        assert!(point.stations.arms_positioning > 0.0);
    }
}
