//! Mutations that know what an input is made of, beside libFuzzer's own, which take it for bytes.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod json;
pub mod onnx;
mod random;

use random::Random;

/// Every other time, and whenever a structured mutation has nothing to do, bytes are changed as libFuzzer does it.
fn either(
    data: &mut [u8],
    size: usize,
    most: usize,
    seed: u32,
    structured: impl FnOnce(&[u8], usize, &mut Random) -> Option<Vec<u8>>,
) -> usize {
    let mut random = Random::new(seed);
    if random.below(3) > 0
        && let Some(changed) = structured(&data[..size], most, &mut random)
        && changed.len() <= most.min(data.len())
    {
        data[..changed.len()].copy_from_slice(&changed);
        return changed.len();
    }
    libfuzzer_sys::fuzzer_mutate(data, size, most)
}
