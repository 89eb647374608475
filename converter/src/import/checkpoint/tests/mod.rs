//! Against files that PyTorch, safetensors and NumPy wrote (`tests/reference/checkpoints`), and what is made of them.

mod damage;
mod forms;

use super::{Checkpoint, CheckpointError};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The folder of the files.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/checkpoints")
}

/// What their libraries say that the files hold.
fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(folder().join("expected.json")).unwrap()).unwrap()
}

/// Writes a file of some bytes and opens it.
fn open_bytes(dir: &Path, name: &str, bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    Checkpoint::open(&path)
}

/// Reads every tensor.
fn read_all(checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
    checkpoint.tensors().iter().try_for_each(|info| {
        let bytes = checkpoint.bytes(&info.name)?;
        assert_eq!(bytes.len(), info.bytes(), "{}", info.name);
        Ok(())
    })
}
