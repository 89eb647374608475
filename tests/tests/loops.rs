//! Loops whose number of turns only a run knows: as many as it takes, in the memory of one, until they are told to stop.

use edge_runtime::device::Device;
use edge_runtime::weights::Registry;
use edge_runtime::{RunError, Session};
use edge_tests::{Folder, edge_convert, inputs_of, models, open};
use std::sync::atomic::Ordering;
use std::time::Duration;

const LEN: usize = 16;

/// A session on the exact rung of such a model.
fn session(label: &str, onnx: &[u8], args: &str) -> Session {
    let folder = Folder::new(label);
    let (source, pack) = (folder.write("m.onnx", onnx), folder.file("m.pack"));
    edge_convert().arg(source).arg("-o").arg(&pack).arg("--keep-float").args(args).run().expect(0);
    let model = open(&pack, Registry::standard());
    let rung = model.header().rungs.last().unwrap().clone();
    let device = Device::builder().threads(Some(1)).budget(Some(1 << 30)).build().unwrap();
    let specs: Vec<_> = inputs_of(&model, &rung, 2, 1).into_iter().map(|(spec, _)| spec).collect();
    Session::new(&device, &model, &rung, &specs).unwrap()
}

/// As the model is defined: what each turn begins with, and what the last one gives.
fn turns(mut s: Vec<f32>, factor: f32, bound: f32) -> (Vec<Vec<f32>>, Vec<f32>) {
    let mut begun = Vec::new();
    loop {
        begun.push(s.clone());
        let mut next = vec![0.0; LEN];
        for (i, value) in s.iter().enumerate() {
            let column = (i % 8 * 3 + 1) % 8;
            next[i / 8 * 8 + column] = value * (1.0 - (column % 2 * 2) as f32) * factor;
        }
        s = next;
        if s.iter().all(|v| v.abs() <= bound) {
            return (begun, s);
        }
    }
}

fn set(session: &mut Session, x: &[f32]) {
    let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
    session.set_input(0, &bytes).unwrap();
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Elements from `-size` to `size`.
fn of_size(size: f32) -> Vec<f32> {
    (0..LEN).map(|i| size * (i as f32 * 2.0 / (LEN - 1) as f32 - 1.0)).collect()
}

#[test]
fn a_loop_takes_as_many_turns_as_its_data_ask_for() {
    // A half: all products are exact.
    let mut one = session("loops", &models::shrinking(0.5, 1.0, false), "");
    let mut listed = session("loops-listed", &models::shrinking(0.5, 1.0, true), "--turns 40");
    // In the same session, as no number of turns is part of a plan: 1, 11, 31, 1 of them.
    for size in [0.25, 1500.0, 2e9, 1.9] {
        let (begun, last) = turns(of_size(size), 0.5, 1.0);
        set(&mut one, &of_size(size));
        one.run().unwrap();
        assert_eq!(floats(one.output(0).1), last, "{size}");
        set(&mut listed, &of_size(size));
        listed.run().unwrap();
        assert_eq!(floats(listed.output(0).1), last, "{size}");
        let (dims, bytes) = listed.result(1);
        assert_eq!(dims, [begun.len(), 2, 8]);
        assert_eq!(floats(bytes), begun.concat(), "{size}");
    }
    // What 40 turns have no room for.
    set(&mut listed, &of_size(1e30));
    let error = listed.run().unwrap_err().to_string();
    assert!(error.contains("after 40 turns") && error.contains("--turns"), "{error}");
    set(&mut listed, &of_size(1.0));
    listed.run().unwrap();
    // The memory is that of one turn: some line of 64 bytes for each of its values, and what is carried.
    assert!(one.plan().arena_bytes <= 16 * LEN * 4, "{} bytes", one.plan().arena_bytes);
}

#[test]
fn a_list_needs_a_bound() {
    let folder = Folder::new("loops-bound");
    let source = folder.write("m.onnx", &models::shrinking(0.5, 1.0, true));
    let ended = edge_convert().arg(source).arg("-o").arg(folder.file("m.pack")).run();
    let said = &ended.expect(3).stderr;
    assert!(said.contains("Loop_y") && said.contains("--turns N"), "{said}");
}

#[test]
fn a_loop_without_an_end_is_cancelled() {
    // Nothing shrinks, and conversion measures on noise that is within the bound.
    let mut session = session("loops-endless", &models::shrinking(1.0, 1e6, false), "");
    set(&mut session, &of_size(2e6));
    let flag = session.cancel_flag();
    let stopping = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        flag.store(true, Ordering::Relaxed);
    });
    assert!(matches!(session.run(), Err(RunError::Cancelled)));
    stopping.join().unwrap();
    set(&mut session, &of_size(1.0));
    session.run().unwrap();
    assert_eq!(floats(session.output(0).1), turns(of_size(1.0), 1.0, 1e6).1);
}
