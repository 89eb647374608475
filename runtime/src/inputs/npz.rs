//! NumPy's array files.

use super::zip::{Writer, members, read_member};
use super::{InputError, NamedArray, npy};
use crate::sort;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

/// One array from a `.npy` file, at most `limit` bytes of elements.
///
/// # Errors
/// When the file cannot be read, holds no plain array of a known type, or is larger than the limit.
pub fn read_npy(path: &Path, limit: u64) -> Result<NamedArray, InputError> {
    let file = File::open(path).map_err(|source| InputError::Io { path: path.into(), source })?;
    checked(path, "", npy::read(String::new(), BufReader::new(file), limit), limit)
}

/// Every array of a `.npz` archive, by name, at most `limit` bytes in all.
///
/// # Errors
/// As [`read_npy`].
pub fn read_npz(path: &Path, mut limit: u64) -> Result<Vec<NamedArray>, InputError> {
    let wrong = |e: io::Error| InputError::Format { path: path.into(), why: e.to_string() };
    let file = File::open(path).map_err(|source| InputError::Io { path: path.into(), source })?;
    let mut source = BufReader::new(file);
    let mut arrays = Vec::new();
    for member in members(&mut source).map_err(wrong)? {
        let Some(name) = member.name.strip_suffix(".npy") else { continue };
        let read = read_member(&mut source, &member, |bytes| npy::read(name.to_string(), bytes, limit));
        let array = checked(path, name, read, limit)?;
        limit -= array.data.len() as u64;
        arrays.push(array);
    }
    sort::by(&mut arrays, |a, b| a.name.cmp(&b.name));
    Ok(arrays)
}

/// The array, or the error with the file's and the array's names.
fn checked(
    path: &Path,
    name: &str,
    read: io::Result<Result<NamedArray, u64>>,
    limit: u64,
) -> Result<NamedArray, InputError> {
    let what = if name.is_empty() { String::new() } else { format!("array `{name}`: ") };
    match read {
        Ok(Ok(array)) => Ok(array),
        Ok(Err(bytes)) => Err(InputError::TooLarge { path: path.into(), bytes, limit }),
        Err(e) => Err(InputError::Format { path: path.into(), why: format!("{what}{e}") }),
    }
}

/// Writes arrays to a `.npz` archive, uncompressed as NumPy's `savez` does.
///
/// # Errors
/// When the file cannot be written.
pub fn write_npz(path: &Path, arrays: &[NamedArray]) -> Result<(), InputError> {
    let io = |source| InputError::Io { path: path.into(), source };
    let mut archive = Writer::new(BufWriter::new(File::create(path).map_err(io)?));
    for array in arrays {
        archive.add(&format!("{}.npy", array.name), |target| npy::write(array, target)).map_err(io)?;
    }
    archive.finish().map_err(io)
}

/// Writes one array to a `.npy` file.
///
/// # Errors
/// When the file cannot be written.
pub fn write_npy(path: &Path, array: &NamedArray) -> Result<(), InputError> {
    let io = |source| InputError::Io { path: path.into(), source };
    let mut file = BufWriter::new(File::create(path).map_err(io)?);
    npy::write(array, &mut file).map_err(io)?;
    file.flush().map_err(io)
}

#[cfg(test)]
mod tests {
    use super::{read_npy, read_npz, write_npy, write_npz};
    use crate::graph::DType;
    use crate::inputs::{InputError, NamedArray};

    fn array(dtype: DType, dims: &[usize]) -> NamedArray {
        let bytes = dims.iter().product::<usize>() * dtype.bytes();
        let data = (0..bytes).map(|i| if dtype == DType::Bool { (i % 2) as u8 } else { i as u8 }).collect();
        NamedArray { name: format!("a_{dtype}"), dtype, dims: dims.to_vec(), data }
    }

    #[test]
    fn arrays_of_every_type_come_back() {
        let dir = std::env::temp_dir().join(format!("edge-npz-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("x.npz");
        let types = DType::ALL.into_iter().filter(|d| *d != DType::Bf16);
        let mut arrays: Vec<NamedArray> = types.map(|dtype| array(dtype, &[2, 3])).collect();
        arrays.push(NamedArray { name: "scalar".into(), ..array(DType::I64, &[]) });
        arrays.push(NamedArray { name: "vector".into(), ..array(DType::F32, &[5]) });
        write_npz(&path, &arrays).unwrap();
        arrays.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(read_npz(&path, 1 << 20).unwrap(), arrays);
        assert!(matches!(read_npz(&path, 20), Err(InputError::TooLarge { .. })));

        let one = dir.join("x.npy");
        write_npy(&one, &arrays[0]).unwrap();
        assert_eq!(read_npy(&one, 1 << 20).unwrap().data, arrays[0].data);
        let whole = std::fs::read(&one).unwrap();
        for len in 0..whole.len() {
            std::fs::write(&one, &whole[..len]).unwrap();
            assert!(matches!(read_npy(&one, 1 << 20), Err(InputError::Format { .. })), "cut at {len}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
