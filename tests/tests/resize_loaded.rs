//! Moving along the ladder with weights in memory of the process's own: each byte is read once, and what is not needed goes.
#![cfg(target_os = "linux")]

use edge_runtime::Session;
use edge_runtime::pack::BlobId;
use edge_runtime::select::Access;
use edge_tests::moving::{Case, MB, alone, answer, wide};

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
    let file = case.folder.file("m.pack");
    // The file itself may change by now: no weight is read of it.
    let whole = std::fs::read(&file).unwrap();
    let budget = case.lower(&mut session, 2_500_000);
    let low = session.rung().to_string();
    let end = case.pack.header().sections[0].offset as usize;
    let noise = vec![0xa5; whole.len() - end];
    use std::os::unix::fs::FileExt;
    let open = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    open.write_all_at(&noise, end as u64).unwrap();
    let small_answer = answer(&mut session, &case.data());
    open.write_all_at(&whole[end..], end as u64).unwrap();
    assert_eq!(small_answer, case.fresh(&low, &case.data()));
    drop((whole, noise));
    let gone = case.bytes("float") - case.bytes(&low);
    session.resize(top).unwrap();
    session.resize(budget).unwrap();
    answer(&mut session, &case.data());
    let small = anonymous();
    assert!(large - small > gone - 2 * MB, "{large} to {small} with rung {low}, {gone} bytes fewer");
    // Back and forth, nothing piles up.
    for _ in 0..20 {
        session.resize(top).unwrap();
        session.resize(budget).unwrap();
    }
    assert!(anonymous() < small + MB, "{small} to {}", anonymous());
}
