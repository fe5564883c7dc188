//! Twenty seconds of fuzzing for every decoder of disks, side by side; longer by hand with `shingle-tests fuzz`.

use std::time::Duration;

use shingle_tests::fuzz::command::{describe, fuzz_all};
use shingle_tests::fuzz::memory::{Counting, asked_bytes};
use shingle_tests::fuzz::run::{Bounds, fuzz};
use shingle_tests::fuzz::targets::{TARGETS, Target};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn no_bytes_on_a_disk_make_a_decoder_panic_or_allocate_without_bound() {
    let targets: Vec<&Target> = TARGETS.iter().collect();
    let bounds = Bounds { time: Duration::from_secs(20), cases: u64::MAX };
    for (target, report) in fuzz_all(&targets, 1, bounds) {
        let said = describe(target, &report, 1);
        println!("{said}");
        assert!(report.failure.is_none(), "{said}");
        assert!(report.outcomes.len() >= 4, "only these outcomes were reached: {:?}", report.outcomes);
        assert!(report.outcomes.iter().any(|outcome| outcome.contains("Ok")), "{}: nothing was accepted", target.name);
    }
}

#[test]
fn planted_defects_are_found() {
    let bounds = Bounds { time: Duration::from_secs(60), cases: u64::MAX };
    let trusting = Target {
        decode: |bytes| {
            let count = bytes.get(44..48).map_or(0, |at| u32::from_le_bytes([at[0], at[1], at[2], at[3]]));
            format!("{}", Vec::<u64>::with_capacity(count.min(1 << 24) as usize).capacity() > 0)
        },
        ..TARGETS[4]
    };
    let failure = fuzz(&trusting, 1, bounds).failure.expect("a count that is trusted is found");
    assert!(failure.1.contains("bytes of memory"), "{}", failure.1);
    let careless = Target { decode: |bytes| format!("{}", bytes[10] == 77 && bytes[4096] == 0), ..TARGETS[0] };
    let failure = fuzz(&careless, 1, bounds).failure.expect("an index that is not checked is found");
    assert!(failure.1.contains("panic"), "{}", failure.1);
    assert!(asked_bytes() > 0, "this program counts what it allocates");
}
