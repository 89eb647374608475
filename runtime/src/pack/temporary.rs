//! A file that takes its final name only when it is whole.
//!
//! The bytes go to `NAME.tmp-PID-N` in the same directory (a rename does not cross file systems), under an exclusive
//! lock that ends with the process, however it ends. So a leftover is told from a file in use by its lock, also
//! across containers whose process numbers mean nothing to each other, and every writer first removes the leftovers of its
//! target.
#![forbid(unsafe_code)]

use super::PackError;
use super::file::io_error;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Numbers the temporary files of this process.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The temporary file; removed when dropped before [`Temporary::publish`] succeeded.
pub(super) struct Temporary {
    file: File,
    path: PathBuf,
    target: PathBuf,
    published: bool,
}

impl Temporary {
    /// Removes leftovers for `target` and makes a new file beside it.
    pub fn new(target: &Path) -> Result<Temporary, PackError> {
        // A rename would replace a device or a pipe by a file.
        match std::fs::metadata(target) {
            Ok(meta) if meta.is_dir() => return Err(PackError::Directory { path: target.into() }),
            Ok(meta) if !meta.is_file() => return Err(PackError::NotAFile { path: target.into() }),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(io_error("look at the target", target)(e)),
        }
        let Some(name) = target.file_name() else {
            return Err(PackError::NotAFile { path: target.into() });
        };
        remove_leftovers(target, name);
        loop {
            let mut temporary = prefix(name);
            temporary.push(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
            let path = target.with_file_name(temporary);
            let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => file,
                // A leftover of a process that had this one's number, and whose lock cannot be told.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(io_error("create", &path)(e)),
            };
            match file.try_lock() {
                Ok(()) => {}
                // Another writer took it for a leftover between its creation and this line, and removes it.
                Err(TryLockError::WouldBlock) => continue,
                // No locks here: nobody can take the file for a leftover either.
                Err(TryLockError::Error(_)) => {}
            }
            let temporary = Temporary { file, path, target: target.into(), published: false };
            if temporary.path.exists() {
                return Ok(temporary);
            }
        }
    }

    /// The file to write to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the bytes durable, gives the file its name, and makes the name durable.
    pub fn publish(mut self) -> Result<(), PackError> {
        self.file.sync_all().map_err(io_error("write to the device", &self.path))?;
        std::fs::rename(&self.path, &self.target).map_err(io_error("rename to the target", &self.path))?;
        self.published = true;
        sync_directory(&self.target)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.published {
            // An error is on its way already, and the next writer tries again.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn prefix(name: &OsStr) -> OsString {
    let mut prefix = name.to_owned();
    prefix.push(".tmp-");
    prefix
}

fn directory(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Removes temporary files of `target` that no living process holds. One that cannot be read, locked or removed
/// stays: it does no harm.
fn remove_leftovers(target: &Path, name: &OsStr) {
    let prefix = prefix(name);
    let Ok(entries) = std::fs::read_dir(directory(target)) else { return };
    for entry in entries.flatten() {
        if !is_temporary(&entry.file_name(), &prefix) || !entry.file_type().is_ok_and(|t| t.is_file()) {
            continue;
        }
        // Opened for writing as well: some file systems lock only such files.
        let Ok(file) = OpenOptions::new().read(true).write(true).open(entry.path()) else { continue };
        if file.try_lock().is_ok() && std::fs::remove_file(entry.path()).is_ok() {
            log::info!("removed {}, left by a writer that was stopped", entry.path().display());
        }
    }
}

/// `NAME.tmp-PID-N` and nothing else: a user's `NAME.tmp-old` is not ours.
fn is_temporary(name: &OsStr, prefix: &OsStr) -> bool {
    let Some(rest) = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes()) else { return false };
    let number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    rest.iter().position(|&b| b == b'-').is_some_and(|i| number(&rest[..i]) && number(&rest[i + 1..]))
}

#[cfg(unix)]
fn sync_directory(target: &Path) -> Result<(), PackError> {
    let directory = directory(target);
    let synced = File::open(directory).and_then(|d| d.sync_all());
    match synced {
        // Some file systems cannot sync a directory; the pack is in its place all the same.
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        other => other.map_err(io_error("make the new name durable in", directory)),
    }
}

/// Directories cannot be opened as files on Windows; the file system's journal keeps the name.
#[cfg(not(unix))]
fn sync_directory(_target: &Path) -> Result<(), PackError> {
    Ok(())
}
