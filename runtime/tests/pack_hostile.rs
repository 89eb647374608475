//! Headers made to hurt: seeded mutations and bombs. Each gives a pack whose every view is in bounds, or an error;
//! never a panic, never more memory than was bounded before the header was decoded.

#[path = "pack_suite/fixture.rs"]
#[allow(dead_code)] // the suite uses the rest
mod fixture;

use edge_runtime::pack::*;
use fixture::*;
use serde_json::Value;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// Counts the bytes that each thread has; a reallocation counts as old and new at once.
struct Counting;

fn took(bytes: usize) {
    LIVE.set(LIVE.get() + bytes);
    PEAK.set(PEAK.get().max(LIVE.get()));
}

fn gave(bytes: usize) {
    LIVE.set(LIVE.get().saturating_sub(bytes));
}

// SAFETY: every call goes to the system's allocator as it came; the counters do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller keeps this function's contract, which is the system allocator's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        gave(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        took(new_size);
        gave(layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Opens, and gives the most bytes that were alive meanwhile besides those that were before.
fn open_measured(path: &Path, memory: u64) -> (Result<PackFile, PackError>, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let opened = PackFile::open_within(path, memory);
    (opened, PEAK.get() - before)
}

/// Whatever opens can be read: each blob is in bounds or a named error.
fn use_everything(pack: &PackFile) {
    let header = pack.header();
    let ids: Vec<BlobId> = (0..header.blobs.len() as BlobId).collect();
    for &rung in pack.available() {
        let mapped = pack.map(header.rungs[rung].end).unwrap();
        for &id in &ids {
            let blob = header.blobs[id as usize];
            match mapped.blob(id) {
                Some(bytes) => assert_eq!(bytes.len() as u64, blob.len),
                None => assert!(blob.offset + blob.len > header.rungs[rung].end),
            }
        }
    }
    for &id in &ids {
        pack.owner_of(id);
    }
    let nothing = MemorySource::default();
    for constant in &header.constants {
        if let ConstantData::Hex(_) = constant.data {
            let bytes = constant.bytes(&nothing).unwrap();
            assert_eq!(bytes.len(), constant.dims.iter().product::<usize>() * constant.dtype.bytes());
        }
    }
    let _ = pack.load(&ids, true);
    let _ = pack.verify(&NEVER, |_, _| {});
}

/// Counts the values of a tree, itself included.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(entries) => entries.values().map(count).sum(),
        _ => 0,
    }
}

/// The `n`-th value in the order of [`count`].
fn nth<'a>(value: &'a mut Value, n: &mut usize) -> Option<&'a mut Value> {
    if *n == 0 {
        return Some(value);
    }
    *n -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|v| nth(v, n)),
        Value::Object(entries) => entries.values_mut().find_map(|v| nth(v, n)),
        _ => None,
    }
}

fn mutate(root: &mut Value, random: &mut Random) {
    let total = count(root);
    let other = nth(root, &mut random.below(total)).cloned();
    let target = nth(root, &mut random.below(total));
    let (Some(target), Some(other)) = (target, other) else { unreachable!("fewer values than counted") };
    match (target, random.below(8)) {
        (Value::Object(entries), 0..6) if !entries.is_empty() => {
            let key = entries.keys().nth(random.below(entries.len())).cloned().unwrap_or_default();
            let old = entries.remove(&key);
            if random.below(3) == 0 {
                entries.insert("unknown".to_owned(), old.unwrap_or_default());
            }
        }
        (Value::Array(items), 0..6) if !items.is_empty() => {
            let at = random.below(items.len());
            match random.below(4) {
                0 => drop(items.remove(at)),
                1 => items.insert(at, items[at].clone()),
                2 => items.clear(),
                _ => items.reverse(),
            }
        }
        (target @ Value::Number(_), 0..7) => {
            let n = target.as_u64().unwrap_or(1);
            let values: [Value; 11] = [
                0.into(),
                (-1).into(),
                (1u64 << 53).into(),
                u64::MAX.into(),
                (i64::MAX as u64).into(),
                u32::MAX.into(),
                (n.wrapping_add(1)).into(),
                (n.wrapping_sub(1)).into(),
                (n ^ 1 << random.below(64)).into(),
                1.5.into(),
                1e300.into(),
            ];
            *target = values[random.below(values.len())].clone();
        }
        (target @ Value::String(_), 0..4) => {
            let strings =
                ["", "x", "f32", "i64", "w2", "constant", "ffffffffffffffffffffffffffffffff", "\u{0}é"];
            *target = strings[random.below(strings.len())].into();
        }
        (target, _) => *target = if random.below(2) == 0 { other } else { Value::Null },
    }
}

#[test]
fn mutated_headers() {
    let dir = Dir::new();
    let path = dir.file("model.pack");
    let (bytes, mut header, header_end) = roomy_pack();
    header.card.metadata.clear(); // room for what grows: the rest is filled with spaces
    let good: Value = serde_json::to_value(&header).unwrap();
    let good_text = serde_json::to_vec(&good).unwrap();
    let mut random = Random(2024);
    let (mut opened, mut refused) = (0, 0);
    for round in 0..3000 {
        let text = if round % 4 == 3 {
            let mut text = good_text.clone();
            for _ in 0..1 + random.below(3) {
                let at = random.below(text.len());
                text[at] = random.next() as u8;
            }
            text
        } else {
            let mut value = good.clone();
            for _ in 0..1 + random.below(2) {
                mutate(&mut value, &mut random);
            }
            serde_json::to_vec(&value).unwrap()
        };
        // Only the start of the large blob: a cut pack, and 30 times less to write.
        let small = &bytes[..header.rungs[1].end as usize + 1000];
        std::fs::write(&path, padded(small, header_end, text)).unwrap();
        let (result, peak) = open_measured(&path, u64::MAX);
        assert!(peak < 4 << 20, "round {round}: {peak} bytes to open a header of {header_end}");
        match result {
            Ok(pack) => {
                use_everything(&pack);
                opened += 1;
            }
            Err(e) => {
                assert_eq!(e.trouble(), PackTrouble::BadFile, "round {round}: {e}");
                refused += 1;
            }
        }
    }
    // Neither side may be empty, or the mutations would test nothing.
    assert!(opened > 150 && refused > 1000, "{opened} opened, {refused} refused");
}

/// Headers that decode to much more than their text.
#[test]
fn bombs_stay_within_the_bound() {
    let dir = Dir::new();
    let path = dir.file("bomb.pack");
    let head = r#"{"card":{"name":""},"graphs":[],"constants":[],"rungs":[],"#;
    let params = |inside: &str| {
        format!(
            r#"{head}"blobs":[],"sections":[],"tensors":[{{"name":"","n":1,"k":1,"roots":[{{"kind":"","params":{inside}}}]}}]}}"#
        )
    };
    let list = |item: &str, count: usize| vec![item; count].join(",");
    let graph = |nodes: &str| {
        format!(
            r#"{{"card":{{"name":""}},"constants":[],"rungs":[],"blobs":[],"sections":[],"tensors":[],"graphs":[{{"values":[],"inputs":[],"outputs":[],"body":{{"nodes":[{nodes}]}}}}]}}"#
        )
    };
    let node = r#"{"name":"","op":"size","in":[0],"out":[0]}"#;
    let deep_if = (0..10).fold(node.to_owned(), |inner, _| {
        format!(
            r#"{{"name":"","op":{{"if":{{"then_branch":{{"nodes":[{inner}]}},"else_branch":{{"nodes":[]}}}}}},"in":[],"out":[]}}"#
        )
    });
    let tensor = r#"{"name":"","n":1,"k":1,"roots":[{"kind":""}]}"#;
    let entries: Vec<String> = (0..70_000).map(|i| format!(r#""{i}":0"#)).collect();
    let bombs = [
        ("numbers", params(&format!(r#"{{"a":[{}]}}"#, list("0", 1_050_000)))),
        ("lists", params(&format!(r#"{{"a":[{}]}}"#, list("[]", 270_000)))),
        ("lists of one", params(&format!(r#"{{"a":[{}]}}"#, list("[0]", 270_000)))),
        ("objects of one", params(&format!(r#"{{"a":[{}]}}"#, list(r#"{"a":0}"#, 270_000)))),
        ("strings", params(&format!(r#"{{"a":[{}]}}"#, list(r#""""#, 530_000)))),
        ("entries", params(&format!("{{{}}}", entries.join(",")))),
        ("nested", params(&format!("{{\"a\":{}0{}}}", "[".repeat(100), "]".repeat(100)))),
        ("nodes", graph(&list(node, 70_000))),
        ("branches", graph(&list(&deep_if, 3000))),
        ("tensors", format!(r#"{head}"blobs":[],"sections":[],"tensors":[{}]}}"#, list(tensor, 70_000))),
        ("labels", {
            let labels = list(r#""""#, 1_050_000);
            format!(r#"{{"card":{{"name":"","labels":[{labels}]}}}}"#)
        }),
    ];
    for (name, text) in bombs {
        std::fs::write(&path, with_preamble(0, text.as_bytes(), b"")).unwrap();
        // With room for the text alone the answer is the bound.
        let (refused, peak) = open_measured(&path, text.len() as u64);
        let Err(PackError::HeaderMemory { needs, .. }) = refused else { panic!("{name}: {refused:?}") };
        assert!(peak <= text.len() + 4096, "{name}: {peak} bytes before the refusal");
        if needs > MAX_DECODED {
            let (refused, _) = open_measured(&path, u64::MAX);
            assert!(matches!(refused, Err(PackError::HeaderMemory { .. })), "{name}: {refused:?}");
            panic!("{name}: make it smaller, its decoding is not measured: {needs}");
        }
        let (refused, peak) = open_measured(&path, needs);
        let error = refused.map(|_| ()).expect_err("a bomb is no pack");
        assert!(!matches!(error, PackError::HeaderMemory { .. }), "{name}: {error}");
        assert!(peak as u64 <= needs + 65536, "{name}: {peak} bytes, the bound is {needs}");
        println!("{name}: text {}, peak {peak}, bound {needs}: {error}", text.len());
    }
}

/// The deepest header that the scan lets through is decoded on a small stack.
#[test]
fn the_deepest_header_fits_a_small_stack() {
    let ifs = (0..21).fold(String::new(), |inner, _| {
        format!(
            r#"{{"name":"","op":{{"if":{{"then_branch":{{"nodes":[{inner}]}},"else_branch":{{"nodes":[]}}}}}},"in":[],"out":[]}}"#
        )
    });
    let header =
        format!(r#"{{"graphs":[{{"values":[],"inputs":[],"outputs":[],"body":{{"nodes":[{ifs}]}}}}]}}"#);
    let exprs = (0..35).fold(r#"{"kind":""}"#.to_owned(), |inner, _| {
        format!(r#"{{"kind":"","args":[{{"expr":{inner}}}]}}"#)
    });
    let tensors = format!(r#"{{"tensors":[{{"name":"","n":1,"k":1,"roots":[{exprs}]}}]}}"#);
    let dims =
        format!(r#"{{"graphs":[{{"inputs":[{{"dims":[{}{}]}}]}}]}}"#, "[".repeat(106), "]".repeat(106));
    let run = move || {
        let dir = Dir::new();
        for text in [header, tensors, dims] {
            std::fs::write(dir.file("deep.pack"), with_preamble(0, text.as_bytes(), b"")).unwrap();
            let error = PackFile::open(dir.file("deep.pack")).map(|_| ()).expect_err("no pack");
            assert!(matches!(error, PackError::HeaderJson(_)), "{error}");
        }
    };
    let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(run).unwrap();
    thread.join().unwrap();
}
