//! What one core of this machine can do, measured before anything is compared with it.

use edge_kernels::Isa;
use edge_kernels::cpu::peak;
use std::fmt;
use std::hint::black_box;
use std::time::Instant;

/// Limits of one thread.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Fused multiply-adds of f32, as 10^9 floating-point operations a second: two each.
    pub gflops: f64,
    /// Exact multiply-adds of i8 to i32, as 10^9 operations a second: two each.
    pub gops_i8: f64,
    /// Bytes read in order from an array that no cache holds, 10^9 a second.
    pub gbytes: f64,
}

/// Larger than any last-level cache that a device of this kind has.
const STREAM_BYTES: usize = 256 << 20;

/// The best of several runs: what disturbs one only ever makes it slower.
fn best(runs: usize, mut seconds: impl FnMut() -> f64) -> f64 {
    (0..runs).map(|_| seconds()).fold(f64::INFINITY, f64::min)
}

impl Machine {
    /// Measures; takes about a second.
    pub fn measure() -> Machine {
        let rate = |chains: &peak::Variant| {
            let rounds = 1 << 21;
            let seconds = best(15, || {
                let start = Instant::now();
                black_box(chains.run(black_box(rounds)));
                start.elapsed().as_secs_f64()
            });
            chains.operations(rounds) as f64 / seconds / 1e9
        };
        let isa = Isa::detect();
        let (gflops, gops_i8) = (rate(peak::select_f32(isa)), rate(peak::select_i8(isa)));

        let stream = vec![1u64; STREAM_BYTES / 8];
        let seconds = best(7, || {
            let start = Instant::now();
            black_box(black_box(&stream).iter().fold(0u64, |sum, x| sum.wrapping_add(*x)));
            start.elapsed().as_secs_f64()
        });
        Machine { gflops, gops_i8, gbytes: STREAM_BYTES as f64 / seconds / 1e9 }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "one thread: {:.1} GFLOP/s of f32 multiply-adds, {:.1} GOP/s of i8, {:.1} GB/s read",
            self.gflops, self.gops_i8, self.gbytes
        )
    }
}
