//! A queue pair: submissions in one ring of memory, completions in another, a doorbell for each.
//!
//! Invariants: an entry is whole in memory before its doorbell is rung; a completion is read only after its phase bit
//! said that it is whole; submissions never overtake what the controller has taken, because each holds one of fewer
//! than `entries` command numbers until it is completed.

use std::io;
use std::rc::Rc;

use super::dma::Dma;
use super::memory::{Memory, barrier};
use super::registers::{Capabilities, Registers};

/// Bytes of a submission and of a completion.
const SUBMISSION_BYTES: usize = 64;
const COMPLETION_BYTES: usize = 16;

/// A place in a ring and the phase of the present round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    index: u16,
    phase: bool,
}

impl Place {
    fn advance(&mut self, entries: u16) {
        self.index += 1;
        if self.index == entries {
            *self = Self { index: 0, phase: !self.phase };
        }
    }
}

/// What a controller says at the end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Completion {
    /// The command's number.
    pub(super) command: u16,
    /// Without the phase bit; 0 is success.
    pub(super) status: u16,
    /// The first 64 bits.
    pub(super) result: u64,
}

/// A command as it is submitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Submission {
    pub(super) opcode: u8,
    pub(super) command: u16,
    pub(super) nsid: u32,
    /// The two entries that name the data.
    pub(super) data: [u64; 2],
    /// Command words 10 to 15.
    pub(super) words: [u32; 6],
}

impl Submission {
    fn dwords(&self) -> [u32; 16] {
        let [first, second] = self.data;
        let [w10, w11, w12, w13, w14, w15] = self.words;
        [
            u32::from(self.opcode) | u32::from(self.command) << 16,
            self.nsid,
            0,
            0,
            0,
            0,
            first as u32,
            (first >> 32) as u32,
            second as u32,
            (second >> 32) as u32,
            w10,
            w11,
            w12,
            w13,
            w14,
            w15,
        ]
    }
}

/// The two rings.
pub(super) struct QueuePair {
    registers: Rc<dyn Registers>,
    submissions: Memory,
    completions: Memory,
    entries: u16,
    tail: Place,
    head: Place,
    doorbells: (usize, usize),
}

impl QueuePair {
    /// Memory for a queue; telling the controller of it is the caller's business.
    pub(super) fn new(
        registers: &Rc<dyn Registers>,
        dma: &Rc<Dma>,
        capabilities: &Capabilities,
        number: u16,
        entries: u16,
    ) -> io::Result<Self> {
        let doorbells = capabilities.doorbells(number);
        if doorbells.1 + 4 > registers.bytes() {
            return Err(io::Error::other("the doorbells lie outside the mapped registers"));
        }
        Ok(Self {
            registers: Rc::clone(registers),
            submissions: Memory::new(dma, usize::from(entries) * SUBMISSION_BYTES)?,
            completions: Memory::new(dma, usize::from(entries) * COMPLETION_BYTES)?,
            entries,
            tail: Place { index: 0, phase: true },
            head: Place { index: 0, phase: true },
            doorbells,
        })
    }

    pub(super) fn entries(&self) -> u16 {
        self.entries
    }

    pub(super) fn submissions_iova(&self) -> u64 {
        self.submissions.iova()
    }

    pub(super) fn completions_iova(&self) -> u64 {
        self.completions.iova()
    }

    /// Puts a command behind the others. `ring` hands it over.
    pub(super) fn push(&mut self, submission: &Submission) {
        let start = usize::from(self.tail.index) * SUBMISSION_BYTES;
        for (index, dword) in submission.dwords().into_iter().enumerate() {
            self.submissions.write(start + 4 * index, dword);
        }
        self.tail.advance(self.entries);
    }

    /// Tells the controller of everything pushed so far.
    pub(super) fn ring(&self) {
        barrier();
        self.registers.write(self.doorbells.0, self.tail.index.into());
    }

    /// Whether `pop` has something.
    pub(super) fn has_next(&self) -> bool {
        let last = self.completions.read(usize::from(self.head.index) * COMPLETION_BYTES + 12);
        (last >> 16 & 1 == 1) == self.head.phase
    }

    /// The next completion. After the last one `acknowledge` has to be called.
    pub(super) fn pop(&mut self) -> Option<Completion> {
        if !self.has_next() {
            return None;
        }
        // The rest of it is in memory before its phase bit is.
        barrier();
        let start = usize::from(self.head.index) * COMPLETION_BYTES;
        let last = self.completions.read(start + 12);
        let result = u64::from(self.completions.read(start)) | u64::from(self.completions.read(start + 4)) << 32;
        self.head.advance(self.entries);
        Some(Completion { command: last as u16, status: (last >> 17) as u16, result })
    }

    /// Gives the places of completions that were taken back to the controller.
    pub(super) fn acknowledge(&self) {
        barrier();
        self.registers.write(self.doorbells.1, self.head.index.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phase_changes_with_every_round() {
        let mut place = Place { index: 0, phase: true };
        let mut seen = Vec::new();
        for _ in 0..7 {
            seen.push((place.index, place.phase));
            place.advance(3);
        }
        let expected = [(0, true), (1, true), (2, true), (0, false), (1, false), (2, false), (0, true)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_submission_has_its_fields_where_the_standard_puts_them() {
        let submission =
            Submission { opcode: 0x7d, command: 9, nsid: 3, data: [1 << 32 | 2, 4], words: [10, 11, 12, 13, 14, 15] };
        assert_eq!(submission.dwords(), [9 << 16 | 0x7d, 3, 0, 0, 0, 0, 2, 1, 4, 0, 10, 11, 12, 13, 14, 15]);
    }
}
