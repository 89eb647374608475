//! Weights stay what they are in the file: their pages are read where they are mapped, and nothing of them is copied. Alone in its
//! program: it counts the whole process.
#![cfg(target_os = "linux")]

use edge_runtime::Session;
use edge_runtime::device::Device;
use edge_runtime::weights::Registry;
use edge_tests::{Folder, convert_in_process, inputs_of, models, open};
use std::fs;

/// Kilobytes of a line such as `Private_Dirty:      12 kB`, over some lines of smaps.
fn kilobytes<'a>(lines: impl Iterator<Item = &'a str>, name: &str) -> u64 {
    let values = lines.filter_map(|l| {
        l.strip_prefix(name)?.strip_prefix(':')?.split_whitespace().next()?.parse::<u64>().ok()
    });
    values.sum::<u64>()
}

/// The lines of smaps that belong to mappings of a file.
fn of_file<'a>(smaps: &'a str, path: &'a str) -> impl Iterator<Item = &'a str> {
    let mut inside = false;
    smaps.lines().filter(move |line| {
        // A mapping's first line starts with its addresses, the others with a name.
        if line.split_whitespace().next().is_some_and(|word| !word.ends_with(':')) {
            inside = line.ends_with(path);
        }
        inside
    })
}

#[test]
fn no_byte_of_a_weight_is_private() {
    let folder = Folder::new("mapped");
    let pack = folder.file("m.pack");
    // Three matrices of 768 x 768: 3.5 MB at 16 bits.
    convert_in_process(&folder.write("m.onnx", &models::deep(3, 768)), &pack, &[]);
    let model = open(&pack, Registry::standard());
    let device = Device::builder().threads(Some(2)).budget(Some(1 << 30)).build().unwrap();
    let path = fs::canonicalize(&pack).unwrap();
    for rung in &model.header().rungs {
        let inputs = inputs_of(&model, rung, 4, 3);
        let specs: Vec<_> = inputs.iter().map(|(spec, _)| spec.clone()).collect();
        let dirty =
            || kilobytes(fs::read_to_string("/proc/self/smaps_rollup").unwrap().lines(), "Private_Dirty");
        let before = dirty();
        let mut session = Session::new(&device, &model, rung, &specs).unwrap();
        for _ in 0..2 {
            for (i, (_, data)) in inputs.iter().enumerate() {
                session.set_input(i, data).unwrap();
            }
            session.run().unwrap();
        }
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let of = |name: &str| kilobytes(of_file(&smaps, path.to_str().unwrap()), name);
        let (resident, private) = (of("Rss"), of("Private_Dirty") + of("Anonymous"));
        assert!(
            resident * 1024 >= rung.bytes / 2,
            "{}: {resident} kB of {} bytes are mapped",
            rung.id,
            rung.bytes
        );
        assert_eq!(private, 0, "{}: kB of the pack's pages that are the process's own", rung.id);
        // Nor is there a copy beside them: what is new is the arena, the plan, and what the threads' stacks touch.
        let own = (session.plan().memory() + session.plan().own_bytes()) as u64 / 1024 + 512;
        let grown = dirty().saturating_sub(before);
        assert!(grown <= own, "{}: {grown} kB are new, {own} expected", rung.id);
    }
}
