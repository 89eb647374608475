//! safetensors: a header of JSON, then the elements. The `safetensors` crate reads and checks the header; the elements stay where they
//! are.

use super::storage::{Source, Storage};
use super::view::View;
use super::{CheckpointError, Contents, Entry};
use edge_runtime::graph::DType;
use safetensors::Dtype;
use safetensors::tensor::Metadata;

/// Bytes that say how long the header is.
const LEN: usize = 8;
/// Longest header, as the format's own readers have it.
const MAX_HEADER: u64 = 100_000_000;

/// Whether bytes begin as a file of this form does.
pub(super) fn begins(bytes: &[u8]) -> bool {
    let len = bytes.first_chunk::<LEN>().map(|len| u64::from_le_bytes(*len));
    len.is_some_and(|len| len <= MAX_HEADER) && bytes.get(LEN) == Some(&b'{')
}

/// Reads the header.
pub(super) fn read(index: usize, source: &Source) -> Result<Contents, CheckpointError> {
    let bytes = source.bytes();
    let len = bytes.first_chunk::<LEN>().map_or(0, |len| u64::from_le_bytes(*len));
    let end =
        usize::try_from(len).ok().and_then(|len| len.checked_add(LEN)).filter(|end| *end <= bytes.len());
    let Some(end) = end else {
        return Err(source.wrong(
            0,
            format!("a header of {len} bytes in a file of {}, which may be cut: fetch it again", bytes.len()),
        ));
    };
    // The file is read whole by none of this: the header is parsed alone, and held against the file's length.
    let header: Metadata = serde_json::from_slice(&bytes[LEN..end])
        .map_err(|e| source.wrong(LEN, format!("the header: {e}")))?;
    let (promised, there) = (header.data_len(), bytes.len() - end);
    if promised != there {
        let why = format!(
            "{there} bytes of elements, the header promises {promised}; the file may be cut: fetch it again"
        );
        return Err(source.wrong(end, why));
    }
    let (mut storages, mut entries) = (Vec::new(), Vec::new());
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        let wrong =
            |why: String| CheckpointError::Tensor { path: source.path.clone(), tensor: name.clone(), why };
        let dtype =
            dtype(info.dtype).ok_or_else(|| wrong(format!("elements of `{:?}` are not read", info.dtype)))?;
        // Both ends lie within the promised bytes, and their distance is that of the shape: the crate has checked it.
        let (from, to) = info.data_offsets;
        let elements = info.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let elements = elements.filter(|n| n.checked_mul(dtype.bytes()) == to.checked_sub(from));
        let elements = elements.ok_or_else(|| wrong(format!("shape {:?} in {from}..{to}", info.shape)))?;
        let storage = Storage::plain(index, end + from..end + to);
        entries.push(Entry::new(&name, dtype, info.shape.clone(), storages.len(), View::plain(elements)));
        storages.push(storage);
    }
    Ok(Contents { storages, entries, ..Contents::default() })
}

fn dtype(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::BOOL => DType::Bool,
        Dtype::U8 => DType::U8,
        Dtype::I8 => DType::I8,
        Dtype::I16 => DType::I16,
        Dtype::U16 => DType::U16,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::Bf16,
        Dtype::I32 => DType::I32,
        Dtype::U32 => DType::U32,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::I64 => DType::I64,
        Dtype::U64 => DType::U64,
        _ => return None,
    })
}
