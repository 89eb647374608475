//! An allocator that counts, and the bound that it is held against.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What may be taken beside four times the input's bytes.
const FLAT: usize = 64 << 20;

/// More than this at once is refused, as a small device would: the process ends there, and the machine goes on.
const MOST: usize = 1 << 30;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which counts the bytes that each thread has; a reallocation counts as old and new at once.
pub struct Counting;

fn took(bytes: usize) -> bool {
    let live = LIVE.get().saturating_add(bytes);
    if live > MOST {
        return false;
    }
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
    true
}

fn gave(bytes: usize) {
    LIVE.set(LIVE.get().saturating_sub(bytes));
}

// SAFETY: every call goes to the system's allocator as it came, or gives null, which stands for no memory; the counters do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !took(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps this function's contract, which is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !took(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        gave(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !took(new_size) {
            return std::ptr::null_mut();
        }
        gave(layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

/// Calls `f`.
///
/// # Panics
/// When this thread has more than four times `len` bytes and 64 MiB at once meanwhile, beside what it had before. Only a program whose
/// allocator is [`Counting`] can tell.
pub fn bound(len: usize, f: impl FnOnce()) {
    let before = LIVE.get();
    PEAK.set(before);
    f();
    let (taken, most) = (PEAK.get() - before, len.saturating_mul(4) + FLAT);
    assert!(taken <= most, "{taken} bytes of memory for an input of {len}, at most {most}");
}
