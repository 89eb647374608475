//! What the benches share: the machine's measured limits, timing against them, packs to open.
#![deny(missing_docs)]

mod against;
mod machine;
mod packs;

pub use against::{Against, Work};
pub use machine::Machine;
pub use packs::{NamedPack, packs};

use edge_runtime::random::philox;

/// `n` finite floats in `[-1, 1)`, none of them denormal: zeros and denormals would be timed wrongly.
pub fn floats(n: usize) -> Vec<f32> {
    let unit = |i: usize| (philox(1, i as u64)[0] >> 8) as f32 / (1 << 23) as f32 - 1.0;
    (0..n).map(unit).collect()
}

/// `n` codes of -127 to 127.
pub fn codes(n: usize) -> Vec<i8> {
    (0..n).map(|i| (philox(2, i as u64)[0] % 255) as i32 as u8 as i8).map(|c| c.max(-127)).collect()
}
