//! The ring: dropped futures, more commands than entries, short files, the event.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shingle_hw::buffer::{Buffer, BufferPool};
use shingle_hw::ring::{Operation, Ring, block_on};

use crate::rig::pattern;

fn scratch() -> Rc<File> {
    Rc::new(tempfile::tempfile().expect("a file"))
}

#[test]
fn more_commands_than_entries_wait_in_order_and_all_end() {
    let ring = Ring::new(4).expect("a ring");
    let file = scratch();
    let writes: Vec<_> = (0..100u64)
        .map(|index| {
            let mut buffer = Buffer::new_unpooled(4096);
            buffer.fill(index as u8);
            ring.write_at(&file, index * 4096, buffer, 0..4096)
        })
        .collect();
    assert_eq!(ring.pending(), 100);
    for write in writes.into_iter().rev() {
        assert_eq!(block_on(&ring, write).0.expect("writes"), 4096);
    }
    assert_eq!(ring.pending(), 0);
    block_on(&ring, ring.sync_data(&file)).expect("syncs");
    let (outcome, buffer) = block_on(&ring, ring.read_at(&file, 0, Buffer::new_unpooled(100 * 4096), 0..100 * 4096));
    assert_eq!(outcome.expect("reads"), 100 * 4096);
    for (index, block) in (0u8..).zip(buffer.chunks(4096)) {
        assert!(block.iter().all(|byte| *byte == index));
    }
}

#[test]
fn dropped_futures_leave_their_buffers_with_the_ring_until_the_kernel_is_done() {
    let ring = Ring::new(4).expect("a ring");
    let pool = BufferPool::new(64 * 4096).expect("mapped");
    let file = scratch();
    for index in 0..64u64 {
        let mut buffer = pool.try_alloc(4096).expect("fits");
        buffer.fill(7);
        drop(ring.write_at(&file, index * 4096, buffer, 0..4096));
    }
    while ring.pending() > 0 {
        ring.wait();
    }
    assert_eq!(pool.used_bytes(), 0, "every buffer came back");
    assert_eq!(file.metadata().expect("exists").len(), 64 * 4096, "every write happened");
    assert_eq!(Rc::strong_count(&file), 1);
}

#[test]
fn a_ring_dropped_with_commands_in_flight_waits_for_them() {
    let pool = BufferPool::new(1 << 20).expect("mapped");
    let file = scratch();
    let ring = Ring::new(8).expect("a ring");
    for index in 0..32u64 {
        let buffer = pool.try_alloc(4096).expect("fits");
        drop(ring.write_at(&file, index * 4096, buffer, 0..4096));
    }
    drop(ring);
    assert_eq!(pool.used_bytes(), 0);
    assert_eq!(file.metadata().expect("exists").len(), 32 * 4096);
}

#[test]
fn a_read_past_the_end_is_short_and_a_bad_file_is_an_error() {
    let ring = Ring::new(4).expect("a ring");
    let file = scratch();
    let data = pattern(1, 6000);
    let mut buffer = Buffer::new_unpooled(8192);
    buffer[..6000].copy_from_slice(&data);
    assert_eq!(block_on(&ring, ring.write_at(&file, 0, buffer, 0..6000)).0.expect("writes"), 6000);
    let (outcome, buffer) = block_on(&ring, ring.read_at(&file, 0, Buffer::new_unpooled(16384), 4096..16384));
    assert_eq!(outcome.expect("reads"), 6000);
    assert_eq!(buffer[4096..10096], data);
    let unwritable = Rc::new(File::open("/proc/self/exe").expect("opens"));
    let (outcome, _) = block_on(&ring, ring.write_at(&unwritable, 0, Buffer::new_unpooled(4096), 0..4096));
    assert_eq!(outcome.expect_err("read-only").raw_os_error(), Some(9));
}

#[test]
fn holes_are_punched() {
    let ring = Ring::new(4).expect("a ring");
    let file = scratch();
    let mut buffer = Buffer::new_unpooled(3 * 4096);
    buffer.fill(1);
    block_on(&ring, ring.write_at(&file, 0, buffer, 0..3 * 4096)).0.expect("writes");
    block_on(&ring, ring.punch_hole(&file, 4096..8192)).expect("punches");
    let (outcome, buffer) = block_on(&ring, ring.read_at(&file, 0, Buffer::new_unpooled(3 * 4096), 0..3 * 4096));
    assert_eq!(outcome.expect("reads"), 3 * 4096);
    assert!(buffer[4096..8192].iter().all(|byte| *byte == 0));
    assert!(buffer[..4096].iter().chain(&buffer[8192..]).all(|byte| *byte == 1));
}

#[test]
fn the_event_is_readable_when_a_command_ended() {
    let ring = Ring::new(4).expect("a ring");
    let file = scratch();
    let sync = ring.sync_data(&file);
    let mut events = [0; 8];
    let event = ring.event_fd().as_fd().try_clone_to_owned().expect("a descriptor");
    use std::io::Read;
    File::from(event).read_exact(&mut events).expect("blocks until the command has ended");
    assert!(u64::from_ne_bytes(events) > 0);
    assert_eq!(ring.poll(), 1);
    block_on(&ring, sync).expect("syncs");
}

#[test]
fn a_muted_ring_signals_what_ended_when_it_is_unmuted() {
    let ring = Ring::new(4).expect("a ring");
    let file = scratch();
    let is_signalled = || {
        let event = ring.event_fd();
        let mut ready = [PollFd::new(&event, PollFlags::IN)];
        poll(&mut ready, Some(&Timespec::default())).expect("polls") == 1
    };
    // Whoever is woken outside the ring signals the event as well.
    let run_quietly = |sync: Operation| {
        block_on(&ring, sync).expect("syncs");
        while is_signalled() {
            rustix::io::read(ring.event_fd(), &mut [0; 8]).expect("a signal");
        }
    };
    ring.mute();
    let sync = ring.sync_data(&file);
    assert!(ring.completes_within(SECOND) && !is_signalled());
    ring.unmute();
    assert!(is_signalled(), "what ended before is made known");
    run_quietly(sync);
    ring.mute();
    run_quietly(ring.sync_data(&file));
    ring.unmute();
    assert!(!is_signalled(), "nothing was left");
    let sync = ring.sync_data(&file);
    assert!(ring.completes_within(SECOND) && is_signalled(), "and what comes later signals again");
    block_on(&ring, sync).expect("syncs");
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn small_reads_are_kept_back_until_uncork_and_nothing_else_is() {
    let ring = Ring::new(16).expect("a ring");
    let file = scratch();
    let write = |bytes: usize| ring.write_at(&file, 0, Buffer::new_unpooled(bytes), 0..bytes);
    let read = |bytes: usize| ring.read_at(&file, 0, Buffer::new_unpooled(bytes), 0..bytes);
    ring.cork();
    let (large, small) = (1 << 20, 4096);
    let written = write(large);
    assert!(ring.completes_within(SECOND), "a write goes at once");
    assert_eq!(block_on(&ring, written).0.expect("writes"), large);
    let first = read(small);
    assert!(ring.completes_within(SECOND), "a device that has nothing to do is not kept waiting for more");
    assert_eq!(block_on(&ring, first).0.expect("reads"), small);
    ring.uncork();

    let (pipe, end) = std::io::pipe().expect("a pipe");
    let pipe = Rc::new(File::from(OwnedFd::from(pipe)));
    let under_way = ring.read_at(&pipe, 0, Buffer::new_unpooled(small), 0..small);
    ring.cork();
    let read_large = read(large);
    assert!(ring.completes_within(SECOND), "a large read goes at once");
    assert_eq!(block_on(&ring, read_large).0.expect("reads"), large);
    let second = read(small);
    std::thread::sleep(Duration::from_millis(20));
    assert!(!ring.has_completions() && ring.pending() == 2, "one that has something to do is");
    ring.uncork();
    assert!(ring.completes_within(SECOND));
    assert_eq!(block_on(&ring, second).0.expect("reads"), small);
    drop(end);
    assert_eq!(block_on(&ring, under_way).0.expect("reads"), 0, "its end");
}

#[test]
fn tasks_end_whether_or_not_anybody_waits() {
    let ring = Ring::new(4).expect("a ring");
    let file = scratch();
    let done = Rc::new(std::cell::Cell::new(0));
    for wait in [true, false] {
        let (sync, done) = (ring.sync_data(&file), Rc::clone(&done));
        let again = (Rc::clone(&ring), Rc::clone(&file));
        let task = ring.spawn(async move {
            sync.await.expect("syncs");
            again.0.sync_data(&again.1).await.expect("syncs");
            done.set(done.get() + 1);
            done.get()
        });
        if wait {
            assert_eq!(block_on(&ring, task), 1);
        }
    }
    while ring.pending() > 0 {
        ring.wait();
    }
    assert_eq!(done.get(), 2);
}
