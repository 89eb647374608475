//! What the benches share: the machine's measured limits, timing against them, packs to open.
#![deny(missing_docs)]

mod against;
mod machine;
mod packs;

pub use against::{Against, Work};
pub use machine::Machine;
pub use packs::{NamedPack, packs};

use edge_runtime::random::philox;
use std::ops::{Deref, DerefMut};

/// Elements that start at a multiple of 64 bytes, as those of a plan and a pack do.
pub struct Aligned<T> {
    data: Vec<T>,
    start: usize,
}

impl<T: Copy + Default> Aligned<T> {
    /// `n` elements.
    pub fn new(n: usize, element: impl Fn(usize) -> T) -> Self {
        let spare = 64 / size_of::<T>();
        let mut data = vec![T::default(); n + spare];
        let start = data.as_ptr().align_offset(64).min(spare);
        data.truncate(start + n);
        (0..n).for_each(|i| data[start + i] = element(i));
        Aligned { data, start }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.data[self.start..]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[self.start..]
    }
}

/// `n` finite floats in `[-1, 1)`, none of them denormal: zeros and denormals would be timed wrongly.
pub fn floats(n: usize) -> Aligned<f32> {
    let unit = |i: usize| (philox(1, i as u64)[0] >> 8) as f32 / (1 << 23) as f32 - 1.0;
    Aligned::new(n, unit)
}

/// `n` codes of -127 to 127.
pub fn codes(n: usize) -> Aligned<i8> {
    Aligned::new(n, |i| ((philox(2, i as u64)[0] % 255) as i32 as u8 as i8).max(-127))
}

/// `n` zeros.
pub fn zeros<T: Copy + Default>(n: usize) -> Aligned<T> {
    Aligned::new(n, |_| T::default())
}
