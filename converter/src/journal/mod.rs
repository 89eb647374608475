//! Measurements on disk: a conversion that was killed goes on where it was, one that is repeated takes a fraction of its time.
//!
//! A conversion decides by what it measures, and by nothing else. So measurements are kept and no decisions: a search runs again from
//! its beginning, and finds what it asks for.
//! ```text
//! key.rs     what a measurement is called: a hash of everything that it follows from
//! file.rs    the file: whole records with checksums, one writer
//! folder.rs  where the files are, and which ones go
//! ```
//! A file is named by the model and the samples, and belongs to one build of the converter on one kind of CPU: another one begins it anew.
//! Times are not kept: they are of the hour that they were taken in.

mod file;
mod folder;
mod key;
#[cfg(test)]
mod tests;

pub use folder::default_folder;
pub use key::{Key, Mix};

use edge_runtime::device::Device;
use file::File;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Where measurements are kept between conversions, and what the conversion that uses it did with it, as clones see too.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    taken: AtomicUsize,
    made: AtomicUsize,
    problem: Mutex<Option<String>>,
}

impl Seen {
    /// Another conversion begins.
    fn begin(&self) {
        self.taken.store(0, Ordering::Relaxed);
        self.made.store(0, Ordering::Relaxed);
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Only the first problem is told.
    fn tell(&self, problem: String) {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(problem);
    }
}

impl Cache {
    /// In this folder, which need not exist.
    pub fn new(folder: impl Into<PathBuf>) -> Cache {
        Cache { folder: folder.into(), seen: Arc::default() }
    }

    /// Measurements that were made.
    pub fn made(&self) -> usize {
        self.seen.made.load(Ordering::Relaxed)
    }

    /// Measurements that an earlier conversion made.
    pub fn taken(&self) -> usize {
        self.seen.taken.load(Ordering::Relaxed)
    }

    /// Why measurements are not kept, or not all of them. Conversions go on without.
    pub fn problem(&self) -> Option<String> {
        self.seen.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The measurements of one conversion.
#[derive(Debug, Default)]
pub struct Journal {
    seen: Arc<Seen>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    known: HashMap<Key, Value>,
    /// `None` when nothing is written.
    file: Option<File>,
}

#[derive(Debug)]
struct Value {
    bytes: Vec<u8>,
    earlier: bool,
}

impl Journal {
    /// The journal of the conversion `name`, in memory alone without a `cache`. What cannot be read or written is a
    /// [`Cache::problem`] and no error.
    pub fn open(cache: Option<&Cache>, device: &Device, name: &Key) -> Journal {
        let Some(cache) = cache else { return Journal::default() };
        cache.seen.begin();
        match key::identity(device) {
            Ok(identity) => Journal::at(cache, &cache.folder.join(folder::file_name(name)), &identity),
            Err(e) => {
                cache.seen.tell(format!("this program cannot read itself, which it is told apart by: {e}"));
                Journal { seen: cache.seen.clone(), ..Journal::default() }
            }
        }
    }

    fn at(cache: &Cache, path: &Path, identity: &Key) -> Journal {
        let opened = file::open(path, identity);
        let file = match opened.file {
            Ok(file) => {
                folder::make_room(&cache.folder, path, folder::MOST_BYTES);
                Some(file)
            }
            Err(problem) => {
                cache.seen.tell(problem);
                None
            }
        };
        let known = opened.records.into_iter().map(|(key, bytes)| (key, Value { bytes, earlier: true }));
        Journal { seen: cache.seen.clone(), kept: Mutex::new(Kept { known: known.collect(), file }) }
    }

    /// What was measured under `key`, if that is known.
    pub fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let value = kept.known.get(key)?;
        if value.earlier {
            self.seen.taken.fetch_add(1, Ordering::Relaxed);
        }
        Some(value.bytes.clone())
    }

    /// Keeps what was measured under `key`; on disk when this returns, for all that the process can do.
    pub fn put(&self, key: Key, bytes: Vec<u8>) {
        self.seen.made.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(problem)) = kept.file.as_mut().map(|file| file.append(&key, &bytes)) {
            kept.file = None;
            self.seen.tell(problem);
        }
        kept.known.insert(key, Value { bytes, earlier: false });
    }

    /// How many measurements were made, and how many taken from an earlier conversion.
    pub fn counts(&self) -> (usize, usize) {
        (self.seen.made.load(Ordering::Relaxed), self.seen.taken.load(Ordering::Relaxed))
    }
}
