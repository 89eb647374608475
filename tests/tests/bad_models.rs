//! ONNX files that somebody made to do harm, or that a download left half: an error that names what is wrong, in bounded time and with at
//! most four times the file and 64 MiB of memory; never a panic.

use edge_tests::onnx::Dim::N;
use edge_tests::onnx::{Builder, FLOAT, INT64, Message};
use edge_tests::{Ended, Folder, edge_convert};
use std::time::{Duration, Instant};

/// Longest that a refusal may take on a machine that does other things as well.
const LONGEST: Duration = Duration::from_secs(60);

/// Bytes of memory beside four times the file.
const BESIDE: u64 = 64 << 20;

/// Converts a file that is none; gives how that ended.
#[track_caller]
fn refused(what: &str, file: &[u8], says: &[&str]) -> Ended {
    let folder = Folder::new("bad");
    let ended = refused_in(&folder, what, file, says);
    assert_eq!(folder.names(), ["m.onnx"], "{what}");
    ended
}

#[track_caller]
fn refused_in(folder: &Folder, what: &str, file: &[u8], says: &[&str]) -> Ended {
    let source = folder.write("m.onnx", file);
    let start = Instant::now();
    let ended = edge_convert().arg(source).arg("-o").arg(folder.file("m.pack")).run();
    let (took, bytes) = (start.elapsed(), file.len() as u64);
    let text: String = ended.stderr.chars().take(600).collect();
    eprintln!(
        "{what}: {bytes} bytes, peak {} KiB, {took:.1?}, exit {:?}: {text}",
        ended.peak >> 10,
        ended.code
    );
    assert!(matches!(ended.code, Some(2..=4)), "{what}: exit {:?}, {text}", ended.code);
    assert!(!ended.stderr.contains("panicked"), "{what}: {text}");
    assert!(ended.stderr.len() < 20_000, "{what}: an error of {} bytes", ended.stderr.len());
    for words in says {
        assert!(ended.stderr.contains(words), "{what}: not {words:?} in {text}");
    }
    assert!(ended.peak <= 4 * bytes + BESIDE, "{what}: peak {} for {bytes} bytes", ended.peak);
    assert!(took < LONGEST, "{what}: {took:?}");
    ended
}

/// `y = relu(x)`, and whatever else is added.
fn relu() -> Builder {
    let mut b = Builder::new();
    b.input("x", &[N(1), N(4)]).output("y").node("Relu", "x", "y", &[]);
    b
}

/// A stored array with nothing but a shape.
fn shaped(name: &str, elem_type: i64, dims: &[i64]) -> Message {
    let tensor = dims.iter().fold(Message::default(), |t, d| t.int(1, *d));
    tensor.int(2, elem_type).bytes(8, name.as_bytes())
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Message {
    let node = inputs.iter().fold(Message::default(), |n, name| n.bytes(1, name.as_bytes()));
    let node = outputs.iter().fold(node, |n, name| n.bytes(2, name.as_bytes()));
    node.bytes(4, op.as_bytes())
}

/// A file of a graph and opsets.
fn file(graph: &Message, opsets: &[(&str, i64)]) -> Vec<u8> {
    let model = Message::default().int(1, 8).message(7, graph);
    let opset =
        |(domain, version): &(&str, i64)| Message::default().bytes(1, domain.as_bytes()).int(2, *version);
    opsets.iter().fold(model, |model, o| model.message(8, &opset(o))).0
}

#[test]
fn graphs_that_contradict_themselves() {
    let mut b = Builder::new();
    b.input("x", &[N(1), N(4)]).output("y");
    b.node("Add", "x c", "a", &[]).node("Relu", "a", "b", &[]).node("Relu", "b", "c", &[]);
    b.node("Relu", "c", "y", &[]);
    refused("a cycle of three", &b.finish("m"), &["waits for its own result"]);

    let mut b = Builder::new();
    b.input("x", &[N(1), N(4)]).output("y").node("MatMul", "x w", "y", &[]);
    refused("no such initializer", &b.finish("m"), &["reads `w`"]);
    refused("no such output", &Builder::new().input("x", &[N(1)]).output("y").finish("m"), &["`y`"]);

    refused("a result twice", &relu().node("Abs", "x", "y", &[]).finish("m"), &["`y` is defined twice"]);
    let twice = relu().weight("w", &[4], 1.0).weight("w", &[4], 1.0).finish("m");
    refused("an initializer twice", &twice, &["`w` is defined twice"]);
    refused("an input twice", &relu().input("x", &[N(1)]).finish("m"), &["`x` is defined twice"]);

    for (version, domain, says) in
        [(0, "", "opset 0"), (i64::MAX, "", "opset 9223372036854775807"), (-1, "", "opset -1")]
    {
        refused("an opset", &file(&relu().graph(), &[(domain, version)]), &[says, "are known"]);
    }
    refused("no opset", &file(&relu().graph(), &[]), &["no opset"]);
    refused("another domain's", &file(&relu().graph(), &[("ai.example", 1)]), &["domain ``"]);
}

#[test]
fn shapes_that_are_not_so() {
    let tensor = |dims: &[i64]| shaped("w", FLOAT, dims).bytes(9, &[0; 16]);
    for (dims, says) in [
        (&[5][..], "takes 20 bytes, 16 are stored"),
        (&[1_000_000, 1_000_000], "takes 4000000000000 bytes, 16 are stored"),
        (&[-4], "dimension -4"),
        (&[i64::MAX, i64::MAX], "beyond the address space"),
    ] {
        let mut b = relu();
        b.raw(5, &tensor(dims)).node("Add", "x w", "z", &[]).output("z");
        refused(&format!("an array of {dims:?}"), &b.finish("m"), &["`w`", says]);
    }
    // What the input's declared shape makes impossible.
    let mut b = Builder::new();
    b.input("x", &[N(1), N(3), N(8), N(8)]).output("y").weight("w", &[4, 5, 3, 3], 1.0);
    b.node("Conv", "x w", "y", &[]);
    refused("channels", &b.finish("m"), &["3 channels", "5"]);
    let mut b = Builder::new();
    b.input("x", &[N(2), N(7)]).output("y").weight("w", &[5, 3], 1.0).node("MatMul", "x w", "y", &[]);
    refused("columns", &b.finish("m"), &["7"]);
    let mut b = Builder::new();
    b.input("x", &[N(2), N(7)]).output("y").weight("w", &[5, 3], 1.0).node("Add", "x w", "y", &[]);
    refused("sizes that do not broadcast", &b.finish("m"), &["Add_y"]);
}

#[test]
fn a_million_million_elements() {
    let most = 1_000_000;
    let big = || {
        let mut b = Builder::new();
        b.input("x", &[N(1), N(1)]).output("y").ints("n", &[most, most]);
        b
    };
    refused(
        "made of a shape",
        &big().node("ConstantOfShape", "n", "c", &[]).node("Add", "x c", "y", &[]).finish("m"),
        &["c"],
    );
    refused("repeated", &big().node("Expand", "x n", "y", &[]).finish("m"), &["Expand_y"]);
    refused("tiled", &big().node("Tile", "x n", "y", &[]).finish("m"), &["Tile_y"]);
    let mut b = Builder::new();
    b.input("x", &[N(most), N(most)]).output("y").node("Relu", "x", "y", &[]);
    refused("as an input", &b.finish("m"), &["x"]);
    let mut b = Builder::new();
    b.input("x", &[N(1 << 40), N(1 << 40)]).output("y").node("Relu", "x", "y", &[]);
    refused("as an input beyond the address space", &b.finish("m"), &["`x`", "address space"]);
    let mut b = Builder::new();
    b.input("x", &[N(1), N(4)])
        .output("y")
        .raw(5, &shaped("l", INT64, &[]).bytes(9, &(1i64 << 40).to_le_bytes()));
    b.raw(5, &shaped("z", INT64, &[]).bytes(9, &[0; 8]))
        .raw(5, &shaped("o", INT64, &[]).bytes(9, &1i64.to_le_bytes()));
    b.node("Range", "z l o", "r", &[]).node("ReduceSum", "r", "s", &[]).node(
        "Cast",
        "s",
        "f",
        &[("to", edge_tests::onnx::Attr::Int(1))],
    );
    refused("counted up", &b.node("Add", "x f", "y", &[]).finish("m"), &["Range_r"]);
}

#[test]
fn many_nodes() {
    let chain = |count: usize, end: &str| {
        let mut graph = Builder::new();
        graph.input("v0", &[N(1), N(4)]).output("y");
        let mut graph = graph.graph();
        for i in 0..count {
            let (from, to) = (format!("v{i}"), format!("v{}", i + 1));
            graph = graph.message(1, &node("Relu", &[&from], &[&to]));
        }
        let last = format!("v{count}");
        graph = graph.message(1, &node(end, &[&last], &["y"]));
        file(&graph, &[("", 17)])
    };
    refused("100,000 nodes", &chain(100_000, "Relu"), &["100001 nodes; models of up to 50000 are read"]);
    refused("50,000 nodes, the last not known", &chain(49_999, "Unheard"), &["Unheard"]);
    let mut graph = Builder::new().input("x", &[N(1)]).output("y").graph();
    for i in 0..50_000 {
        graph = graph.message(1, &node("Relu", &[&format!("v{}", i + 1)], &[&format!("v{i}")]));
    }
    refused("50,000 nodes, the first missing", &file(&graph, &[("", 17)]), &["v50000"]);
    // Two bytes each.
    let mut graph = relu().graph();
    graph.0.extend([0x0a, 0].repeat(4_000_000));
    refused("4,000,000 empty nodes", &file(&graph, &[("", 17)]), &["not an ONNX model"]);
    let mut graph = relu().graph();
    graph.0.extend([0x2a, 0].repeat(4_000_000));
    refused("4,000,000 empty tensors", &file(&graph, &[("", 17)]), &["not an ONNX model"]);
    let dims = shaped("w", FLOAT, &[]).bytes(1, &vec![1; 16 << 20]);
    refused("16,777,216 dimensions", &relu().raw(5, &dims).finish("m"), &["not an ONNX model"]);
}

#[test]
fn branches_a_thousand_deep() {
    // Each a graph in the attribute `then_branch` (and `else_branch`, empty) of the one around it.
    let mut graph = node("Relu", &["x"], &["y0"]);
    graph = Message::default().message(1, &graph).message(12, &Message::default().bytes(1, b"y0"));
    for i in 1..=1000 {
        let branch = |name: &str, graph: &Message| {
            Message::default().bytes(1, name.as_bytes()).message(6, graph).int(20, 5)
        };
        let (name, inner) = (format!("y{i}"), graph);
        let outer = node("If", &["c"], &[&name]).message(5, &branch("then_branch", &inner));
        graph =
            Message::default().message(1, &outer).message(12, &Message::default().bytes(1, name.as_bytes()));
    }
    refused("branches", &file(&graph, &[("", 17)]), &["not an ONNX model"]);
}

#[test]
fn huge_strings() {
    let long = "n".repeat(16 << 20);
    for (what, op, input, output) in
        [("an operator's", long.as_str(), "x", "y"), ("a missing value's", "Relu", long.as_str(), "y")]
    {
        let mut graph = Builder::new().input("x", &[N(1)]).output("y").graph();
        graph = graph.message(1, &node(op, &[input], &[output]));
        refused(&format!("{what} name of 16 MiB"), &file(&graph, &[("", 17)]), &["…"]);
    }
    let mut not_utf8 = relu().graph();
    not_utf8 = not_utf8.bytes(2, &[0xff; 64]);
    refused("a name that is no text", &file(&not_utf8, &[("", 17)]), &["not an ONNX model"]);
}

#[test]
fn a_file_cut_at_five_hundred_places() {
    let whole = edge_tests::models::classifier();
    for i in 0..500 {
        let at = i * whole.len() / 500;
        let result = edge_converter::import::import_onnx_bytes(&whole[..at], None);
        assert!(result.is_err(), "cut at {at} of {}", whole.len());
    }
}

/// A model whose only matrix `w`, `[1024, n]`, lies in another file.
fn external(location: &str, n: i64, offset: &str, length: &str) -> Vec<u8> {
    let entry =
        |key: &str, value: &str| Message::default().bytes(1, key.as_bytes()).bytes(2, value.as_bytes());
    let mut w = shaped("w", FLOAT, &[1024, n]).int(14, 1).message(13, &entry("location", location));
    for (key, value) in [("offset", offset), ("length", length)] {
        if !value.is_empty() {
            w = w.message(13, &entry(key, value));
        }
    }
    let mut b = Builder::new();
    b.input("x", &[N(1), N(1024)]).output("y").raw(5, &w).node("MatMul", "x w", "y", &[]);
    b.finish("m")
}

#[test]
fn external_data_that_are_not_there_or_not_the_models() {
    let (outer, inner) = (Folder::new("outer"), Folder::new("inner"));
    let secret = outer.write("secret.bin", &[7; 4096]);
    inner.write("w.bin", &[0; 4096]);
    inner.write("short.bin", &[0; 4095]);
    std::fs::create_dir(inner.file("folder")).unwrap();
    std::os::unix::fs::symlink(&secret, inner.file("link.bin")).unwrap();
    std::os::unix::fs::symlink(secret.parent().unwrap(), inner.file("away")).unwrap();
    let up = format!("../{}/secret.bin", secret.parent().unwrap().file_name().unwrap().to_str().unwrap());
    for (location, offset, length, says) in [
        (up.as_str(), "", "", "not inside the model's folder"),
        ("folder/../../x", "", "", "not inside the model's folder"),
        (secret.to_str().unwrap(), "", "", "not inside the model's folder"),
        ("link.bin", "", "", "not inside the model's folder"),
        ("away/secret.bin", "", "", "not inside the model's folder"),
        ("", "", "", "not inside the model's folder"),
        ("gone.bin", "", "", "No such file"),
        ("folder", "", "", "not a regular file"),
        ("short.bin", "", "", "needs 4096 bytes at 0 of \"short.bin\", which has 4095"),
        ("w.bin", "64", "", "needs 4096 bytes at 64 of \"w.bin\", which has 4096"),
        ("w.bin", "99999", "", "needs 4096 bytes at 99999 of \"w.bin\", which has 4096"),
        ("w.bin", "18446744073709551615", "", "which has 4096"),
        ("w.bin", "-1", "", "external offset \"-1\""),
        ("w.bin", "0", "4092", "needs 4096 bytes, its external data in \"w.bin\" have 4092"),
    ] {
        let file = external(location, 1, offset, length);
        refused_in(&inner, &format!("{location:?} at {offset:?}"), &file, &["tensor `w`", says]);
    }
    // And what is as it should be.
    let source = inner.write("m.onnx", &external("w.bin", 1, "0", "4096"));
    edge_convert().arg(source).arg("-o").arg(inner.file("m.pack")).run().expect(0);
}

#[test]
fn external_data_larger_than_any_memory() {
    let folder = Folder::new("sparse");
    let file = std::fs::File::create(folder.file("w.bin")).unwrap();
    // 8 TB, none of it on the disk; where the file system has no such files there is nothing to see.
    if file.set_len(1 << 43).is_ok() {
        let ended = refused_in(&folder, "8 TB", &external("w.bin", 1 << 31, "", ""), &["w"]);
        assert_eq!(ended.code, Some(4));
    }
}
