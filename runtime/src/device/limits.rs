//! What this device can do at most: what kernels are measured against.

use super::{Caches, Pool};
use edge_kernels::Isa;
use edge_kernels::cpu::peak;
use std::hint::black_box;
use std::time::Instant;

/// Larger than any last-level cache that a device of this kind has.
const STREAM_BYTES: usize = 256 << 20;
/// Least bytes that each thread reads, whatever is free.
const LEAST_BYTES: usize = 64 << 10;
/// Rounds of multiply-adds of one measurement: some milliseconds.
const ROUNDS: u64 = 1 << 21;
/// Bytes read in one measurement of a cache.
const CACHE_READ: usize = 256 << 20;
/// Measurements, of which the best counts: what disturbs one only ever makes it slower.
const TRIES: usize = 7;

/// Limits of some threads together.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Threads that were at work.
    pub threads: usize,
    /// Fused multiply-adds of f32 from registers, 10^9 operations a second; a multiply-add is two.
    pub f32_gflops: f64,
    /// Exact multiply-adds of i8 to i32 from registers, 10^9 operations a second; a multiply-add is two.
    pub i8_gops: f64,
    /// Reading in order: where the bytes lie, how many each thread reads over and over, and 10^9 bytes a second.
    pub read: Vec<Read>,
}

/// The bandwidth of one level of memory.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// `L1`, `L2`, `L3` or `memory`.
    pub level: &'static str,
    /// Bytes that each thread reads.
    pub bytes: usize,
    /// 10^9 bytes a second, all threads together.
    pub gbytes: f64,
}

impl Limits {
    /// Measures with all threads of `pool`; takes about two seconds. Memory is read in an array of 256 MiB, or of half of `free`
    /// bytes when that is less: then what is called memory may lie in a cache in part.
    pub fn measure(pool: &Pool, isa: Isa, caches: &Caches, free: u64) -> Limits {
        let threads = pool.threads();
        let rate = |chains: &peak::Variant| {
            chains.operations(ROUNDS) as f64 * threads as f64
                / best(pool, |_| {
                    black_box(chains.run(black_box(ROUNDS)));
                })
                / 1e9
        };
        let (f32_gflops, i8_gops) = (rate(peak::select_f32(isa)), rate(peak::select_i8(isa)));
        let reader = peak::select_read(isa);
        // From a cache line's start: a register that lies across two takes two loads.
        let bytes =
            STREAM_BYTES.min(usize::try_from(free / 2).unwrap_or(usize::MAX)).max(threads * LEAST_BYTES);
        let stream = vec![1u64; bytes / 8 + 8];
        let stream = &stream[stream.as_ptr().align_offset(64).min(8)..];
        let each = (bytes / 8 / threads) & !7;
        // Half of a cache, so that what else lies there does not push the bytes out.
        let mut levels = vec![("L1", caches.l1d as usize / 2), ("L2", caches.l2 as usize / 2)];
        levels.extend(caches.l3.map(|l3| ("L3", l3 as usize / 2 / threads)));
        levels.push(("memory", each * 8));
        let read = levels
            .into_iter()
            .map(|(level, bytes)| {
                let words = (bytes / 8).clamp(1, each);
                let times = if level == "memory" { 1 } else { (CACHE_READ / (words * 8)).max(1) };
                let seconds = best(pool, |worker| {
                    let part = &stream[worker * each..][..words];
                    for _ in 0..times {
                        black_box(reader.run(black_box(part)));
                    }
                });
                Read { level, bytes: words * 8, gbytes: (words * 8 * times * threads) as f64 / seconds / 1e9 }
            })
            .collect();
        Limits { threads, f32_gflops, i8_gops, read }
    }

    /// The bandwidth of memory, 10^9 bytes a second.
    pub fn memory_gbytes(&self) -> f64 {
        self.read.last().map_or(0.0, |read| read.gbytes)
    }
}

/// Seconds of the best of some tries in which every thread does `work` once.
fn best(pool: &Pool, work: impl Fn(usize) + Sync) -> f64 {
    let once = || {
        let start = Instant::now();
        pool.run(pool.threads(), |task, _| work(task));
        start.elapsed().as_secs_f64()
    };
    (0..TRIES).map(|_| once()).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::Limits;
    use crate::device::{CpuInfo, Pool};

    #[test]
    fn every_limit_is_a_number_above_zero() {
        let pool = Pool::new(1).unwrap();
        let limits = Limits::measure(&pool, edge_kernels::Isa::detect(), &CpuInfo::probe().caches, 1 << 20);
        assert!(limits.f32_gflops > 0.0 && limits.i8_gops > 0.0 && limits.memory_gbytes() > 0.0);
        assert!(limits.read.len() >= 3 && limits.read.iter().all(|r| r.gbytes.is_finite() && r.bytes > 0));
    }
}
