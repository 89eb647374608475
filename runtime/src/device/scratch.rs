//! Scratch memory for the threads of a run, cut from the session's arena.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cpu::MAX_THREADS;

const WORDS: usize = MAX_THREADS.div_ceil(64);

/// One buffer cut into a slot for each worker of a [`super::Pool`] run. Allocates nothing.
///
/// ```
/// use edge_runtime::device::{Pool, Scratch};
/// let pool = Pool::new(2)?;
/// let mut arena = [0f32; 2 * 16];
/// let scratch = Scratch::new(&mut arena, pool.threads());
/// pool.run(10, |task, worker| {
///     let mut mine = scratch.slot(worker);
///     mine.fill(task as f32);
/// });
/// # Ok::<(), edge_runtime::device::DeviceError>(())
/// ```
pub struct Scratch<'a, T> {
    ptr: NonNull<T>,
    slots: usize,
    slot_len: usize,
    /// One bit a slot: lent out.
    lent: [AtomicU64; WORDS],
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: shared use goes through `slot`, which lends each part of the buffer to one holder at a time; holders on
// other threads need no more than `T: Send`.
unsafe impl<T: Send> Sync for Scratch<'_, T> {}
// SAFETY: it owns its elements as a `&mut [T]` does.
unsafe impl<T: Send> Send for Scratch<'_, T> {}

/// The slot of one worker, for as long as this lives; a slice of the slot's elements.
pub struct ScratchSlot<'s, T> {
    /// Not a `&mut [T]`: that would claim the elements up to the end of a call that is given the slot by value,
    /// such as `drop(slot)`, while the next holder has them already.
    data: NonNull<[T]>,
    life: PhantomData<&'s mut [T]>,
    lent: &'s AtomicU64,
    bit: u64,
}

impl<'a, T> Scratch<'a, T> {
    /// Cuts `data` into `threads` slots of equal length; what is left over is not used.
    ///
    /// # Panics
    /// When `threads` is 0 or above [`MAX_THREADS`].
    pub fn new(data: &'a mut [T], threads: usize) -> Self {
        assert!((1..=MAX_THREADS).contains(&threads), "scratch for {threads} threads");
        let slot_len = data.len() / threads;
        Scratch {
            ptr: NonNull::from(data).cast(),
            slots: threads,
            slot_len,
            lent: [const { AtomicU64::new(0) }; WORDS],
            life: PhantomData,
        }
    }

    /// Elements of a slot.
    pub fn slot_len(&self) -> usize {
        self.slot_len
    }

    /// The slot of `worker`, with whatever its last holder left in it.
    ///
    /// # Panics
    /// When there is no such worker, or its slot is lent already: one `Scratch` is for one run at a time, and a task
    /// that starts a run of its own must give its slot back first.
    pub fn slot(&self, worker: usize) -> ScratchSlot<'_, T> {
        assert!(worker < self.slots, "scratch slot {worker} of {}", self.slots);
        let (lent, bit) = (&self.lent[worker / 64], 1u64 << (worker % 64));
        let before = lent.fetch_or(bit, Ordering::Acquire);
        assert!(before & bit == 0, "scratch slot {worker} is in use");
        // SAFETY: worker < slots, so the slot starts inside the buffer or at its end.
        let start = unsafe { self.ptr.add(worker * self.slot_len) };
        ScratchSlot {
            data: NonNull::slice_from_raw_parts(start, self.slot_len),
            life: PhantomData,
            lent,
            bit,
        }
    }
}

impl<T> Deref for ScratchSlot<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `slot` put the slice inside the buffer and found its bit clear; until `drop` clears the bit again
        // nobody else gets this slot, and slots do not overlap.
        unsafe { self.data.as_ref() }
    }
}

impl<T> DerefMut for ScratchSlot<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` makes this the only reference.
        unsafe { self.data.as_mut() }
    }
}

impl<T> Drop for ScratchSlot<'_, T> {
    fn drop(&mut self) {
        self.lent.fetch_and(!self.bit, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::Scratch;

    #[test]
    fn slots_are_apart_and_come_back() {
        let mut data = [0u8; 11];
        let scratch = Scratch::new(&mut data, 3);
        assert_eq!(scratch.slot_len(), 3);
        {
            let (mut a, mut b) = (scratch.slot(0), scratch.slot(2));
            a.fill(1);
            b.fill(2);
        }
        scratch.slot(0)[0] = 9;
        assert_eq!(data, [9, 1, 1, 0, 0, 0, 2, 2, 2, 0, 0]);
    }

    #[test]
    #[should_panic(expected = "scratch slot 1 is in use")]
    fn a_slot_is_lent_once() {
        let mut data = [0u8; 4];
        let scratch = Scratch::new(&mut data, 2);
        let _first = scratch.slot(1);
        scratch.slot(1);
    }

    #[test]
    #[should_panic(expected = "scratch slot 2 of 2")]
    fn there_is_no_slot_beyond_the_last() {
        Scratch::new(&mut [0u8; 4], 2).slot(2);
    }

    #[test]
    fn empty_slots_are_fine() {
        let mut data = [0u64; 1];
        let scratch = Scratch::new(&mut data, 2);
        assert!(scratch.slot(0).is_empty() && scratch.slot(1).is_empty());
    }
}
