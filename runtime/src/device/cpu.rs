//! The cores this process may use: how many, of what kind, with which caches.

use std::fmt;

use edge_kernels::Isa;

use super::cgroup::{Cgroups, FileTree};
use super::error::DeviceError;
use super::size::ByteSize;

/// The most threads a pool may have. A bound on what a typing error can cost, above any core count this runtime is
/// meant for; kept below the 16 bits in which the pool counts its workers.
pub const MAX_THREADS: usize = 512;

/// What is known about the CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuInfo {
    /// Model name as the system gives it, or `unknown`.
    pub model: String,
    /// Architecture this program is compiled for, such as `x86_64`.
    pub arch: &'static str,
    /// Highest instruction-set level of the CPU. The one in force may be lower, see [`isa_in_force`].
    pub isa: Isa,
    /// CPUs that this thread may be scheduled on; at least 1.
    pub allowed: usize,
    /// Share of CPU time granted by control groups, if they limit it.
    pub quota: Option<CpuQuota>,
    /// Cache sizes of the first allowed CPU.
    pub caches: Caches,
}

/// CPU time per period that a control group grants to all of its threads together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuQuota {
    /// Microseconds of CPU time in a period.
    pub quota_us: u64,
    /// Length of a period in microseconds; never 0.
    pub period_us: u64,
    /// The file that says so.
    pub source: String,
}

/// Data cache sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caches {
    /// Level 1, data, of one core.
    pub l1d: u64,
    /// Level 2.
    pub l2: u64,
    /// Level 3, shared by several cores; `None` where there is none or the system does not tell.
    pub l3: Option<u64>,
    /// Whether the system told; otherwise `l1d` and `l2` are the defaults of [`Caches::ASSUMED`].
    pub measured: bool,
}

/// How many threads to use, and why so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadChoice {
    /// Threads, the caller's own included; 1 to [`MAX_THREADS`].
    pub count: usize,
    /// What decided.
    pub source: ThreadSource,
}

/// What decides the number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadSource {
    /// The caller, for example by `--threads`.
    Requested,
    /// The variable EDGE_THREADS.
    EdgeThreads,
    /// The variable OMP_NUM_THREADS, which can only lower the number.
    OmpNumThreads,
    /// The CPU quota of a control group.
    Quota,
    /// The CPUs that the process may run on.
    Allowed,
}

impl CpuInfo {
    /// Asks the system. What it does not tell is filled with a stated default, never an error.
    pub fn probe() -> CpuInfo {
        CpuInfo::probe_in(&FileTree::system(), &allowed_cpus())
    }

    fn probe_in(files: &FileTree, allowed: &[usize]) -> CpuInfo {
        CpuInfo {
            model: model_name(files).unwrap_or_else(|| "unknown".to_string()),
            arch: std::env::consts::ARCH,
            isa: Isa::detect(),
            allowed: allowed.len().max(1),
            quota: CpuQuota::probe(files),
            caches: Caches::probe(files, allowed.first().copied().unwrap_or(0)),
        }
    }

    /// CPUs worth of time this process gets: the allowed CPUs, at most the whole CPUs of the quota, at least 1. A
    /// quota of 1.5 CPUs counts as 1: a second thread would be stopped half of the time and the first would wait.
    pub fn available(&self) -> usize {
        self.quota.as_ref().map_or(self.allowed, |quota| self.allowed.min(quota.whole_cpus()))
    }

    /// The number of threads to use when the caller does not say: EDGE_THREADS, else [`CpuInfo::available`], lowered
    /// by OMP_NUM_THREADS where that is set.
    ///
    /// # Errors
    /// When EDGE_THREADS is not a whole number from 1 to [`MAX_THREADS`].
    pub fn threads_default(&self) -> Result<ThreadChoice, DeviceError> {
        self.choose_threads(variable("EDGE_THREADS").as_deref(), variable("OMP_NUM_THREADS").as_deref())
    }

    fn choose_threads(&self, edge: Option<&str>, omp: Option<&str>) -> Result<ThreadChoice, DeviceError> {
        if let Some(value) = edge {
            let count = value.trim().parse().ok().filter(|n| (1..=MAX_THREADS).contains(n));
            let count = count.ok_or_else(|| DeviceError::ThreadsVariable { value: value.to_string() })?;
            return Ok(ThreadChoice { count, source: ThreadSource::EdgeThreads });
        }
        let count = self.available().min(MAX_THREADS);
        // A list gives one number for each level of nesting. This is another program's variable: what we cannot
        // read in it is none of our business.
        let hint =
            omp.and_then(|list| list.split(',').next()?.trim().parse::<usize>().ok()).filter(|n| *n > 0);
        Ok(match hint {
            Some(hint) if hint < count => ThreadChoice { count: hint, source: ThreadSource::OmpNumThreads },
            _ if count < self.allowed.min(MAX_THREADS) => ThreadChoice { count, source: ThreadSource::Quota },
            _ => ThreadChoice { count, source: ThreadSource::Allowed },
        })
    }
}

/// The instruction-set level that kernels are chosen for: EDGE_ISA when it is set, else the highest the CPU has.
///
/// # Errors
/// When EDGE_ISA names no level, or one that this CPU does not have.
pub fn isa_in_force() -> Result<Isa, DeviceError> {
    choose_isa(variable("EDGE_ISA").as_deref())
}

fn choose_isa(name: Option<&str>) -> Result<Isa, DeviceError> {
    match name {
        None => Ok(Isa::detect()),
        Some(name) => match Isa::from_name(name) {
            Some(isa) => check_isa(isa),
            None => Err(DeviceError::IsaVariable { value: name.to_string(), supported: supported_isas() }),
        },
    }
}

/// `isa` when this CPU supports it.
pub(super) fn check_isa(isa: Isa) -> Result<Isa, DeviceError> {
    if isa.supported() {
        Ok(isa)
    } else {
        Err(DeviceError::IsaUnsupported { isa, supported: supported_isas() })
    }
}

fn supported_isas() -> String {
    let names: Vec<&str> = Isa::ALL.into_iter().filter(|isa| isa.supported()).map(Isa::name).collect();
    names.join(", ")
}

/// An environment variable; set but empty counts as not set. What is not Unicode keeps its shape, so that the error
/// about it can show it.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()).filter(|value| !value.is_empty())
}

impl CpuQuota {
    /// Whole CPUs of the quota, at least 1.
    pub fn whole_cpus(&self) -> usize {
        usize::try_from(self.quota_us / self.period_us).unwrap_or(usize::MAX).max(1)
    }

    /// The tightest quota on the way from this process's group up.
    fn probe(files: &FileTree) -> Option<CpuQuota> {
        let cgroups = Cgroups::of_process(files);
        let v2 = cgroups.v2.iter().filter_map(|dir| {
            let file = dir.join("cpu.max");
            let text = files.read(&file)?;
            let (quota, period) = text.trim().split_once(' ')?;
            CpuQuota::parse(quota, period, file.display().to_string())
        });
        let v1 = cgroups.cpu_v1.iter().filter_map(|dir| {
            let file = dir.join("cpu.cfs_quota_us");
            let (quota, period) = (files.read(&file)?, files.read(dir.join("cpu.cfs_period_us"))?);
            CpuQuota::parse(quota.trim(), period.trim(), file.display().to_string())
        });
        v2.chain(v1).min_by_key(|quota| u128::from(quota.quota_us) * 1_000_000 / u128::from(quota.period_us))
    }

    /// `max` (version 2) and -1 (version 1) mean no quota.
    fn parse(quota: &str, period: &str, source: String) -> Option<CpuQuota> {
        let (quota_us, period_us) = (quota.parse().ok()?, period.parse().ok().filter(|p| *p > 0)?);
        Some(CpuQuota { quota_us, period_us, source })
    }
}

impl Caches {
    /// Used where the system does not tell: the least that a core of this class has (Cortex-A53 and later: 32 KiB;
    /// L2 from 256 KiB on). Blocks cut for a smaller cache cost a little, for a larger one much.
    pub const ASSUMED: Caches = Caches { l1d: 32 << 10, l2: 256 << 10, l3: None, measured: false };

    fn probe(files: &FileTree, cpu: usize) -> Caches {
        let mut caches = Caches::ASSUMED;
        for index in 0..8 {
            let dir = format!("/sys/devices/system/cpu/cpu{cpu}/cache/index{index}");
            let field = |name| files.read(format!("{dir}/{name}"));
            let (Some(level), Some(kind), Some(size)) = (field("level"), field("type"), field("size")) else {
                continue;
            };
            let (Some(size), true) = (parse_cache_size(&size), kind.trim() != "Instruction") else {
                continue;
            };
            match level.trim() {
                "1" => caches.l1d = size,
                "2" => caches.l2 = size,
                "3" => caches.l3 = Some(size),
                _ => continue,
            }
            caches.measured = true;
        }
        caches
    }
}

/// `48K` or `8M` of sysfs, in bytes.
fn parse_cache_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, scale) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    number.parse::<u64>().ok()?.checked_mul(scale).filter(|bytes| *bytes > 0)
}

/// The name a person would call this CPU or board by. x86 has `model name`; ARM kernels give numbers only, so the
/// board's name from the device tree is the better answer there.
fn model_name(files: &FileTree) -> Option<String> {
    let text = files.read("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name && !value.trim().is_empty()).then(|| value.trim().to_string())
        })
    };
    let board = || {
        let model = files.read("/sys/firmware/devicetree/base/model")?;
        Some(model.trim_end_matches(['\0', '\n']).to_string()).filter(|name| !name.is_empty())
    };
    let numbers = || Some(format!("implementer {}, part {}", field("CPU implementer")?, field("CPU part")?));
    field("model name").or_else(|| field("Hardware")).or_else(board).or_else(numbers)
}

/// Numbers of the CPUs that the calling thread may run on. Where the system does not list them: 0, 1, ... as many as
/// it counts.
pub(super) fn allowed_cpus() -> Vec<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // The kernel refuses a mask shorter than its own, so grow until it fits: 1024 to 65536 CPUs.
        let mut words: Vec<libc::c_ulong> = vec![0; 1024 / libc::c_ulong::BITS as usize];
        while words.len() * libc::c_ulong::BITS as usize <= 65_536 {
            let bytes = std::mem::size_of_val(words.as_slice());
            // SAFETY: the kernel writes at most `bytes` bytes, which is the size of `words`; 0 is this thread.
            let got = unsafe { libc::sched_getaffinity(0, bytes, words.as_mut_ptr().cast()) };
            if got == 0 {
                return set_bits(&words);
            }
            words = vec![0; words.len() * 2];
        }
        // SAFETY: sysconf reads a number of the system and touches no memory of ours.
        let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
        (0..usize::try_from(online).unwrap_or(1).max(1)).collect()
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        (0..std::thread::available_parallelism().map_or(1, |n| n.get())).collect()
    }
}

/// CPUs for as many workers beside the calling thread: the fastest of those that are allowed, not the one where the caller is.
/// Empty where the system does not say, or there are not enough.
pub(super) fn worker_cpus(workers: usize) -> Vec<usize> {
    let mut cpus = allowed_cpus();
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // SAFETY: sched_getcpu touches no memory of ours.
        let here = usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(usize::MAX);
        cpus.retain(|cpu| *cpu != here);
        // Relative to the fastest, on systems whose CPUs differ.
        let capacity = |cpu: &usize| {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/cpu_capacity");
            std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0u32)
        };
        // Each is asked once: the files are slow.
        let mut all: Vec<(usize, u32)> = cpus.iter().map(|cpu| (*cpu, capacity(cpu))).collect();
        crate::sort::by_key(&mut all, |(_, capacity)| std::cmp::Reverse(*capacity));
        cpus = all.into_iter().map(|(cpu, _)| cpu).collect();
    }
    if cpus.len() < workers || cfg!(not(any(target_os = "linux", target_os = "android"))) {
        return Vec::new();
    }
    cpus.truncate(workers);
    cpus
}

/// Keeps the calling thread on one CPU.
///
/// # Errors
/// When the system refuses.
pub(super) fn pin(cpu: usize) -> std::io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let bits = libc::c_ulong::BITS as usize;
        let mut words: Vec<libc::c_ulong> = vec![0; cpu / bits + 1];
        words[cpu / bits] |= 1 << (cpu % bits);
        let bytes = std::mem::size_of_val(words.as_slice());
        // SAFETY: the kernel reads `bytes` bytes, which is the size of `words`; 0 is this thread.
        match unsafe { libc::sched_setaffinity(0, bytes, words.as_ptr().cast()) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = cpu;
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_bits(words: &[libc::c_ulong]) -> Vec<usize> {
    let bits = libc::c_ulong::BITS as usize;
    (0..words.len() * bits).filter(|cpu| words[cpu / bits] >> (cpu % bits) & 1 == 1).collect()
}

impl fmt::Display for CpuInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "CPU: {} ({}, up to {})", self.model, self.arch, self.isa)?;
        write!(f, "CPUs: {} allowed", self.allowed)?;
        match &self.quota {
            Some(quota) => writeln!(f, ", {quota}")?,
            None => writeln!(f, ", no quota")?,
        }
        write!(f, "caches: {}", self.caches)
    }
}

impl fmt::Display for CpuQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CpuQuota { quota_us, period_us, source } = self;
        write!(f, "quota {:.2} CPUs by {source}", *quota_us as f64 / *period_us as f64)
    }
}

impl fmt::Display for Caches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L1d {}, L2 {}, ", ByteSize(self.l1d), ByteSize(self.l2))?;
        match self.l3 {
            Some(l3) => write!(f, "L3 {}", ByteSize(l3))?,
            None => f.write_str("L3 unknown")?,
        }
        f.write_str(if self.measured { "" } else { " (assumed)" })
    }
}

impl fmt::Display for ThreadChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.source {
            ThreadSource::Requested => "set by the caller",
            ThreadSource::EdgeThreads => "set by EDGE_THREADS",
            ThreadSource::OmpNumThreads => "lowered by OMP_NUM_THREADS",
            ThreadSource::Quota => "whole CPUs of the quota",
            ThreadSource::Allowed => "one for each allowed CPU",
        };
        write!(f, "{} ({source})", self.count)
    }
}

#[cfg(test)]
#[path = "cpu_tests.rs"]
mod tests;
