//! The writer's manners: all or nothing, no leftovers, no harm to what is there.

use crate::fixture::*;
use edge_runtime::pack::*;
use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[test]
fn cancelled_while_writing_keeps_the_old_pack() {
    /// Raises the flag when a blob is asked for the `after`-th time: the hashes take 8, the writing the rest.
    struct Raising<'a>(&'a MemorySource, &'a AtomicBool, AtomicUsize, usize);
    impl BlobSource for Raising<'_> {
        fn blob(&self, id: BlobId) -> Option<&[u8]> {
            self.1.store(self.2.fetch_add(1, Ordering::Relaxed) >= self.3, Ordering::Relaxed);
            self.0.blob(id)
        }
    }
    let dir = Dir::new();
    let (path, ..) = small_pack(&dir, "model.pack");
    let old = std::fs::read(&path).unwrap();
    for after in 0..14 {
        let (mut contents, source) = contents();
        contents.header.card.name = "new".to_owned();
        let flag = AtomicBool::new(false);
        let raising = Raising(&source, &flag, AtomicUsize::new(0), after);
        let error = write(&path, contents, &raising, &flag).unwrap_err();
        assert!(matches!(error, PackError::Cancelled), "{after}: {error}");
        assert_eq!(dir.names(), ["model.pack"], "{after}");
        assert!(std::fs::read(&path).unwrap() == old, "{after}");
    }
}

#[test]
fn a_source_that_loses_a_blob_leaves_nothing() {
    struct Losing<'a>(&'a MemorySource, AtomicUsize);
    impl BlobSource for Losing<'_> {
        fn blob(&self, id: BlobId) -> Option<&[u8]> {
            self.0.blob(id).filter(|_| self.1.fetch_add(1, Ordering::Relaxed) < 10)
        }
    }
    let dir = Dir::new();
    let (contents, source) = contents();
    let losing = Losing(&source, AtomicUsize::new(0));
    let error = write(dir.file("model.pack"), contents, &losing, &NEVER).unwrap_err();
    assert!(matches!(error, PackError::NoSuchBlob { .. }), "{error}");
    assert_eq!(error.trouble(), PackTrouble::Contents);
    assert!(dir.names().is_empty());
}

#[test]
fn leftovers_of_dead_writers_go_and_others_stay() {
    let dir = Dir::new();
    let own = std::process::id();
    // Two of dead processes, one of a process that had this one's number; a user's file, another target's file.
    let dead = ["model.pack.tmp-4000000-0".to_owned(), format!("model.pack.tmp-{own}-4000000000")];
    let others = ["model.pack.tmp-old", "model.pack.tmp-12", "other.pack.tmp-4000000-0"];
    for name in dead.iter().map(String::as_str).chain(others) {
        std::fs::write(dir.file(name), b"part").unwrap();
    }
    // A living writer's, which it holds by its lock.
    let living = "model.pack.tmp-4000001-7";
    let held = File::create(dir.file(living)).unwrap();
    held.lock().unwrap();

    small_pack(&dir, "model.pack");
    let mut expected = vec!["model.pack", living];
    expected.extend(others);
    expected.sort_unstable();
    assert_eq!(dir.names(), expected);

    drop(held);
    small_pack(&dir, "model.pack");
    assert!(!dir.file(living).exists());
}

#[test]
fn writers_of_one_target_do_not_disturb_each_other() {
    let dir = Dir::new();
    let path = dir.file("model.pack");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let path = &path;
            scope.spawn(move || {
                for round in 0..8 {
                    let (mut contents, source) = contents();
                    contents.header.card.name = format!("{writer} {round}");
                    write(path, contents, &source, &NEVER).unwrap();
                }
            });
        }
        // A reader finds a whole pack at every moment after the first rename.
        scope.spawn(|| {
            let mut opened = 0;
            while opened < 20 {
                match PackFile::open(&path) {
                    Ok(pack) => {
                        pack.verify(&NEVER, |_, _| {}).unwrap();
                        opened += 1;
                    }
                    Err(e) => assert!(opened == 0 && matches!(e, PackError::Missing { .. }), "{e}"),
                }
            }
        });
    });
    assert_eq!(dir.names(), ["model.pack"]);
}

#[test]
fn an_open_pack_outlives_its_replacement() {
    let dir = Dir::new();
    let (path, written, source) = small_pack(&dir, "model.pack");
    let pack = PackFile::open(&path).unwrap();
    let mapped = pack.map(written.file_len).unwrap();
    let (mut contents, other) = contents();
    contents.header.card.name = "new".to_owned();
    write(&path, contents, &other, &NEVER).unwrap();
    assert_eq!(mapped.blob(3), source.blob(3));
    pack.verify(&NEVER, |_, _| {}).unwrap();
    assert_eq!(PackFile::open(&path).unwrap().header().card.name, "new");
}

#[test]
fn a_target_that_is_no_file_is_refused_and_stays() {
    let dir = Dir::new();
    let (contents, source) = contents();
    let to = |path: &std::path::Path| write(path, contents.clone(), &source, &NEVER).unwrap_err();
    assert!(matches!(to(dir.path()), PackError::Directory { .. }));
    assert!(matches!(to("/dev/null".as_ref()), PackError::NotAFile { .. }));
    assert!(matches!(to(&dir.file("absent/model.pack")), PackError::Io { action: "create", .. }));
    assert!(matches!(to("".as_ref()), PackError::NotAFile { .. }));
    assert!(dir.names().is_empty());
}

#[test]
fn a_bare_name_is_in_the_working_directory() {
    // No other test of this binary reads the working directory.
    let dir = Dir::new();
    std::env::set_current_dir(dir.path()).unwrap();
    std::fs::write("bare.pack.tmp-4000000-0", b"part").unwrap();
    let (contents, source) = contents();
    write("bare.pack", contents, &source, &NEVER).unwrap();
    assert_eq!(dir.names(), ["bare.pack"]);
}

/// Needs the right to mount; says so where it is not given.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_leaves_the_old_pack_and_nothing_else() {
    let dir = Dir::new();
    let mount =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(dir.path()).output();
    match mount {
        Ok(done) if done.status.success() => {}
        other => {
            eprintln!("skipped: a small tmpfs cannot be mounted here ({other:?})");
            return;
        }
    }
    let outcome = std::panic::catch_unwind(|| {
        // 1.1 MB each: the first fits, the second beside it does not.
        let (path, ..) = small_pack(&dir, "model.pack");
        let old = std::fs::read(&path).unwrap();
        let (contents, source) = contents();
        let error = write(&path, contents, &source, &NEVER).unwrap_err();
        assert_eq!(error.trouble(), PackTrouble::Io);
        match &error {
            PackError::Io { source, .. } => assert_eq!(source.kind(), std::io::ErrorKind::StorageFull),
            other => panic!("{other}"),
        }
        assert_eq!(dir.names(), ["model.pack"]);
        assert!(std::fs::read(&path).unwrap() == old);
        PackFile::open(&path).unwrap().verify(&NEVER, |_, _| {}).unwrap();
    });
    let unmounted = Command::new("umount").arg(dir.path()).status().unwrap();
    assert!(unmounted.success());
    outcome.unwrap();
}

/// A writer killed in the middle: the old pack is whole, and the next writer clears up.
#[test]
#[cfg(unix)]
fn a_killed_writer_leaves_what_the_next_one_removes() {
    const TARGET: &str = "EDGE_PACK_TEST_KILLED_WRITER";
    /// Waits for ever in the middle of writing.
    struct Stuck(MemorySource, AtomicUsize);
    impl BlobSource for Stuck {
        fn blob(&self, id: BlobId) -> Option<&[u8]> {
            while self.1.fetch_add(1, Ordering::Relaxed) > 11 {
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
            self.0.blob(id)
        }
    }
    if let Some(target) = std::env::var_os(TARGET) {
        let (contents, source) = contents();
        let _ = write(target, contents, &Stuck(source, AtomicUsize::new(0)), &NEVER);
        return;
    }
    let dir = Dir::new();
    let (path, ..) = small_pack(&dir, "model.pack");
    let old = std::fs::read(&path).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writing::a_killed_writer_leaves_what_the_next_one_removes"])
        .env(TARGET, &path)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while dir.names().len() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "the writer ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // While it lives its file is not taken for a leftover.
    small_pack(&dir, "model.pack");
    assert_eq!(dir.names().len(), 2);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(dir.names().len(), 2);
    assert!(std::fs::read(&path).unwrap() == old);
    small_pack(&dir, "model.pack");
    assert_eq!(dir.names(), ["model.pack"]);
}
