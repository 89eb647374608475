//! A checkpoint in several files with an index: `{"weight_map": {"tensor": "file", ..}}`.

use super::storage::Source;
use super::{CheckpointError, Contents};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path};

/// Longest index that is read.
const MAX_INDEX: usize = 64 << 20;
/// The names that a folder is searched for, the first that is there.
const NAMES: [&str; 5] = [
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "checkpoint.pth",
];

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The checkpoint of a folder.
pub(super) fn in_folder(folder: &Path) -> Result<std::path::PathBuf, CheckpointError> {
    let found = NAMES.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| CheckpointError::Kind {
        path: folder.into(),
        why: format!("a folder without any of {}", NAMES.join(", ")),
    })
}

/// Whether a file is an index.
pub(super) fn begins(path: &Path, bytes: &[u8]) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
        && bytes.trim_ascii_start().starts_with(b"{")
}

/// Reads every file of an index; `open` reads one.
pub(super) fn read(
    index: &Source,
    mut open: impl FnMut(&Path) -> Result<Contents, CheckpointError>,
) -> Result<Contents, CheckpointError> {
    let bytes = index.bytes();
    if bytes.len() > MAX_INDEX {
        return Err(
            index.wrong(0, format!("an index of {} bytes, at most {MAX_INDEX} are read", bytes.len()))
        );
    }
    let parsed: Index =
        serde_json::from_slice(bytes).map_err(|e| index.wrong(0, format!("the index: {e}")))?;
    let fault = |why: Vec<String>| CheckpointError::Shards { path: index.path.clone(), why };
    let folder = index.path.parent().unwrap_or(Path::new(""));
    let files: BTreeSet<&str> = parsed.weight_map.values().map(String::as_str).collect();
    let mut why = Vec::new();
    for file in &files {
        let mut parts = Path::new(file).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            why.push(format!(
                "shard `{file}` is not a file of its folder; only names without a folder are read"
            ));
        } else if !folder.join(file).is_file() {
            why.push(format!("shard `{file}` is missing in {}; fetch it again", folder.display()));
        }
    }
    if !why.is_empty() {
        return Err(fault(why));
    }
    let mut all = Contents::default();
    let mut found: HashMap<String, &str> = HashMap::new();
    for file in files {
        let shard = open(&folder.join(file))?;
        for entry in &shard.entries {
            let name = &entry.info.name;
            match parsed.weight_map.get(name).map(String::as_str) {
                Some(listed) if listed == file => {}
                Some(listed) => why.push(format!("`{name}` is in `{file}`, the index says `{listed}`")),
                None => why.push(format!("`{name}` is in `{file}`, and not in the index")),
            }
            if let Some(other) = found.insert(name.clone(), file) {
                why.push(format!("`{name}` is in `{other}` and in `{file}`"));
            }
        }
        all.append(shard);
    }
    for (name, file) in &parsed.weight_map {
        if !found.contains_key(name) {
            why.push(format!(
                "`{name}` is not in `{file}`, where the index has it; fetch both again, of one revision"
            ));
        }
    }
    if why.is_empty() { Ok(all) } else { Err(fault(why)) }
}
