//! The `.npy` form: a magic, a header that is a Python dictionary, the elements.
//!
//! Read and written here because the crates that do it bring a Python-literal parser, big integers and C
//! compressors into a binary that is to stay below 3 MB. Source: NumPy's format description,
//! `numpy.lib.format`, versions 1.0 to 3.0.

use super::NamedArray;
use crate::graph::DType;
use std::io::{self, Read, Write};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest header that is read: NumPy writes one of 118 bytes for most arrays.
const MAX_HEADER: usize = 64 << 10;
/// The data starts at a multiple of this.
const ALIGN: usize = 64;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub dims: Vec<usize>,
    /// Whether the first index runs fastest.
    pub fortran: bool,
}

fn wrong(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

impl Form {
    /// Bytes of the elements, when they can be counted.
    ///
    /// # Errors
    /// When they are more than 64 bits can count.
    pub fn bytes(&self) -> io::Result<u64> {
        let count = self.dims.iter().try_fold(self.dtype.bytes() as u64, |n, d| n.checked_mul(*d as u64));
        count.ok_or_else(|| wrong(format!("shape {:?} has more elements than can be counted", self.dims)))
    }
}

/// Reads what stands before the elements; they follow at once.
///
/// # Errors
/// When it is no array of numbers in a form that is known.
pub fn form(source: &mut impl Read) -> io::Result<Form> {
    let mut head = [0; 8];
    source.read_exact(&mut head)?;
    if head[..6] != MAGIC[..] {
        return Err(wrong("no NumPy array: the magic is missing"));
    }
    let len = match head[6] {
        1 => {
            let mut len = [0; 2];
            source.read_exact(&mut len)?;
            usize::from(u16::from_le_bytes(len))
        }
        2 | 3 => {
            let mut len = [0; 4];
            source.read_exact(&mut len)?;
            u32::from_le_bytes(len) as usize
        }
        version => return Err(wrong(format!("NumPy format version {version}, expected 1 to 3"))),
    };
    if len > MAX_HEADER {
        return Err(wrong(format!("a header of {len} bytes, at most {MAX_HEADER} are read")));
    }
    let mut text = vec![0; len];
    source.read_exact(&mut text)?;
    parse(&String::from_utf8_lossy(&text))
}

/// Reads one array; `Err` of kind `OutOfMemory` holds how many bytes it has when they are more than `limit`.
pub(super) fn read(name: String, mut source: impl Read, limit: u64) -> io::Result<Result<NamedArray, u64>> {
    let form = form(&mut source)?;
    if form.fortran {
        return Err(wrong("an array in Fortran order; save it with np.ascontiguousarray"));
    }
    let bytes = form.bytes()?;
    if bytes > limit {
        return Ok(Err(bytes));
    }
    // What the file claims is not allocated before it is there.
    let mut data = Vec::new();
    source.take(bytes).read_to_end(&mut data)?;
    if data.len() as u64 != bytes {
        return Err(wrong(format!("{} bytes of elements, the header promises {bytes}", data.len())));
    }
    Ok(Ok(NamedArray { name, dtype: form.dtype, dims: form.dims, data }))
}

/// Parses `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`.
fn parse(text: &str) -> io::Result<Form> {
    let value = |key: &str| -> io::Result<&str> {
        let at = text.find(&format!("'{key}'")).ok_or_else(|| wrong(format!("the header has no `{key}`")))?;
        let rest = &text[at + key.len() + 2..];
        let rest =
            rest.trim_start().strip_prefix(':').ok_or_else(|| wrong(format!("`{key}` has no value")))?;
        Ok(rest.trim_start())
    };
    let descr = value("descr")?;
    let descr = descr.strip_prefix('\'').and_then(|d| d.split('\'').next());
    let descr = descr.ok_or_else(|| wrong("an array of records; expected numbers"))?;
    let dtype = match descr {
        "<f4" => DType::F32,
        "<f8" => DType::F64,
        "<f2" => DType::F16,
        "|i1" => DType::I8,
        "|u1" => DType::U8,
        "<i2" => DType::I16,
        "<u2" => DType::U16,
        "<i4" => DType::I32,
        "<u4" => DType::U32,
        "<i8" => DType::I64,
        "<u8" => DType::U64,
        "|b1" => DType::Bool,
        other => {
            return Err(wrong(format!("elements of type `{other:.16}`; expected little-endian numbers")));
        }
    };
    let shape = value("shape")?.strip_prefix('(').and_then(|s| s.split_once(')'));
    let (shape, _) = shape.ok_or_else(|| wrong("`shape` is no tuple"))?;
    let dims: Result<Vec<usize>, _> =
        shape.split(',').map(str::trim).filter(|d| !d.is_empty()).map(str::parse).collect();
    let dims = dims.map_err(|_| wrong(format!("shape ({shape:.64})")))?;
    let fortran = value("fortran_order")?.starts_with("True") && dims.len() > 1;
    Ok(Form { dtype, dims, fortran })
}

/// Writes one array.
pub(super) fn write(array: &NamedArray, mut target: impl Write) -> io::Result<()> {
    let descr = match array.dtype {
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        DType::F16 => "<f2",
        DType::I8 => "|i1",
        DType::U8 => "|u1",
        DType::I16 => "<i2",
        // NumPy has no bfloat16: its bits.
        DType::U16 | DType::Bf16 => "<u2",
        DType::I32 => "<i4",
        DType::U32 => "<u4",
        DType::I64 => "<i8",
        DType::U64 => "<u8",
        DType::Bool => "|b1",
    };
    let dims: String = array.dims.iter().map(|d| format!("{d}, ")).collect();
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", dims.trim_end());
    let prefix = MAGIC.len() + 4;
    while !(prefix + header.len() + 1).is_multiple_of(ALIGN) {
        header.push(' ');
    }
    header.push('\n');
    target.write_all(MAGIC)?;
    target.write_all(&[1, 0])?;
    target.write_all(&(header.len() as u16).to_le_bytes())?;
    target.write_all(header.as_bytes())?;
    target.write_all(&array.data)
}
