//! What is written is what is read.

use crate::fixture::*;
use edge_runtime::graph::{DType, Graph};
use edge_runtime::pack::*;
use std::sync::atomic::{AtomicBool, Ordering};

fn blake3_128(bytes: &[u8]) -> u128 {
    u128::from_be_bytes(blake3::hash(bytes).as_bytes()[..16].try_into().unwrap())
}

#[test]
fn header_and_blobs_come_back_by_every_way_of_reading() {
    let dir = Dir::new();
    let (path, written, source) = small_pack(&dir, "model.pack");
    assert_eq!(dir.names(), ["model.pack"]);

    let pack = PackFile::open(&path).unwrap();
    assert_eq!(*pack.header(), written.header);
    assert!(std::ptr::eq(pack.header(), &*pack.shared_header()));
    assert_eq!(pack.available(), [0, 1, 2]);
    assert_eq!(pack.missing_bytes(), 0);
    assert_eq!(pack.file_len(), written.file_len);

    // Apart from what the writer fills in, the header is the one that was given.
    let (mut given, _) = contents();
    given.header.blobs = written.header.blobs.clone();
    given.header.sections = written.header.sections.clone();
    for (given, written) in given.header.rungs.iter_mut().zip(&written.header.rungs) {
        (given.end, given.bytes) = (written.end, written.bytes);
    }
    assert_eq!(given.header, written.header);

    let all: Vec<BlobId> = (0..source.len() as BlobId).collect();
    let mapped = pack.map(pack.full_len()).unwrap();
    let loaded = pack.load(&all, true).unwrap();
    assert_eq!(loaded.buffer_bytes() as u64, pack.loaded_bytes(&all));
    let whole = std::fs::read(&path).unwrap();
    for id in all {
        let expected = source.blob(id).unwrap();
        for found in [mapped.blob(id).unwrap(), loaded.blob(id).unwrap()] {
            assert_eq!(found, expected, "blob {id}");
            assert_eq!(found.as_ptr() as usize % 64, 0, "blob {id}");
        }
        let blob = pack.header().blobs[id as usize];
        assert_eq!(blob.hash, blake3_128(expected), "blob {id}");
        assert_eq!(&whole[blob.offset as usize..][..blob.len as usize], expected, "blob {id}");
        let mut one = vec![0; expected.len()];
        pack.read_blob(id, &mut one, true).unwrap();
        assert_eq!(one, expected, "blob {id}");
    }
    assert!(mapped.blob(8).is_none() && loaded.blob(8).is_none());
}

/// Rungs end where their blobs do, so a header that comes out shorter than the room that was left for it moves nothing.
#[test]
fn a_long_header_is_packed_and_damage_to_it_is_seen() {
    let dir = Dir::new();
    let (mut contents, source) = contents();
    contents.header.card.labels = (0..2000).map(|i| format!("label {i}")).collect();
    let path = dir.file("model.pack");
    let written = write(&path, contents, &source, &NEVER).unwrap();
    let text = serde_json::to_vec(&written.header).unwrap();
    assert!(written.header_end < (text.len() / 2) as u64, "{} of {}", written.header_end, text.len());
    let pack = PackFile::open(&path).unwrap();
    assert_eq!(*pack.header(), written.header);
    pack.verify(&NEVER, |_, _| ()).unwrap();
    // Decoding is counted with the text, which is longer than what is stored.
    let tight = PackFile::open_within(&path, text.len() as u64).map(drop).unwrap_err();
    assert!(matches!(tight, PackError::HeaderMemory { .. }), "{tight}");
    let whole = std::fs::read(&path).unwrap();
    for at in [40, 42, PREAMBLE, PREAMBLE + 100, written.header_end as usize - 1] {
        let mut bad = whole.clone();
        bad[at] ^= 1;
        std::fs::write(&path, bad).unwrap();
        let error = PackFile::open(&path).map(drop).unwrap_err();
        assert!(matches!(error, PackError::HeaderHash { .. }), "byte {at}: {error}");
    }
}

#[test]
fn layout_is_as_specified() {
    let dir = Dir::new();
    let (_, written, _) = small_pack(&dir, "model.pack");
    let header = &written.header;
    assert_eq!(header.sections.len(), 4); // the one without bytes is left out
    let lens: Vec<u64> = header.sections.iter().map(|s| s.len).collect();
    assert_eq!(lens, [64 + 64 + 512 + 1000, 70_001, (1 << 20) + 5, 64]);
    for (section, align) in header.sections.iter().zip([64, 4096, 65536, 64]) {
        assert_eq!(section.offset % align, 0);
    }
    let ends: Vec<u64> = header.sections.iter().map(|s| s.offset + s.len).collect();
    let rung_ends: Vec<u64> = header.rungs.iter().map(|r| r.end).collect();
    assert_eq!(rung_ends, ends[..3]);
    assert_eq!(written.file_len, ends[3]);
    let bytes: Vec<u64> = header.rungs.iter().map(|r| r.bytes).collect();
    let first = 32 + 1000 + 64 + 500;
    assert_eq!(bytes, [first, first + 70_001, first + 70_001 + (1 << 20) + 5]);
}

#[test]
fn the_same_contents_give_the_same_bytes() {
    let dir = Dir::new();
    let (a, ..) = small_pack(&dir, "a.pack");
    let (b, ..) = small_pack(&dir, "b.pack");
    assert!(std::fs::read(a).unwrap() == std::fs::read(b).unwrap());
}

#[test]
fn a_mapping_holds_its_rung_and_nothing_more() {
    let dir = Dir::new();
    let (path, written, source) = small_pack(&dir, "model.pack");
    let pack = PackFile::open(&path).unwrap();
    let mapped = pack.map(written.header.rungs[0].end).unwrap();
    assert_eq!(mapped.bytes().len() as u64, written.header.rungs[0].end);
    for id in [0, 1, 4, 5, 7] {
        assert_eq!(mapped.blob(id), source.blob(id), "blob {id}");
    }
    for id in [2, 3, 6] {
        assert!(mapped.blob(id).is_none(), "blob {id}");
    }
    assert_eq!(pack.blobs_before(written.header.rungs[0].end), [0, 4, 5, 1]);
    let loaded = pack.load(&[3, 0, 3], true).unwrap();
    assert_eq!(loaded.blob(3), source.blob(3));
    assert_eq!(loaded.blob(0), source.blob(0));
    assert!(loaded.blob(1).is_none());
}

#[test]
fn verify_reads_every_byte_and_reports_progress() {
    let dir = Dir::new();
    let (path, written, _) = small_pack(&dir, "model.pack");
    let pack = PackFile::open(&path).unwrap();
    let mut seen = Vec::new();
    let verified = pack.verify(&NEVER, |done, total| seen.push((done, total))).unwrap();
    assert_eq!(verified, Verified { bytes: written.file_len, blobs: 8, missing_blobs: 0 });
    assert!(seen.is_sorted());
    assert_eq!(*seen.last().unwrap(), (written.file_len, written.file_len));

    let stop = AtomicBool::new(false);
    let stopped = pack.verify(&stop, |done, _| stop.store(done > written.header_end, Ordering::Relaxed));
    assert!(matches!(stopped, Err(PackError::Cancelled)), "{stopped:?}");
}

#[test]
fn constants_give_their_bytes() {
    let (contents, source) = contents();
    let constants = &contents.header.constants;
    assert_eq!(constants[0].bytes(&source).unwrap(), source.blob(4).unwrap());
    assert_eq!(*constants[1].bytes(&source).unwrap(), 7i64.to_le_bytes());
    let odd = Constant { dtype: DType::U8, dims: vec![1], data: ConstantData::Hex("f".to_owned()) };
    assert!(odd.bytes(&source).is_none());
}

#[test]
fn a_pack_of_one_rung_without_a_blob() {
    let dir = Dir::new();
    let path = dir.file("model.pack");
    let rung = Rung { takes: vec![], ..contents().0.header.rungs[0].clone() };
    let header = Header { graphs: vec![Graph::default()], rungs: vec![rung], ..Header::default() };
    let contents = Contents { header, needs: vec![vec![]], ..Contents::default() };
    let written = write(&path, contents, &MemorySource::default(), &NEVER).unwrap();
    assert_eq!(written.file_len, written.header_end);
    assert_eq!(written.header.rungs[0].end, written.header_end);
    let pack = PackFile::open(&path).unwrap();
    assert_eq!(pack.available(), [0]);
    assert_eq!(pack.map(pack.full_len()).unwrap().bytes().len() as u64, written.file_len);
}

/// A ladder as a converter makes it: padding stays under 2% when rungs are 4% apart and a MiB and more.
#[test]
fn padding_is_small() {
    let dir = Dir::new();
    let mut random = Random(5);
    let mut source = MemorySource::default();
    let mut sections = Vec::new();
    let (mut total, mut step) = (0.0f64, 8e6);
    while total < 4e7 {
        let mut ids = Vec::new();
        let mut left = step;
        while left > 0.0 {
            let len = 200 + random.below(150_000);
            ids.push(source.push(vec![1; len]));
            left -= len as f64;
            total += len as f64;
        }
        sections.push(ids);
        step = (total * 0.04).max(1.2e6);
    }
    let rung = Rung { takes: vec![], ..contents().0.header.rungs[0].clone() };
    let header = Header { graphs: vec![Graph::default()], rungs: vec![rung], ..Header::default() };
    let needs = vec![(0..source.len() as BlobId).collect()];
    let contents = Contents { header, sections, needs, min_runtime: 0 };
    let written = write(dir.file("model.pack"), contents, &source, &NEVER).unwrap();
    let share = written.padding as f64 / written.file_len as f64;
    assert!(share < 0.02, "padding {} of {} bytes: {share:.4}", written.padding, written.file_len);
}

/// The header's length moves the offsets, whose digits change the header's length: every length near a power of
/// ten and a page settles.
#[test]
fn the_header_settles_at_every_length() {
    let dir = Dir::new();
    let path = dir.file("model.pack");
    for extra in (0..4200).step_by(7) {
        let (mut contents, source) = contents();
        contents.header.card.name = "n".repeat(extra);
        contents.needs[0] = vec![4];
        contents.sections[2] = vec![]; // the large blob, unused here, would only cost time
        contents.header.tensors[0].roots[0].blobs = vec![0, 1, 2];
        contents.needs[2] = vec![0, 1, 2];
        contents.sections = vec![vec![0, 4, 5, 1], vec![2, 7], vec![6, 3]];
        let small = MemorySource::from(
            (0..8)
                .map(|id| if id == 3 { vec![9] } else { source.blob(id).unwrap().to_vec() })
                .collect::<Vec<_>>(),
        );
        let written = write(&path, contents, &small, &NEVER).unwrap();
        assert_eq!(*PackFile::open(&path).unwrap().header(), written.header, "{extra} more bytes");
    }
}
