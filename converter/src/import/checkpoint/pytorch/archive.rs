//! The archive that PyTorch writes since version 1.6: `NAME/data.pkl`, and `NAME/data/KEY` for each storage.

use super::{Held, MAX_PICKLE, entries, tree, unpickle};
use crate::import::checkpoint::storage::{Source, Storage};
use crate::import::checkpoint::{CheckpointError, Contents};
use edge_runtime::inputs::zip::{Member, members, place, read_member};
use std::collections::HashMap;
use std::io::{Cursor, Read};

const PICKLE: &str = "data.pkl";

/// Whether an archive of these members is PyTorch's.
pub fn is_archive(members: &[Member]) -> bool {
    root(members).is_some()
}

/// The folder that holds everything.
fn root(members: &[Member]) -> Option<&str> {
    members.iter().find_map(|m| match m.name.strip_suffix(PICKLE)? {
        folder if folder.matches('/').count() <= 1 && !folder.starts_with('/') => Some(folder),
        _ => None,
    })
}

/// Reads an archive; `part` is the part of the pickle that is wanted.
pub fn read(index: usize, source: &Source, part: Option<&str>) -> Result<Contents, CheckpointError> {
    let wrong = |e: std::io::Error| source.wrong(0, e.to_string());
    let members = members(&mut Cursor::new(source.bytes())).map_err(wrong)?;
    let root = root(&members).unwrap_or_default().to_string();
    let member = |name: &str| members.iter().find(|m| m.name.strip_prefix(&root) == Some(name));
    if member("constants.pkl").is_some() {
        let why = "a TorchScript program, which is code; save model.state_dict() instead".to_string();
        return Err(CheckpointError::Kind { path: source.path.clone(), why });
    }
    if let Some(order) = member("byteorder") {
        let order = contents(source, order, 16)?;
        if order != b"little" {
            return Err(source.wrong(0, "elements in big-endian order, which are not read"));
        }
    }
    let Some(described) = member(PICKLE) else { return Err(source.wrong(0, format!("no `{PICKLE}` in it"))) };
    let bytes = contents(source, described, MAX_PICKLE)?;
    // Places in errors are those of the file where the pickle lies in it as it is.
    let base = match described.is_stored() {
        true => place(source.bytes(), described).map_err(wrong)?.start,
        false => 0,
    };
    let pickle = unpickle(source, &bytes, 0, base)?;
    let found = tree::tensors(&source.path, &pickle, part)?;

    let mut held: HashMap<String, Held> = HashMap::new();
    let mut storages = Vec::new();
    let mut places = Vec::new();
    let prefix = format!("{root}data/");
    for member in &members {
        let Some(key) = member.name.strip_prefix(&prefix) else { continue };
        let at = place(source.bytes(), member).map_err(wrong)?;
        places.push((at.start, at.end, &member.name));
        let storage =
            Storage::member(index, member, at.clone(), 0).map_err(|why| source.wrong(at.start, why))?;
        let new = Held { index: storages.len(), bytes: member.size };
        if held.insert(key.to_string(), new).is_some() {
            return Err(source.wrong(at.start, format!("two members `{}`", member.name)));
        }
        storages.push(storage);
    }
    places.sort_unstable();
    for pair in places.windows(2) {
        if pair[1].0 < pair[0].1 {
            return Err(
                source.wrong(pair[1].0, format!("members `{}` and `{}` overlap", pair[0].2, pair[1].2))
            );
        }
    }
    let entries = entries(source, &found.tensors, &held)?;
    Ok(Contents { storages, entries, part: found.part, others: found.others })
}

/// A small member's bytes.
fn contents(source: &Source, member: &Member, limit: usize) -> Result<Vec<u8>, CheckpointError> {
    let name = &member.name;
    if member.size > limit as u64 {
        let why = format!("member `{name}` has {} bytes, at most {limit} are read", member.size);
        return Err(source.wrong(0, why));
    }
    let mut bytes = Vec::new();
    let read = |from: &mut dyn Read| from.take(limit as u64 + 1).read_to_end(&mut bytes);
    let sum = read_member(&mut Cursor::new(source.bytes()), member, read);
    match sum {
        // A member without a sum, as PyTorch writes when it is told to.
        Err(e) if member.crc != 0 => Err(source.wrong(0, format!("member `{name}`: {e}"))),
        _ if bytes.len() as u64 != member.size => {
            Err(source.wrong(0, format!("member `{name}` holds {} bytes, not {}", bytes.len(), member.size)))
        }
        _ => Ok(bytes),
    }
}
