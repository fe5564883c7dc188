//! Hedged reads before a gateway has learned what is slow: the disks' profiles tell it.

use std::time::Duration;

use shingle_tests::profile::hedge::{family, first_reads};

#[test]
fn profiles_of_the_disks_say_when_the_first_reads_are_late() {
    let (mut with_slowest, mut without_slowest) = (Duration::ZERO, Duration::ZERO);
    for seed in 1..=4 {
        let slowest = |reads: Vec<Duration>| reads.into_iter().max().unwrap_or_default();
        with_slowest = with_slowest.max(slowest(first_reads(seed, Some(family()))));
        without_slowest = without_slowest.max(slowest(first_reads(seed, None)));
    }
    assert!(without_slowest >= Duration::from_millis(100), "the default waits for so long: {without_slowest:?}");
    assert!(with_slowest < Duration::from_millis(90), "{with_slowest:?} with profiles");
}
