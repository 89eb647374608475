//! NumPy's array files.

use super::{InputError, NamedArray};
use crate::graph::DType;
use npyz::npz::NpzWriter;
use npyz::{AutoSerialize, DType as Npy, NpyFile, TypeChar, WriterBuilder};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read};
use std::path::Path;

/// One array from a `.npy` file, at most `limit` bytes of elements.
///
/// # Errors
/// When the file cannot be read, holds no plain array of a known type, or is larger than the limit.
pub fn read_npy(path: &Path, limit: u64) -> Result<NamedArray, InputError> {
    let file = File::open(path).map_err(|source| InputError::Io { path: path.into(), source })?;
    let npy = NpyFile::new(BufReader::new(file)).map_err(|source| InputError::Io { path: path.into(), source })?;
    array(path, String::new(), npy, limit)
}

/// Every array of a `.npz` archive, at most `limit` bytes in all.
///
/// # Errors
/// As [`read_npy`].
pub fn read_npz(path: &Path, mut limit: u64) -> Result<Vec<NamedArray>, InputError> {
    let io = |source| InputError::Io { path: path.into(), source };
    let mut archive = npyz::npz::NpzArchive::open(path).map_err(io)?;
    let mut names: Vec<String> = archive.array_names().map(str::to_string).collect();
    names.sort();
    let mut arrays = Vec::with_capacity(names.len());
    for name in names {
        let Some(npy) = archive.by_name(&name).map_err(io)? else { continue };
        let read = array(path, name, npy, limit)?;
        limit -= read.data.len() as u64;
        arrays.push(read);
    }
    Ok(arrays)
}

fn array<R: Read>(path: &Path, name: String, npy: NpyFile<R>, limit: u64) -> Result<NamedArray, InputError> {
    let wrong = |why: String| InputError::Format { path: path.into(), why };
    let Npy::Plain(plain) = npy.dtype() else {
        return Err(wrong(format!("array `{name}` has fields; expected numbers")));
    };
    let dtype = match (plain.type_char(), plain.size_field()) {
        (TypeChar::Float, 4) => DType::F32,
        (TypeChar::Float, 8) => DType::F64,
        (TypeChar::Float, 2) => DType::F16,
        (TypeChar::Int, 1) => DType::I8,
        (TypeChar::Int, 2) => DType::I16,
        (TypeChar::Int, 4) => DType::I32,
        (TypeChar::Int, 8) => DType::I64,
        (TypeChar::Uint, 1) => DType::U8,
        (TypeChar::Uint, 2) => DType::U16,
        (TypeChar::Uint, 4) => DType::U32,
        (TypeChar::Uint, 8) => DType::U64,
        (TypeChar::Bool, 1) => DType::Bool,
        _ => return Err(wrong(format!("array `{name}` has elements `{plain}`"))),
    };
    if plain.endianness() == npyz::Endianness::Big {
        return Err(wrong(format!("array `{name}` is big-endian")));
    }
    if npy.order() == npyz::Order::Fortran && npy.shape().len() > 1 {
        return Err(wrong(format!("array `{name}` is in Fortran order; save it with np.ascontiguousarray")));
    }
    let mut bytes = dtype.bytes() as u64;
    for d in npy.shape() {
        bytes = bytes.checked_mul(*d).ok_or_else(|| wrong(format!("array `{name}` of shape {:?}", npy.shape())))?;
    }
    if bytes > limit {
        return Err(InputError::TooLarge { path: path.into(), bytes, limit });
    }
    let dims = npy.shape().iter().map(|d| *d as usize).collect();
    let mut data = vec![0; bytes as usize];
    let mut reader = npy.into_inner();
    reader.read_exact(&mut data).map_err(|source| InputError::Io { path: path.into(), source })?;
    Ok(NamedArray { name, dtype, dims, data })
}

/// Writes arrays to a `.npz` archive.
///
/// # Errors
/// When the file cannot be written.
pub fn write_npz(path: &Path, arrays: &[NamedArray]) -> Result<(), InputError> {
    let io = |source| InputError::Io { path: path.into(), source };
    let mut archive = NpzWriter::new(BufWriter::new(File::create(path).map_err(io)?));
    for a in arrays {
        match a.dtype {
            DType::F32 => put(&mut archive, a, f32::from_le_bytes),
            DType::F64 => put(&mut archive, a, f64::from_le_bytes),
            DType::F16 => put(&mut archive, a, half::f16::from_le_bytes),
            DType::I8 => put(&mut archive, a, i8::from_le_bytes),
            DType::U8 => put(&mut archive, a, u8::from_le_bytes),
            DType::I16 => put(&mut archive, a, i16::from_le_bytes),
            DType::U16 | DType::Bf16 => put(&mut archive, a, u16::from_le_bytes),
            DType::I32 => put(&mut archive, a, i32::from_le_bytes),
            DType::U32 => put(&mut archive, a, u32::from_le_bytes),
            DType::I64 => put(&mut archive, a, i64::from_le_bytes),
            DType::U64 => put(&mut archive, a, u64::from_le_bytes),
            DType::Bool => put(&mut archive, a, |[b]: [u8; 1]| b != 0),
        }
        .map_err(io)?;
    }
    Ok(())
}

fn put<T: AutoSerialize, const N: usize>(
    archive: &mut NpzWriter<BufWriter<File>>,
    array: &NamedArray,
    element: impl Fn([u8; N]) -> T,
) -> std::io::Result<()> {
    let shape: Vec<u64> = array.dims.iter().map(|d| *d as u64).collect();
    let mut writer = archive.array(&array.name, Default::default())?.default_dtype().shape(&shape).begin_nd()?;
    writer.extend(array.data.as_chunks::<N>().0.iter().map(|b| element(*b)))?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::{read_npz, write_npz};
    use crate::graph::DType;
    use crate::inputs::{InputError, NamedArray};

    #[test]
    fn arrays_of_every_type_come_back() {
        let dir = std::env::temp_dir().join(format!("edge-npz-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("x.npz");
        let arrays: Vec<NamedArray> = DType::ALL
            .into_iter()
            .filter(|d| *d != DType::Bf16)
            .map(|dtype| NamedArray {
                name: format!("a_{dtype}"),
                dtype,
                dims: vec![2, 3],
                data: (0..6 * dtype.bytes()).map(|i| if dtype == DType::Bool { (i % 2) as u8 } else { i as u8 }).collect(),
            })
            .collect();
        write_npz(&path, &arrays).unwrap();
        let mut want = arrays.clone();
        want.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(read_npz(&path, 1 << 20).unwrap(), want);
        assert!(matches!(read_npz(&path, 20), Err(InputError::TooLarge { .. })));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
