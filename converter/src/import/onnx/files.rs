//! The files of a model, mapped: its own and those beside it with external data. What an array was read from is let go at once, so
//! a model's bytes are in memory once, as the arrays that were made of them.

use super::proto::TensorProto;
use super::tensors::bad;
use crate::import::ImportError;
use crate::model::Array;
use edge_runtime::pack::FileMap;
use prost::bytes::Bytes;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Mapped files.
#[derive(Default)]
pub struct Files {
    /// The folder that external data must lie in; without one they are refused.
    folder: Option<PathBuf>,
    maps: RefCell<HashMap<PathBuf, Open>>,
}

#[derive(Clone)]
struct Open {
    map: Arc<FileMap>,
    bytes: Bytes,
}

/// What keeps a mapping while bytes of it are in use.
struct Kept(Arc<FileMap>);

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref().as_ref()
    }
}

impl Files {
    /// The files of a model in `folder`.
    pub fn of(folder: Option<&Path>) -> Files {
        Files { folder: folder.map(Path::to_owned), ..Files::default() }
    }

    /// The bytes of a file: mapped, or read where it is no regular one (a pipe).
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(&self, path: &Path) -> io::Result<Bytes> {
        if let Some(open) = self.maps.borrow().get(path) {
            return Ok(open.bytes.clone());
        }
        if !std::fs::metadata(path)?.is_file() {
            return std::fs::read(path).map(Bytes::from);
        }
        let map = Arc::new(FileMap::open(path)?);
        let bytes = Bytes::from_owner(Kept(Arc::clone(&map)));
        self.maps.borrow_mut().insert(path.to_owned(), Open { map, bytes: bytes.clone() });
        Ok(bytes)
    }

    /// The `bytes` bytes of an array that lie in a file beside the model.
    ///
    /// # Errors
    /// When the file is not inside the model's folder, or has no such bytes.
    pub fn external(&self, tensor: &TensorProto, bytes: usize) -> Result<Bytes, ImportError> {
        let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => {
                text.parse::<u64>().map(Some).map_err(|_| bad(tensor, format!("external {key} {text:?}")))
            }
        };
        let location =
            entry("location").ok_or_else(|| bad(tensor, "external data without a location".into()))?;
        let folder = self
            .folder
            .as_ref()
            .ok_or_else(|| bad(tensor, "external data, but the model's folder is unknown".into()))?;
        let offset = number("offset")?.unwrap_or(0);
        if let Some(length) = number("length")?.filter(|l| *l != bytes as u64) {
            let why = format!("needs {bytes} bytes, its external data in {location:?} have {length}");
            return Err(bad(tensor, why));
        }
        let outside = || {
            let why =
                format!("external data at {location:?}: not inside the model's folder; keep them beside it");
            bad(tensor, why)
        };
        let relative = Path::new(location);
        let inside = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if location.is_empty() || !inside {
            return Err(outside());
        }
        let at = |e: io::Error| bad(tensor, format!("external data at {location:?}: {e}"));
        // A symbolic link may lead out of the folder as well as `..` does.
        let root = folder.canonicalize().map_err(at)?;
        let path = root.join(relative).canonicalize().map_err(at)?;
        if !path.starts_with(&root) {
            return Err(outside());
        }
        if !std::fs::metadata(&path).map_err(at)?.is_file() {
            return Err(bad(tensor, format!("external data at {location:?}: not a regular file")));
        }
        let whole = self.open(&path).map_err(at)?;
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| Some(start..start.checked_add(bytes)?));
        match range.filter(|range| range.end <= whole.len()) {
            Some(range) => Ok(whole.slice(range)),
            None => {
                let has = whole.len();
                let why = format!(
                    "needs {bytes} bytes at {offset} of {location:?}, which has {has}; fetch it whole"
                );
                Err(bad(tensor, why))
            }
        }
    }

    fn mapping(&self, part: &[u8]) -> Option<Arc<FileMap>> {
        self.maps.borrow().values().find(|open| open.map.holds(part)).map(|open| Arc::clone(&open.map))
    }

    /// Lets the memory behind what was read go.
    pub fn release(&self, part: &[u8]) {
        if let Some(map) = self.mapping(part) {
            map.release(part);
        }
    }

    /// The array with elements in memory of its own.
    ///
    /// # Errors
    /// When there is no such memory.
    pub fn own(&self, name: &str, array: Array) -> Result<Array, ImportError> {
        let Some(map) = self.mapping(&array.data) else { return Ok(array) };
        let mut data: Vec<u8> = room(name, array.data.len())?;
        data.extend_from_slice(&array.data);
        map.release(&array.data);
        Ok(Array { data: data.into(), ..array })
    }
}

/// An empty vector with room for so many elements.
///
/// # Errors
/// When there is no such memory.
pub fn room<T>(name: &str, elements: usize) -> Result<Vec<T>, ImportError> {
    let mut room = Vec::new();
    match room.try_reserve_exact(elements) {
        Ok(()) => Ok(room),
        Err(e) => {
            let reason = format!("{elements} elements of {} bytes: {e}", size_of::<T>());
            Err(ImportError::Tensor { tensor: name.to_owned(), reason })
        }
    }
}
