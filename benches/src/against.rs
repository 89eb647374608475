//! Timing with the share of the machine's limit.

use super::Machine;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Throughput};
use std::time::{Duration, Instant};

/// What one call does.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// Multiplications and additions of f32; a multiply-add is two. Compared with the peak of f32 multiply-adds.
    Operations(u64),
    /// The same of i8 products, compared with their peak.
    OperationsI8(u64),
    /// Bytes read and written once each. Compared with the bandwidth of reading memory; what fits a cache exceeds it.
    Bytes(u64),
}

/// A group of benches compared with a machine.
pub struct Against<'a, 'c> {
    group: BenchmarkGroup<'c, WallTime>,
    machine: &'a Machine,
}

impl<'a, 'c> Against<'a, 'c> {
    /// Wraps a group.
    pub fn new(group: BenchmarkGroup<'c, WallTime>, machine: &'a Machine) -> Self {
        Against { group, machine }
    }

    /// Times `call` and prints the median with its share of the limit; whether the row was asked for.
    pub fn bench(&mut self, id: &str, work: Work, mut call: impl FnMut()) -> bool {
        self.group.throughput(match work {
            Work::Operations(n) | Work::OperationsI8(n) => Throughput::Elements(n),
            Work::Bytes(n) => Throughput::Bytes(n),
        });
        let mut samples: Vec<f64> = Vec::new();
        self.group.bench_function(id, |b| {
            b.iter_custom(|calls| {
                let start = Instant::now();
                (0..calls).for_each(|_| call());
                let took: Duration = start.elapsed();
                samples.push(took.as_secs_f64() / calls as f64);
                took
            })
        });
        // The first calls warm up with few repetitions; they are the outliers that a median is for.
        samples.sort_by(f64::total_cmp);
        let Some(median) = samples.get(samples.len() / 2) else { return false };
        let (n, unit, limit, of) = match work {
            Work::Operations(n) => (n, "GFLOP/s", self.machine.gflops(), "peak"),
            Work::OperationsI8(n) => (n, "GOP/s", self.machine.gops_i8(), "peak"),
            Work::Bytes(n) => (n, "GB/s", self.machine.gbytes(), "memory"),
        };
        let rate = n as f64 / median / 1e9;
        println!("{:>28} {rate:.1} {unit}, {:.0}% of {of}", "", 100.0 * rate / limit);
        true
    }

    /// Ends the group.
    pub fn finish(self) {
        self.group.finish();
    }
}
