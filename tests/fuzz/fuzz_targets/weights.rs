#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

#[global_allocator]
static ALLOCATOR: edge_tests::fuzz::Counting = edge_tests::fuzz::Counting;

fuzz_target!(|input: &[u8]| edge_tests::fuzz::weights(input));

fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| {
    edge_fuzz::json::mutate(data, size, most, seed)
});
