//! NumPy's arrays: one in a `.npy` file, several in a `.npz` archive. Where the elements of an array lie the wrong way round (Fortran
//! order) they are put in order as they are read.

use super::storage::{Source, Storage};
use super::view::View;
use super::{CheckpointError, Contents, Entry};
use edge_runtime::inputs::npy;
use edge_runtime::inputs::zip::{Member, members, place, read_member};
use std::io::{Cursor, Read};

const SUFFIX: &str = ".npy";
/// Bytes that a header can have, with what comes before it.
const MAX_HEADER: u64 = (64 << 10) + 12;

/// Whether an archive of these members holds arrays.
pub(super) fn is_archive(members: &[Member]) -> bool {
    members.iter().any(|m| m.name.ends_with(SUFFIX))
}

/// Whether bytes begin as an array does.
pub(super) fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x93NUMPY")
}

/// Reads the headers of an archive's arrays.
pub(super) fn read_archive(index: usize, source: &Source) -> Result<Contents, CheckpointError> {
    let wrong = |at: usize, e: std::io::Error| source.wrong(at, e.to_string());
    let (mut storages, mut entries) = (Vec::new(), Vec::new());
    let mut ends = 0;
    let members = members(&mut Cursor::new(source.bytes())).map_err(|e| wrong(0, e))?;
    for member in members {
        let Some(name) = member.name.strip_suffix(SUFFIX) else { continue };
        let at = place(source.bytes(), &member).map_err(|e| wrong(0, e))?;
        let tensor = |why: String| CheckpointError::Tensor {
            path: source.path.clone(),
            tensor: name.to_string(),
            why,
        };
        if at.start < ends {
            return Err(
                source.wrong(at.start, format!("member `{}` overlaps the one before it", member.name))
            );
        }
        ends = at.end;
        let head = head(source, &member, &at).map_err(|e| tensor(e.to_string()))?;
        let mut rest = &head[..];
        let form = npy::form(&mut rest).map_err(|e| tensor(e.to_string()))?;
        let skip = head.len() - rest.len();
        check_size(&form, member.size.checked_sub(skip as u64)).map_err(&tensor)?;
        let storage = Storage::member(index, &member, at, skip).map_err(&tensor)?;
        entries.push(entry(name, form, storages.len()).map_err(&tensor)?);
        storages.push(storage);
    }
    Ok(Contents { storages, entries, ..Contents::default() })
}

/// Reads one array's header; the array bears the file's name.
pub(super) fn read(index: usize, source: &Source) -> Result<Contents, CheckpointError> {
    let mut rest = source.bytes();
    let name = source.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let tensor =
        |why: String| CheckpointError::Tensor { path: source.path.clone(), tensor: name.clone(), why };
    let form = npy::form(&mut rest).map_err(|e| tensor(e.to_string()))?;
    check_size(&form, Some(rest.len() as u64)).map_err(&tensor)?;
    let skip = source.bytes().len() - rest.len();
    let storages = vec![Storage::plain(index, skip..source.bytes().len())];
    let entries = vec![entry(&name, form, 0).map_err(&tensor)?];
    Ok(Contents { storages, entries, ..Contents::default() })
}

/// The beginning of a member.
fn head(source: &Source, member: &Member, at: &std::ops::Range<usize>) -> std::io::Result<Vec<u8>> {
    let limit = MAX_HEADER.min(member.size);
    if member.is_stored() {
        return Ok(source.bytes()[at.clone()][..limit as usize].to_vec());
    }
    let mut head = Vec::new();
    // The sum is checked when the whole is read; here it cannot be right.
    let read = read_member(&mut Cursor::new(source.bytes()), member, |bytes| {
        (&mut *bytes).take(limit).read_to_end(&mut head)
    });
    match read {
        Err(e) if head.is_empty() => Err(e),
        _ => Ok(head),
    }
}

fn check_size(form: &npy::Form, there: Option<u64>) -> Result<(), String> {
    let promised = form.bytes().map_err(|e| e.to_string())?;
    match there {
        Some(there) if there == promised => Ok(()),
        there => Err(format!("{} bytes of elements, the header promises {promised}", there.unwrap_or(0))),
    }
}

fn entry(name: &str, form: npy::Form, storage: usize) -> Result<Entry, String> {
    let wide: Vec<u64> = form.dims.iter().map(|d| *d as u64).collect();
    let len = wide.iter().try_fold(1u64, |n, d| n.checked_mul(*d)).unwrap_or(0);
    let mut strides = vec![1u64; wide.len()];
    let mut stride = 1u64;
    let order: Vec<usize> =
        if form.fortran { (0..wide.len()).collect() } else { (0..wide.len()).rev().collect() };
    for axis in order {
        strides[axis] = stride;
        stride = stride.saturating_mul(wide[axis]);
    }
    let view = View::new(0, &wide, &strides, len, form.dtype.bytes())?;
    Ok(Entry::new(name, form.dtype, form.dims, storage, view))
}
