//! Moving along the ladder with weights in memory of the process's own: each byte is read once, and what is not needed goes.
#![cfg(target_os = "linux")]

use edge_runtime::pack::BlobId;
use edge_runtime::select::Access;
use edge_runtime::{Pressure, Session};
use edge_tests::moving::{Case, MB, alone, answer, wide};
use std::os::unix::fs::FileExt;

/// Bytes that the process has asked files for.
fn bytes_read() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

/// Bytes of memory of the process's own: what fresh sessions map of the file is not.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// What is read of the kernel's own files beside a pack.
const STATUS: u64 = 64 << 10;

fn blobs(case: &Case, rung: &str) -> Vec<BlobId> {
    let rung = case.model.header().rungs.iter().find(|r| r.id == rung).unwrap();
    case.model.blobs_of(rung).unwrap()
}

#[test]
fn each_byte_is_read_once_and_shared() {
    let _alone = alone();
    let case = wide();
    let top = case.device.ledger().budget();
    let mut session = Session::open_by(&case.device, &case.pack, &case.specs(), Access::Loaded).unwrap();
    let mut seen = Vec::new();
    for less in [0, 59, 60, 58, 60, 61, 0] {
        let before = blobs(&case, session.rung());
        let start = bytes_read();
        let moved = session.resize(top - less * MB).unwrap();
        let read = bytes_read() - start;
        let new: Vec<BlobId> =
            blobs(&case, &moved.to).into_iter().filter(|id| !before.contains(id)).collect();
        let bytes: u64 = new.iter().map(|id| case.model.header().blobs[*id as usize].len).sum();
        let streamed = moved.to != moved.from && less == 61;
        if !streamed {
            assert!((bytes..bytes + STATUS).contains(&read), "{moved:?}: {read} of {bytes} bytes");
        }
        assert_eq!(answer(&mut session, &case.data()), case.fresh(session.rung(), &case.data()), "{moved:?}");
        assert!(case.device.ledger().used() <= top - less * MB);
        seen.push(session.rung().to_string());
    }
    seen.sort();
    seen.dedup();
    assert!(seen.len() >= 3, "{seen:?}");
    drop(session);
    assert_eq!(case.device.ledger().used(), 0);
}

#[test]
fn dropped_bytes_are_given_back() {
    let _alone = alone();
    let case = wide();
    let top = case.device.ledger().budget();
    let mut session = Session::open_by(&case.device, &case.pack, &case.specs(), Access::Loaded).unwrap();
    assert_eq!(session.rung(), "float");
    answer(&mut session, &case.data());
    let large = anonymous();
    let budget = case.lower(&mut session, 2_500_000);
    answer(&mut session, &case.data());
    let small = anonymous();
    let gone = case.bytes("float") - case.bytes(session.rung());
    assert!(large - small > gone - MB, "{large} to {small} with rung {}, {gone} fewer", session.rung());
    // Back and forth, nothing piles up.
    for _ in 0..20 {
        session.resize(top).unwrap();
        session.resize(budget).unwrap();
    }
    answer(&mut session, &case.data());
    assert!(anonymous() < small + MB, "{small} to {}", anonymous());
}

#[test]
fn a_file_that_changes_does_not_matter() {
    let _alone = alone();
    let case = wide();
    let mut session = Session::open_by(&case.device, &case.pack, &case.specs(), Access::Loaded).unwrap();
    let before = answer(&mut session, &case.data());
    let file = case.folder.file("m.pack");
    let whole = std::fs::read(&file).unwrap();
    let first = case.pack.header().sections[0].offset;
    let open = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    open.write_all_at(&vec![0xa5; whole.len() - first as usize], first).unwrap();
    assert_eq!(answer(&mut session, &case.data()), before);
    // There is nothing to move to.
    let error = session.on_memory_pressure(Pressure::Low).unwrap_err();
    assert_eq!(answer(&mut session, &case.data()), before, "{error}");
    open.write_all_at(&whole[first as usize..], first).unwrap();
}
