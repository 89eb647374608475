//! A journal's file.
//!
//! ```text
//! header  "edgejrn1", 32 bytes of what its measurements are valid for
//! record  u32 length of the value, 32 bytes of key, the value, 8 bytes of the BLAKE3 hash of all that
//! ```
//! Numbers are little-endian. Each record is written at once and never changed: a process that is killed loses the one it is writing at
//! most. Nothing is synced: what a power cut leaves is what its checksums say. A damaged record is passed over, and where its length
//! is damaged all that follow are; what comes after the last sound one is cut off.

use super::key::Key;
use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"edgejrn1";
const KEY: usize = 32;
const HEADER: usize = MAGIC.len() + KEY;
/// Length and key.
const HEAD: usize = 4 + KEY;
const SUM: usize = 8;
/// A file that is this large takes nothing more.
const MOST_BYTES: u64 = 256 << 20;

/// The file, which is this process's alone to write as long as it is open.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    file: fs::File,
    end: u64,
}

/// What a file holds.
#[derive(Debug)]
pub struct Opened {
    /// Keys and values.
    pub records: Vec<(Key, Vec<u8>)>,
    /// For more of them, or why no more are kept.
    pub file: Result<File, String>,
}

/// Opens or begins a file. Another process that writes it, or a disk that takes nothing, does not keep it from being read; one that is
/// valid for something else is begun anew.
pub fn open(path: &Path, identity: &Key) -> Opened {
    let mut locked = lock(path);
    // Through the same handle: where locks are mandatory they hold for this process as well.
    let bytes = match &mut locked {
        Ok(file) => read(file),
        Err(_) => fs::File::open(path).and_then(|mut file| read(&mut file)),
    };
    let bytes = bytes.unwrap_or_default();
    let header = [&MAGIC[..], &identity.0].concat();
    let (records, end) = if bytes.starts_with(&header) { sound(&bytes) } else { (Vec::new(), 0) };
    let file = locked.and_then(|file| {
        let mut file = File { path: path.into(), file, end: end as u64 };
        let trouble = |e| not_kept(path, &e);
        if file.file.metadata().map_err(trouble)?.len() > file.end {
            file.file.set_len(file.end).map_err(trouble)?;
        }
        file.file.seek(SeekFrom::Start(file.end)).map_err(trouble)?;
        // When it was last used.
        let _ = file.file.set_modified(std::time::SystemTime::now());
        if end == 0 {
            file.write(&header)?;
        }
        Ok(file)
    });
    Opened { records, file }
}

fn read(file: &mut fs::File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The file, for this process alone to write.
fn lock(path: &Path) -> Result<fs::File, String> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|e| not_kept(folder, &e))?;
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(path);
    let file = file.map_err(|e| not_kept(path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(format!(
            "{}: another conversion is writing it; measurements of this one are not kept",
            path.display()
        )),
        Err(TryLockError::Error(e)) => Err(not_kept(path, &e)),
    }
}

fn not_kept(path: &Path, e: &io::Error) -> String {
    format!(
        "{}: {e}; measurements are not kept (--cache DIR names another folder, --no-cache does without)",
        path.display()
    )
}

/// The sound records, and where the last of them ends.
fn sound(bytes: &[u8]) -> (Vec<(Key, Vec<u8>)>, usize) {
    let (mut records, mut last, mut at) = (Vec::new(), HEADER, HEADER);
    while let Some((length, rest)) = bytes[at..].split_first_chunk::<4>() {
        let length = KEY.checked_add(u32::from_le_bytes(*length) as usize);
        let Some((content, rest)) = length.and_then(|length| rest.split_at_checked(length)) else { break };
        let Some(sum) = rest.first_chunk::<SUM>() else { break };
        let end = at + 4 + content.len() + SUM;
        if checksum(&bytes[at..end - SUM]) == *sum
            && let Some((key, value)) = content.split_first_chunk::<KEY>()
        {
            records.push((Key(*key), value.to_vec()));
            last = end;
        }
        at = end;
    }
    (records, last)
}

fn checksum(bytes: &[u8]) -> [u8; SUM] {
    let hash = blake3::hash(bytes);
    std::array::from_fn(|i| hash.as_bytes()[i])
}

impl File {
    /// Adds a record.
    ///
    /// # Errors
    /// Why nothing more is kept.
    pub fn append(&mut self, key: &Key, value: &[u8]) -> Result<(), String> {
        let size = (HEAD + value.len() + SUM) as u64;
        let length = u32::try_from(value.len()).ok().filter(|_| self.end + size <= MOST_BYTES);
        let Some(length) = length else {
            let most = edge_runtime::device::ByteSize(MOST_BYTES);
            return Err(format!(
                "{}: full at {most}; further measurements are not kept",
                self.path.display()
            ));
        };
        let mut record = Vec::with_capacity(size as usize);
        record.extend(length.to_le_bytes());
        record.extend(key.0);
        record.extend(value);
        record.extend(checksum(&record));
        self.write(&record)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        if let Err(e) = self.file.write_all(bytes) {
            // A part of it would be cut off by the next conversion as well.
            let _ = self.file.set_len(self.end);
            return Err(not_kept(&self.path, &e));
        }
        self.end += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{HEAD, HEADER, MOST_BYTES, SUM, open};
    use crate::journal::Mix;

    #[test]
    fn a_full_file_takes_nothing_more() {
        let folder = tempfile::TempDir::new().unwrap();
        let (path, key) = (folder.path().join("j"), Mix::of("k").done());
        let mut file = open(&path, &key).file.unwrap();
        file.end = MOST_BYTES - (HEAD + 8 + SUM) as u64;
        assert!(file.append(&key, &[0; 9]).unwrap_err().contains("full"));
        file.append(&key, &[0; 8]).unwrap();
        assert!(file.append(&key, &[]).unwrap_err().contains("full"));
        assert_eq!(file.file.metadata().unwrap().len(), (HEADER + HEAD + 8 + SUM) as u64);
    }
}
