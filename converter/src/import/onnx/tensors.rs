//! Stored arrays: `TensorProto` to [`Array`], every size checked before anything is allocated.

use super::files::{Files, room};
use super::proto::TensorProto;
use crate::import::ImportError;
use crate::model::Array;
use edge_runtime::graph::DType;
use half::{bf16, f16};
use prost::bytes::Bytes;

/// The element type behind ONNX's number, or its name when the importer has no such type. Integers of 4 bits become bytes, one an
/// element; [`four_bits`] tells them from others.
pub fn dtype(number: i32) -> Result<DType, String> {
    Ok(match number {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::Bf16,
        0 => return Err("undefined".into()),
        8 => return Err("string".into()),
        14 => return Err("complex64".into()),
        15 => return Err("complex128".into()),
        17 => return Err("float8e4m3fn".into()),
        18 => return Err("float8e4m3fnuz".into()),
        19 => return Err("float8e5m2".into()),
        20 => return Err("float8e5m2fnuz".into()),
        UINT4 => DType::U8,
        INT4 => DType::I8,
        23 => return Err("float4e2m1".into()),
        other => return Err(format!("number {other}")),
    })
}

/// ONNX's number of the unsigned integers of 4 bits.
pub const UINT4: i32 = 21;
/// ONNX's number of the signed integers of 4 bits.
pub const INT4: i32 = 22;

/// Whether ONNX's number stands for integers of 4 bits.
pub fn four_bits(number: i32) -> bool {
    matches!(number, UINT4 | INT4)
}

/// Bytes of one element each from two elements a byte, the first one in the low bits.
fn unpacked(packed: &[u8], number: i32, elements: usize) -> Vec<u8> {
    let one = |i: usize| {
        let bits = packed[i / 2] >> (4 * (i % 2)) & 15;
        // Bit 3 is the sign.
        if number == INT4 && bits > 7 { bits | 0xf0 } else { bits }
    };
    (0..elements).map(one).collect()
}

/// Two elements a byte from bytes of one each.
pub fn packed(data: &[u8]) -> Vec<u8> {
    data.chunks(2).map(|two| two[0] & 15 | two.get(1).map_or(0, |second| second << 4)).collect()
}

/// The shape, with every dimension and the product checked to fit the address space.
///
/// # Errors
/// [`ImportError::Tensor`] for negative or overflowing dimensions.
pub fn dims(tensor: &TensorProto) -> Result<Vec<usize>, ImportError> {
    let mut product = 1usize;
    let mut dims = Vec::with_capacity(tensor.dims.len());
    for &dim in &tensor.dims {
        let size = usize::try_from(dim).map_err(|_| bad(tensor, format!("dimension {dim}")))?;
        // A zero must not hide an overflow of the others.
        product = product
            .checked_mul(size.max(1))
            .filter(|p| *p <= isize::MAX as usize / 8)
            .ok_or_else(|| bad(tensor, format!("shape {:?} is beyond the address space", tensor.dims)))?;
        dims.push(size);
    }
    Ok(dims)
}

/// Reads a stored array.
///
/// Bytes that lie in the file as the array has them stay there: see [`Files::own`].
///
/// # Errors
/// [`ImportError::Tensor`] when the data do not fit the shape, the element type is not known, or the data cannot be read.
pub fn read(tensor: &TensorProto, files: &Files) -> Result<Array, ImportError> {
    let dims = dims(tensor)?;
    let dtype = dtype(tensor.data_type)
        .map_err(|name| bad(tensor, format!("element type {name} is not implemented")))?;
    if tensor.segment.is_some() {
        return Err(bad(tensor, "stored in segments, which is not implemented".into()));
    }
    let elements: usize = dims.iter().product();
    let four_bits = four_bits(tensor.data_type);
    let bytes = if four_bits { elements.div_ceil(2) } else { elements * dtype.bytes() };
    let fits = |found: usize| {
        if found == bytes {
            return Ok(());
        }
        Err(bad(tensor, format!("{dtype}{dims:?} takes {bytes} bytes, {found} are stored")))
    };
    // 1: the enum's EXTERNAL.
    let data: Bytes = if tensor.data_location == 1 {
        files.external(tensor, bytes)?
    } else if let Some(raw) = &tensor.raw_data {
        fits(raw.len())?;
        raw.clone()
    } else {
        let data = typed(tensor, dtype);
        fits(data.len())?;
        data.into()
    };
    // Whatever is made of it takes as much at least: a file with holes has more than there is memory.
    room::<f32>(&tensor.name, elements.max(bytes / 4))?;
    let data = if four_bits { unpacked(&data, tensor.data_type, elements).into() } else { data };
    Ok(Array { dtype, dims, data })
}

/// The bytes of whichever typed field holds elements of `dtype`.
fn typed(tensor: &TensorProto, dtype: DType) -> Vec<u8> {
    let ints = &tensor.int32_data;
    match dtype {
        DType::F32 => tensor.float_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::F64 => tensor.double_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::I64 => tensor.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::U64 => tensor.uint64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::U32 => tensor.uint64_data.iter().flat_map(|v| (*v as u32).to_le_bytes()).collect(),
        DType::I32 => ints.iter().flat_map(|v| v.to_le_bytes()).collect(),
        // Two-byte types, floats included, are stored as their bits.
        DType::I16 | DType::U16 | DType::F16 | DType::Bf16 => {
            ints.iter().flat_map(|v| (*v as u16).to_le_bytes()).collect()
        }
        DType::I8 | DType::U8 => ints.iter().map(|v| *v as u8).collect(),
        DType::Bool => ints.iter().map(|v| u8::from(*v != 0)).collect(),
    }
}

/// An error of a stored array.
pub fn bad(tensor: &TensorProto, reason: String) -> ImportError {
    ImportError::Tensor { tensor: tensor.name.clone(), reason }
}

/// The elements of a float array of any width as `f32`; `None` for other types.
pub fn floats(array: &Array) -> Option<Vec<f32>> {
    let data = &array.data;
    Some(match array.dtype {
        DType::F32 => return array.as_f32(),
        DType::F64 => data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        DType::F16 => data.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        DType::Bf16 => data.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        _ => return None,
    })
}

/// An array of floats in another order: element `i` of the result is the array's element `place(i)`, or 0 where there is none. It keeps
/// its width, but 64 bits become 32. `None` where elements are no floats.
pub fn arranged(array: &Array, dims: &[usize], place: impl Fn(usize) -> Option<usize>) -> Option<Array> {
    fn pick<const N: usize>(data: &[u8], count: usize, place: impl Fn(usize) -> Option<usize>) -> Vec<u8> {
        let source = data.as_chunks::<N>().0;
        let mut picked = Vec::with_capacity(count * N);
        (0..count).for_each(|i| picked.extend(place(i).map_or([0; N], |at| source[at])));
        picked
    }
    let count = dims.iter().product();
    let (dtype, data) = match array.dtype {
        DType::F32 => (DType::F32, pick::<4>(&array.data, count, place)),
        dtype @ (DType::F16 | DType::Bf16) => (dtype, pick::<2>(&array.data, count, place)),
        _ => {
            let values = floats(array)?;
            return Some(Array::of_f32(
                dims,
                (0..count).map(|i| place(i).map_or(0.0, |at| values[at])).collect(),
            ));
        }
    };
    Some(Array { dtype, dims: dims.to_vec(), data: data.into() })
}

/// The elements of an integer or boolean array as `i64`; `None` for floats.
pub fn integers(array: &Array) -> Option<Vec<i64>> {
    let data = &array.data;
    Some(match array.dtype {
        DType::I64 | DType::I32 => return array.as_i64(),
        DType::U64 => data.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b) as i64).collect(),
        DType::U32 => data.as_chunks::<4>().0.iter().map(|b| i64::from(u32::from_le_bytes(*b))).collect(),
        DType::I16 => data.as_chunks::<2>().0.iter().map(|b| i64::from(i16::from_le_bytes(*b))).collect(),
        DType::U16 => data.as_chunks::<2>().0.iter().map(|b| i64::from(u16::from_le_bytes(*b))).collect(),
        DType::I8 => data.iter().map(|b| i64::from(*b as i8)).collect(),
        DType::U8 | DType::Bool => data.iter().map(|b| i64::from(*b)).collect(),
        _ => return None,
    })
}

/// An array of one element type from `f64` values; integers are truncated.
pub fn from_f64(dtype: DType, dims: &[usize], values: &[f64]) -> Array {
    let mut data = Vec::with_capacity(values.len() * dtype.bytes());
    for &v in values {
        match dtype {
            DType::F32 => data.extend((v as f32).to_le_bytes()),
            DType::F64 => data.extend(v.to_le_bytes()),
            DType::F16 => data.extend(f16::from_f64(v).to_le_bytes()),
            DType::Bf16 => data.extend(bf16::from_f64(v).to_le_bytes()),
            DType::I64 | DType::U64 => data.extend((v as i64).to_le_bytes()),
            DType::I32 | DType::U32 => data.extend((v as i64 as i32).to_le_bytes()),
            DType::I16 | DType::U16 => data.extend((v as i64 as i16).to_le_bytes()),
            DType::I8 | DType::U8 | DType::Bool => data.push(v as i64 as u8),
        }
    }
    Array { dtype, dims: dims.to_vec(), data: data.into() }
}
