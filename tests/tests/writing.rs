//! Conversions that are stopped: by a full disk, by the user, by the system.

use edge_tests::{Ended, Folder, Sample, SmallDisk, edge_convert, edge_run, models};
use std::process::Child;
use std::time::{Duration, Instant};

fn send(child: &Child, signal: i32) {
    // SAFETY: a call without pointers, to a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, signal) }, 0);
}

/// Waits until a child has installed a handler for SIGINT.
fn wait_for_handler(child: &Child) {
    let path = format!("/proc/{}/status", child.id());
    let handles = |status: &str| {
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        caught
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask >> 1 & 1 == 1)
    };
    let give_up = Instant::now() + Duration::from_secs(60);
    while !std::fs::read_to_string(&path).is_ok_and(|status| handles(&status)) {
        assert!(Instant::now() < give_up, "no handler for SIGINT after a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let folder = Folder::new("full");
    let source = folder.write("m.onnx", &models::deep(2, 256));
    let Some(disk) = SmallDisk::mount(&folder.file("disk"), "size=64k") else {
        return;
    };
    let pack = disk.path().join("m.pack");
    edge_convert().arg(source).arg("-o").arg(&pack).run().expect(6);
    let left: Vec<_> = std::fs::read_dir(disk.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_target_that_cannot_be_written() {
    let folder = Folder::new("target");
    let source = folder.write("m.onnx", &models::mlp());
    edge_convert().arg(&source).arg("-o").arg(folder.file("none/m.pack")).run().expect(6);
    let ended = edge_convert().arg(&source).arg("-o").arg(folder.path()).run();
    assert!(matches!(ended.code, Some(2 | 4 | 6)), "{ended:#?}");
    assert_eq!(folder.names(), ["m.onnx"]);
}

#[test]
fn an_interrupt_stops_and_cleans_up() {
    let folder = Folder::new("interrupt");
    let source = folder.write("m.onnx", &models::deep(6, 1024));
    let child = edge_convert().arg(source).arg("-o").arg(folder.file("m.pack")).spawn();
    wait_for_handler(&child);
    send(&child, libc::SIGINT);
    let start = Instant::now();
    Ended::of(child).expect(130);
    eprintln!("stopped {:.1} s after the interrupt", start.elapsed().as_secs_f64());
    assert_eq!(folder.names(), ["m.onnx"]);
}

#[test]
fn a_kill_leaves_the_old_pack_whole() {
    let s = Sample::new(&models::mlp(), "");
    let old = std::fs::read(&s.pack).unwrap();
    let source = s.folder.write("large.onnx", &models::deep(4, 512));
    let writes = |name: &String| name.starts_with("m.pack.tmp-");
    let unchanged = || std::fs::metadata(&s.pack).is_ok_and(|m| m.len() == old.len() as u64);
    // Writing takes milliseconds: now and then the rename is quicker than the signal.
    for attempt in 1.. {
        let child = edge_convert().arg(&source).arg("-o").arg(&s.pack).spawn();
        let give_up = Instant::now() + Duration::from_secs(60);
        while !s.folder.names().iter().any(writes) && unchanged() && Instant::now() < give_up {
            std::thread::sleep(Duration::from_micros(100));
        }
        send(&child, libc::SIGKILL);
        let ended = Ended::of(child);
        if s.folder.names().iter().any(writes) {
            assert_eq!(ended.signal, Some(libc::SIGKILL), "{ended:#?}");
            break;
        }
        assert!(attempt < 8, "{attempt} conversions were too quick to be killed while they wrote");
        std::fs::write(&s.pack, &old).unwrap();
    }
    assert!(std::fs::read(&s.pack).unwrap() == old, "the old pack is not what it was");
    edge_run().arg("verify").arg(&s.pack).args("--mem 256MB").run().expect(0);
    edge_convert().arg(s.folder.file("m.onnx")).arg("-o").arg(&s.pack).run().expect(0);
    assert!(!s.folder.names().iter().any(writes), "{:?}", s.folder.names());
}
