//! Where the control groups of this process keep their files.
//!
//! A limit set anywhere on the way from a process's group up to the root of the hierarchy binds the process, so
//! every probe asks all directories of that way. Version 1 has one hierarchy a controller, version 2 has one for
//! all; hybrid systems mount both.

use std::fs;
use std::path::{Path, PathBuf};

/// The file tree that probes read: `/`, or a test's own.
#[derive(Clone, Debug)]
pub(super) struct FileTree {
    root: PathBuf,
}

impl FileTree {
    /// The tree of the running system.
    pub(super) fn system() -> FileTree {
        FileTree { root: PathBuf::from("/") }
    }

    /// A tree below `root`, in which `/proc/meminfo` is `root/proc/meminfo`.
    #[cfg(test)]
    pub(super) fn below(root: impl Into<PathBuf>) -> FileTree {
        FileTree { root: root.into() }
    }

    /// The text of a file given by its absolute path; `None` when it is missing, unreadable or not UTF-8. A probe
    /// treats all of these alike: the system does not tell.
    pub(super) fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        let path = path.as_ref();
        fs::read_to_string(self.root.join(path.strip_prefix("/").unwrap_or(path))).ok()
    }
}

/// Directories that limit this process, innermost first; empty where a hierarchy is not mounted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Cgroups {
    /// Version 2, all controllers.
    pub(super) v2: Vec<PathBuf>,
    /// Version 1, controller `memory`.
    pub(super) memory_v1: Vec<PathBuf>,
    /// Version 1, controller `cpu`.
    pub(super) cpu_v1: Vec<PathBuf>,
}

impl Cgroups {
    /// The groups of the calling process; none where the system has no control groups.
    pub(super) fn of_process(files: &FileTree) -> Cgroups {
        match (files.read("/proc/self/cgroup"), files.read("/proc/self/mountinfo")) {
            (Some(membership), Some(mounts)) => Cgroups::parse(&membership, &mounts),
            _ => Cgroups::default(),
        }
    }

    /// From the texts of `/proc/self/cgroup` (`id:controllers:path`, version 2 as `0::path`) and
    /// `/proc/self/mountinfo` (formats: proc_pid_cgroup(5), proc_pid_mountinfo(5)).
    pub(super) fn parse(membership: &str, mounts: &str) -> Cgroups {
        let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::parse).collect();
        let mut cgroups = Cgroups::default();
        for line in membership.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if controllers.is_empty() {
                let mount = mounts.iter().find(|m| m.controllers.is_none());
                cgroups.v2 = mount.map(|m| m.way_up(path)).unwrap_or_default();
            }
            for controller in controllers.split(',') {
                let way = || {
                    mounts.iter().find(|m| m.serves(controller)).map(|m| m.way_up(path)).unwrap_or_default()
                };
                match controller {
                    "memory" => cgroups.memory_v1 = way(),
                    "cpu" => cgroups.cpu_v1 = way(),
                    _ => {}
                }
            }
        }
        cgroups
    }
}

/// A mounted cgroup hierarchy.
struct Mount {
    /// The group shown at `point`: not `/` when a container sees only its own part.
    root: String,
    point: PathBuf,
    /// Version 1 controllers; `None` for version 2.
    controllers: Option<Vec<String>>,
}

impl Mount {
    fn parse(line: &str) -> Option<Mount> {
        let (head, tail) = line.split_once(" - ")?;
        let mut head = head.split(' ').skip(3);
        let (root, point) = (unescape(head.next()?), unescape(head.next()?));
        let mut tail = tail.split(' ');
        let controllers = match tail.next()? {
            "cgroup2" => None,
            "cgroup" => Some(tail.nth(1)?.split(',').map(str::to_string).collect()),
            _ => return None,
        };
        Some(Mount { root, point: PathBuf::from(point), controllers })
    }

    fn serves(&self, controller: &str) -> bool {
        self.controllers.as_ref().is_some_and(|c| c.iter().any(|name| name == controller))
    }

    /// The directory of group `path`, its parent, and so on up to the mount point.
    fn way_up(&self, path: &str) -> Vec<PathBuf> {
        let inside = match path.strip_prefix(self.root.trim_end_matches('/')) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
            // The group lies outside of what is mounted here; the mount point is all that can be seen of it.
            _ => "",
        };
        let parts: Vec<&str> = inside.split('/').filter(|part| !part.is_empty()).collect();
        if parts.contains(&"..") {
            return vec![self.point.clone()];
        }
        (0..=parts.len())
            .rev()
            .map(|depth| parts[..depth].iter().fold(self.point.clone(), |p, s| p.join(s)))
            .collect()
    }
}

/// Undoes mountinfo's octal escapes (`\040` is a space).
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        match rest.get(at + 1..at + 4).and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) if byte.is_ascii() => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            _ => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::{Cgroups, unescape};
    use std::path::PathBuf;

    fn paths(list: &[&str]) -> Vec<PathBuf> {
        list.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn version_2_walks_up_to_the_mount_point() {
        let cgroups = Cgroups::parse(
            "0::/user.slice/app.scope\n",
            "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
             30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
        );
        assert_eq!(
            cgroups.v2,
            paths(&["/sys/fs/cgroup/user.slice/app.scope", "/sys/fs/cgroup/user.slice", "/sys/fs/cgroup"])
        );
        assert!(cgroups.memory_v1.is_empty() && cgroups.cpu_v1.is_empty());
    }

    #[test]
    fn version_1_in_a_container_starts_at_its_own_root() {
        let cgroups = Cgroups::parse(
            "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc/job\n0::/\n",
            "31 23 0:28 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
             32 23 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n",
        );
        assert_eq!(cgroups.memory_v1, paths(&["/sys/fs/cgroup/memory"]));
        assert_eq!(cgroups.cpu_v1, paths(&["/sys/fs/cgroup/cpu,cpuacct/job", "/sys/fs/cgroup/cpu,cpuacct"]));
        assert!(cgroups.v2.is_empty());
    }

    #[test]
    fn hybrid_systems_give_both() {
        let cgroups = Cgroups::parse(
            "4:memory:/app\n1:cpu:/\n0::/app\n",
            "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
             35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        );
        assert_eq!(cgroups.memory_v1, paths(&["/sys/fs/cgroup/memory/app", "/sys/fs/cgroup/memory"]));
        assert_eq!(cgroups.cpu_v1, paths(&["/sys/fs/cgroup/cpu"]));
        assert_eq!(cgroups.v2, paths(&["/sys/fs/cgroup/unified/app", "/sys/fs/cgroup/unified"]));
    }

    #[test]
    fn groups_outside_the_mount_show_its_point_only() {
        let mounts = "30 25 0:26 /ours /mnt/my\\040groups rw - cgroup2 none rw\n";
        for path in ["/other", "/oursish/x", "/ours/../secret"] {
            assert_eq!(
                Cgroups::parse(&format!("0::{path}\n"), mounts).v2,
                paths(&["/mnt/my groups"]),
                "{path}"
            );
        }
    }

    #[test]
    fn broken_texts_give_nothing() {
        assert_eq!(Cgroups::parse("", ""), Cgroups::default());
        assert_eq!(Cgroups::parse("0:\nfoo\n::\n", "1 2 3\n - cgroup2\nx - cgroup a\n"), Cgroups::default());
        assert_eq!(unescape("a\\04"), "a\\04");
        assert_eq!(unescape("\\134\\777é\\"), "\\\\777é\\");
    }
}
