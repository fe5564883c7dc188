//! Writers and slow flushes: who shares one.

use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use shingle_hw::faulty::{CommandKind, FaultyDevice};

use crate::rig;
use crate::rig::{block, memory, new_extent, put, start};

const RECORDS_EACH: u64 = 5;
const WRITERS: u64 = 16;

/// Flushes of writers who each wait for their records one by one, half of them parted from the others at first. A flush
/// takes 80 ms, an append as given.
fn flushes_of_parted_writers(append: Duration) -> u64 {
    rig::run(async move |world| {
        let tasks = world.tasks.clone();
        let sleep = Rc::new(move |duration: Duration| tasks.sleep(duration));
        let device = Rc::new(FaultyDevice::new(Rc::new(memory()), sleep, 1));
        let faults = device.faults();
        let osd = start(&world, device).await.unwrap().osd;
        osd.create_extent(new_extent(1)).await.unwrap();
        let before = faults.seen(CommandKind::Flush);
        faults.set_delay(CommandKind::Flush, Some(Duration::from_millis(80)..=Duration::from_millis(80)));
        faults.set_delay(CommandKind::Append, Some(append..=append));
        let writers = (0..WRITERS).map(|writer| {
            let (osd, tasks) = (osd.clone(), world.tasks.clone());
            async move {
                // Half of them come while the flush of the others runs.
                tasks.sleep((append + Duration::from_millis(40)) * (writer % 2) as u32).await;
                for number in 0..RECORDS_EACH {
                    put(&osd, 1, block(writer * RECORDS_EACH + number, 2000)).await.unwrap();
                }
            }
        });
        join_all(writers).await;
        faults.seen(CommandKind::Flush) - before
    })
}

#[test]
fn writers_whom_a_slow_flush_has_parted_share_flushes_again() {
    let flushes = flushes_of_parted_writers(Duration::ZERO);
    assert!(flushes < 2 * RECORDS_EACH - 1, "{flushes} flushes: one for each half of the writers");
}

#[test]
fn appends_that_take_as_long_as_a_flush_do_not_part_them() {
    let flushes = flushes_of_parted_writers(Duration::from_millis(70));
    assert!(flushes < 2 * RECORDS_EACH - 1, "{flushes} flushes: one for each half of the writers");
}
