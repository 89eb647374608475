//! What this device is and what the process may take of it: memory, cores, instruction set; the account of the
//! memory budget; the thread pool.
//!
//! A process makes one [`Device`] and shares it: all models and sessions draw on its one ledger and its one pool.
#![deny(missing_docs)]

mod cgroup;
mod cpu;
mod error;
#[cfg(test)]
mod fixture;
mod ledger;
mod limits;
mod memory;
mod pool;
mod process;
mod resident;
mod scratch;
mod size;

use std::fmt;
use std::sync::Arc;

use edge_kernels::Isa;

pub use cpu::{Caches, CpuInfo, CpuQuota, MAX_THREADS, ThreadChoice, ThreadSource, isa_in_force};
pub use error::DeviceError;
pub use ledger::{BudgetError, Holding, Ledger, Reservation};
pub use limits::{Limits, Read};
pub use memory::{LimitSource, MemoryLimit};
pub use pool::{Pool, STACK_BYTES};
pub use resident::{current_rss, page_size, peak_rss, reset_peak, trim_heap};
pub use scratch::{Scratch, ScratchSlot};
pub use size::{ByteSize, SizeError};

/// The device as this process sees it.
#[derive(Debug)]
pub struct Device {
    cpu: CpuInfo,
    isa: Isa,
    bf16: bool,
    bake: bool,
    threads: ThreadChoice,
    limit: MemoryLimit,
    pool: Pool,
    ledger: Arc<Ledger>,
    /// What the process has beside its sessions, once that is known.
    process: process::Held,
}

/// What to fix instead of probing; see [`Device::builder`].
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceBuilder {
    threads: Option<usize>,
    isa: Option<Isa>,
    budget: Option<u64>,
    bf16: bool,
    bake: bool,
    unpinned: bool,
}

impl Device {
    /// Starts a device that takes everything the process may use.
    ///
    /// ```
    /// use edge_runtime::device::Device;
    /// let device = Device::builder().threads(Some(2)).budget(Some(512_000_000)).build()?;
    /// assert_eq!(device.pool().threads(), 2);
    /// assert_eq!(device.ledger().budget(), 512_000_000);
    /// # Ok::<(), edge_runtime::device::DeviceError>(())
    /// ```
    pub fn builder() -> DeviceBuilder {
        DeviceBuilder::default()
    }

    /// What is known about the CPU.
    pub fn cpu(&self) -> &CpuInfo {
        &self.cpu
    }

    /// The instruction-set level that kernels are chosen for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The number of threads of [`Device::pool`] and what decided it.
    pub fn threads(&self) -> ThreadChoice {
        self.threads
    }

    /// The memory budget and what decided it.
    pub fn limit(&self) -> &MemoryLimit {
        &self.limit
    }

    /// Whether products of floats round their operands to bf16: it was asked for, and this CPU multiplies it faster.
    pub fn bf16(&self) -> bool {
        self.bf16
    }

    /// Whether what kernels make of weights is kept between runs.
    pub fn bake(&self) -> bool {
        self.bake
    }

    /// The threads that kernels run on.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The account of the memory budget.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }
}

impl DeviceBuilder {
    /// Threads to compute on, the caller's own included; `None`: [`CpuInfo::threads_default`].
    pub fn threads(mut self, threads: Option<usize>) -> Self {
        self.threads = threads;
        self
    }

    /// Instruction-set level to use; `None`: [`isa_in_force`].
    pub fn isa(mut self, isa: Option<Isa>) -> Self {
        self.isa = isa;
        self
    }

    /// Rounds the operands of products of floats to bf16 where this CPU multiplies it faster: less time, and another quality than the
    /// one that a pack states for its rungs.
    pub fn bf16(mut self, allowed: bool) -> Self {
        self.bf16 = allowed;
        self
    }

    /// Keeps what kernels make of weights between runs where the budget has room: less time, and a copy of some weights in memory.
    pub fn bake(mut self, allowed: bool) -> Self {
        self.bake = allowed;
        self
    }

    /// Whether each worker stays on a CPU of its own (the default, where the CPUs are this process's alone). The caller's thread is
    /// never kept anywhere.
    pub fn pin(mut self, pin: bool) -> Self {
        self.unpinned = !pin;
        self
    }

    /// Memory budget in bytes; `None`: [`MemoryLimit::probe`]. A budget above what the system allows is taken as
    /// said, with a warning in the log.
    pub fn budget(mut self, bytes: Option<u64>) -> Self {
        self.budget = bytes;
        self
    }

    /// Probes what is not given and starts the worker threads. The ledger starts empty: what the process has
    /// resident already and [`Pool::stack_bytes`] are for its users to reserve ([`Device::hold_process`]).
    ///
    /// # Errors
    /// When a number of threads or an instruction set, given here or in the environment, cannot be had; when no
    /// budget is given and the system does not tell its own; when the system refuses a thread.
    pub fn build(self) -> Result<Arc<Device>, DeviceError> {
        let isa = match self.isa {
            Some(isa) => cpu::check_isa(isa)?,
            None => isa_in_force()?,
        };
        let cpu = CpuInfo::probe();
        let threads = match self.threads {
            Some(count) => ThreadChoice { count, source: ThreadSource::Requested },
            None => cpu.threads_default()?,
        };
        let allowed = MemoryLimit::probe();
        let limit = match self.budget {
            Some(bytes) => MemoryLimit { bytes, source: LimitSource::Requested },
            None => allowed.clone().ok_or(DeviceError::NoMemoryLimit)?,
        };
        if let Some(allowed) = allowed.filter(|allowed| allowed.bytes < limit.bytes) {
            log::warn!("memory budget {} is more than the system allows: {allowed}", ByteSize(limit.bytes));
        }
        // Under a quota, or with more threads than CPUs, others run on them too: the system knows better where there is room.
        let own = threads.count <= cpu.available() && cpu.available() == cpu.allowed;
        let pinned = if self.unpinned || !own {
            Vec::new()
        } else {
            cpu::worker_cpus(threads.count.saturating_sub(1))
        };
        let pool = Pool::on(threads.count, cpu.available(), &pinned)?;
        let ledger = Ledger::new(limit.bytes);
        let bf16 = self.bf16 && edge_kernels::cpu::gemm_bf16::select(isa).is_some();
        let device = Device {
            cpu,
            isa,
            bf16,
            bake: self.bake,
            threads,
            limit,
            pool,
            ledger,
            process: Default::default(),
        };
        log::debug!("{device}");
        Ok(Arc::new(device))
    }
}

impl fmt::Display for Device {
    /// Several lines for people: CPU, caches, instruction set, threads, memory.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.cpu)?;
        writeln!(f, "instruction set: {}", self.isa)?;
        writeln!(f, "threads: {}", self.threads)?;
        write!(f, "memory: {}", self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_taken() {
        let device =
            Device::builder().threads(Some(3)).isa(Some(Isa::Scalar)).budget(Some(0)).build().unwrap();
        assert_eq!((device.pool().threads(), device.isa(), device.ledger().budget()), (3, Isa::Scalar, 0));
        assert_eq!(device.threads().source, ThreadSource::Requested);
        assert!(device.to_string().ends_with("memory: 0 bytes, set by the caller"), "{device}");
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_the_remedy() {
        for asked in [0, MAX_THREADS + 1] {
            let error = Device::builder().threads(Some(asked)).budget(Some(1)).build().unwrap_err();
            assert_eq!(error.to_string(), format!("{asked} threads asked for; give 1 to 512"));
        }
        let foreign = if cfg!(target_arch = "aarch64") { Isa::Avx2 } else { Isa::Neon };
        let error = Device::builder().isa(Some(foreign)).budget(Some(1)).build().unwrap_err();
        assert!(error.to_string().contains("it supports scalar"), "{error}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_sets_the_budget_when_nobody_does() {
        let device = Device::builder().threads(Some(1)).build().unwrap();
        assert_ne!(device.limit().source, LimitSource::Requested);
        assert_eq!(device.ledger().budget(), device.limit().bytes);
    }
}
