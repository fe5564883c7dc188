//! The driver against a controller in this process: queues that wrap, commands that never end, devices that die.

use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::controller::{Controller, ControllerError};
use super::dma::Dma;
use super::engine::{Engine, Patience, Queues};
use super::fake::{Fake, READ, WRITE, content};
use crate::backend::nvme::{Ended, Transport};
use crate::buffer::{Buffer, BufferPool};
use crate::ring::{NvmeAnswer, NvmeCommand, Ring, block_on};

const SECTOR: usize = 4096;
const TRANSFER_BYTES_MAX: usize = 4 << 20;
const FLUSH: u8 = 0;

struct Rig {
    fake: Fake,
    ring: Rc<Ring>,
    pool: BufferPool,
    queues: Queues,
}

/// Patience for tests: the ring looks every 250 ms at most, so nothing is faster than that.
fn short() -> Patience {
    let instant = Duration::from_millis(20);
    Patience { command: instant, abort: instant, look: Duration::from_millis(1) }
}

impl Rig {
    fn with(patience: Patience) -> Self {
        let (fake, ring) = (Fake::default(), Ring::new(8).expect("a ring"));
        let pool = BufferPool::new(16 << 20).expect("mapped");
        let dma = Rc::new(Dma::new(Box::new(fake.clone()), 0..1 << 39));
        dma.map_pool(&pool).expect("maps");
        let mut controller = Controller::enable(Rc::new(fake.clone()), Rc::clone(&dma)).expect("enables");
        let queue = controller.create_queue(256).expect("creates");
        assert_eq!(queue.entries(), 8, "no more than the controller has");
        let engine = Engine::start(controller, queue, dma, Rc::clone(&ring), TRANSFER_BYTES_MAX, patience);
        Self { fake, ring, pool, queues: Queues(engine.expect("starts")) }
    }

    fn new() -> Self {
        Self::with(Patience::default())
    }

    fn submit(
        &self,
        opcode: u8,
        sector: u32,
        data: Option<(Buffer, Range<usize>)>,
    ) -> impl Future<Output = Ended> + 'static {
        let sectors = data.as_ref().map_or(1, |(_, bytes)| bytes.len() / SECTOR) as u32;
        self.queues.submit(NvmeCommand::new(opcode, 1, [sector, 0, sectors - 1, 0, 0, 0]), data)
    }

    fn read(&self, sector: u32, sectors: usize) -> impl Future<Output = Ended> + 'static {
        let bytes = sectors * SECTOR;
        self.submit(READ, sector, Some((self.pool.try_alloc(bytes).expect("fits"), 0..bytes)))
    }

    fn errno(&self, ended: impl Future<Output = Ended>) -> Option<i32> {
        block_on(&self.ring, ended).0.expect_err("fails").raw_os_error()
    }
}

fn expected(sector: u32, sectors: usize) -> Vec<u8> {
    (sector..).take(sectors).flat_map(content).collect()
}

#[test]
fn queues_wrap_many_times_and_commands_beyond_them_wait() {
    let rig = Rig::new();
    let sizes = [1usize, 2, 3, 1, 7];
    let commands: Vec<_> = (0u32..100).map(|index| rig.read(index * 10, sizes[index as usize % 5])).collect();
    assert_eq!(rig.ring.pending(), 100);
    for (index, command) in (0u32..).zip(commands) {
        let (answer, buffer) = block_on(&rig.ring, command);
        assert_eq!(answer.expect("reads"), NvmeAnswer { status: 0, result: u64::from(index * 10) });
        let sectors = sizes[index as usize % 5];
        assert_eq!(&buffer.expect("comes back")[..sectors * SECTOR], expected(index * 10, sectors), "command {index}");
    }
    assert_eq!(rig.ring.pending(), 0);
}

#[test]
fn transfers_use_lists_of_several_pages_and_buffers_from_anywhere() {
    let rig = Rig::new();
    let (answer, buffer) = block_on(&rig.ring, rig.read(7, 1024));
    assert_eq!(answer.expect("reads").status, 0);
    assert_eq!(buffer.expect("comes back")[..], expected(7, 1024));
    let reachable = rig.fake.reachable();
    let mut buffer = Buffer::new_unpooled(3 * SECTOR);
    buffer.iter_mut().zip(0u8..=250).for_each(|(byte, value)| *byte = value);
    let mine = buffer[SECTOR..].to_vec();
    let (answer, _) = block_on(&rig.ring, rig.submit(WRITE, 90, Some((buffer, SECTOR..3 * SECTOR))));
    assert_eq!(answer.expect("writes").status, 0);
    assert_eq!(rig.fake.written(90).as_deref(), mine.get(..SECTOR));
    assert_eq!(rig.fake.written(91).as_deref(), mine.get(SECTOR..));
    assert_eq!(rig.fake.reachable(), reachable, "the buffer was taken back");
    let large = Buffer::new_unpooled(TRANSFER_BYTES_MAX + SECTOR);
    let bytes = 0..large.len();
    assert_eq!(rig.errno(rig.submit(READ, 0, Some((large, bytes)))), Some(libc::EINVAL));
}

#[test]
fn completions_in_any_order_find_their_commands() {
    let rig = Rig::new();
    rig.fake.behave(|manner| manner.holds = true);
    let commands: Vec<_> = (0u32..7).map(|index| rig.read(index, 1)).collect();
    let held = rig.fake.held();
    assert_eq!(held.len(), 7);
    for (index, found) in held.iter().enumerate().rev() {
        rig.fake.end(found, if index == 3 { 0x4281 } else { 0 });
    }
    for (index, command) in (0u32..).zip(commands) {
        let (answer, buffer) = block_on(&rig.ring, command);
        let status = if index == 3 { 0x4281 } else { 0 };
        assert_eq!(answer.expect("answers"), NvmeAnswer { status, result: u64::from(index) });
        assert!(status != 0 || buffer.expect("comes back")[..SECTOR] == expected(index, 1));
    }
}

#[test]
fn a_command_that_nobody_waits_for_happens_and_keeps_its_memory_until_then() {
    let rig = Rig::new();
    rig.fake.behave(|manner| manner.holds = true);
    drop(rig.read(5, 4));
    assert_eq!(rig.pool.used_bytes(), 4 * SECTOR);
    rig.fake.end(&rig.fake.held()[0], 0);
    assert_eq!((rig.ring.poll(), rig.pool.used_bytes()), (1, 0));
}

#[test]
fn a_command_that_takes_too_long_is_aborted_and_the_others_go_on() {
    let rig = Rig::with(short());
    rig.fake.behave(|manner| manner.holds = true);
    let slow = rig.read(1, 1);
    let answer = block_on(&rig.ring, slow).0.expect("answers");
    assert_eq!(answer.status, 0x0007, "aborted");
    rig.fake.behave(|manner| manner.holds = false);
    assert_eq!(block_on(&rig.ring, rig.read(2, 1)).0.expect("reads").status, 0);
    assert_eq!(rig.fake.seen().iter().filter(|opcode| **opcode == 0x108).count(), 1);
}

/// Holds commands, lets the device die, and checks that everything ends and that it reaches no memory any more.
fn dies(patience: Patience, errno: i32, die: impl FnOnce(&Fake)) {
    let rig = Rig::with(patience);
    rig.fake.behave(|manner| manner.holds = true);
    let commands: Vec<_> = (0u32..20).map(|index| rig.read(index, 1)).collect();
    let flush = rig.submit(FLUSH, 0, None);
    die(&rig.fake);
    let since = Instant::now();
    for command in commands {
        let (outcome, buffer) = block_on(&rig.ring, command);
        assert_eq!(outcome.expect_err("fails").raw_os_error(), Some(errno));
        assert!(buffer.is_some(), "buffers come back");
    }
    assert_eq!(rig.errno(flush), Some(errno));
    assert!(since.elapsed() < Duration::from_secs(10));
    assert_eq!(rig.fake.reachable(), 0);
    let seen = rig.fake.seen();
    for opcode in [READ, FLUSH] {
        assert_eq!(rig.errno(rig.submit(opcode, 0, None)), Some(errno), "it stays dead");
    }
    assert_eq!(rig.fake.seen(), seen, "nothing is tried again");
    assert_eq!((rig.ring.pending(), rig.pool.used_bytes()), (0, 0));
}

#[test]
fn a_device_that_ignores_aborts_is_cut_off() {
    dies(short(), libc::ETIMEDOUT, |fake| fake.behave(|manner| manner.ignores_aborts = true));
}

#[test]
fn a_device_that_is_gone_is_found_out() {
    dies(Patience::default(), libc::ENODEV, |fake| fake.behave(|manner| manner.gone = true));
}

#[test]
fn a_controller_with_a_fatal_status_ends_the_device() {
    dies(Patience::default(), libc::EIO, |fake| fake.behave(|manner| manner.fatal = true));
}

#[test]
fn a_controller_that_somebody_reset_ends_the_device() {
    dies(Patience::default(), libc::EIO, |fake| fake.behave(|manner| manner.was_reset = true));
}

#[test]
fn a_completion_of_no_command_ends_the_device() {
    dies(Patience::default(), libc::EPROTO, |fake| fake.end_number(4711));
}

#[test]
fn buffers_that_cannot_be_taken_back_are_left_to_the_device() {
    let rig = Rig::new();
    rig.fake.behave(|manner| {
        manner.holds = true;
        manner.keeps_memory = true;
    });
    let command = rig.read(0, 2);
    rig.fake.behave(|manner| manner.fatal = true);
    let (outcome, buffer) = block_on(&rig.ring, command);
    assert!(outcome.is_err() && buffer.is_some_and(|buffer| buffer.len() == 2 * SECTOR));
    assert_eq!(rig.pool.used_bytes(), 2 * SECTOR, "the pool hands that memory out to nobody");
}

#[test]
fn a_device_is_left_shut_down_and_with_nothing_in_reach() {
    let rig = Rig::new();
    block_on(&rig.ring, rig.submit(FLUSH, 0, None)).0.expect("flushes");
    let Rig { fake, queues, .. } = rig;
    assert!(fake.is_enabled());
    drop(queues);
    assert!(!fake.is_enabled());
    let seen = fake.seen();
    assert_eq!(seen[seen.len() - 2..], [0x100, 0x104], "queues are deleted in order");
    assert_eq!(fake.reachable(), 0);
}

#[test]
fn a_controller_that_does_not_get_ready_is_refused() {
    let enable = |change: fn(&mut super::fake::Manner)| {
        let fake = Fake::default();
        fake.behave(change);
        let dma = Rc::new(Dma::new(Box::new(fake.clone()), 0..1 << 39));
        Controller::enable(Rc::new(fake), dma).map(|_| ()).expect_err("refused")
    };
    assert!(matches!(enable(|manner| manner.never_ready = true), ControllerError::Late { what: "enabling", .. }));
    assert!(matches!(enable(|manner| manner.gone = true), ControllerError::Gone));
    assert!(matches!(enable(|manner| manner.fatal = true), ControllerError::Fatal));
}
