//! What fuzzing has found and the inputs that it goes on from (`tests/fuzz`), through the same functions: no panic, no more memory than
//! [`edge_tests::fuzz::bound`] allows, no input that takes long.

use edge_tests::fuzz::{Counting, TARGETS, Target};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// For one input, in a build with checks on a machine that is busy; the fuzzer itself stops at the same.
const LONGEST: Duration = Duration::from_secs(10);

/// All corpora together.
const MOST_BYTES: u64 = 1_500_000;

fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(target)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Says which input it was when a replay ends in a panic.
struct At<'a>(&'a Path);

impl Drop for At<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("input: {}", self.0.display());
        }
    }
}

fn replay(name: &str) {
    let target: Target = TARGETS.iter().find(|(target, _)| *target == name).unwrap().1;
    let mut slowest = (Duration::ZERO, PathBuf::new());
    let corpus = files(&folder("corpus", name));
    assert!(!corpus.is_empty(), "{name} has no corpus");
    for file in corpus.into_iter().chain(files(&folder("found", name))) {
        let input = std::fs::read(&file).unwrap();
        let (at, start) = (At(&file), Instant::now());
        target(&input);
        drop(at);
        slowest = slowest.max((start.elapsed(), file));
    }
    assert!(slowest.0 < LONGEST, "{} took {:?}", slowest.1.display(), slowest.0);
}

#[test]
fn the_importer() {
    replay("import");
}

#[test]
fn the_pack_reader() {
    replay("pack");
}

#[test]
fn the_weight_decoders() {
    replay("weights");
}

#[test]
fn any_bytes_are_inputs() {
    for (_, target) in TARGETS {
        for input in [&b""[..], b"\0", b"\0\0\0\x80", b"{}", b"\x89EDGEP\r\n", &[0xff; 100]] {
            target(input);
        }
    }
}

#[test]
fn corpora_stay_small() {
    let sizes = TARGETS.iter().flat_map(|(name, _)| files(&folder("corpus", name)));
    let total: u64 = sizes.map(|file| std::fs::metadata(file).unwrap().len()).sum();
    assert!(
        total <= MOST_BYTES,
        "{total} bytes of corpora, at most {MOST_BYTES}: minimise them (tests/fuzz/README.md)"
    );
}
