//! An allocator that counts what each thread asks for. This file uses `unsafe` to be one.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ASKED_BYTES: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counted. Programs that fuzz make it their global one.
pub struct Counting;

/// Bytes this thread has asked for since it began; 0 forever when `Counting` is not the global allocator.
pub fn asked_bytes() -> u64 {
    ASKED_BYTES.with(Cell::get)
}

fn count(bytes: usize) {
    ASKED_BYTES.with(|asked| asked.set(asked.get() + bytes as u64));
}

// SAFETY: every call is passed on unchanged to the system's allocator; counting touches no memory but a thread's own cell,
// which needs no allocation and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.realloc(memory, layout, new_size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.dealloc(memory, layout) };
    }
}
