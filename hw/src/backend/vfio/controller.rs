//! A controller: made ready, asked, given an I/O queue, shut down (NVM Express base 2.0, chapters 3.5, 3.6 and 5).
//!
//! Everything here blocks but `abort`, `collect`, `condition` and `stop`, which are for the time when commands run.
//! Invariant: whatever the controller was doing before `enable` has ended when that returns.

use std::io;
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::dma::Dma;
use super::memory::Memory;
use super::queue::{Completion, QueuePair, Submission};
use super::registers::{
    ADMIN_COMPLETIONS, ADMIN_QUEUES, ADMIN_SUBMISSIONS, ALL_COMMAND_SETS, CAPABILITIES, CONFIGURATION, Capabilities,
    ENABLE, ENTRY_SIZES, FATAL, GONE, READY, Registers, SHUTDOWN, SHUTDOWN_DONE, SHUTDOWN_STATE, STATUS, read_wide,
    write_wide,
};
use crate::backend::nvme::Query;

const DELETE_SUBMISSIONS: u8 = 0x00;
const CREATE_SUBMISSIONS: u8 = 0x01;
const DELETE_COMPLETIONS: u8 = 0x04;
const CREATE_COMPLETIONS: u8 = 0x05;
const ABORT: u8 = 0x08;
const SET_FEATURES: u8 = 0x09;
const GET_FEATURES: u8 = 0x0a;

const NUMBER_OF_QUEUES: u32 = 0x07;
const COMMAND_SET_PROFILE: u32 = 0x19;

/// Identify: combinations of command sets, of the controller that is asked.
const COMBINATIONS: u32 = 0x1c | 0xffff << 16;
/// Bits of a combination: the NVM and the zoned command set.
const NVM_AND_ZONED: u8 = 0b101;

/// Queue flags: contiguous; completions interrupt.
const CONTIGUOUS: u32 = 1;
const INTERRUPTING: u32 = 2;

/// Entries of the admin queue: one command at a time, and aborts.
const ADMIN_ENTRIES: u16 = 16;
/// The only I/O queue.
pub(super) const IO_QUEUE: u16 = 1;
const ANSWER_BYTES: usize = 4096;
/// How long an admin command may take; none of those used here does any work.
const ADMIN_WITHIN: Duration = Duration::from_secs(10);
/// How long a shutdown may take; the volatile cache is written out meanwhile.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_micros(200);

/// What is wrong with a controller.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControllerError {
    #[error("the controller does not answer any more: it is gone")]
    Gone,
    #[error("the controller reports a fatal status")]
    Fatal,
    #[error("somebody else reset the controller")]
    Reset,
    #[error("the controller has no {0}")]
    Lacks(&'static str),
    #[error("{what} took more than {} ms", within.as_millis())]
    Late { what: &'static str, within: Duration },
    #[error("{what} was answered with NVMe status {status:#x}")]
    Status { what: &'static str, status: u16 },
    #[error("memory for the device: {0} (locked memory may be limited: ulimit -l, LimitMEMLOCK)")]
    Memory(io::Error),
}

/// An enabled controller.
pub(super) struct Controller {
    registers: Rc<dyn Registers>,
    dma: Rc<Dma>,
    capabilities: Capabilities,
    admin: QueuePair,
    answer: Memory,
    next: u16,
}

impl Controller {
    /// Resets a controller and makes it ready for admin commands.
    pub(super) fn enable(registers: Rc<dyn Registers>, dma: Rc<Dma>) -> Result<Self, ControllerError> {
        let raw = read_wide(&*registers, CAPABILITIES);
        if raw == u64::MAX {
            return Err(ControllerError::Gone);
        }
        let capabilities = Capabilities::parse(raw);
        if !capabilities.command_sets {
            return Err(ControllerError::Lacks("command sets but the first: no zones"));
        }
        if !capabilities.small_pages {
            return Err(ControllerError::Lacks("pages of 4 KiB"));
        }
        let entries = ADMIN_ENTRIES.min(capabilities.entries_max.min(u16::MAX.into()) as u16);
        let admin = QueuePair::new(&registers, &dma, &capabilities, 0, entries).map_err(ControllerError::Memory)?;
        let answer = Memory::new(&dma, ANSWER_BYTES).map_err(ControllerError::Memory)?;
        let controller = Self { registers, dma, capabilities, admin, answer, next: 0 };
        controller.disable()?;
        let registers = &*controller.registers;
        registers.write(ADMIN_QUEUES, u32::from(entries - 1) | u32::from(entries - 1) << 16);
        write_wide(registers, ADMIN_SUBMISSIONS, controller.admin.submissions_iova());
        write_wide(registers, ADMIN_COMPLETIONS, controller.admin.completions_iova());
        registers.write(CONFIGURATION, ENTRY_SIZES | ALL_COMMAND_SETS | ENABLE);
        controller.await_status("enabling", READY | FATAL, READY, capabilities.ready_within)?;
        Ok(controller)
    }

    /// Resets the controller: no command is under way afterwards, and it touches no memory.
    fn disable(&self) -> Result<(), ControllerError> {
        let configuration = self.registers.read(CONFIGURATION);
        if configuration & ENABLE != 0 {
            self.registers.write(CONFIGURATION, configuration & !ENABLE);
        }
        self.await_status("disabling", READY, 0, self.capabilities.ready_within)
    }

    fn await_status(&self, what: &'static str, mask: u32, value: u32, within: Duration) -> Result<(), ControllerError> {
        let since = Instant::now();
        loop {
            let status = self.registers.read(STATUS);
            if status == GONE {
                return Err(ControllerError::Gone);
            }
            if status & mask == value {
                return Ok(());
            }
            // A controller that failed before it is reset says so until it is.
            if status & mask & FATAL != 0 {
                return Err(ControllerError::Fatal);
            }
            if since.elapsed() > within {
                return Err(ControllerError::Late { what, within });
            }
            sleep(PAUSE);
        }
    }

    /// Whether the controller still works.
    pub(super) fn condition(&self) -> Result<(), ControllerError> {
        match self.registers.read(STATUS) {
            GONE => Err(ControllerError::Gone),
            status if status & FATAL != 0 => Err(ControllerError::Fatal),
            status if status & READY == 0 => Err(ControllerError::Reset),
            _ => Ok(()),
        }
    }

    /// Runs one admin command; the first word of the answer.
    fn ask(&mut self, what: &'static str, submission: Submission) -> Result<u32, ControllerError> {
        let command = self.post(submission);
        let since = Instant::now();
        loop {
            match self.collect() {
                Some(completion) if completion.command != command => {}
                Some(Completion { status: 0, result, .. }) => return Ok(result as u32),
                Some(Completion { status, .. }) => return Err(ControllerError::Status { what, status }),
                None => {
                    self.condition()?;
                    if since.elapsed() > ADMIN_WITHIN {
                        return Err(ControllerError::Late { what, within: ADMIN_WITHIN });
                    }
                    sleep(PAUSE);
                }
            }
        }
    }

    fn post(&mut self, submission: Submission) -> u16 {
        self.next = self.next.wrapping_add(1);
        self.admin.push(&Submission { command: self.next, ..submission });
        self.admin.ring();
        self.next
    }

    /// The next admin command that has ended.
    pub(super) fn collect(&mut self) -> Option<Completion> {
        let completion = self.admin.pop()?;
        self.admin.acknowledge();
        Some(completion)
    }

    /// Asks the controller to give up a command of the I/O queue, which then ends; whether it obeys is not awaited.
    pub(super) fn abort(&mut self, command: u16) {
        let words = [u32::from(IO_QUEUE) | u32::from(command) << 16, 0, 0, 0, 0, 0];
        self.post(Submission { opcode: ABORT, words, ..Submission::default() });
    }

    /// The 4096 bytes of an answer to Identify.
    pub(super) fn identify(&mut self, query: Query) -> Result<Vec<u8>, ControllerError> {
        let data = [self.answer.iova(), 0];
        let submission =
            Submission { opcode: Query::OPCODE, nsid: query.nsid, data, words: query.words(), ..Submission::default() };
        self.ask("Identify", submission)?;
        Ok(self.answer.copy(ANSWER_BYTES))
    }

    /// Makes sure that the zoned command set is on.
    pub(super) fn use_zoned_set(&mut self) -> Result<(), ControllerError> {
        let combinations = self.identify(Query { structure: COMBINATIONS, set: 0, nsid: 0 })?;
        let suits = |combination: &[u8]| combination.first().is_some_and(|sets| sets & NVM_AND_ZONED == NVM_AND_ZONED);
        let present = self.feature(GET_FEATURES, COMMAND_SET_PROFILE, 0)?;
        let present = (present & 0x1ff) as usize;
        if combinations.chunks_exact(8).nth(present).is_some_and(suits) {
            return Ok(());
        }
        let Some(index) = combinations.chunks_exact(8).position(suits) else {
            return Err(ControllerError::Lacks("zoned command set"));
        };
        self.feature(SET_FEATURES, COMMAND_SET_PROFILE, index as u32).map(|_| ())
    }

    fn feature(&mut self, opcode: u8, feature: u32, value: u32) -> Result<u32, ControllerError> {
        let what = if opcode == GET_FEATURES { "Get Features" } else { "Set Features" };
        let submission = Submission { opcode, words: [feature, value, 0, 0, 0, 0], ..Submission::default() };
        self.ask(what, submission)
    }

    /// Makes the I/O queue, with at most `entries` entries; its completions cause the device's first interrupt.
    pub(super) fn create_queue(&mut self, entries: u16) -> Result<QueuePair, ControllerError> {
        let entries = entries.min(self.capabilities.entries_max.min(u16::MAX.into()) as u16).max(2);
        self.feature(SET_FEATURES, NUMBER_OF_QUEUES, 0)?;
        let queue = QueuePair::new(&self.registers, &self.dma, &self.capabilities, IO_QUEUE, entries)
            .map_err(ControllerError::Memory)?;
        let shape = u32::from(IO_QUEUE) | u32::from(entries - 1) << 16;
        let mut create = |what, opcode, iova, flags| {
            let words = [shape, flags, 0, 0, 0, 0];
            self.ask(what, Submission { opcode, data: [iova, 0], words, ..Submission::default() })
        };
        let flags = CONTIGUOUS | INTERRUPTING;
        create("Create I/O Completion Queue", CREATE_COMPLETIONS, queue.completions_iova(), flags)?;
        let flags = CONTIGUOUS | u32::from(IO_QUEUE) << 16;
        create("Create I/O Submission Queue", CREATE_SUBMISSIONS, queue.submissions_iova(), flags)?;
        Ok(queue)
    }

    /// Takes leave: deletes the I/O queue, tells the drive that power may go, resets. Nothing may be under way.
    pub(super) fn close(&mut self) -> Result<(), ControllerError> {
        let words = [u32::from(IO_QUEUE), 0, 0, 0, 0, 0];
        for (what, opcode) in
            [("Delete I/O Submission Queue", DELETE_SUBMISSIONS), ("Delete I/O Completion Queue", DELETE_COMPLETIONS)]
        {
            self.ask(what, Submission { opcode, words, ..Submission::default() })?;
        }
        let configuration = self.registers.read(CONFIGURATION);
        self.registers.write(CONFIGURATION, configuration | SHUTDOWN);
        self.await_status("the shutdown", SHUTDOWN_STATE, SHUTDOWN_DONE, SHUTDOWN_WITHIN)?;
        self.disable()
    }

    /// Tells the controller to stop, and does not wait for it.
    pub(super) fn stop(&self) {
        let configuration = self.registers.read(CONFIGURATION);
        if configuration != GONE {
            self.registers.write(CONFIGURATION, configuration & !ENABLE);
        }
    }
}
