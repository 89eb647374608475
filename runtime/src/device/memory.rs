//! How much memory this process may use.

use crate::sort;
use std::fmt;
use std::path::PathBuf;

use super::cgroup::{Cgroups, FileTree};
use super::size::ByteSize;

/// Memory that is left to the rest of the system when the limit is taken from what is available now.
const LEAST_MARGIN: u64 = 64 << 20;

/// 5%: what a desktop or phone moves by on its own within seconds.
const MARGIN_DIVISOR: u64 = 20;

/// A version 1 group without a limit reports the largest page-aligned i64; nothing near 2^62 is a real limit.
const NO_LIMIT_V1: u64 = 1 << 62;

/// The most bytes this process may have, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The limit in bytes.
    pub bytes: u64,
    /// Where it comes from.
    pub source: LimitSource,
}

/// What sets a memory limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitSource {
    /// The caller, for example by `--mem`.
    Requested,
    /// A control group: the file that holds the limit.
    Cgroup {
        /// Directory of the group.
        dir: PathBuf,
        /// `memory.max`, `memory.high` or, for version 1, `memory.limit_in_bytes`.
        file: &'static str,
    },
    /// A resource limit of the process: `RLIMIT_AS` or `RLIMIT_DATA`.
    Rlimit(&'static str),
    /// What the kernel estimates to be available without swapping.
    Available {
        /// `MemAvailable` in bytes.
        available: u64,
        /// Bytes left to the rest of the system.
        margin: u64,
    },
}

impl MemoryLimit {
    /// The least of all limits in force; `None` where the system does not tell (so far: anything but Linux and
    /// Android).
    pub fn probe() -> Option<MemoryLimit> {
        MemoryLimit::all().into_iter().next()
    }

    /// Every limit in force, least first: `memory.max` and `memory.high` of each version 2 control group above this
    /// process, `memory.limit_in_bytes` of each version 1 group, RLIMIT_AS, RLIMIT_DATA, and MemAvailable less
    /// max(64 MiB, 5%).
    ///
    /// The control group and resource limits include what the process has already; MemAvailable comes on top of
    /// it, so taken late in a process's life that limit is on the safe side.
    pub fn all() -> Vec<MemoryLimit> {
        MemoryLimit::all_in(&FileTree::system())
    }

    pub(super) fn all_in(files: &FileTree) -> Vec<MemoryLimit> {
        let cgroups = Cgroups::of_process(files);
        let mut limits = Vec::new();
        let groups = [
            (&cgroups.v2, "memory.max"),
            (&cgroups.v2, "memory.high"),
            (&cgroups.memory_v1, "memory.limit_in_bytes"),
        ];
        for (dirs, file) in groups {
            for dir in dirs {
                if let Some(bytes) = files.read(dir.join(file)).as_deref().and_then(parse_cgroup_limit) {
                    limits
                        .push(MemoryLimit { bytes, source: LimitSource::Cgroup { dir: dir.clone(), file } });
                }
            }
        }
        if let Some(text) = files.read("/proc/self/limits") {
            for (name, title) in [("RLIMIT_AS", "Max address space"), ("RLIMIT_DATA", "Max data size")] {
                if let Some(bytes) = parse_rlimit(&text, title) {
                    limits.push(MemoryLimit { bytes, source: LimitSource::Rlimit(name) });
                }
            }
        }
        if let Some(available) = files.read("/proc/meminfo").as_deref().and_then(parse_mem_available) {
            let margin = LEAST_MARGIN.max(available / MARGIN_DIVISOR);
            let bytes = available.saturating_sub(margin);
            limits.push(MemoryLimit { bytes, source: LimitSource::Available { available, margin } });
        }
        sort::by_key(&mut limits, |limit| limit.bytes);
        limits
    }
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, set by {}", ByteSize(self.bytes), self.source)
    }
}

impl fmt::Display for LimitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitSource::Requested => f.write_str("the caller"),
            LimitSource::Cgroup { dir, file } => write!(f, "cgroup {} {file}", dir.display()),
            LimitSource::Rlimit(name) => f.write_str(name),
            LimitSource::Available { available, margin } => {
                write!(f, "MemAvailable {} less a margin of {}", ByteSize(*available), ByteSize(*margin))
            }
        }
    }
}

/// A cgroup memory file: bytes, or `max` for no limit (also: the v1 value that means none).
fn parse_cgroup_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < NO_LIMIT_V1)
}

/// The soft limit of one line of `/proc/self/limits`; `None` when it is `unlimited`.
fn parse_rlimit(text: &str, title: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(title))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `MemAvailable` of `/proc/meminfo` in bytes; `None` on kernels before 3.14.
fn parse_mem_available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    const MOUNTS: &str = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                          31 25 0:27 / /sys/fs/cgroup1/memory rw - cgroup cgroup rw,memory\n";
    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units     \n\
Max data size             unlimited            unlimited            bytes     \n\
Max address space         4294967296           unlimited            bytes     \n";

    #[test]
    fn the_least_limit_comes_first_and_names_its_file() {
        let fixture = Fixture::new("limits");
        fixture.write("/proc/self/cgroup", "5:memory:/legacy\n0::/apps/edge\n");
        fixture.write("/proc/self/mountinfo", MOUNTS);
        fixture.write("/proc/self/limits", LIMITS);
        fixture.write("/proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable:    2097152 kB\n");
        fixture.write("/sys/fs/cgroup/apps/edge/memory.max", "max\n");
        fixture.write("/sys/fs/cgroup/apps/edge/memory.high", "600000000\n");
        fixture.write("/sys/fs/cgroup/apps/memory.max", "536870912\n");
        fixture.write("/sys/fs/cgroup1/memory/legacy/memory.limit_in_bytes", "9223372036854771712\n");
        fixture.write("/sys/fs/cgroup1/memory/memory.limit_in_bytes", "1000000000\n");
        let all = MemoryLimit::all_in(&fixture.files());
        let printed: Vec<String> = all.iter().map(|limit| limit.to_string()).collect();
        assert_eq!(
            printed,
            [
                "512 MiB (536,870,912 bytes), set by cgroup /sys/fs/cgroup/apps memory.max",
                "600 MB (600,000,000 bytes), set by cgroup /sys/fs/cgroup/apps/edge memory.high",
                "1 GB (1,000,000,000 bytes), set by cgroup /sys/fs/cgroup1/memory memory.limit_in_bytes",
                "~2.04 GB (2,040,109,466 bytes), set by MemAvailable 2 GiB (2,147,483,648 bytes) less a margin of \
                 ~107.37 MB (107,374,182 bytes)",
                "4 GiB (4,294,967,296 bytes), set by RLIMIT_AS",
            ]
        );
    }

    #[test]
    fn little_memory_leaves_64_mib_or_nothing() {
        let fixture = Fixture::new("little");
        fixture.write("/proc/meminfo", "MemAvailable: 102400 kB\n");
        assert_eq!(MemoryLimit::all_in(&fixture.files())[0].bytes, 36 << 20);
        fixture.write("/proc/meminfo", "MemAvailable: 1024 kB\n");
        assert_eq!(MemoryLimit::all_in(&fixture.files())[0].bytes, 0);
    }

    #[test]
    fn a_system_that_tells_nothing_gives_nothing() {
        let fixture = Fixture::new("nothing");
        assert_eq!(MemoryLimit::all_in(&fixture.files()), []);
        fixture.write("/proc/meminfo", "MemFree: 1 kB\nMemAvailable: many kB\n");
        fixture.write("/proc/self/limits", "Max address space\nMax data size unlimited\n");
        assert_eq!(MemoryLimit::all_in(&fixture.files()), []);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_a_limit() {
        let limit = MemoryLimit::probe().unwrap();
        assert!(limit.bytes > 1 << 20, "{limit}");
    }
}
