//! A throw-away file tree that stands in for `/proc` and `/sys` in tests.

use std::fs;
use std::path::PathBuf;

use super::cgroup::FileTree;

pub(super) struct Fixture {
    root: PathBuf,
}

impl Fixture {
    /// An empty tree; `name` tells apart the tests of one process.
    pub(super) fn new(name: &str) -> Fixture {
        let root = std::env::temp_dir().join(format!("edge-device-{}-{name}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        Fixture { root }
    }

    /// Writes the file at an absolute path of the tree.
    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn files(&self) -> FileTree {
        FileTree::below(&self.root)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // A leftover in the temporary directory is no reason to fail a test that has its answer.
        let _ = fs::remove_dir_all(&self.root);
    }
}
