//! A controller in this process, behind the seams for registers and memory: it can be slow, die, and say nonsense.
//!
//! Invariant: it touches only memory that it was shown and that was not taken from it, or the test fails.
//! This file uses `unsafe` to reach the memory it was shown.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;

use super::dma::Iommu;
use super::registers::{
    ADMIN_COMPLETIONS, ADMIN_QUEUES, ADMIN_SUBMISSIONS, CAPABILITIES, CONFIGURATION, ENABLE, FATAL, GONE, READY,
    Registers, SHUTDOWN, SHUTDOWN_DONE, STATUS,
};

pub(super) const READ: u8 = 2;
pub(super) const WRITE: u8 = 1;
const PAGE_BYTES: u64 = 4096;

/// What a test decides.
#[derive(Clone, Debug, Default)]
pub(super) struct Manner {
    /// Commands end when the test says so.
    pub(super) holds: bool,
    pub(super) ignores_aborts: bool,
    pub(super) never_ready: bool,
    pub(super) fatal: bool,
    pub(super) gone: bool,
    pub(super) was_reset: bool,
    /// The IOMMU does not take memory back.
    pub(super) keeps_memory: bool,
}

/// A command as it was found in a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) opcode: u8,
    pub(super) number: u16,
    data: [u64; 2],
    words: [u32; 6],
}

#[derive(Clone, Copy, Debug, Default)]
struct Rings {
    submissions: u64,
    completions: u64,
    entries: u16,
    taken: u16,
    posted: u16,
    acknowledged: u16,
    phase: bool,
}

#[derive(Default)]
struct State {
    manner: Manner,
    memory: BTreeMap<u64, (usize, usize)>,
    configuration: u32,
    registers: BTreeMap<usize, u32>,
    queues: [Rings; 2],
    held: VecDeque<Found>,
    /// Opcodes, of admin commands from 0x100 on.
    seen: Vec<u16>,
    written: BTreeMap<u32, Vec<u8>>,
}

/// The controller. Clones are the same one.
#[derive(Clone, Default)]
pub(super) struct Fake(Rc<RefCell<State>>);

/// What the fake drive holds in a sector.
pub(super) fn content(sector: u32) -> Vec<u8> {
    (0..PAGE_BYTES as u32 / 4).flat_map(|word| (sector << 12 | word).to_le_bytes()).collect()
}

impl Fake {
    pub(super) fn behave(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut self.0.borrow_mut().manner);
    }

    pub(super) fn held(&self) -> Vec<Found> {
        self.0.borrow().held.iter().copied().collect()
    }

    pub(super) fn seen(&self) -> Vec<u16> {
        self.0.borrow().seen.clone()
    }

    /// Bytes it could touch now.
    pub(super) fn reachable(&self) -> usize {
        self.0.borrow().memory.values().map(|(_, bytes)| bytes).sum()
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.0.borrow().configuration & ENABLE != 0
    }

    pub(super) fn written(&self, sector: u32) -> Option<Vec<u8>> {
        self.0.borrow().written.get(&sector).cloned()
    }

    /// Does a held command, and ends it.
    pub(super) fn end(&self, found: &Found, status: u16) {
        let mut state = self.0.borrow_mut();
        state.held.retain(|held| held.number != found.number);
        if status == 0 {
            state.carry_out(found);
        }
        state.post(1, found.number, status, u64::from(found.words[0]));
    }

    /// Ends a command by number, whether or not there is one.
    pub(super) fn end_number(&self, number: u16) {
        self.0.borrow_mut().post(1, number, 0, 0);
    }
}

impl State {
    fn place(&self, iova: u64, bytes: usize) -> *mut u8 {
        let (start, (address, length)) = self.memory.range(..=iova).next_back().expect("memory that was shown");
        let offset = (iova - start) as usize;
        assert!(offset + bytes <= *length, "memory that was shown");
        (address + offset) as *mut u8
    }

    fn load(&self, iova: u64, bytes: usize) -> Vec<u8> {
        // SAFETY: `place` checked that the range was shown, so it is alive, and initialised.
        unsafe { std::slice::from_raw_parts(self.place(iova, bytes), bytes) }.to_vec()
    }

    fn store(&self, iova: u64, bytes: &[u8]) {
        // SAFETY: as in `load`; the driver makes no reference to memory that a command in flight writes to.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.place(iova, bytes.len()), bytes.len()) }
    }

    fn word(&self, iova: u64) -> u64 {
        u64::from_le_bytes(self.load(iova, 8).try_into().expect("8 bytes"))
    }

    /// The pages of a transfer of whole pages that begins at one.
    fn pages(&self, found: &Found, count: u64) -> Vec<u64> {
        let mut pages = vec![found.data[0]];
        if count == 2 {
            pages.push(found.data[1]);
        }
        let mut place = found.data[1];
        while (pages.len() as u64) < count {
            let left = count - pages.len() as u64;
            if place % PAGE_BYTES == PAGE_BYTES - 8 && left > 1 {
                place = self.word(place);
            }
            pages.push(self.word(place));
            place += 8;
        }
        pages
    }

    fn carry_out(&mut self, found: &Found) {
        let first = found.words[0];
        if !matches!(found.opcode, READ | WRITE) {
            return;
        }
        for (sector, page) in (first..).zip(self.pages(found, u64::from(found.words[2]) + 1)) {
            if found.opcode == READ {
                self.store(page, &content(sector));
            } else {
                let data = self.load(page, PAGE_BYTES as usize);
                self.written.insert(sector, data);
            }
        }
    }

    fn post(&mut self, queue: usize, number: u16, status: u16, result: u64) {
        let rings = self.queues[queue];
        let next = (rings.posted + 1) % rings.entries;
        assert_ne!(next, rings.acknowledged, "completions overrun their queue");
        let at = rings.completions + 16 * u64::from(rings.posted);
        self.store(at, &result.to_le_bytes());
        let last = u32::from(number) | u32::from(status) << 17 | u32::from(rings.phase) << 16;
        self.store(at + 12, &last.to_le_bytes());
        self.queues[queue].posted = next;
        self.queues[queue].phase ^= next == 0;
    }

    fn take(&mut self, queue: usize, tail: u16) {
        while self.queues[queue].taken != tail {
            let rings = self.queues[queue];
            let entry = self.load(rings.submissions + 64 * u64::from(rings.taken), 64);
            self.queues[queue].taken = (rings.taken + 1) % rings.entries;
            let word = |index: usize| u32::from_le_bytes(entry[4 * index..4 * index + 4].try_into().expect("4 bytes"));
            let wide = |index: usize| u64::from(word(index)) | u64::from(word(index + 1)) << 32;
            let words = [10, 11, 12, 13, 14, 15].map(word);
            let found =
                Found { opcode: word(0) as u8, number: (word(0) >> 16) as u16, data: [wide(6), wide(8)], words };
            self.seen.push(u16::from(found.opcode) | if queue == 0 { 0x100 } else { 0 });
            if queue == 0 {
                self.administer(&found);
            } else if self.manner.holds {
                self.held.push_back(found);
            } else {
                self.carry_out(&found);
                self.post(1, found.number, 0, u64::from(found.words[0]));
            }
        }
    }

    fn administer(&mut self, found: &Found) {
        let entries = (found.words[0] >> 16) as u16 + 1;
        match found.opcode {
            0x05 => {
                self.queues[1] = Rings { completions: found.data[0], entries, phase: true, ..Rings::default() };
            }
            0x01 => self.queues[1].submissions = found.data[0],
            0x08 if !self.manner.ignores_aborts => {
                let number = (found.words[0] >> 16) as u16;
                self.held.retain(|held| held.number != number);
                self.post(1, number, 0x0007, 0);
            }
            _ => {}
        }
        self.post(0, found.number, 0, 0);
    }

    fn configure(&mut self, value: u32) {
        let was = self.configuration;
        self.configuration = value;
        if value & ENABLE != 0 && was & ENABLE == 0 {
            let register = |at: usize| u64::from(self.registers.get(&at).copied().unwrap_or(0));
            let wide = |at: usize| register(at) | register(at + 4) << 32;
            self.queues[0] = Rings {
                submissions: wide(ADMIN_SUBMISSIONS),
                completions: wide(ADMIN_COMPLETIONS),
                entries: (register(ADMIN_QUEUES) & 0xfff) as u16 + 1,
                phase: true,
                ..Rings::default()
            };
        }
    }
}

impl Registers for Fake {
    fn read(&self, at: usize) -> u32 {
        let state = self.0.borrow();
        if state.manner.gone {
            return GONE;
        }
        let is_ready = state.configuration & ENABLE != 0 && !state.manner.never_ready && !state.manner.was_reset;
        let shut_down = state.configuration & SHUTDOWN != 0;
        match at {
            // Eight entries of a queue, half a second to become ready.
            CAPABILITIES => 7 | 1 << 24,
            at if at == CAPABILITIES + 4 => 1 << 11,
            CONFIGURATION => state.configuration,
            STATUS => {
                let flags = [(is_ready, READY), (state.manner.fatal, FATAL), (shut_down, SHUTDOWN_DONE)];
                flags.iter().filter(|(is_set, _)| *is_set).fold(0, |status, (_, flag)| status | flag)
            }
            _ => 0,
        }
    }

    fn write(&self, at: usize, value: u32) {
        let state = &mut *self.0.borrow_mut();
        if state.manner.gone {
            return;
        }
        match at {
            CONFIGURATION => state.configure(value),
            0x1000 => state.take(0, value as u16),
            0x1004 => state.queues[0].acknowledged = value as u16,
            0x1008 => state.take(1, value as u16),
            0x100c => state.queues[1].acknowledged = value as u16,
            _ => drop(state.registers.insert(at, value)),
        }
    }

    fn bytes(&self) -> usize {
        0x2000
    }
}

impl Iommu for Fake {
    fn map(&self, start: NonNull<u8>, bytes: usize, iova: u64) -> io::Result<()> {
        assert!((start.as_ptr() as u64 | bytes as u64 | iova).is_multiple_of(PAGE_BYTES), "whole pages");
        self.0.borrow_mut().memory.insert(iova, (start.as_ptr() as usize, bytes));
        Ok(())
    }

    fn unmap(&self, iova: u64, bytes: usize) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        if state.manner.keeps_memory {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        assert_eq!(state.memory.remove(&iova).map(|(_, bytes)| bytes), Some(bytes), "what was shown is taken back");
        Ok(())
    }

    fn quiet(&self) {}
}
