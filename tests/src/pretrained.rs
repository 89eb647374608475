//! The tiny checkpoints of `reference/hf`, and changed copies of them.

use crate::{Folder, edge_convert};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A file or folder of `reference/hf`.
pub fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/hf").join(name)
}

/// A checkpoint of its own, to be changed: in the folder `m`.
pub fn copied(family: &str) -> (Folder, PathBuf) {
    let folder = Folder::new("pretrained");
    let to = folder.file("m");
    copy(&reference(family), &to);
    (folder, to)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(path, to).unwrap();
        }
    }
}

/// Changes a file of JSON.
pub fn change(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// The pack of a checkpoint.
pub fn converted(folder: &Folder, source: &Path) -> PathBuf {
    let pack = folder.file("m.pack");
    edge_convert().arg(source).arg("-o").arg(&pack).run().expect(0);
    pack
}
