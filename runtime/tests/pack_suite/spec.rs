//! The worked example of PACK.md is what the writer writes and the reader reads.

use crate::fixture::*;
use edge_runtime::graph::{BinaryOp, DType, Dim, Graph, Node, Op, Port, Source};
use edge_runtime::pack::*;

/// `y = x + b`, four floats, one rung.
fn example() -> (Contents, MemorySource) {
    let mut graph = Graph::default();
    let x = graph.add_value("x", Source::Computed);
    let b = graph.add_value("b", Source::Constant(0));
    let y = graph.add_value("y", Source::Computed);
    let port = |value| Port { value, dtype: DType::F32, dims: Some(vec![Dim::Fixed(4)]), plan_time: false };
    graph.inputs = vec![port(x)];
    graph.outputs = vec![port(y)];
    graph.body.nodes.push(Node {
        name: "add".to_owned(),
        op: Op::Binary(BinaryOp::Add),
        inputs: vec![Some(x), Some(b)],
        outputs: vec![Some(y)],
    });
    let mut source = MemorySource::default();
    let blob = source.push([1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect());
    let header = Header {
        card: Card { name: "add".to_owned(), ..Card::default() },
        graphs: vec![graph],
        constants: vec![Constant { dtype: DType::F32, dims: vec![4], data: ConstantData::Blob(blob) }],
        rungs: vec![Rung {
            id: "f32".to_owned(),
            graph: 0,
            subnet: None,
            chosen: None,
            acts: Acts::F32,
            takes: vec![],
            floats: vec![],
            end: 0,
            bytes: 0,
            quality: None,
            arena: 64,
            min_runtime: 0,
            features: vec![],
            parts: None,
        }],
        ..Header::default()
    };
    (Contents { header, sections: vec![vec![blob]], needs: vec![vec![blob]], min_runtime: 0 }, source)
}

/// The form of `hexdump -C`, which writes one `*` for lines equal to the one before.
fn dump(bytes: &[u8]) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut previous: &[u8] = &[];
    for (i, row) in bytes.chunks(16).enumerate() {
        if row == previous {
            if lines.last().is_none_or(|l| l != "*") {
                lines.push("*".to_owned());
            }
            continue;
        }
        previous = row;
        let hex: Vec<String> = row.iter().map(|b| format!("{b:02x}")).collect();
        let shown = |b: &u8| if (0x20..0x7f).contains(b) { char::from(*b) } else { '.' };
        let text: String = row.iter().map(shown).collect();
        let (first, second) = hex.split_at(hex.len().min(8));
        lines.push(format!("{:08x}  {:<23}  {:<23}  |{text}|", i * 16, first.join(" "), second.join(" ")));
    }
    lines.push(format!("{:08x}", bytes.len()));
    lines.join("\n") + "\n"
}

#[test]
fn the_worked_example() {
    let dir = Dir::new();
    let path = dir.file("example.pack");
    let (contents, source) = example();
    let written = write(&path, contents, &source, &NEVER).unwrap();
    let bytes = std::fs::read(&path).unwrap();

    let spec = include_str!("../../PACK.md");
    let block = |start: &str| {
        let after = spec.split_once(start).unwrap_or_else(|| panic!("PACK.md has no `{start}`")).1;
        after.split_once("```").unwrap().0
    };
    let expected = block("```hexdump\n");
    let actual = dump(&bytes);
    assert!(expected == actual, "PACK.md's example should be\n{actual}");

    // The header as it is shown, and the numbers in the text around it.
    let json: Header = serde_json::from_str(block("```json\n")).unwrap();
    assert_eq!(json, written.header);
    let pack = PackFile::open(&path).unwrap();
    assert_eq!(*pack.header(), written.header);
    for number in [written.header_end, written.file_len, written.padding] {
        assert!(spec.contains(&format!(" {number} ")), "PACK.md's example does not say {number}");
    }
}

#[test]
fn limits_in_the_text_are_the_limits_in_the_code() {
    let spec = include_str!("../../PACK.md");
    assert!(spec.contains("`89 45 44 47 45 50 0d 0a`"));
    assert_eq!(MAGIC, [0x89, 0x45, 0x44, 0x47, 0x45, 0x50, 0x0d, 0x0a]);
    assert!(spec.contains("| bytes of the header | 64 MiB |") && MAX_HEADER == 64 << 20);
    assert!(spec.contains("| bytes of the decoded header | 512 MiB |") && MAX_DECODED == 512 << 20);
    assert!(spec.contains(&format!("| nesting of brackets | {MAX_BRACKETS} |")));
    assert!(spec.contains(&format!("format version {FORMAT}, runtime version {RUNTIME_VERSION}")));
}
