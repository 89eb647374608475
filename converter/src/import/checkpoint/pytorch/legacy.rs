//! The form before PyTorch 1.6: a number, a version, a description of the system, the object, the keys of its storages, all pickles;
//! then each storage's length and elements.

use super::pickle::{Element, Object, Pickle};
use super::{Held, MAX_PICKLE, entries, tree, unpickle};
use crate::import::checkpoint::storage::{Source, Storage};
use crate::import::checkpoint::{CheckpointError, Contents};
use std::collections::HashMap;

/// What the first pickle holds. Source: `torch.serialization.MAGIC_NUMBER`.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
const VERSION: i128 = 1001;

/// Reads a stream; `part` is the part of the object that is wanted.
pub fn read(index: usize, source: &Source, part: Option<&str>) -> Result<Contents, CheckpointError> {
    let bytes = source.bytes();
    let kind = |why: &str| CheckpointError::Kind { path: source.path.clone(), why: why.to_string() };
    let mut at = 0;
    let mut next = || -> Result<Pickle, CheckpointError> {
        // A pickle ends by itself; what lies behind the limit is not looked at.
        let within = &bytes[..bytes.len().min(at + MAX_PICKLE)];
        let pickle = unpickle(source, within, at, 0)?;
        at = pickle.end;
        Ok(pickle)
    };
    match root(&next()?) {
        Object::Int(MAGIC) => {}
        _ => return Err(kind("a pickle that torch.save did not write")),
    }
    match root(&next()?) {
        Object::Int(VERSION) => {}
        other => return Err(kind(&format!("PyTorch's form of version {other:?}, expected {VERSION}"))),
    }
    if !is_little_endian(&next()?) {
        return Err(kind("elements in big-endian order, which are not read"));
    }
    let pickle = next()?;
    let keys = next()?;
    let keys = strings(&keys).ok_or_else(|| source.wrong(at, "the list of storages is none"))?;
    let found = tree::tensors(&source.path, &pickle, part)?;

    // Every storage of the pickle says its type, also those of tensors that are not wanted.
    let mut widths: HashMap<&str, u64> = HashMap::new();
    for object in &pickle.objects {
        let Object::Storage(storage) = object else { continue };
        let width = match &storage.element {
            Element::Known(dtype) => dtype.bytes() as u64,
            Element::Untyped => 1,
            Element::Other(class) => {
                return Err(
                    source.wrong(at, format!("storage `{}` of `{class}`, which is not read", storage.key))
                );
            }
        };
        if *widths.entry(&storage.key).or_insert(width) != width {
            return Err(source.wrong(at, format!("storage `{}` has two element types", storage.key)));
        }
    }
    let mut held: HashMap<String, Held> = HashMap::new();
    let mut storages = Vec::new();
    for key in keys {
        let cut =
            |at: usize| source.wrong(at, format!("storage `{key}` ends behind the file, which may be cut"));
        let Some(width) = widths.get(key.as_str()) else {
            return Err(source.wrong(at, format!("storage `{key}` is listed, but of no tensor")));
        };
        let len = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()).ok_or_else(|| cut(at))?;
        let len = u64::from_le_bytes(*len);
        let size = len.checked_mul(*width).and_then(|size| usize::try_from(size).ok());
        let start = at + 8;
        let end = size.and_then(|size| start.checked_add(size)).filter(|end| *end <= bytes.len());
        let end = end.ok_or_else(|| cut(at))?;
        let new = Held { index: storages.len(), bytes: (end - start) as u64 };
        storages.push(Storage::plain(index, start..end));
        if held.insert(key.clone(), new).is_some() {
            return Err(source.wrong(at, format!("storage `{key}` is listed twice")));
        }
        at = end;
    }
    if at != bytes.len() {
        return Err(source.wrong(at, format!("{} bytes behind the last storage", bytes.len() - at)));
    }
    let entries = entries(source, &found.tensors, &held)?;
    Ok(Contents { storages, entries, part: found.part, others: found.others })
}

fn root(pickle: &Pickle) -> &Object {
    &pickle.objects[pickle.root as usize]
}

/// What the description of the system says; true when it says nothing.
fn is_little_endian(pickle: &Pickle) -> bool {
    let Object::Dict(pairs) = root(pickle) else { return true };
    let named = |id: u32| matches!(&pickle.objects[id as usize], Object::Str(key) if key == "little_endian");
    let found = pairs.iter().find(|(key, _)| named(*key));
    found.is_none_or(|(_, value)| !matches!(pickle.objects[*value as usize], Object::Bool(false)))
}

fn strings(pickle: &Pickle) -> Option<Vec<String>> {
    let Object::List(items) = root(pickle) else { return None };
    let string = |id: &u32| match &pickle.objects[*id as usize] {
        Object::Str(text) => Some(text.clone()),
        _ => None,
    };
    items.iter().map(string).collect()
}
