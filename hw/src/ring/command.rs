//! One command of a ring: what it asks, what it owns, how far it has come.
//!
//! Invariants: a command owns its file until the kernel is done with it and its buffer until its
//! result is taken; a short transfer, EINTR and EAGAIN are
//! continued here and never seen outside. This file uses `unsafe` to derive the pointers the kernel gets.

use std::fs::File;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use io_uring::{opcode, squeue, types};

use super::Ring;
use super::nvme::{NVME_URING_CMD_IO, NvmeAnswer, NvmeCommand};
use super::parts::{Part, Parts};
use super::registered::Registered;
use crate::buffer::{BUFFER_ALIGN_BYTES, Buffer};

/// How often a command that the kernel interrupts or defers is tried before the error is believed.
const TRIES_MAX: u32 = 1000;

/// Zoned devices take writes at their write pointer only: a short one goes on where it ended.
const SECTOR_BYTES_MIN: usize = 512;

/// Most bytes of one command to the kernel; longer transfers take several.
const TRANSFER_BYTES_MAX: u32 = 1 << 30;

/// See `Slot::is_small_read`.
const SMALL_BYTES: usize = 32 * 1024;

enum Action {
    Read,
    Write,
    /// From several buffers.
    WriteParts(Box<Parts>),
    SyncData,
    PunchHole {
        bytes: u64,
    },
    Nvme(Box<NvmeCommand>),
}

/// A command and everything the kernel may touch for it.
pub(super) struct Slot {
    action: Action,
    /// Until the kernel is done.
    file: Option<Rc<File>>,
    offset: u64,
    buffer: Option<Buffer>,
    bytes: Range<usize>,
    /// Bytes transferred so far.
    moved: usize,
    tries: u32,
    result: Option<io::Result<usize>>,
    /// What the device says besides the result.
    detail: u64,
    waker: Option<Waker>,
    abandoned: bool,
}

pub(super) enum Progress {
    /// Not done: submit it again.
    Again,
    Done,
}

impl Slot {
    fn new(action: Action, file: &Rc<File>, offset: u64) -> Self {
        Self {
            action,
            file: Some(Rc::clone(file)),
            offset,
            buffer: None,
            bytes: 0..0,
            moved: 0,
            tries: 0,
            result: None,
            detail: 0,
            waker: None,
            abandoned: false,
        }
    }

    fn transfer(action: Action, file: &Rc<File>, offset: u64, buffer: Buffer, bytes: Range<usize>) -> Self {
        assert!(bytes.start <= bytes.end && bytes.end <= buffer.len(), "a transfer stays inside its buffer");
        Self { buffer: Some(buffer), bytes, ..Self::new(action, file, offset) }
    }

    pub(super) fn read(file: &Rc<File>, offset: u64, buffer: Buffer, bytes: Range<usize>) -> Self {
        Self::transfer(Action::Read, file, offset, buffer, bytes)
    }

    pub(super) fn write(file: &Rc<File>, offset: u64, buffer: Buffer, bytes: Range<usize>) -> Self {
        Self::transfer(Action::Write, file, offset, buffer, bytes)
    }

    pub(super) fn write_parts(file: &Rc<File>, offset: u64, parts: Vec<Part>) -> Self {
        let parts = Parts::new(parts);
        let bytes = 0..parts.len();
        Self { bytes, ..Self::new(Action::WriteParts(Box::new(parts)), file, offset) }
    }

    pub(super) fn sync_data(file: &Rc<File>) -> Self {
        Self::new(Action::SyncData, file, 0)
    }

    pub(super) fn punch_hole(file: &Rc<File>, bytes: Range<u64>) -> Self {
        Self::new(Action::PunchHole { bytes: bytes.end.saturating_sub(bytes.start) }, file, bytes.start)
    }

    pub(super) fn nvme(file: &Rc<File>, command: NvmeCommand, data: Option<(Buffer, Range<usize>)>) -> Self {
        let action = Action::Nvme(Box::new(command));
        match data {
            Some((buffer, bytes)) => Self::transfer(action, file, 0, buffer, bytes),
            None => Self::new(action, file, 0),
        }
    }

    /// Whether the call into the kernel is a good part of what the command costs.
    pub(super) fn is_small_read(&self) -> bool {
        matches!(self.action, Action::Read) && self.bytes.len() <= SMALL_BYTES
    }

    /// The kernel's form of what is left to do.
    pub(super) fn entry(&mut self, registered: Option<&Registered>) -> squeue::Entry128 {
        let fd = types::Fd(self.file.as_ref().map_or(-1, |file| file.as_raw_fd()));
        let at = self.offset + self.moved as u64;
        let left = u32::try_from(self.bytes.len() - self.moved).unwrap_or(TRANSFER_BYTES_MAX);
        let start = self.bytes.start + self.moved;
        let memory = self.buffer.as_mut().map_or(std::ptr::null_mut(), |buffer| {
            // SAFETY: `transfer` checked that the range lies inside the buffer, and `moved` never exceeds the range.
            unsafe { buffer.as_mut_ptr().add(start) }
        });
        match &mut self.action {
            Action::Read => opcode::Read::new(fd, memory, left).offset(at).build().into(),
            Action::Write => opcode::Write::new(fd, memory, left).offset(at).build().into(),
            Action::WriteParts(parts) => {
                let list = parts.list_from(self.moved);
                let entries = u32::try_from(list.len()).unwrap_or(u32::MAX);
                opcode::Writev::new(fd, list.as_ptr(), entries).offset(at).build().into()
            }
            Action::SyncData => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build().into(),
            Action::PunchHole { bytes } => {
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                opcode::Fallocate::new(fd, *bytes).offset(self.offset).mode(mode).build().into()
            }
            Action::Nvme(command) => {
                let piece = registered.and_then(|registered| registered.piece(memory, left as usize));
                let command = command.with_data(memory as u64, left);
                opcode::UringCmd80::new(fd, NVME_URING_CMD_IO).buf_index(piece).cmd(command).build()
            }
        }
    }

    /// Takes in a completion's result.
    pub(super) fn advance(&mut self, result: i32, detail: u64) -> Progress {
        self.tries += 1;
        self.detail = detail;
        let outcome = match usize::try_from(result) {
            Err(_) if matches!(-result, libc::EINTR | libc::EAGAIN) && self.tries < TRIES_MAX => {
                return Progress::Again;
            }
            Err(_) => Err(io::Error::from_raw_os_error(-result)),
            // The NVMe status; 0 is success.
            Ok(status) if matches!(self.action, Action::Nvme(_)) => Ok(status),
            Ok(_) if self.bytes.is_empty() => Ok(0),
            Ok(moved) => {
                self.moved = (self.moved + moved).min(self.bytes.len());
                if self.moved == self.bytes.len() {
                    Ok(self.moved)
                } else if moved == 0 {
                    match self.action {
                        Action::Read => Ok(self.moved),
                        _ => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
                    }
                } else {
                    // Direct transfers go on at whole sectors; a few bytes are moved twice.
                    let aligned = match self.action {
                        Action::Write | Action::WriteParts(_) if self.moved.is_multiple_of(SECTOR_BYTES_MIN) => {
                            self.moved
                        }
                        _ => self.moved / BUFFER_ALIGN_BYTES * BUFFER_ALIGN_BYTES,
                    };
                    let at_end = matches!(self.action, Action::Read) && self.moved != aligned;
                    if at_end && self.tries > 1 && aligned == self.moved.saturating_sub(moved) {
                        Ok(self.moved)
                    } else if self.tries >= TRIES_MAX {
                        Err(io::Error::from_raw_os_error(libc::EIO))
                    } else {
                        self.moved = aligned;
                        return Progress::Again;
                    }
                }
            }
        };
        self.result = Some(outcome);
        self.file = None;
        Progress::Done
    }

    pub(super) fn take_waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned
    }
}

/// What a command ended with.
struct Ended {
    result: io::Result<usize>,
    buffer: Option<Buffer>,
    parts: Vec<Part>,
    detail: u64,
}

/// A command in a ring. Dropped before its end, it leaves everything the command owns with the ring.
struct Pending {
    ring: Rc<Ring>,
    key: Option<usize>,
}

impl Pending {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Ended> {
        let Some(key) = self.key else { panic!("a command is not polled after its end") };
        let mut state = self.ring.state.borrow_mut();
        let Some(slot) = state.slots.get_mut(key).and_then(Option::as_mut) else {
            panic!("a command's slot lives until its result is taken");
        };
        let Some(result) = slot.result.take() else {
            slot.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        let parts = match &mut slot.action {
            Action::WriteParts(parts) => parts.take(),
            _ => Vec::new(),
        };
        let ended = Ended { result, buffer: slot.buffer.take(), parts, detail: slot.detail };
        self.key = None;
        let slot = state.remove(key);
        drop(state);
        drop(slot);
        Poll::Ready(ended)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut state = self.ring.state.borrow_mut();
        let done = match state.slots.get_mut(key).and_then(Option::as_mut) {
            Some(slot) => {
                slot.abandoned = true;
                slot.waker = None;
                slot.result.is_some()
            }
            None => false,
        };
        let slot = if done { state.remove(key) } else { None };
        drop(state);
        drop(slot);
    }
}

/// A transfer in flight; it ends with the bytes moved, and gives the buffer back.
#[must_use = "the buffer comes back with the result"]
pub struct RingTransfer(Pending);

impl RingTransfer {
    pub(super) fn new(ring: &Rc<Ring>, key: usize) -> Self {
        Self(Pending { ring: Rc::clone(ring), key: Some(key) })
    }

    /// Looks at the buffer while the command is in flight, which for a write changes nothing.
    pub(crate) fn inspect<T>(&self, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let state = self.0.ring.state.borrow();
        let slot = state.slots.get(self.0.key?)?.as_ref()?;
        if !matches!(slot.action, Action::Write) {
            return None;
        }
        slot.buffer.as_ref()?.get(slot.bytes.clone()).map(look)
    }
}

impl Future for RingTransfer {
    type Output = (io::Result<usize>, Buffer);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context).map(|ended| match ended.buffer {
            Some(buffer) => (ended.result, buffer),
            None => panic!("a transfer owns its buffer until its end"),
        })
    }
}

/// A write from several buffers in flight; it ends with the bytes moved, and gives the buffers back.
#[must_use = "the buffers come back with the result"]
pub struct PartsTransfer(Pending);

impl PartsTransfer {
    pub(super) fn new(ring: &Rc<Ring>, key: usize) -> Self {
        Self(Pending { ring: Rc::clone(ring), key: Some(key) })
    }

    /// Looks at the bytes of every part while the command is in flight, which changes nothing.
    pub(crate) fn inspect<T>(&self, look: impl FnMut(&[u8]) -> T) -> Vec<T> {
        let state = self.0.ring.state.borrow();
        let slot = self.0.key.and_then(|key| state.slots.get(key)?.as_ref());
        match slot.map(|slot| &slot.action) {
            Some(Action::WriteParts(parts)) => parts.slices().map(look).collect(),
            _ => Vec::new(),
        }
    }
}

impl Future for PartsTransfer {
    type Output = (io::Result<usize>, Vec<Part>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context).map(|ended| (ended.result, ended.parts))
    }
}

/// A command without a buffer, in flight.
#[must_use = "a command that nobody looks at may have failed"]
pub struct Operation(Pending);

impl Operation {
    pub(super) fn new(ring: &Rc<Ring>, key: usize) -> Self {
        Self(Pending { ring: Rc::clone(ring), key: Some(key) })
    }
}

impl Future for Operation {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context).map(|ended| ended.result.map(|_| ()))
    }
}

/// An NVMe command in flight; it ends with what the device said, and gives the buffer back if there was one.
#[must_use = "the buffer comes back with the result"]
pub(crate) struct NvmeTransfer(Pending);

impl NvmeTransfer {
    pub(super) fn new(ring: &Rc<Ring>, key: usize) -> Self {
        Self(Pending { ring: Rc::clone(ring), key: Some(key) })
    }
}

impl Future for NvmeTransfer {
    type Output = (io::Result<NvmeAnswer>, Option<Buffer>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context).map(|ended| {
            // The status is 15 bits of the completion.
            let answer = ended.result.map(|status| NvmeAnswer { status: status as u16, result: ended.detail });
            (answer, ended.buffer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(make: fn(&Rc<File>, u64, Buffer, Range<usize>) -> Slot) -> Slot {
        let file = Rc::new(File::open("/dev/null").expect("opens"));
        make(&file, 0, Buffer::new_unpooled(3 * 4096), 0..3 * 4096)
    }

    fn again(slot: &mut Slot, result: i32) -> bool {
        matches!(slot.advance(result, 0), Progress::Again)
    }

    #[test]
    fn short_transfers_go_on_at_the_last_whole_sector() {
        let mut slot = slot(Slot::write);
        assert!(again(&mut slot, 5000));
        assert_eq!(slot.moved, 4096);
        assert!(again(&mut slot, 3584));
        assert_eq!(slot.moved, 7680, "behind whole sectors a write goes on where it ended");
        assert!(!again(&mut slot, 4608));
        assert_eq!(slot.result.take().expect("done").expect("well"), 3 * 4096);
    }

    #[test]
    fn interrupted_commands_are_tried_again_but_not_for_ever() {
        let mut slot = slot(Slot::read);
        assert!(again(&mut slot, -libc::EINTR));
        assert!(again(&mut slot, -libc::EAGAIN));
        let tries = (0..).take_while(|_| again(&mut slot, -libc::EAGAIN)).count();
        assert!(tries < TRIES_MAX as usize);
        let error = slot.result.take().expect("done").expect_err("failed");
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
    }

    #[test]
    fn a_read_at_the_end_of_the_file_is_short_and_a_write_that_moves_nothing_fails() {
        let mut read = slot(Slot::read);
        assert!(again(&mut read, 8192));
        assert!(!again(&mut read, 0));
        assert_eq!(read.result.take().expect("done").expect("well"), 8192);
        let mut ragged = slot(Slot::read);
        assert!(again(&mut ragged, 5000));
        assert!(!again(&mut ragged, 904));
        assert_eq!(ragged.result.take().expect("done").expect("well"), 5000);
        let mut write = slot(Slot::write);
        assert!(!again(&mut write, 0));
        assert!(write.result.take().expect("done").is_err());
    }
}
