//! An open pack: its header, read and checked, and the ways to its blobs. Opening touches no weights.
#![forbid(unsafe_code)]

use super::check::check;
use super::layout::{file_order, full_len};
use super::owner::owner_of;
use super::packed::unpacked;
use super::preamble::{PREAMBLE, Preamble, RUNTIME_VERSION, hash128};
use super::scan::{MAX_DECODED, decoded_bound};
use super::{Blob, BlobId, Header, PackError, Rung};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Features that a rung may ask for and this runtime has. Format 0 has none yet.
pub const FEATURES: &[&str] = &[];

/// Whether a rung can be run from this file by this runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RungState {
    /// All its bytes are there.
    Whole,
    /// The file is cut: this many bytes are missing before the rung's end.
    Cut {
        /// `rung.end` less the length of the file.
        missing: u64,
    },
    /// It needs a newer runtime: the version.
    NeedsRuntime(u32),
    /// It needs a feature that this runtime does not know: its name.
    NeedsFeature(String),
}

/// A pack whose header was read and found good.
#[derive(Debug)]
pub struct PackFile {
    pub(super) file: File,
    path: PathBuf,
    pub(super) preamble: Preamble,
    header: Arc<Header>,
    /// A copy of the header's table, which the views of the file share.
    pub(super) places: Arc<[Blob]>,
    states: Vec<RungState>,
    available: Vec<usize>,
    full_len: u64,
    file_len: u64,
}

impl PackFile {
    /// Opens a pack: reads the preamble and the header and checks all that they say, without a look at a weight.
    /// A file that ends early opens when at least one rung is whole; see [`PackFile::missing_bytes`].
    pub fn open(path: impl AsRef<Path>) -> Result<PackFile, PackError> {
        PackFile::open_path(path.as_ref(), u64::MAX)
    }

    /// As [`PackFile::open`], but refuses a header that could take more than `memory` bytes when decoded, before
    /// it is decoded. The bound is generous: several times what a usual header takes.
    pub fn open_within(path: impl AsRef<Path>, memory: u64) -> Result<PackFile, PackError> {
        PackFile::open_path(path.as_ref(), memory)
    }

    /// Not generic: what it calls, the header's reader above all, would be compiled for each of its callers' crates.
    fn open_path(path: &Path, memory: u64) -> Result<PackFile, PackError> {
        let file = open_file(path)?;
        let file_len = file.metadata().map_err(io_error("look at the file", path))?.len();

        let (preamble, text) = read_header(&file, path, file_len, memory)?;
        let header: Header = serde_json::from_slice(&text).map_err(PackError::HeaderJson)?;
        drop(text);
        check(&header, preamble.header_end())?;

        let full_len = full_len(&header, preamble.header_end());
        if file_len > full_len {
            return Err(PackError::TrailingBytes { end: full_len, file_len });
        }
        let states: Vec<RungState> = header.rungs.iter().map(|rung| state_of(rung, file_len)).collect();
        let available: Vec<usize> = (0..states.len()).filter(|&i| states[i] == RungState::Whole).collect();
        if available.is_empty() {
            return Err(nothing_to_run(&header, &states, file_len));
        }
        Ok(PackFile {
            file,
            path: path.to_owned(),
            preamble,
            places: header.blobs.as_slice().into(),
            header: Arc::new(header),
            states,
            available,
            full_len,
            file_len,
        })
    }

    /// What the pack holds.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The header, for those that outlive the file.
    pub fn shared_header(&self) -> Arc<Header> {
        Arc::clone(&self.header)
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One entry a rung.
    pub fn rung_states(&self) -> &[RungState] {
        &self.states
    }

    /// Indices of the rungs that are whole and that this runtime can run; at least one.
    pub fn available(&self) -> &[usize] {
        &self.available
    }

    /// Bytes of the pack that the file lacks; 0 when it is whole.
    pub fn missing_bytes(&self) -> u64 {
        self.full_len - self.file_len
    }

    /// The error of a caller who wants all of the file or nothing (`--strict`), when bytes are missing.
    pub fn cut_error(&self) -> PackError {
        PackError::Cut { end: self.full_len, file_len: self.file_len }
    }

    /// The length that the file has when it is whole.
    pub fn full_len(&self) -> u64 {
        self.full_len
    }

    /// The length of the file when it was opened.
    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// The 128-bit hash in the preamble. It covers the header and so, by the hashes in it, every blob: packs with
    /// equal hashes are equal.
    pub fn hash(&self) -> u128 {
        self.preamble.hash
    }

    /// Blobs that end at or before `end`, in file order.
    pub fn blobs_before(&self, end: u64) -> Vec<BlobId> {
        let mut ids = file_order(&self.places);
        ids.retain(|&id| self.places[id as usize].offset + self.places[id as usize].len <= end);
        ids
    }

    /// In words, what the blob is for: the tensor and the part of its expression, the constant...
    pub fn owner_of(&self, id: BlobId) -> String {
        owner_of(&self.header, id)
    }

    /// Reads a blob into `out`, which must have the blob's length; with `verify`, checks its hash.
    ///
    /// # Panics
    /// When `id` is not in the header's table or `out` has another length.
    pub fn read_blob(&self, id: BlobId, out: &mut [u8], verify: bool) -> Result<(), PackError> {
        let blob = self.places[id as usize];
        assert_eq!(out.len() as u64, blob.len, "buffer of {} bytes for a blob of {}", out.len(), blob.len);
        let end = blob.offset + blob.len;
        if end > self.file_len {
            return Err(PackError::CutBlob {
                blob: id,
                owner: self.owner_of(id),
                end,
                file_len: self.file_len,
            });
        }
        self.read_at(out, blob.offset, "read a blob")?;
        if verify { self.check_blob(id, hash128(&[out])) } else { Ok(()) }
    }

    pub(super) fn check_blob(&self, id: BlobId, actual: u128) -> Result<(), PackError> {
        let expected = self.places[id as usize].hash;
        if actual != expected {
            let (owner, place) = (self.owner_of(id), self.place_of(id));
            return Err(PackError::BadBlob { blob: id, owner, place, expected, actual });
        }
        Ok(())
    }

    /// Where the blob lies.
    fn place_of(&self, id: BlobId) -> String {
        let Blob { offset, len, .. } = self.places[id as usize];
        match self.header.sections.iter().position(|s| len > 0 && s.offset + s.len >= offset + len) {
            Some(section) => format!("bytes {offset} to {} in section {section}", offset + len),
            None => "without bytes".to_owned(),
        }
    }

    pub(super) fn read_at(&self, out: &mut [u8], at: u64, action: &'static str) -> Result<(), PackError> {
        read_exact_at(&self.file, out, at).map_err(|e| self.shrunk_or(e, action))
    }

    /// The file must still be as long as it was: a read or a map past its end names that as the reason.
    fn shrunk_or(&self, error: io::Error, action: &'static str) -> PackError {
        match self.check_len() {
            Err(shrunk) if error.kind() == io::ErrorKind::UnexpectedEof => shrunk,
            _ => io_error(action, &self.path)(error),
        }
    }

    pub(super) fn check_len(&self) -> Result<(), PackError> {
        let actual = self.file.metadata().map_err(io_error("look at the file", &self.path))?.len();
        if actual < self.file_len {
            return Err(PackError::Shrunk { path: self.path.clone(), expected: self.file_len, actual });
        }
        Ok(())
    }
}

/// Reads preamble and header text, within bounds and with the right hash.
pub(super) fn read_header(
    file: &File,
    path: &Path,
    file_len: u64,
    memory: u64,
) -> Result<(Preamble, Vec<u8>), PackError> {
    let mut start = [0; PREAMBLE];
    let start = &mut start[..file_len.min(PREAMBLE as u64) as usize];
    read_exact_at(file, start, 0).map_err(io_error("read the preamble", path))?;
    let preamble = Preamble::decode(path, start, file_len)?;

    // Checked against both caps before the text itself is read: it is part of what decoding takes.
    let cap = memory.min(MAX_DECODED);
    let both = preamble.header_len + preamble.text_len;
    if both > cap {
        return Err(PackError::HeaderMemory { needs: both, cap });
    }
    let mut text = Vec::new();
    text.try_reserve_exact(preamble.header_len as usize)
        .map_err(|_| PackError::Memory { bytes: preamble.header_len })?;
    text.resize(preamble.header_len as usize, 0);
    read_exact_at(file, &mut text, PREAMBLE as u64).map_err(io_error("read the header", path))?;
    preamble.check_hash(&text)?;
    if preamble.text_len > 0 {
        text = unpacked(&text, preamble.text_len)?;
    }
    let needs = decoded_bound(&text)?;
    if needs > cap {
        return Err(PackError::HeaderMemory { needs, cap });
    }
    Ok((preamble, text))
}

fn open_file(path: &Path) -> Result<File, PackError> {
    let not_opened = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => PackError::Missing { path: path.into() },
        _ => io_error("open", path)(e),
    };
    // Looked at before it is opened: opening a named pipe would wait for a writer.
    let kind = std::fs::metadata(path).map_err(not_opened)?.file_type();
    if kind.is_dir() {
        return Err(PackError::Directory { path: path.into() });
    }
    if !kind.is_file() {
        return Err(PackError::NotAFile { path: path.into() });
    }
    File::open(path).map_err(not_opened)
}

fn state_of(rung: &Rung, file_len: u64) -> RungState {
    if rung.min_runtime > RUNTIME_VERSION {
        return RungState::NeedsRuntime(rung.min_runtime);
    }
    if let Some(unknown) = rung.features.iter().find(|f| !FEATURES.contains(&f.as_str())) {
        return RungState::NeedsFeature(unknown.clone());
    }
    match rung.end.checked_sub(file_len) {
        None | Some(0) => RungState::Whole,
        Some(missing) => RungState::Cut { missing },
    }
}

/// Why no rung is available: the first cut one if any, else what the smallest would need.
fn nothing_to_run(header: &Header, states: &[RungState], file_len: u64) -> PackError {
    let cut = |i: &usize| matches!(states[*i], RungState::Cut { .. });
    if let Some(i) = (0..states.len()).filter(cut).min_by_key(|&i| header.rungs[i].end) {
        let rung = &header.rungs[i];
        let section = header.sections.partition_point(|s| s.offset + s.len < rung.end);
        return PackError::NoWholeRung { rung: rung.id.clone(), section, end: rung.end, file_len };
    }
    let reasons: Vec<String> = std::iter::zip(&header.rungs, states)
        .map(|(rung, state)| match state {
            RungState::NeedsRuntime(v) => {
                format!("`{}` needs runtime version {v}, this is {RUNTIME_VERSION}", rung.id)
            }
            RungState::NeedsFeature(name) => format!("`{}` needs feature `{name}`", rung.id),
            RungState::Whole | RungState::Cut { .. } => format!("`{}` can be run", rung.id),
        })
        .collect();
    PackError::NoRunnableRung { reason: reasons.join("; ") }
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PackError {
    let path = path.to_owned();
    move |source| PackError::Io { action, path, source }
}

/// Reads without the file's cursor, so that threads may read one open file at once.
#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, at)
}

/// As on Unix; `seek_read` moves the cursor, which nothing here uses.
#[cfg(windows)]
fn read_exact_at(file: &File, mut out: &mut [u8], mut at: u64) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                out = &mut out[n..];
                at += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
