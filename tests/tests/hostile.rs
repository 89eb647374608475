//! Packs and models that are cut, damaged, or nothing of the kind: a clear error or a right answer, never a panic.

use edge_runtime::pack::PackFile;
use edge_runtime::random::philox;
use edge_tests::{Ended, Folder, Sample, edge_convert, edge_run, models};

fn below(key: u64, i: u64, bound: usize) -> usize {
    philox(key, i)[0] as usize % bound
}

/// Exit 4 with a message, or an answer.
#[track_caller]
fn refused_or_answered(ended: &Ended, what: &str) -> bool {
    assert!(ended.signal.is_none() && !ended.stderr.contains("panicked"), "{what}: {ended:#?}");
    match ended.code {
        Some(0) => true,
        Some(4) => {
            assert!(!ended.stderr.trim().is_empty() && ended.stdout.is_empty(), "{what}: {ended:#?}");
            false
        }
        _ => panic!("{what}: {ended:#?}"),
    }
}

#[test]
fn what_is_no_pack_is_refused() {
    let folder = Folder::new("nopack");
    let noise: Vec<u8> = (0..5000).flat_map(|i| philox(7, i)[0].to_le_bytes()).collect();
    let files = [
        folder.write("empty", b""),
        folder.write("noise", &noise),
        folder.file("missing"),
        folder.path().into(),
    ];
    for file in &files {
        for command in ["", "plan", "inspect", "verify"] {
            let ended = edge_run().args(command).arg(file).run();
            ended.expect(4);
            assert!(ended.stdout.is_empty(), "{ended:#?}");
        }
        let converted = edge_convert().arg(file).arg("-o").arg(folder.file("m.pack")).run();
        converted.expect(4);
    }
    assert_eq!(folder.names(), ["empty", "noise"]);
}

#[test]
fn a_cut_pack_runs_the_best_whole_rung() {
    let s = Sample::new(&models::classifier(), "");
    let whole = std::fs::read(&s.pack).unwrap();
    let (mut answers, mut refusals) = (0, 0);
    for i in 0..1000 {
        let at = below(11, i, whole.len());
        std::fs::write(&s.pack, &whole[..at]).unwrap();
        let ended = s.run().run();
        if refused_or_answered(&ended, &format!("cut at {at}")) {
            answers += 1;
            let lines: Vec<&str> = ended.stderr.lines().filter(|l| l.contains("missing")).collect();
            assert_eq!(lines.len(), 1, "cut at {at}: {ended:#?}");
            assert!(!ended.stdout.is_empty(), "cut at {at}: {ended:#?}");
            // The user may ask for all of it or nothing.
            s.run().arg("--strict").run().expect(4);
        } else {
            refusals += 1;
        }
    }
    assert!(answers > 0 && refusals > 0, "{answers} answers, {refusals} refusals");
}

#[test]
fn a_changed_byte_of_the_header_is_found() {
    let s = Sample::new(&models::classifier(), "");
    let want = s.run().run().stdout;
    let mut bytes = std::fs::read(&s.pack).unwrap();
    let end = PackFile::open(&s.pack).unwrap().header().sections[0].offset as usize;
    for i in 0..300 {
        let (at, bit) = (below(13, i, end), 1 << below(17, i, 8));
        bytes[at] ^= bit;
        std::fs::write(&s.pack, &bytes).unwrap();
        bytes[at] ^= bit;
        let ended = s.run().run();
        if refused_or_answered(&ended, &format!("byte {at} of {end}, bit {bit}")) {
            assert_eq!(ended.stdout, want, "byte {at} of {end}, bit {bit}");
        }
    }
}

#[test]
fn noise_in_a_blob_is_found_where_hashes_are_checked() {
    let s = Sample::new(&models::classifier(), "");
    let whole = std::fs::read(&s.pack).unwrap();
    let pack = PackFile::open(&s.pack).unwrap();
    let header = pack.header();
    let best = edge_run().arg("plan").arg(&s.pack).args("--mem 256MB --json").run().json();
    let rung = header.rungs.iter().find(|r| r.id == best["rung"]).unwrap();
    let model = edge_tests::open(&s.pack, edge_runtime::weights::Registry::standard());
    for id in model.blobs_of(rung).unwrap() {
        let blob = header.blobs[id as usize];
        let mut bytes = whole.clone();
        for (i, byte) in bytes[blob.offset as usize..][..blob.len as usize].iter_mut().enumerate() {
            *byte = philox(19 + u64::from(id), i as u64)[1] as u8;
        }
        std::fs::write(&s.pack, &bytes).unwrap();
        let name = format!("blob {id} (");
        // A rung that does not need the blob runs, where there is one; `damage.rs` says which.
        let whole = |rung: &&edge_runtime::pack::Rung| !model.blobs_of(rung).unwrap().contains(&id);
        let code = if header.rungs.iter().find(whole).is_some() { 0 } else { 4 };
        edge_run().arg("verify").arg(&s.pack).run().expect_saying(4, &[&name]);
        for how in ["--verify", "--no-mmap"] {
            s.run().arg(how).run().expect_saying(code, &[&name]);
            s.run().arg(how).arg("--rung").arg(&rung.id).run().expect_saying(4, &[&name]);
        }
        let mapped = s.run().run();
        assert!(mapped.signal.is_none() && !mapped.stderr.contains("panicked"), "{name}: {mapped:#?}");
        assert_ne!(mapped.code, Some(1), "{name}: {mapped:#?}");
    }
}

#[test]
fn a_cut_model_is_refused() {
    let folder = Folder::new("cutonnx");
    let whole = models::classifier();
    for i in 0..200 {
        let at = below(23, i, whole.len());
        let source = folder.write("m.onnx", &whole[..at]);
        let ended = edge_convert().arg(source).arg("-o").arg(folder.file("m.pack")).run();
        assert!(matches!(ended.code, Some(3 | 4)), "cut at {at}: {ended:#?}");
        assert!(!ended.stderr.contains("panicked") && !ended.stderr.is_empty(), "cut at {at}: {ended:#?}");
    }
    assert_eq!(folder.names(), ["m.onnx"]);
}
