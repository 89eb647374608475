//! Keys and their values. A value stays where it lies in the file; what is read of it is read when it is asked for.

use super::cursor::{Cursor, Misfit};
use std::collections::BTreeMap;
use std::ops::Range;

/// Longest key, as the format has it.
const MAX_KEY: usize = 65_535;
/// Bytes of the shortest key with its value: a length, a type, a byte.
const LEAST_ENTRY: u64 = 13;
/// Arrays in arrays.
const DEPTH: usize = 4;

/// The type of a value, by its number in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl Type {
    fn of(number: u32) -> Option<Type> {
        use Type::{Array, Bool, F32, F64, I8, I16, I32, I64, String, U8, U16, U32, U64};
        let all = [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64];
        all.get(number as usize).copied()
    }

    /// Bytes of a value of fixed size.
    pub fn bytes(self) -> Option<usize> {
        match self {
            Type::U8 | Type::I8 | Type::Bool => Some(1),
            Type::U16 | Type::I16 => Some(2),
            Type::U32 | Type::I32 | Type::F32 => Some(4),
            Type::U64 | Type::I64 | Type::F64 => Some(8),
            Type::String | Type::Array => None,
        }
    }

    /// The type in words.
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// Where a value lies.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A number, a boolean or a string.
    One(Type, Range<usize>),
    /// `count` elements of a type, one after the other.
    Many { kind: Type, count: u64, place: Range<usize> },
}

/// Reads `count` keys.
pub(super) fn read(cursor: &mut Cursor<'_>, count: u64) -> Result<BTreeMap<String, Value>, Misfit> {
    if count > cursor.left() as u64 / LEAST_ENTRY {
        let left = cursor.left();
        return cursor.misfit(format!(
            "{count} keys, for which {left} bytes are too few; the file may be cut: fetch it again"
        ));
    }
    let mut keys = BTreeMap::new();
    for i in 0..count {
        let at = cursor.at();
        let key = cursor.name(&format!("the name of key {i}"), MAX_KEY)?;
        let value = value(cursor, key)?;
        if keys.insert(key.to_string(), value).is_some() {
            return Err(Misfit { at, why: format!("key `{key}` is there twice") });
        }
    }
    Ok(keys)
}

fn value(cursor: &mut Cursor<'_>, key: &str) -> Result<Value, Misfit> {
    match kind(cursor, key)? {
        Type::Array => {
            let (kind, count) = (kind(cursor, key)?, cursor.u64(key)?);
            let start = cursor.at();
            elements(cursor, kind, count, key, DEPTH)?;
            Ok(Value::Many { kind, count, place: start..cursor.at() })
        }
        Type::String => Ok(Value::One(Type::String, cursor.string(&format!("the text of `{key}`"))?)),
        kind => {
            let bytes = kind.bytes().unwrap_or_default() as u64;
            Ok(Value::One(kind, cursor.skip(bytes, &format!("the value of `{key}`"))?))
        }
    }
}

fn kind(cursor: &mut Cursor<'_>, key: &str) -> Result<Type, Misfit> {
    let at = cursor.at();
    let number = cursor.u32(&format!("the type of `{key}`"))?;
    Type::of(number)
        .ok_or_else(|| Misfit { at, why: format!("`{key}` is of type {number}; 0 to 12 are known") })
}

/// Walks over the elements of an array.
fn elements(cursor: &mut Cursor<'_>, kind: Type, count: u64, key: &str, depth: usize) -> Result<(), Misfit> {
    let what = format!("`{key}`, an array of {count} elements of type {},", kind.name());
    // A string has its length at least, an array its type and length.
    let least = match kind {
        Type::Array => 12,
        kind => kind.bytes().unwrap_or(8) as u64,
    };
    let bytes = count.checked_mul(least).filter(|bytes| *bytes <= cursor.left() as u64);
    let Some(bytes) = bytes else {
        let left = cursor.left();
        return cursor.misfit(format!(
            "{what} for which {left} bytes are too few; the file may be cut: fetch it again"
        ));
    };
    match kind {
        Type::String => (0..count).try_for_each(|_| cursor.string(&what).map(|_| ())),
        Type::Array if depth == 0 => cursor.misfit(format!("{what} in more than {DEPTH} others")),
        Type::Array => (0..count).try_for_each(|_| {
            let (kind, count) = (self::kind(cursor, key)?, cursor.u64(key)?);
            elements(cursor, kind, count, key, depth - 1)
        }),
        _ => cursor.skip(bytes, &what).map(|_| ()),
    }
}
