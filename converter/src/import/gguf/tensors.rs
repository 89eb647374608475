//! The table of tensors: names, shapes, types and where the elements are, all held against the file's length.

use super::cursor::{Cursor, Misfit};
use super::kinds::Kind;
use std::collections::HashMap;
use std::ops::Range;

/// Longest name; the format has 64.
const MAX_NAME: usize = 127;
/// Most dimensions.
const MAX_DIMS: u32 = 4;
/// Most elements, as packs have it.
const MAX_ELEMENTS: usize = 1 << 40;
/// Most tensors, as packs have it.
const MAX_TENSORS: u64 = 65_536;
/// Bytes of the shortest entry: a name's length, no dimension, a type, an offset.
const LEAST_ENTRY: u64 = 24;

/// A tensor of the file.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// The type's number.
    pub kind: u32,
    /// Shape, outermost dimension first: the file has it the other way round.
    pub dims: Vec<usize>,
    /// Where its bytes lie in the file; those of a type without a known size are nowhere.
    pub place: Range<usize>,
}

/// An entry before it is known where the elements begin.
pub(super) struct Entry {
    info: TensorInfo,
    offset: u64,
    at: usize,
}

/// Reads `count` entries.
pub(super) fn read(cursor: &mut Cursor<'_>, count: u64) -> Result<Vec<Entry>, Misfit> {
    if count > cursor.left() as u64 / LEAST_ENTRY {
        let left = cursor.left();
        return cursor.misfit(format!(
            "{count} tensors, for which {left} bytes are too few; the file may be cut: fetch it again"
        ));
    }
    if count > MAX_TENSORS {
        return cursor.misfit(format!("{count} tensors; {MAX_TENSORS} are the most that a pack holds"));
    }
    (0..count).map(|i| entry(cursor, i)).collect()
}

fn entry(cursor: &mut Cursor<'_>, i: u64) -> Result<Entry, Misfit> {
    let at = cursor.at();
    let name = cursor.name(&format!("the name of tensor {i}"), MAX_NAME)?.to_string();
    let wrong = |why: String| Misfit { at, why: format!("tensor `{name}`: {why}") };
    let what = format!("the entry of tensor `{name}`");
    let rank = cursor.u32(&what)?;
    if !(1..=MAX_DIMS).contains(&rank) {
        return Err(wrong(format!("{rank} dimensions; 1 to {MAX_DIMS} are expected")));
    }
    let mut dims = Vec::with_capacity(rank as usize);
    for _ in 0..rank {
        let size = cursor.u64(&what)?;
        dims.push(usize::try_from(size).unwrap_or(usize::MAX));
    }
    dims.reverse();
    let elements = dims.iter().try_fold(1usize, |all, size| all.checked_mul(*size));
    if !elements.is_some_and(|elements| (1..=MAX_ELEMENTS).contains(&elements)) {
        return Err(wrong(format!("shape {dims:?}; 1 to 2^40 elements are expected")));
    }
    let (kind, offset) = (cursor.u32(&what)?, cursor.u64(&what)?);
    Ok(Entry { info: TensorInfo { name, kind, dims, place: 0..0 }, offset, at })
}

/// Places the elements of all entries, which begin at `data` in a file of `len` bytes.
pub(super) fn place(
    entries: Vec<Entry>,
    data: usize,
    alignment: usize,
    len: usize,
) -> Result<Vec<TensorInfo>, Misfit> {
    let mut tensors = Vec::with_capacity(entries.len());
    for Entry { mut info, offset, at } in entries {
        let wrong =
            |info: &TensorInfo, why: String| Misfit { at, why: format!("tensor `{}`: {why}", info.name) };
        let Some(kind) = Kind::of(info.kind) else {
            // It is refused later, with all others of the file.
            tensors.push(info);
            continue;
        };
        let row = info.dims.last().copied().unwrap_or(1);
        if !row.is_multiple_of(kind.elements) {
            let why = format!("rows of {row} elements of {}, whose blocks have {}", kind.name, kind.elements);
            return Err(wrong(&info, why));
        }
        if !offset.is_multiple_of(alignment as u64) {
            let why =
                format!("begins at offset {offset}, which is no multiple of the alignment, {alignment}");
            return Err(wrong(&info, why));
        }
        let start = usize::try_from(offset).ok().and_then(|offset| data.checked_add(offset));
        let bytes = kind.bytes_of(info.dims.iter().product());
        let end = start.zip(bytes).and_then(|(start, bytes)| start.checked_add(bytes));
        info.place = match (start, end) {
            (Some(start), Some(end)) if end <= len => start..end,
            _ => {
                let why = format!(
                    "{} of shape {:?} at offset {offset} of the elements, which begin at byte {data}, reaches past the file's {len} \
                     bytes; it may be cut: fetch it again",
                    kind.name, info.dims
                );
                return Err(wrong(&info, why));
            }
        };
        tensors.push(info);
    }
    let mut order: Vec<&TensorInfo> = tensors.iter().filter(|info| !info.place.is_empty()).collect();
    order.sort_by_key(|info| info.place.start);
    for pair in order.windows(2) {
        if pair[0].place.end > pair[1].place.start {
            let why = format!(
                "tensor `{}`, bytes {:?}, lies on tensor `{}`, bytes {:?}",
                pair[1].name, pair[1].place, pair[0].name, pair[0].place
            );
            return Err(Misfit { at: pair[1].place.start, why });
        }
    }
    let mut names = HashMap::with_capacity(tensors.len());
    for info in &tensors {
        if names.insert(&info.name, ()).is_some() {
            return Err(Misfit {
                at: info.place.start,
                why: format!("tensor `{}` is there twice", info.name),
            });
        }
    }
    Ok(tensors)
}
