use super::file;
use super::folder::{choose, make_room};
use super::key::{Key, Mix};
use super::{Cache, Journal};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

fn key(name: &str) -> Key {
    Mix::of(name).done()
}

/// Values of 0, 8, 16, ... bytes.
fn records(count: usize) -> Vec<(Key, Vec<u8>)> {
    (0..count).map(|i| (key(&format!("m{i}")), vec![i as u8 + 1; 8 * i])).collect()
}

fn written(path: &Path, records: &[(Key, Vec<u8>)]) {
    let mut file = file::open(path, &key("us")).file.unwrap();
    records.iter().for_each(|(key, value)| file.append(key, value).unwrap());
}

fn read(path: &Path) -> Vec<(Key, Vec<u8>)> {
    file::open(path, &key("us")).records
}

#[test]
fn a_torn_record_is_cut_off_and_the_others_stay() {
    let folder = TempDir::new().unwrap();
    let (path, all) = (folder.path().join("j"), records(4));
    written(&path, &all);
    let whole = fs::read(&path).unwrap();
    assert_eq!(read(&path), all);
    let last = whole.len() - (4 + 32 + 24 + 8);
    for end in last..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        assert_eq!(read(&path), all[..3], "cut at {end} of {}", whole.len());
        assert_eq!(fs::metadata(&path).unwrap().len(), last as u64);
        written(&path, &all[3..]);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
    // Even the header may be torn.
    for end in 0..40 {
        fs::write(&path, &whole[..end]).unwrap();
        assert_eq!(read(&path), []);
        written(&path, &all);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}

#[test]
fn a_damaged_record_is_never_believed() {
    let folder = TempDir::new().unwrap();
    let (path, all) = (folder.path().join("j"), records(5));
    written(&path, &all);
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        for bits in [1, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= bits;
            fs::write(&path, damaged).unwrap();
            let left = read(&path);
            assert!(left.len() < all.len(), "byte {at} may be anything");
            assert!(left.iter().all(|record| all.contains(record)), "byte {at}: {left:?}");
        }
    }
    // In a value it costs that record alone.
    let mut damaged = whole.clone();
    damaged[40 + 44 + 36] ^= 1;
    fs::write(&path, damaged).unwrap();
    assert_eq!(read(&path), [&all[..1], &all[2..]].concat());
}

#[test]
fn what_is_valid_for_another_program_is_not_taken() {
    let folder = TempDir::new().unwrap();
    let (path, all) = (folder.path().join("j"), records(3));
    written(&path, &all);
    let other = file::open(&path, &key("them"));
    assert_eq!((other.records.len(), other.file.is_ok()), (0, true));
    drop(other);
    assert_eq!(read(&path), []);
}

#[test]
fn of_two_at_once_the_second_reads() {
    let folder = TempDir::new().unwrap();
    let (path, all) = (folder.path().join("j"), records(4));
    written(&path, &all[..2]);
    let mut first = file::open(&path, &key("us"));
    let second = file::open(&path, &key("us"));
    assert_eq!(second.records, all[..2]);
    assert!(second.file.unwrap_err().contains("another conversion"));
    // Not even one that has no use for what is there.
    assert!(file::open(&path, &key("them")).file.is_err());
    let file = first.file.as_mut().unwrap();
    all[2..].iter().for_each(|(key, value)| file.append(key, value).unwrap());
    drop(first);
    assert_eq!(read(&path), all);
}

#[test]
fn a_place_that_takes_nothing_is_told_once() {
    let folder = TempDir::new().unwrap();
    let blocked = folder.path().join("file");
    fs::write(&blocked, "").unwrap();
    let cache = Cache::new(&blocked);
    let journal = Journal::at(&cache, &blocked.join("j"), &key("us"));
    let problem = cache.problem().unwrap();
    assert!(problem.contains("--no-cache"), "{problem}");
    journal.put(key("a"), vec![1]);
    assert_eq!(journal.get(&key("a")), Some(vec![1]));
    assert_eq!((cache.made(), cache.taken(), cache.problem()), (1, 0, Some(problem)));
}

#[test]
fn only_what_an_earlier_conversion_made_counts_as_taken() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("j");
    for (made, taken) in [(1, 0), (0, 2)] {
        let cache = Cache::new(folder.path());
        let journal = Journal::at(&cache, &path, &key("us"));
        for _ in 0..2 {
            if journal.get(&key("a")).is_none() {
                journal.put(key("a"), vec![7]);
            }
        }
        assert_eq!((journal.counts(), cache.problem()), ((made, taken), None));
    }
}

#[test]
fn journals_that_were_not_used_for_longest_go() {
    let folder = TempDir::new().unwrap();
    let journal = |digit: &str| folder.path().join(format!("{}.journal", digit.repeat(32)));
    let now = SystemTime::now();
    for (age, digit) in ["a", "b", "c", "d"].iter().enumerate() {
        fs::write(journal(digit), vec![0; 1000]).unwrap();
        let file = fs::File::options().write(true).open(journal(digit)).unwrap();
        file.set_modified(now - Duration::from_secs(100 * age as u64)).unwrap();
    }
    let foreign = folder.path().join("notes.journal");
    fs::write(&foreign, vec![0; 5000]).unwrap();
    let left = || ["a", "b", "c", "d"].map(|digit| journal(digit).exists());
    make_room(folder.path(), &journal("b"), 3000);
    assert_eq!(left(), [true; 4]);
    // The oldest one is being written, `b` is this conversion's own.
    let writing = fs::File::open(journal("d")).unwrap();
    writing.lock().unwrap();
    make_room(folder.path(), &journal("b"), 2000);
    assert_eq!(left(), [true, true, false, true]);
    drop(writing);
    make_room(folder.path(), &journal("b"), 1000);
    assert_eq!(left(), [true, true, false, false]);
    make_room(folder.path(), &journal("b"), 0);
    assert_eq!(left(), [false, true, false, false]);
    assert!(foreign.exists());
}

#[test]
fn the_folder_is_the_first_that_is_named() {
    let chosen = |variables: &[(&str, &str)], home: Option<&str>| {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        choose(&variable, home.map(PathBuf::from))
    };
    let (own, xdg) = (("EDGE_CACHE_DIR", "/own"), ("XDG_CACHE_HOME", "/xdg"));
    assert_eq!(chosen(&[own, xdg], Some("/home/me")), Ok(Some("/own".into())));
    assert_eq!(chosen(&[("EDGE_CACHE_DIR", ""), xdg], Some("/home/me")), Ok(None));
    assert_eq!(chosen(&[xdg], Some("/home/me")), Ok(Some("/xdg/edge-convert".into())));
    let in_home = Ok(Some("/home/me/.cache/edge-convert".into()));
    assert_eq!(chosen(&[("XDG_CACHE_HOME", "relative")], Some("/home/me")), in_home);
    assert_eq!(chosen(&[], Some("/home/me")), in_home);
    assert!(chosen(&[], None).unwrap_err().contains("EDGE_CACHE_DIR"));
}

#[test]
fn parts_of_a_key_do_not_run_together() {
    let keys = [
        Mix::of("k").bytes(b"ab").bytes(b"c").done(),
        Mix::of("k").bytes(b"a").bytes(b"bc").done(),
        Mix::of("kab").bytes(b"c").done(),
        Mix::of("k").floats(&[0.0]).done(),
        Mix::of("k").floats(&[-0.0]).done(),
        Mix::of("k").floats(&[f32::NAN]).done(),
        Mix::of("k").debug(&f32::NAN).done(),
        Mix::of("k").debug(&f32::INFINITY).done(),
        Mix::of("k").debug(&0.1f32).done(),
        Mix::of("k").debug(&f32::from_bits(0.1f32.to_bits() + 1)).done(),
    ];
    for (i, key) in keys.iter().enumerate() {
        assert!(!keys[..i].contains(key), "{i}");
    }
    let many: Vec<f32> = (0..3000).map(|i| i as f32).collect();
    let bytes: Vec<u8> = many.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_ne!(Mix::of("k").floats(&many).done(), Mix::of("k").floats(&many[..2999]).done());
    assert_eq!(format!("{:?}", Mix::of("k").done()).len(), 2 * 32);
    // As one write of all bytes.
    let (mut one, count) = (blake3::Hasher::new(), many.len() as u64);
    one.update(&1u64.to_le_bytes()).update(b"k").update(&count.to_le_bytes()).update(&bytes);
    assert_eq!(Mix::of("k").floats(&many).done(), Key(*one.finalize().as_bytes()));
}
