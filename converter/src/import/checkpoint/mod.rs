//! Checkpoints: named tensors of a trained model, without the graph that they belong to.
//!
//! [`Checkpoint::open`] tells by the content what a file is and maps it; a tensor's bytes are borrowed where the file shows them in
//! order, and put in order when they are asked for where not. Nothing of a file is executed: a pickle is read as data, and one that
//! asks for anything but tensors is refused by name.
//!
//! | form | read by |
//! |---|---|
//! | PyTorch's `.pth`, `.pt`, `.bin`, before and since version 1.6 | `pytorch` |
//! | safetensors, one file or several with an index | `safetensors`, `shards` |
//! | NumPy's `.npz` and `.npy` | `numpy` |
//!
//! Memory is bounded by the file's length, whatever its bytes say; the limits stand where they are applied.

mod error;
mod listing;
mod names;
mod numpy;
mod pytorch;
mod safetensors;
mod shards;
mod storage;
mod view;

#[cfg(test)]
mod tests;

pub use error::CheckpointError;
pub use listing::Listing;

use crate::draft::to_f32;
use crate::model::Array;
use edge_runtime::graph::DType;
use edge_runtime::inputs::zip;
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use storage::{Source, Storage};
use view::View;

/// Bytes that tell what a file is.
const FIRST: u64 = 512;

/// What a tensor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, without a prefix that all names of the checkpoint share (`module.`, `_orig_mod.`).
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Shape; empty for a scalar.
    pub dims: Vec<usize>,
}

/// An open checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    sources: Vec<Source>,
    storages: Vec<Storage>,
    infos: Vec<TensorInfo>,
    /// By position in `infos`.
    places: Vec<Place>,
    by_name: HashMap<String, usize>,
    part: String,
    others: Vec<String>,
}

/// Where a tensor's elements are.
#[derive(Debug)]
struct Place {
    storage: usize,
    view: View,
}

/// A tensor that a reader has found.
#[derive(Debug)]
struct Entry {
    info: TensorInfo,
    place: Place,
}

impl Entry {
    fn new(name: &str, dtype: DType, dims: Vec<usize>, storage: usize, view: View) -> Entry {
        Entry { info: TensorInfo { name: name.to_string(), dtype, dims }, place: Place { storage, view } }
    }
}

/// What a reader finds in one file.
#[derive(Debug, Default)]
struct Contents {
    storages: Vec<Storage>,
    entries: Vec<Entry>,
    /// The part of the file that the tensors are in, and others that hold tensors.
    part: String,
    others: Vec<String>,
}

impl Contents {
    /// Adds what another file holds.
    fn append(&mut self, other: Contents) {
        let first = self.storages.len();
        self.storages.extend(other.storages);
        self.entries.extend(other.entries.into_iter().map(|mut entry| {
            entry.place.storage += first;
            entry
        }));
        self.part = other.part;
        self.others = other.others;
    }
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// Bytes of the elements.
    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.bytes()
    }
}

impl Checkpoint {
    /// Opens a checkpoint: a file, an index of several (`*.index.json`), or a folder that holds either.
    ///
    /// Of a file that holds more than a model (`{"state_dict": .., "optimizer": .., "epoch": 3}`) the model's tensors are taken, under
    /// the names that they have in it; [`Checkpoint::part`] and [`Checkpoint::others`] say which part that was and what else is there.
    /// Without a part that is known to be the model all tensors are taken, under names like `a.b`.
    ///
    /// # Errors
    /// When it cannot be read, is of no known form, contradicts itself, or is a pickle of more than tensors.
    pub fn open(path: &Path) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::of(path, None)
    }

    /// As [`Checkpoint::open`], with the part that is wanted: `model_ema`, or `ema.state_dict` for one within another.
    ///
    /// # Errors
    /// As [`Checkpoint::open`], and when there is no such part.
    pub fn open_part(path: &Path, part: &str) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::of(path, Some(part))
    }

    /// Whether a path looks like a checkpoint, by what its file begins with: of a form that is read, or one of those that are refused with
    /// advice. No ONNX file begins so. A folder does when one of it would be taken, a file that cannot be read does not.
    pub fn is_one(path: &Path) -> bool {
        if path.is_dir() {
            return shards::in_folder(path).is_ok();
        }
        let mut first = Vec::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(FIRST).read_to_end(&mut first));
        let magic: [&[u8]; 3] = [b"PK", b"GGUF", b"\x89HDF"];
        let is_pickle = matches!(first[..], [0x80, 2..=5, ..]);
        read.is_ok()
            && (is_pickle
                || magic.iter().any(|magic| first.starts_with(magic))
                || numpy::begins(&first)
                || safetensors::begins(&first)
                || shards::begins(path, &first)
                || first.get(257..262) == Some(b"ustar"))
    }

    fn of(path: &Path, part: Option<&str>) -> Result<Checkpoint, CheckpointError> {
        let path = if path.is_dir() { shards::in_folder(path)? } else { path.to_path_buf() };
        let first = Source::open(&path)?;
        let mut sources = Vec::new();
        let contents = if shards::begins(&path, first.bytes()) {
            let open = |path: &Path| {
                let source = Source::open(path)?;
                let contents = read(sources.len(), &source, part)?;
                sources.push(source);
                Ok(contents)
            };
            shards::read(&first, open)?
        } else {
            let contents = read(0, &first, part)?;
            sources.push(first);
            contents
        };
        let Contents { storages, mut entries, part, others } = contents;
        if entries.is_empty() {
            return Err(CheckpointError::Kind { path, why: "no tensor is in it".into() });
        }
        names::tidy(&mut entries);
        let mut by_name = HashMap::with_capacity(entries.len());
        let (mut infos, mut places) = (Vec::new(), Vec::new());
        for Entry { info, place } in entries {
            if by_name.insert(info.name.clone(), infos.len()).is_some() {
                return Err(CheckpointError::Tensor {
                    path,
                    tensor: info.name,
                    why: "it is there twice".into(),
                });
            }
            infos.push(info);
            places.push(place);
        }
        Ok(Checkpoint { path, sources, storages, infos, places, by_name, part, others })
    }

    /// The file: the index, where there is one.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All files: the index, where there is one, and those that hold tensors.
    pub fn files(&self) -> Vec<&Path> {
        let mut files = vec![self.path.as_path()];
        files.extend(
            self.sources.iter().map(|source| source.path.as_path()).filter(|path| *path != self.path),
        );
        files
    }

    /// Every tensor, in the file's order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.infos
    }

    /// The tensor of a name.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|i| &self.infos[*i])
    }

    /// The part of the file that the tensors are in: `state_dict`; empty for all of it.
    pub fn part(&self) -> &str {
        &self.part
    }

    /// Other parts that hold tensors, for [`Checkpoint::open_part`].
    pub fn others(&self) -> &[String] {
        &self.others
    }

    /// A tensor's elements, little-endian, row-major; borrowed from the mapped file where they lie in it so.
    ///
    /// # Errors
    /// When there is no such tensor, or its bytes are damaged.
    pub fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>, CheckpointError> {
        let i = *self.by_name.get(name).ok_or_else(|| self.missing(name))?;
        let (info, place) = (&self.infos[i], &self.places[i]);
        if info.elements() == 0 {
            return Ok(Cow::Borrowed(&[]));
        }
        let width = info.dtype.bytes();
        let storage = &self.storages[place.storage];
        let source = &self.sources[storage.source];
        let why = || format!("shape {:?} has more bytes than can be counted", info.dims);
        let range = place.view.bytes(width).ok_or_else(|| self.wrong(name, why()))?;
        let bytes = storage.read(source, range).map_err(|e| self.wrong(name, e.to_string()))?;
        Ok(if place.view.is_plain() { bytes } else { Cow::Owned(place.view.gather(&bytes, width)) })
    }

    /// A tensor's elements where the mapped file has them in order; `None` when it has not, or there is no such tensor.
    pub fn mapped(&self, name: &str) -> Option<&[u8]> {
        match self.bytes(name) {
            Ok(Cow::Borrowed(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// Lets the memory behind some bytes of [`Checkpoint::mapped`] go; the next use reads them again.
    pub fn release(&self, part: &[u8]) {
        self.sources.iter().for_each(|source| source.file.release(part));
    }

    /// A tensor as a constant of a model.
    ///
    /// # Errors
    /// As [`Checkpoint::bytes`].
    pub fn array(&self, name: &str) -> Result<Array, CheckpointError> {
        let info = self.get(name).ok_or_else(|| self.missing(name))?;
        Ok(Array { dtype: info.dtype, dims: info.dims.clone(), data: self.bytes(name)?.to_vec().into() })
    }

    /// A tensor's elements as `f32`, whatever their type.
    ///
    /// # Errors
    /// As [`Checkpoint::bytes`].
    pub fn floats(&self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let info = self.get(name).ok_or_else(|| self.missing(name))?;
        Ok(to_f32(info.dtype, &self.bytes(name)?))
    }

    /// An error about a tensor of this checkpoint.
    pub fn wrong(&self, tensor: &str, why: impl Into<String>) -> CheckpointError {
        CheckpointError::Tensor { path: self.path.clone(), tensor: tensor.to_string(), why: why.into() }
    }

    /// As [`Checkpoint::wrong`], with the file that holds the tensor.
    pub fn wrong_in_file(&self, tensor: &str, why: impl Into<String>) -> CheckpointError {
        let place = self.by_name.get(tensor).map(|i| &self.places[*i]);
        let path = place.map(|place| self.sources[self.storages[place.storage].source].path.clone());
        let path = path.unwrap_or_else(|| self.path.clone());
        CheckpointError::Tensor { path, tensor: tensor.to_string(), why: why.into() }
    }

    fn missing(&self, name: &str) -> CheckpointError {
        let known = names::nearest(name, &self.infos);
        CheckpointError::Missing { path: self.path.clone(), what: "tensor", name: name.to_string(), known }
    }
}

/// Reads one file by what it begins with.
fn read(index: usize, source: &Source, part: Option<&str>) -> Result<Contents, CheckpointError> {
    let bytes = source.bytes();
    let kind = |why: &str| Err(CheckpointError::Kind { path: source.path.clone(), why: why.to_string() });
    if bytes.is_empty() {
        return kind("no bytes");
    }
    if bytes.starts_with(b"PK") {
        let members = zip::members(&mut Cursor::new(bytes)).map_err(|e| source.wrong(0, e.to_string()))?;
        if pytorch::is_archive(&members) {
            return pytorch::read_archive(index, source, part);
        }
        if !numpy::is_archive(&members) {
            return kind("a zip archive of neither PyTorch nor NumPy");
        }
    } else if bytes.starts_with(b"\x80") {
        return pytorch::read_legacy(index, source, part);
    }
    if let Some(part) = part {
        return kind(&format!("part `{part}` of a form that has none; only PyTorch's has"));
    }
    if bytes.starts_with(b"PK") {
        numpy::read_archive(index, source)
    } else if numpy::begins(bytes) {
        numpy::read(index, source)
    } else if safetensors::begins(bytes) {
        safetensors::read(index, source)
    } else if bytes.starts_with(b"GGUF") {
        kind("GGUF; `edge-convert FILE -o PACK` takes it, alone")
    } else if bytes.starts_with(b"\x89HDF") {
        kind("HDF5; save the weights as safetensors or .npz")
    } else if bytes.get(257..262) == Some(b"ustar") {
        kind("a tar archive; PyTorch before 0.2 wrote such, load it there and save it again")
    } else {
        kind("neither PyTorch's .pth, safetensors, .npz, .npy nor an index of shards; the file may be cut")
    }
}
