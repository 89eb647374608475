//! GGUF: metadata, a table of tensors, and the tensors in blocks of quantised elements. Versions 2 and 3, little-endian.
//!
//! ```text
//! cursor.rs    numbers and strings, each held against what is left of the file
//! metadata.rs  keys and values of all types
//! tensors.rs   names, shapes, types and places
//! kinds.rs     the types of tensors
//! blocks/      what a block of each type holds: codes, scales, minima
//! model.rs     the file as a decoder
//! ```
//!
//! The file is mapped. Every count, length and offset is checked before anything is made of it; memory for what was read is bounded
//! by the file's length. Strings and arrays of the metadata stay where they lie.

pub mod blocks;
mod cursor;
mod error;
mod kinds;
mod metadata;
mod model;
mod tensors;

#[cfg(test)]
mod tests;

pub use error::GgufError;
pub use kinds::{Codes, Form, KINDS, Kind};
pub use tensors::TensorInfo;

use cursor::{Cursor, Misfit};
use edge_runtime::pack::FileMap;
use metadata::{Type, Value};
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a file begins with.
const MAGIC: &[u8; 4] = b"GGUF";
/// Versions that are read. Version 1 had counts of 32 bits.
const VERSIONS: [u32; 2] = [2, 3];
/// Where elements begin, and each tensor's, unless the file says otherwise.
const ALIGNMENT: u64 = 32;
/// Largest alignment that is taken for one.
const MAX_ALIGNMENT: u64 = 1 << 20;

/// An open file.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    map: FileMap,
    keys: BTreeMap<String, Value>,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
}

/// What is read of a file's beginning.
struct Contents {
    keys: BTreeMap<String, Value>,
    tensors: Vec<TensorInfo>,
}

impl Gguf {
    /// Whether a file begins as one of this form.
    pub fn is_one(path: &Path) -> bool {
        let mut first = [0; 4];
        path.is_file()
            && std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut first)).is_ok()
            && first == *MAGIC
    }

    /// Maps a file and reads its metadata and its table of tensors.
    ///
    /// # Errors
    /// When it cannot be read, is of another version, is cut, or contradicts itself.
    pub fn open(path: &Path) -> Result<Gguf, GgufError> {
        let map = FileMap::open(path).map_err(|source| GgufError::Read { path: path.into(), source })?;
        let Contents { keys, tensors } = read(map.as_ref())
            .map_err(|Misfit { at, why }| GgufError::Format { path: path.into(), at, why })?;
        let by_name = tensors.iter().enumerate().map(|(i, info)| (info.name.clone(), i)).collect();
        Ok(Gguf { path: path.into(), map, keys, tensors, by_name })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every tensor, in the file's order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of a name.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|i| &self.tensors[*i])
    }

    /// A tensor's bytes as they lie in the file.
    pub fn bytes(&self, info: &TensorInfo) -> &[u8] {
        self.map.as_ref().get(info.place.clone()).unwrap_or_default()
    }

    /// Lets the memory behind some bytes of the file go; the next use reads them again.
    pub fn release(&self, part: &[u8]) {
        self.map.release(part);
    }

    /// Whether there is such a key.
    pub fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// A text; `None` when there is no such key.
    ///
    /// # Errors
    /// When it is something else, or no UTF-8.
    pub fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        match self.keys.get(key) {
            None => Ok(None),
            Some(Value::One(Type::String, place)) => {
                match std::str::from_utf8(&self.map.as_ref()[place.clone()]) {
                    Ok(text) => Ok(Some(text)),
                    Err(e) => Err(self.wrong_key(key, format!("no UTF-8: {e}"))),
                }
            }
            Some(other) => Err(self.wrong_type(key, other, "a string")),
        }
    }

    /// A whole number of 0 or more; `None` when there is no such key.
    ///
    /// # Errors
    /// When it is something else, or more than 2^32 - 1.
    pub fn count(&self, key: &str) -> Result<Option<usize>, GgufError> {
        let Some(value) = self.keys.get(key) else { return Ok(None) };
        let Value::One(kind, place) = value else {
            return Err(self.wrong_type(key, value, "a whole number"));
        };
        let mut bytes = [0; 8];
        let stored = &self.map.as_ref()[place.clone()];
        let number = match kind {
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => {
                bytes[..stored.len()].copy_from_slice(stored);
                u64::from_le_bytes(bytes)
            }
            Type::I8 | Type::I16 | Type::I32 | Type::I64 => {
                let negative = stored.last().is_some_and(|byte| byte >> 7 == 1);
                bytes[..stored.len()].copy_from_slice(stored);
                if negative { u64::MAX } else { u64::from_le_bytes(bytes) }
            }
            _ => return Err(self.wrong_type(key, value, "a whole number")),
        };
        match u32::try_from(number) {
            Ok(number) => Ok(Some(number as usize)),
            Err(_) => Err(self.wrong_key(key, "a number below 0 or past 2^32 - 1".into())),
        }
    }

    /// A real number; `None` when there is no such key.
    ///
    /// # Errors
    /// When it is something else, or not finite.
    pub fn real(&self, key: &str) -> Result<Option<f32>, GgufError> {
        let Some(value) = self.keys.get(key) else { return Ok(None) };
        let number = match value {
            Value::One(Type::F32, place) => {
                self.map.as_ref()[place.clone()].first_chunk().map(|bytes| f32::from_le_bytes(*bytes))
            }
            Value::One(Type::F64, place) => {
                self.map.as_ref()[place.clone()].first_chunk().map(|bytes| f64::from_le_bytes(*bytes) as f32)
            }
            _ => None,
        };
        match number {
            Some(number) if number.is_finite() => Ok(Some(number)),
            Some(number) => Err(self.wrong_key(key, format!("{number}; a finite number is expected"))),
            None => Err(self.wrong_type(key, value, "a real number")),
        }
    }

    /// A truth; `None` when there is no such key.
    ///
    /// # Errors
    /// When it is something else.
    pub fn truth(&self, key: &str) -> Result<Option<bool>, GgufError> {
        match self.keys.get(key) {
            None => Ok(None),
            Some(Value::One(Type::Bool, place)) => Ok(Some(self.map.as_ref()[place.start] != 0)),
            Some(other) => Err(self.wrong_type(key, other, "true or false")),
        }
    }

    /// The strings of an array, as bytes: tokens need not be UTF-8. `None` when there is no such key.
    ///
    /// # Errors
    /// When it is something else.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<&[u8]>>, GgufError> {
        let Some(value) = self.keys.get(key) else { return Ok(None) };
        let Value::Many { kind: Type::String, count, place } = value else {
            return Err(self.wrong_type(key, value, "an array of strings"));
        };
        let bytes = &self.map.as_ref()[place.clone()];
        let mut cursor = Cursor::new(bytes);
        // The array was walked over when the file was opened, so each of them is there.
        let strings = (0..*count).map_while(|_| cursor.string(key).ok()).map(|place| &bytes[place]);
        Ok(Some(strings.collect()))
    }

    /// The integers of an array of i32 or u32; `None` when there is no such key.
    ///
    /// # Errors
    /// When it is something else.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i64>>, GgufError> {
        let Some(value) = self.keys.get(key) else { return Ok(None) };
        let Value::Many { kind: kind @ (Type::I32 | Type::U32), place, .. } = value else {
            return Err(self.wrong_type(key, value, "an array of i32"));
        };
        let words = self.map.as_ref()[place.clone()].as_chunks::<4>().0.iter();
        Ok(Some(match kind {
            Type::U32 => words.map(|bytes| i64::from(u32::from_le_bytes(*bytes))).collect(),
            _ => words.map(|bytes| i64::from(i32::from_le_bytes(*bytes))).collect(),
        }))
    }

    /// The numbers of an array of f32, finite or not; `None` when there is no such key.
    ///
    /// # Errors
    /// When it is something else.
    pub fn reals(&self, key: &str) -> Result<Option<Vec<f32>>, GgufError> {
        let Some(value) = self.keys.get(key) else { return Ok(None) };
        let Value::Many { kind: Type::F32, place, .. } = value else {
            return Err(self.wrong_type(key, value, "an array of f32"));
        };
        let words = self.map.as_ref()[place.clone()].as_chunks::<4>().0.iter();
        Ok(Some(words.map(|bytes| f32::from_le_bytes(*bytes)).collect()))
    }

    /// What is wrong with a key of this file.
    pub fn wrong_key(&self, key: &str, why: String) -> GgufError {
        GgufError::Key { path: self.path.clone(), key: key.to_string(), why }
    }

    /// What is wrong with a tensor of this file.
    pub fn wrong_tensor(&self, tensor: &str, why: String) -> GgufError {
        GgufError::Tensor { path: self.path.clone(), tensor: tensor.to_string(), why }
    }

    fn wrong_type(&self, key: &str, value: &Value, expected: &str) -> GgufError {
        let found = match value {
            Value::One(kind, _) => kind.name(),
            Value::Many { kind, count, .. } => {
                format!("an array of {count} elements of type {}", kind.name())
            }
        };
        self.wrong_key(key, format!("{found}; {expected} is expected"))
    }
}

fn read(bytes: &[u8]) -> Result<Contents, Misfit> {
    let mut cursor = Cursor::new(bytes);
    let magic = cursor.skip(4, "the first four bytes")?;
    if bytes[magic] != *MAGIC {
        return Err(Misfit { at: 0, why: "does not begin with `GGUF`".into() });
    }
    let at = cursor.at();
    let version = cursor.u32("the version")?;
    if !VERSIONS.contains(&version) {
        let why = match version {
            1 => "version 1, which was written until August 2023; convert the model again".to_string(),
            other if VERSIONS.contains(&other.swap_bytes()) => {
                "a big-endian file; convert the model again on a little-endian machine".to_string()
            }
            other => format!("version {other}; 2 and 3 are read"),
        };
        return Err(Misfit { at, why });
    }
    let (tensors, keys) = (cursor.u64("the number of tensors")?, cursor.u64("the number of keys")?);
    let keys = metadata::read(&mut cursor, keys)?;
    let alignment = alignment(bytes, &keys)?;
    let entries = tensors::read(&mut cursor, tensors)?;
    let data = cursor.at().next_multiple_of(alignment);
    let tensors = tensors::place(entries, data, alignment, bytes.len())?;
    Ok(Contents { keys, tensors })
}

fn alignment(bytes: &[u8], keys: &BTreeMap<String, Value>) -> Result<usize, Misfit> {
    const KEY: &str = "general.alignment";
    let (at, number) = match keys.get(KEY) {
        None => (0, ALIGNMENT),
        Some(Value::One(Type::U32, place)) => {
            let number = bytes[place.clone()].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
            (place.start, u64::from(number))
        }
        Some(Value::One(kind, place)) => {
            return Err(Misfit {
                at: place.start,
                why: format!("`{KEY}` is {}, a u32 is expected", kind.name()),
            });
        }
        Some(Value::Many { place, .. }) => {
            return Err(Misfit { at: place.start, why: format!("`{KEY}` is an array, a u32 is expected") });
        }
    };
    if number == 0 || !number.is_multiple_of(8) || number > MAX_ALIGNMENT {
        let why = format!("`{KEY}` is {number}; a multiple of 8, at most {MAX_ALIGNMENT}, is expected");
        return Err(Misfit { at, why });
    }
    Ok(number as usize)
}
