//! What `torch.save` writes: an archive with a pickle and one member a storage since version 1.6, a stream of pickles and storages
//! before.

mod archive;
mod legacy;
mod pickle;
mod tree;

pub(super) use archive::{is_archive, read as read_archive};
pub(super) use legacy::read as read_legacy;

use super::storage::Source;
use super::view::View;
use super::{CheckpointError, Entry};
use edge_runtime::graph::DType;
use pickle::{Element, Fault, Pickle};
use std::collections::HashMap;

/// Longest pickle that is read: a tensor takes about 200 bytes of it.
const MAX_PICKLE: usize = 256 << 20;

/// A storage that the container holds.
struct Held {
    /// Index into the checkpoint's storages.
    index: usize,
    /// Its bytes.
    bytes: u64,
}

/// Reads the pickle at `start`.
fn unpickle(source: &Source, bytes: &[u8], start: usize, base: usize) -> Result<Pickle, CheckpointError> {
    pickle::read(bytes, start).map_err(|fault| match fault {
        Fault::Format { at, why } => source.wrong(base + at, why),
        Fault::Global { at, name, why } => {
            let (path, at) = (source.path.clone(), (base + at) as u64);
            CheckpointError::Refused { path, at, global: name, why }
        }
    })
}

/// The tensors of a pickle's model, with the storages that hold them.
fn entries(
    source: &Source,
    tensors: &[(String, &pickle::Tensor)],
    held: &HashMap<String, Held>,
) -> Result<Vec<Entry>, CheckpointError> {
    let mut entries = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let wrong =
            |why: String| CheckpointError::Tensor { path: source.path.clone(), tensor: name.clone(), why };
        entries.push(entry(name, tensor, held).map_err(wrong)?);
    }
    Ok(entries)
}

fn entry(name: &str, tensor: &pickle::Tensor, held: &HashMap<String, Held>) -> Result<Entry, String> {
    let storage = &tensor.storage;
    let dtype = match &tensor.element {
        Element::Known(dtype) => *dtype,
        Element::Untyped => return Err("its element type is not told".to_string()),
        Element::Other(class) => return Err(format!("elements of `{class}` are not read")),
    };
    let width = dtype.bytes() as u64;
    let found = held.get(&storage.key).ok_or_else(|| format!("its storage `{}` is missing", storage.key))?;
    let expected = storage.len.checked_mul(element_bytes(&storage.element, dtype));
    if expected != Some(found.bytes) {
        return Err(format!(
            "its storage `{}` has {} bytes, the pickle says {} elements of {}",
            storage.key,
            found.bytes,
            storage.len,
            described(&storage.element, dtype)
        ));
    }
    let mut len = found.bytes / width;
    let mut offset = tensor.offset;
    if let Some((start, part)) = storage.part {
        let outside = || format!("it is in a part of storage `{}` that lies outside", storage.key);
        len = start.checked_add(part).filter(|end| *end <= len).ok_or_else(outside)?;
        offset = start.checked_add(offset).ok_or_else(outside)?;
    }
    let view = View::new(offset, &tensor.dims, &tensor.strides, len, dtype.bytes())?;
    let dims: Option<Vec<usize>> = tensor.dims.iter().map(|d| usize::try_from(*d).ok()).collect();
    let dims =
        dims.ok_or_else(|| format!("shape {:?} has more elements than can be counted", tensor.dims))?;
    Ok(Entry::new(name, dtype, dims, found.index, view))
}

/// Bytes of an element as a storage counts them.
fn element_bytes(element: &Element, dtype: DType) -> u64 {
    match element {
        Element::Known(known) => known.bytes() as u64,
        Element::Untyped => 1,
        Element::Other(_) => dtype.bytes() as u64,
    }
}

fn described(element: &Element, dtype: DType) -> String {
    match element {
        Element::Known(known) => known.to_string(),
        Element::Untyped => "one byte".to_string(),
        Element::Other(_) => dtype.to_string(),
    }
}
