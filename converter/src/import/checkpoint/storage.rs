//! Bytes that tensors are in: a part of a mapped file, or a deflated member of an archive.

use super::CheckpointError;
use edge_runtime::inputs::MappedFile;
use edge_runtime::inputs::zip::{Member, read_member};
use std::borrow::Cow;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A member may hold this many bytes however few it takes in the archive: weights that are all zero deflate to a thousandth.
const MAX_SPARSE: u64 = 256 << 20;
/// Beyond that, this many bytes for each in the archive. Trained weights give two.
const MAX_RATIO: u64 = 100;

/// A file of the checkpoint.
#[derive(Debug)]
pub(super) struct Source {
    pub path: PathBuf,
    pub file: MappedFile,
}

/// Bytes that tensors are in.
#[derive(Debug)]
pub(super) struct Storage {
    /// Index of the file.
    pub source: usize,
    /// Where the bytes lie in the file, deflated or not.
    place: Range<usize>,
    /// Bytes before the elements.
    skip: usize,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Plain,
    /// A member of an archive, stored, whose sum has been checked or not.
    Summed {
        name: String,
        crc: u32,
        checked: AtomicBool,
    },
    Deflated(Member),
}

impl Source {
    /// Maps a file.
    pub fn open(path: &Path) -> Result<Source, CheckpointError> {
        Ok(Source { path: path.to_path_buf(), file: MappedFile::open(path)? })
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.file.bytes()
    }

    /// An error at a byte of this file.
    pub fn wrong(&self, at: usize, why: impl Into<String>) -> CheckpointError {
        CheckpointError::Format { path: self.path.clone(), at: at as u64, why: why.into() }
    }
}

impl Storage {
    /// Bytes of the file itself.
    pub fn plain(source: usize, place: Range<usize>) -> Storage {
        Storage { source, place, skip: 0, form: Form::Plain }
    }

    /// A member of an archive that lies at `place`; the elements begin `skip` bytes into it.
    pub fn member(
        source: usize,
        member: &Member,
        place: Range<usize>,
        skip: usize,
    ) -> Result<Storage, String> {
        let packed = place.len() as u64;
        if !member.is_stored() {
            if member.size > MAX_SPARSE.max(packed.saturating_mul(MAX_RATIO)) {
                return Err(format!(
                    "member `{}` says that its {packed} bytes hold {}, more than {MAX_RATIO} times as many",
                    member.name, member.size
                ));
            }
            return Ok(Storage { source, place, skip, form: Form::Deflated(member.clone()) });
        }
        let form = match member.crc {
            // No sum: PyTorch can be told to leave it out.
            0 => Form::Plain,
            crc => Form::Summed { name: member.name.clone(), crc, checked: AtomicBool::new(false) },
        };
        Ok(Storage { source, place, skip, form })
    }

    /// Some of the bytes, borrowed where the file shows them. The sum of an archive's member is checked when it is first read.
    pub fn read<'a>(
        &self,
        source: &'a Source,
        range: Range<usize>,
    ) -> Result<Cow<'a, [u8]>, CheckpointError> {
        let short =
            || source.wrong(self.place.start, format!("bytes {range:?} of a storage that is shorter"));
        let start = range.start.checked_add(self.skip).ok_or_else(short)?;
        match &self.form {
            Form::Deflated(member) => self.inflate(source, member, start, range.len()).map(Cow::Owned),
            form => {
                let all = source.bytes().get(self.place.clone()).ok_or_else(short)?;
                if let Form::Summed { name, crc, checked } = form
                    && !checked.load(Ordering::Relaxed)
                {
                    if crc32fast::hash(all) != *crc {
                        let why = format!(
                            "member `{name}` does not have the sum that the archive says: the file is damaged"
                        );
                        return Err(source.wrong(self.place.start, why));
                    }
                    checked.store(true, Ordering::Relaxed);
                }
                let part = all.get(start..).and_then(|rest| rest.get(..range.len()));
                Ok(Cow::Borrowed(part.ok_or_else(short)?))
            }
        }
    }

    fn inflate(
        &self,
        source: &Source,
        member: &Member,
        start: usize,
        len: usize,
    ) -> Result<Vec<u8>, CheckpointError> {
        let (start, len) = (start as u64, len as u64);
        let mut part = Vec::new();
        let read = |bytes: &mut dyn Read| {
            std::io::copy(&mut (&mut *bytes).take(start), &mut std::io::sink())?;
            (&mut *bytes).take(len).read_to_end(&mut part)?;
            // The rest belongs to the sum.
            let left = member.size.saturating_sub(start.saturating_add(len));
            std::io::copy(&mut bytes.take(left), &mut std::io::sink())?;
            Ok(())
        };
        let wrong = |why: String| source.wrong(self.place.start, format!("member `{}`: {why}", member.name));
        read_member(&mut Cursor::new(source.bytes()), member, read).map_err(|e| wrong(e.to_string()))?;
        match part.len() as u64 == len {
            true => Ok(part),
            false => Err(wrong("it is shorter than its tensors".to_string())),
        }
    }
}
