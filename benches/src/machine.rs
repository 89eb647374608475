//! What one core of this machine can do, measured before anything is compared with it.

use edge_kernels::Isa;
use edge_runtime::device::{CpuInfo, Limits, Pool};
use std::fmt;

/// Limits of one thread.
#[derive(Clone, Debug)]
pub struct Machine(Limits);

impl Machine {
    /// Measures; takes about two seconds.
    ///
    /// # Panics
    /// When no pool of one thread can be made.
    pub fn measure() -> Machine {
        let pool = Pool::new(1).expect("a pool of one thread starts none");
        Machine(Limits::measure(&pool, Isa::detect(), &CpuInfo::probe().caches, u64::MAX))
    }

    /// Fused multiply-adds of f32, as 10^9 floating-point operations a second: two each.
    pub fn gflops(&self) -> f64 {
        self.0.f32_gflops
    }

    /// Exact multiply-adds of i8 to i32, as 10^9 operations a second: two each.
    pub fn gops_i8(&self) -> f64 {
        self.0.i8_gops
    }

    /// Bytes read in order from an array that no cache holds, 10^9 a second.
    pub fn gbytes(&self) -> f64 {
        self.0.memory_gbytes()
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "one thread: {:.1} GFLOP/s of f32 multiply-adds, {:.1} GOP/s of i8, {:.1} GB/s read",
            self.gflops(),
            self.gops_i8(),
            self.gbytes()
        )
    }
}
