//! One broken file for every way in which a pack is refused.

use crate::fixture::*;
use edge_runtime::graph::{Cache, Decoding, Dim, Filled, Node, Op, Source, State};
use edge_runtime::pack::*;
use std::fs::OpenOptions;
use std::path::Path;

/// Opens bytes as a file.
fn open(bytes: &[u8]) -> Result<PackFile, PackError> {
    let dir = Dir::new();
    let path = dir.file("model.pack");
    std::fs::write(&path, bytes).unwrap();
    PackFile::open(path)
}

/// Asserts the variant and what its message says.
macro_rules! refused {
    ($result:expr, $variant:pat, $($word:expr),+) => {{
        let error = $result.map(|_| ()).expect_err("accepted");
        assert!(matches!(error, $variant), "{error:?}");
        let message = error.to_string();
        $(assert!(message.contains($word), "`{}` is not in `{message}`", $word);)+
    }};
}

mod elastic;

/// Opens the small pack with an edited header.
fn edit(change: impl FnOnce(&mut Header)) -> Result<PackFile, PackError> {
    let (bytes, mut header, header_end) = roomy_pack();
    change(&mut header);
    open(&edited(&bytes, header_end, header))
}

#[test]
fn the_unchanged_pack_opens() {
    assert!(edit(|_| {}).is_ok());
}

#[test]
fn things_that_are_no_pack() {
    let dir = Dir::new();
    refused!(PackFile::open(dir.file("absent")), PackError::Missing { .. }, "absent: no such file");
    refused!(PackFile::open(dir.path()), PackError::Directory { .. }, "is a directory");
    let below_file = dir.file("a");
    std::fs::write(&below_file, b"").unwrap();
    refused!(PackFile::open(&below_file), PackError::Empty { .. }, "the file is empty");
    refused!(PackFile::open(below_file.join("b")), PackError::Missing { .. }, "no such file");
    #[cfg(unix)]
    refused!(PackFile::open(Path::new("/dev/null")), PackError::NotAFile { .. }, "neither a file");
    let mut random = Random(3);
    for len in [1, 7, 8, 63, 64, 10_000] {
        refused!(open(&random.bytes(len)), PackError::NotAPack { .. }, "not a pack, it starts with");
    }
    refused!(open(&MAGIC[..5]), PackError::CutPreamble { file_len: 5 }, "the file has 5");
}

#[test]
fn a_preamble_with_any_bit_flipped() {
    let (bytes, ..) = roomy_pack();
    for at in 0..PREAMBLE {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            let error = open(&bad).map(|_| ()).expect_err("accepted");
            assert_eq!(error.trouble(), PackTrouble::BadFile);
            match (at, &error) {
                (0..8, PackError::NotAPack { .. })
                | (8..12, PackError::Format { known: 0, .. })
                | (12..16, PackError::RuntimeTooOld { have: RUNTIME_VERSION, .. })
                | (16..24, PackError::HeaderLength { .. } | PackError::CutHeader { .. })
                | (16..40, PackError::HeaderHash { .. }) => {}
                // Not packed, it is no stream; beyond the limit, nothing is read.
                (40..48, PackError::HeaderHash { .. } | PackError::HeaderLength { .. }) => {}
                (48.., PackError::Reserved { offset, value }) => {
                    assert_eq!((*offset, *value), (at, 1 << bit));
                }
                _ => panic!("byte {at}, bit {bit}: {error}"),
            }
        }
    }
    refused!(open(&with_preamble(7, b"{}", b"")), PackError::RuntimeTooOld { needs: 7, .. }, "update");
}

#[test]
fn a_header_that_is_too_much_or_no_json() {
    let mut long = with_preamble(0, b"{}", b"");
    long[16..24].copy_from_slice(&(MAX_HEADER + 1).to_le_bytes());
    refused!(open(&long), PackError::HeaderLength { .. }, "67108865");
    long[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    refused!(open(&long), PackError::HeaderLength { .. }, "18446744073709551615");
    long[16..24].copy_from_slice(&3u64.to_le_bytes());
    refused!(open(&long), PackError::CutHeader { end: 67, file_len: 66 }, "67", "66");

    let deep = "[".repeat(MAX_BRACKETS + 1);
    refused!(open(&with_preamble(0, deep.as_bytes(), b"")), PackError::HeaderNesting { .. }, "113");
    let wide = "{},".repeat(600_000);
    refused!(open(&with_preamble(0, wide.as_bytes(), b"")), PackError::HeaderMemory { .. }, "allowed");
    let (bytes, ..) = roomy_pack();
    let dir = Dir::new();
    std::fs::write(dir.file("a"), bytes).unwrap();
    refused!(PackFile::open_within(dir.file("a"), 9), PackError::HeaderMemory { cap: 9, .. }, "9 are");
    assert!(PackFile::open_within(dir.file("a"), 1 << 20).is_ok());

    for text in ["", "{}", "null", "[]", "{\"card\":", "\u{1}", "{\"rungs\":[{\"id\":1}]}"] {
        refused!(open(&with_preamble(0, text.as_bytes(), b"")), PackError::HeaderJson(_), "header");
    }
    refused!(open(&with_preamble(0, b"\"\xff\xfe\"", b"")), PackError::HeaderJson(_), "header");
}

#[test]
fn counts_ids_and_sizes() {
    let many = |h: &mut Header| h.card.labels = vec![String::new(); (1 << 20) + 1];
    // Labels do not fit where the old header was; counts are checked before places.
    refused!(edit(many), PackError::TooMany { .. }, "labels: 1048577");
    refused!(edit(|h| h.rungs.clear()), PackError::NoRungs, "no rung");
    refused!(edit(|h| h.constants[0].dims = vec![1; 17]), PackError::TooMany { .. }, "constant 0", "17");

    let value = |h: &mut Header| h.graphs[0].values[5].source = Source::Constant(3);
    refused!(edit(value), PackError::OutOfRange { .. }, "value `b`: constant 3", "there are 3");
    let value = |h: &mut Header| h.graphs[0].values[3].source = Source::Weight(2);
    refused!(edit(value), PackError::OutOfRange { .. }, "value `w`: tensor 2", "there are 2");
    let take = |h: &mut Header| h.rungs[1].takes[0] = Some(Take(1, 1));
    refused!(edit(take), PackError::OutOfRange { .. }, "rung `w4`, tensor `w`: root 1");
    refused!(edit(|h| h.rungs[0].graph = 1), PackError::OutOfRange { .. }, "rung `w2`: graph 1");
    let blob = |h: &mut Header| h.tensors[0].roots[0].blobs[1] = 8;
    refused!(edit(blob), PackError::OutOfRange { .. }, "tensor 0 `w`, root 0: blob 8", "there are 8");
    let port = |h: &mut Header| h.graphs[0].outputs[0].value = 11;
    refused!(edit(port), PackError::OutOfRange { .. }, "graph 0, output 0: value 11");
    let operand = |h: &mut Header| h.graphs[0].body.nodes[0].inputs[0] = Some(u32::MAX);
    refused!(edit(operand), PackError::OutOfRange { .. }, "node `choose`: value 4294967295");
    let result = |h: &mut Header| h.graphs[0].body.nodes[0].outputs[0] = Some(99);
    refused!(edit(result), PackError::OutOfRange { .. }, "node `choose`: value 99");
    let state = |h: &mut Header| h.graphs[0].states[0].input = 3;
    refused!(edit(state), PackError::OutOfRange { .. }, "graph 0: state input 3");
    let filled = |output: usize, axis: usize, count: usize| {
        move |h: &mut Header| h.graphs[0].filled.push(Filled { output, axis, count })
    };
    refused!(edit(filled(9, 0, 0)), PackError::OutOfRange { .. }, "graph 0: partly filled output 9");
    refused!(edit(filled(0, 0, 1 << 40)), PackError::OutOfRange { .. }, "graph 0: count of an output");
    refused!(edit(filled(0, 99, 0)), PackError::OutOfRange { .. }, "axis of a partly filled output 99");
    refused!(edit(filled(0, 0, 0)), PackError::Mismatch { .. }, "bytes of a count");
    let decoding = |ids: usize, heads: usize| {
        move |h: &mut Header| {
            let value = h.graphs[0].add_value("keys", Source::Computed);
            let caches = vec![Cache { value, heads, depth: 8 }];
            let decoding = Decoding { ids, past: 0, wanted: 0, logits: 0, longest: 1, caches };
            h.graphs[0].decoding = Some(Box::new(decoding));
        }
    };
    refused!(edit(decoding(9, 1)), PackError::OutOfRange { .. }, "graph 0: input of token ids 9");
    refused!(edit(decoding(0, 1)), PackError::Mismatch { .. }, "bytes of an id or place");
    refused!(edit(decoding(0, usize::MAX)), PackError::Shape { .. }, "graph 0, cache 0");
    let twice = |h: &mut Header| {
        decoding(0, 1)(h);
        let input = h.graphs[0].inputs[0].value;
        h.graphs[0].decoding.as_mut().unwrap().caches[0].value = input;
    };
    refused!(edit(twice), PackError::ComputedTwice { .. }, "graph 0, cache 0");
    let constant = |h: &mut Header| h.constants[0].data = ConstantData::Blob(8);
    refused!(edit(constant), PackError::OutOfRange { .. }, "constant 0: blob 8");

    refused!(edit(|h| h.constants[0].dims = vec![15]), PackError::Mismatch { .. }, "constant 0", "64", "60");
    let hex = |h: &mut Header| h.constants[1].data = ConstantData::Hex("0".repeat(15));
    refused!(edit(hex), PackError::Mismatch { .. }, "constant 1", "15", "16");
    let hex = |h: &mut Header| h.constants[1].data = ConstantData::Hex("0G".repeat(8));
    refused!(edit(hex), PackError::Hex { .. }, "constant 1");
    refused!(edit(|h| h.rungs[2].takes.truncate(1)), PackError::Mismatch { .. }, "rung `w8`", "is 1", "be 2");
    let golden = |h: &mut Header| h.golden.as_mut().unwrap().inputs[0].dims = vec![3, 8];
    refused!(edit(golden), PackError::Mismatch { .. }, "golden input 0", "64", "96");
    let golden = |h: &mut Header| drop(h.golden.as_mut().unwrap().outputs.pop());
    refused!(edit(golden), PackError::Mismatch { .. }, "golden data for graph 0: number of outputs");
    let channels = |h: &mut Header| match h.card.preprocess.get_mut("x") {
        Some(Preprocess::Image { mean, .. }) => *mean = vec![0.0; 4],
        _ => unreachable!(),
    };
    refused!(edit(channels), PackError::Mismatch { .. }, "pre-processing of `x`", "means is 4");

    let huge = |h: &mut Header| h.constants[2].dims = vec![0, 1 << 40, 1 << 40];
    refused!(edit(huge), PackError::Shape { .. }, "constant 2", "1099511627776");
    let huge = |h: &mut Header| h.graphs[0].inputs[0].dims = Some(vec![Dim::Fixed(1 << 41)]);
    refused!(edit(huge), PackError::Shape { .. }, "graph 0, input 0");
    let golden = |h: &mut Header| h.golden.as_mut().unwrap().outputs[0].dims = vec![usize::MAX, 2];
    refused!(edit(golden), PackError::Shape { .. }, "golden output 0");
    refused!(edit(|h| h.tensors[0].k = 0), PackError::Shape { .. }, "tensor 0 `w`", "[16, 0]");
    refused!(edit(|h| h.tensors[0].n = usize::MAX), PackError::Shape { .. }, "tensor 0 `w`");
}

#[test]
fn graphs() {
    /// The branches of the only node.
    fn branches(h: &mut Header) -> (&mut edge_runtime::graph::Block, &mut edge_runtime::graph::Block) {
        match &mut h.graphs[0].body.nodes[0].op {
            Op::If { then_branch, else_branch } => (then_branch, else_branch),
            _ => unreachable!(),
        }
    }
    let early = |h: &mut Header| branches(h).0.nodes.swap(0, 1);
    refused!(edit(early), PackError::NotYetComputed { .. }, "node `relu`", "6 `sum`");
    let other_branch = |h: &mut Header| branches(h).1.nodes[1].inputs[0] = Some(7);
    refused!(edit(other_branch), PackError::NotYetComputed { .. }, "node `add`", "7 `relu`");
    let leaked = |h: &mut Header| h.graphs[0].outputs[0].value = 9;
    refused!(edit(leaked), PackError::NotYetComputed { .. }, "graph 0, output 0", "9 `other`");
    let own = |h: &mut Header| branches(h).1.outputs[0] = 10;
    refused!(edit(own), PackError::NotYetComputed { .. }, "result 0 of a block", "10 `y`");
    let twice = |h: &mut Header| branches(h).1.nodes[0].outputs[0] = Some(6);
    refused!(edit(twice), PackError::ComputedTwice { .. }, "node `linear_v`", "6 `sum`");
    let twice = |h: &mut Header| h.graphs[0].inputs[1].value = 0;
    refused!(edit(twice), PackError::ComputedTwice { .. }, "graph 0, input 1", "0 `x`");
    let stored = |h: &mut Header| branches(h).0.nodes[0].outputs[0] = Some(5);
    refused!(edit(stored), PackError::StoredAndComputed { .. }, "node `linear`", "5 `b`");
    let stored = |h: &mut Header| h.graphs[0].inputs[0].value = 3;
    refused!(edit(stored), PackError::StoredAndComputed { .. }, "graph 0, input 0", "3 `w`");
    let results = |h: &mut Header| branches(h).1.outputs.push(8);
    refused!(edit(results), PackError::Mismatch { .. }, "node `choose`", "results of a branch is 2");
    let state = |h: &mut Header| h.graphs[0].states.push(State { input: 0, output: 0 });
    refused!(edit(state), PackError::StateTwice { .. }, "state output 0");
    let range = |h: &mut Header| h.graphs[0].values[0].range = Some((1.0, 0.5));
    refused!(edit(range), PackError::Number { .. }, "value `x`", "the least element is 1");
}

#[test]
fn loops() {
    /// A loop in place of the only node, which carries `x`: its body is `inner`, and gives the values `gives`.
    fn of(inner: &'static [Option<u32>], gives: &'static [u32]) -> impl Fn(&mut Header) {
        move |h: &mut Header| {
            let node = h.graphs[0].body.nodes[0].clone();
            let (condition, y) = (node.inputs[0], node.outputs[0]);
            let turn = Node { name: "turn".into(), op: Op::Turn, inputs: vec![], outputs: inner.to_vec() };
            let body = edge_runtime::graph::Block { nodes: vec![turn], outputs: gives.to_vec() };
            h.golden = None;
            h.graphs[0].body.nodes = vec![Node {
                op: Op::Loop { body, carried: 1, most: None },
                inputs: vec![None, condition, Some(0)],
                outputs: vec![y, None],
                ..node
            }];
        }
    }
    let plain = of(&[Some(6), Some(7)], &[2, 7]);
    assert!(edit(&plain).is_ok());
    let both = |change: fn(&mut Node)| {
        move |h: &mut Header| {
            of(&[Some(6), Some(7)], &[2, 7])(h);
            change(&mut h.graphs[0].body.nodes[0]);
        }
    };
    let leaked = |h: &mut Header| {
        of(&[Some(6), Some(7)], &[2, 7])(h);
        h.graphs[0].outputs[0].value = 7;
    };
    refused!(edit(leaked), PackError::NotYetComputed { .. }, "graph 0, output 0", "7 `relu`");
    refused!(edit(of(&[Some(6), Some(7), Some(8)], &[2, 7])), PackError::TooMany { .. }, "results of a turn");
    refused!(edit(of(&[Some(6), Some(0)], &[2, 7])), PackError::ComputedTwice { .. }, "node `turn`", "0 `x`");
    refused!(edit(of(&[Some(6)], &[2, 7])), PackError::NotYetComputed { .. }, "result 1 of a block");
    refused!(edit(of(&[Some(6), Some(7)], &[2])), PackError::Mismatch { .. }, "number of results of a loop");
    let operands = both(|node| node.inputs.truncate(2));
    refused!(edit(operands), PackError::Mismatch { .. }, "number of operands of a loop");
    let carried = both(|node| {
        if let Op::Loop { carried, .. } = &mut node.op {
            *carried = usize::MAX;
        }
    });
    refused!(edit(carried), PackError::OutOfRange { .. }, "count of what a loop carries");
    let alone = |h: &mut Header| {
        let node = &mut h.graphs[0].body.nodes[0];
        (node.op, node.inputs) = (Op::Turn, vec![]);
    };
    refused!(edit(alone), PackError::TooMany { .. }, "results of a turn here: 1");
}

#[test]
fn nesting() {
    let nested = |levels: usize| {
        move |h: &mut Header| {
            h.golden = None;
            let graph = &mut h.graphs[0];
            graph.outputs.clear();
            graph.states.clear();
            let mut node = graph.body.nodes[0].clone();
            (node.inputs, node.outputs) = (vec![Some(2)], vec![]);
            node.op = Op::Identity;
            for _ in 0..levels {
                let then_branch = edge_runtime::graph::Block { nodes: vec![node.clone()], outputs: vec![] };
                node.op = Op::If { then_branch, else_branch: Default::default() };
            }
            graph.body.nodes = vec![node];
        }
    };
    assert!(edit(nested(16)).is_ok());
    refused!(edit(nested(17)), PackError::Nesting { what: "branches", .. }, "17 deep");

    let deep = |levels: usize| {
        move |h: &mut Header| {
            for _ in 1..levels {
                let inner = h.tensors[0].roots[0].clone();
                let args = vec![Arg::Expr(Box::new(inner))];
                h.tensors[0].roots[0] =
                    Expr { kind: "v".to_owned(), params: Default::default(), args, blobs: vec![] };
            }
            h.tensors[1].roots[0].args = vec![];
        }
    };
    assert!(edit(deep(32)).is_ok());
    refused!(edit(deep(33)), PackError::Nesting { what: "expressions", .. }, "33 deep", "tensor 0 `w`");
    // `v` adds two levels to what it shares.
    let shared = |levels: usize| {
        move |h: &mut Header| {
            let args = h.tensors[1].roots[0].args.clone();
            deep(levels)(h);
            h.tensors[1].roots[0].args = args;
        }
    };
    assert!(edit(shared(30)).is_ok());
    refused!(edit(shared(31)), PackError::Nesting { what: "expressions", .. }, "tensor 1 `v`");

    let ahead = |h: &mut Header| h.tensors[0].roots[0].args = vec![Arg::Shared(0, 0)];
    refused!(edit(ahead), PackError::SharedOrder { .. }, "tensor 0 `w`, root 0", "shares tensor 0");
    let absent = |h: &mut Header| h.tensors[0].roots[0].args = vec![Arg::Shared(2, 0)];
    refused!(edit(absent), PackError::OutOfRange { .. }, "tensor 2", "there are 2");
    let absent = |h: &mut Header| h.tensors[1].roots[0].args = vec![Arg::Shared(0, 1)];
    refused!(edit(absent), PackError::OutOfRange { .. }, "shared tensor 0: root 1");
    // Each root is the one before, eight times: 8^6 parts at a depth of 7.
    let wide = |h: &mut Header| {
        let twin = |t: u32| Tensor {
            roots: vec![Expr {
                kind: "c".to_owned(),
                params: Default::default(),
                args: vec![Arg::Shared(t, 0); 8],
                blobs: vec![],
            }],
            ..h.tensors[0].clone()
        };
        let twins: Vec<Tensor> = (1..7).map(twin).collect();
        h.tensors.extend(twins);
    };
    refused!(edit(wide), PackError::ExpressionSize { .. }, "more than 65536 parts");
}

#[test]
fn costs() {
    let cost = |tensor, db: &[f32]| Cost { tensor, db: db.to_vec(), ..Cost::default() };
    let both = |h: &mut Header| h.costs = vec![cost(0, &[12.5, 24.1]), cost(1, &[])];
    let pack = edit(both).unwrap();
    assert_eq!(pack.header().costs[0].db, [12.5, 24.1]);
    let changed = |change: fn(&mut Vec<Cost>)| {
        edit(|h| {
            both(h);
            change(&mut h.costs);
        })
    };
    refused!(changed(|c| c[1].tensor = 2), PackError::OutOfRange { .. }, "cost 1: tensor 2", "there are 2");
    refused!(changed(|c| c[1].graph = 1), PackError::OutOfRange { .. }, "cost 1: graph 1", "there are 1");
    refused!(changed(|c| c[0].root = 1), PackError::OutOfRange { .. }, "cost 0: root 1", "there are 1");
    refused!(changed(|c| c.swap(0, 1)), PackError::Number { .. }, "cost 1", "(0, 0, 0)");
    refused!(changed(|c| c[1].tensor = 0), PackError::Number { .. }, "cost 1", "after a smaller one");
    let long = edit(|h| h.costs = vec![cost(0, &[0.0; 1025])]);
    refused!(long, PackError::TooMany { .. }, "cost 0: precisions", "1025");
}

#[test]
fn rungs() {
    refused!(edit(|h| h.rungs[1].id.clear()), PackError::RungWithoutId { rung: 1 }, "rung 1 has no id");
    refused!(
        edit(|h| h.rungs[2].id = "w2".to_owned()),
        PackError::RungTwice { first: 0, second: 2, .. },
        "both called `w2`"
    );
    refused!(edit(|h| h.rungs[1].takes[1] = None), PackError::Number { .. }, "rung `w4`, tensor `v`");
    refused!(edit(|h| h.rungs[1].end += 1), PackError::RungEnd { .. }, "rung `w4` ends at byte");
    refused!(edit(|h| h.rungs[1].end = 0), PackError::RungEnd { .. }, "byte 0");
    refused!(edit(|h| h.rungs[1].end = u64::MAX), PackError::RungEnd { .. }, "18446744073709551615");
    refused!(edit(|h| h.rungs[0].bytes = 1 << 20), PackError::RungBytes { .. }, "rung `w2` needs 1048576");
    let end = |h: &mut Header| h.rungs[2].end = h.sections[3].offset + h.sections[3].len;
    refused!(edit(end), PackError::GoldenNotLast { blob: 6 }, "golden blob 6");
    let not_last = |h: &mut Header| {
        let source = GoldenSource::Blob(4);
        h.golden.as_mut().unwrap().inputs[0] =
            GoldenValue { source, ..h.golden.clone().unwrap().inputs[0].clone() };
        h.golden.as_mut().unwrap().inputs[0].dims = vec![16];
    };
    refused!(edit(not_last), PackError::GoldenNotLast { blob: 4 }, "golden blob 4");
    let lo = |h: &mut Header| {
        h.golden.as_mut().unwrap().outputs[0].source = GoldenSource::Uniform { seed: 0, lo: 2.0, hi: 1.0 }
    };
    refused!(edit(lo), PackError::Number { .. }, "golden output 0", "the least value is 2");

    let pack = edit(|h| {
        h.rungs[0].min_runtime = 9;
        h.rungs[2].features = vec!["holograms".to_owned()];
    })
    .unwrap();
    assert_eq!(pack.available(), [1]);
    assert_eq!(pack.rung_states()[0], RungState::NeedsRuntime(9));
    assert_eq!(pack.rung_states()[2], RungState::NeedsFeature("holograms".to_owned()));
    let none = |h: &mut Header| {
        h.rungs[0].min_runtime = 9;
        h.rungs.truncate(1);
    };
    refused!(edit(none), PackError::NoRunnableRung { .. }, "`w2` needs runtime version 9");
}

#[test]
fn pre_processing() {
    let image = |change: fn(&mut Vec<f32>, &mut Option<[usize; 2]>, &mut Option<usize>)| {
        move |h: &mut Header| match h.card.preprocess.get_mut("x") {
            Some(Preprocess::Image { std, size, multiple, .. }) => change(std, size, multiple),
            _ => unreachable!(),
        }
    };
    let bad = edit(image(|std, _, _| std[1] = 0.0));
    refused!(bad, PackError::Number { .. }, "a deviation is 0", "pre-processing of `x`");
    refused!(edit(image(|_, size, _| *size = Some([0, 1]))), PackError::Number { .. }, "a size is 0");
    refused!(edit(image(|_, _, multiple| *multiple = Some(0))), PackError::Number { .. }, "a size is 0");
    let rate = |h: &mut Header| {
        h.card.preprocess.insert("h".to_owned(), Preprocess::Audio { sample_rate: 0 });
    };
    refused!(edit(rate), PackError::Number { .. }, "the sample rate is 0");
    // JSON has no infinity, but a number that f32 cannot hold becomes one.
    let (bytes, mut header, header_end) = roomy_pack();
    header.card.metadata.insert("filler".to_owned(), "x".repeat(100));
    let text = serde_json::to_string(&header).unwrap().replace("\"mean\":[127.0]", "\"mean\":[1e300]");
    let infinite = open(&padded(&bytes, header_end, text.into_bytes()));
    refused!(infinite, PackError::Number { .. }, "a mean is inf");
}

#[test]
fn places_in_the_file() {
    let empty = |h: &mut Header| h.sections[1].len = 0;
    refused!(edit(empty), PackError::EmptySection { section: 1 }, "section 1 has no bytes");
    let start = |h: &mut Header| h.sections[2].offset += 65536;
    refused!(edit(start), PackError::SectionStart { section: 2, .. }, "section 2 starts at");
    let overlap = |h: &mut Header| h.sections[1].offset -= 4096;
    refused!(edit(overlap), PackError::SectionStart { section: 1, .. }, "section 1 starts at");
    let end = |h: &mut Header| h.sections[1].len += 1;
    refused!(edit(end), PackError::SectionEnd { section: 1, .. }, "section 1 ends at byte");
    let moved = |h: &mut Header| h.blobs[5].offset += 64;
    refused!(
        edit(moved),
        PackError::BlobStart { blob: 5, .. },
        "(tensor `v`, root 0, combine operand 1, dense)"
    );
    let odd = |h: &mut Header| h.blobs[6].offset += 1;
    refused!(edit(odd), PackError::BlobStart { blob: 6, .. }, "golden input 0");
    let overlap = |h: &mut Header| h.blobs[4].offset -= 64;
    refused!(edit(overlap), PackError::BlobStart { .. }, "must start at");
    let empty = |h: &mut Header| h.blobs[7].offset = 64;
    refused!(edit(empty), PackError::BlobStart { blob: 7, .. }, "constant 2");
    let past = |h: &mut Header| h.blobs[2].len += 1;
    refused!(edit(past), PackError::BlobOutside { blob: 2, .. }, "(tensor `w`, root 0, planes, part 2)");
    let far = |h: &mut Header| h.blobs[6].offset = u64::MAX;
    refused!(edit(far), PackError::SectionEnd { section: 3, .. }, "section 3");
    let spare = |h: &mut Header| {
        let hash = 0;
        h.blobs.push(Blob { offset: 1 << 40, len: 5, hash });
    };
    refused!(edit(spare), PackError::BlobOutside { blob: 8, .. }, "nothing refers to it");
    let overflow = |h: &mut Header| h.sections[2].len = u64::MAX;
    refused!(edit(overflow), PackError::Overflow { .. }, "section 2", "18446744073709551615");
    let overflow = |h: &mut Header| h.blobs[3].len = u64::MAX - 64;
    refused!(edit(overflow), PackError::Overflow { .. }, "blob 3");
}

#[test]
fn the_file_against_its_header() {
    let (bytes, header, _) = roomy_pack();
    let end = header.rungs[0].end;
    let cut = open(&bytes[..end as usize - 1]);
    refused!(cut, PackError::NoWholeRung { section: 0, .. }, "smallest rung `w2`", "section 0", "fetch");
    let pack = open(&bytes[..end as usize]).unwrap();
    refused!(Err::<(), _>(pack.cut_error()), PackError::Cut { .. }, &format!("the file has {end}"), "fetch");
    let mut longer = bytes.clone();
    longer.push(0);
    refused!(open(&longer), PackError::TrailingBytes { .. }, &format!("the file has {}", longer.len()));
}

#[test]
fn bytes_that_are_not_what_the_header_says() {
    let dir = Dir::new();
    let (path, written, source) = small_pack(&dir, "model.pack");
    let good = std::fs::read(&path).unwrap();
    let mut random = Random(11);
    let owners = [
        "tensor `w`, root 0, planes, part 0",
        "tensor `w`, root 0, planes, part 1",
        "tensor `w`, root 0, planes, part 2",
        "tensor `w`, root 0, planes, part 3",
        "constant `b`",
        "tensor `v`, root 0, combine operand 1, dense",
        "golden input 0",
    ];
    for (id, owner) in owners.iter().enumerate() {
        let blob = written.header.blobs[id];
        let mut noisy = good.clone();
        let at = blob.offset as usize + random.below(blob.len as usize);
        noisy[at] ^= 1 + random.below(255) as u8;
        std::fs::write(&path, &noisy).unwrap();
        let pack = PackFile::open(&path).unwrap(); // opening touches no weights
        let id = id as BlobId;
        assert_eq!(pack.owner_of(id), *owner);
        let named = |error: PackError| {
            let PackError::BadBlob { blob, expected, actual, .. } = error else { panic!("{error}") };
            assert_eq!((blob, expected), (id, pack.header().blobs[id as usize].hash));
            assert_ne!(expected, actual);
            assert!(error.to_string().contains(owner), "{error}");
        };
        named(pack.verify(&NEVER, |_, _| {}).unwrap_err());
        named(pack.load(&[0, 1, 2, 3, 4, 5, 6], true).map(|_| ()).unwrap_err());
        let unchecked = pack.load(&[id], false).unwrap();
        assert_ne!(unchecked.blob(id), source.blob(id));
        assert_ne!(pack.map(pack.full_len()).unwrap().blob(id), source.blob(id));
    }

    let mut padding = good.clone();
    let at = written.header.sections[1].offset as usize - 1;
    padding[at] = 3;
    std::fs::write(&path, &padding).unwrap();
    let pack = PackFile::open(&path).unwrap();
    refused!(pack.verify(&NEVER, |_, _| {}), PackError::Padding { value: 3, .. }, &format!("byte {at} "));

    // The header changes after it was opened.
    let mut changed = good.clone();
    changed[100] ^= 1;
    std::fs::write(&path, &changed).unwrap();
    refused!(pack.verify(&NEVER, |_, _| {}), PackError::HeaderHash { .. }, "hash");

    std::fs::write(&path, &good).unwrap();
    let pack = PackFile::open(&path).unwrap();
    refused!(pack.map(0), PackError::MapEnd { end: 0, .. }, "byte 0");
    refused!(pack.map(u64::MAX), PackError::MapEnd { .. }, "18446744073709551615");
    // The file is cut after it was opened.
    OpenOptions::new().write(true).open(&path).unwrap().set_len(5000).unwrap();
    refused!(pack.map(pack.full_len()), PackError::Shrunk { actual: 5000, .. }, "5000", "open it again");
    refused!(pack.load(&[3], true), PackError::Shrunk { .. }, "5000");
}

#[test]
fn contents_that_are_no_pack() {
    let write_with = |change: &dyn Fn(&mut Contents)| {
        let dir = Dir::new();
        let (mut contents, source) = contents();
        change(&mut contents);
        let written = write(dir.file("model.pack"), contents, &source, &NEVER);
        assert!(written.is_ok() || dir.names().is_empty());
        written
    };
    let twice: &dyn Fn(&mut Contents) = &|c| c.sections[0] = vec![0, 4, 4, 5, 1];
    refused!(write_with(twice), PackError::BlobPlaces { blob: 4, times: 2 }, "2 places");
    let missing: &dyn Fn(&mut Contents) = &|c| c.sections[0] = vec![0, 5, 1];
    refused!(write_with(missing), PackError::BlobPlaces { blob: 4, times: 0 }, "blob 4 is in 0 places");
    let absent: &dyn Fn(&mut Contents) = &|c| c.sections[4] = vec![6, 8];
    refused!(write_with(absent), PackError::NoSuchBlob { blob: 8 }, "blob 8");
    let needs: &dyn Fn(&mut Contents) = &|c| c.needs[1].push(8);
    refused!(write_with(needs), PackError::NeedsNoBlob { rung: 1, blob: 8 }, "rung 1 needs blob 8");
    let count: &dyn Fn(&mut Contents) = &|c| drop(c.needs.pop());
    refused!(write_with(count), PackError::NeedsCount { needs: 2, rungs: 3 }, "2 lists");
    let infinite: &dyn Fn(&mut Contents) =
        &|c| c.header.graphs[0].body.nodes[0].op = Op::LayerNorm { axis: 1, epsilon: f32::INFINITY };
    // (The graph is the same otherwise: the node computes `y` of `c`.)
    refused!(write_with(infinite), PackError::NotStorable { .. }, "epsilon");
    // What the reader would refuse is not written.
    let reader: &dyn Fn(&mut Contents) = &|c| c.header.rungs[0].id.clear();
    refused!(write_with(reader), PackError::RungWithoutId { rung: 0 }, "no id");
    let golden: &dyn Fn(&mut Contents) = &|c| c.sections.swap(0, 4);
    refused!(write_with(golden), PackError::GoldenNotLast { .. }, "golden blob 6");
}
