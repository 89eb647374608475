//! Why a device cannot be set up.

use edge_kernels::Isa;

use super::cpu::MAX_THREADS;

/// A refusal of [`super::DeviceBuilder::build`] or of a probe it uses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// EDGE_THREADS cannot be used.
    #[error(
        "environment variable EDGE_THREADS is `{value}`; set it to a whole number from 1 to {MAX_THREADS}, or unset \
         it for one thread a CPU"
    )]
    ThreadsVariable {
        /// What the variable holds.
        value: String,
    },
    /// The caller asks for no thread or for too many.
    #[error("{asked} threads asked for; give 1 to {MAX_THREADS}")]
    Threads {
        /// The number asked for.
        asked: usize,
    },
    /// EDGE_ISA names no instruction-set level.
    #[error(
        "environment variable EDGE_ISA is `{value}`, which names no instruction set; this CPU supports {supported}"
    )]
    IsaVariable {
        /// What the variable holds.
        value: String,
        /// Names that would be accepted.
        supported: String,
    },
    /// The level asked for is not one of this CPU's.
    #[error("this CPU does not support instruction set {isa}; it supports {supported}")]
    IsaUnsupported {
        /// The level asked for.
        isa: Isa,
        /// Names that would be accepted.
        supported: String,
    },
    /// The system does not tell how much memory there is.
    #[error("this system does not tell how much memory the process may use; give a budget (--mem 512MB)")]
    NoMemoryLimit,
    /// The system refuses a worker thread.
    #[error(
        "cannot start worker thread {worker} of {threads} threads; ask for fewer (--threads, EDGE_THREADS)"
    )]
    Spawn {
        /// Index of the worker.
        worker: usize,
        /// Threads asked for.
        threads: usize,
        /// What the system answered.
        source: std::io::Error,
    },
}

impl DeviceError {
    /// Whether the caller asked for something that cannot be, rather than the system refusing it.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            DeviceError::ThreadsVariable { .. }
                | DeviceError::Threads { .. }
                | DeviceError::IsaVariable { .. }
                | DeviceError::IsaUnsupported { .. }
        )
    }
}
