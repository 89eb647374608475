//! A disk that is soon full.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory, unmounted when dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of a `size` such as `size=64k` at a folder that it makes; `None`, with a word on stderr, where that is not permitted.
    pub fn mount(at: &Path, size: &str) -> Option<SmallDisk> {
        std::fs::create_dir(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", size, "edge-test"]).arg(at).output();
        if mounted.is_ok_and(|m| m.status.success()) {
            return Some(SmallDisk(at.into()));
        }
        eprintln!("skipped: mounting a file system is not permitted here");
        None
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What stays mounted goes with the machine; the test has its result.
        let _ = Command::new("umount").arg(&self.0).output();
    }
}
