//! Files that are cut, changed, hostile, or of another kind.

use super::{folder, open_bytes, read_all};
use crate::import::checkpoint::{Checkpoint, CheckpointError};
use std::path::Path;

const FILES: [&str; 10] = [
    "every-type.pth",
    "every-type-legacy.pth",
    "views.pth",
    "views-legacy.pth",
    "protocol-4.pth",
    "nested-legacy.pth",
    "arrays.npz",
    "arrays-deflated.npz",
    "one.npy",
    "model.safetensors",
];

#[test]
fn every_cut_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for file in FILES {
        let whole = std::fs::read(folder().join(file)).unwrap();
        for len in 0..whole.len() {
            let opened = open_bytes(dir.path(), file, &whole[..len]);
            assert!(opened.is_err(), "{file} cut at {len}");
        }
    }
}

#[test]
fn every_changed_byte_is_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let mut read = 0;
    for file in FILES {
        let mut bytes = std::fs::read(folder().join(file)).unwrap();
        for at in 0..bytes.len() {
            for flip in [0x01, 0xff] {
                bytes[at] ^= flip;
                // Whether it is an error or a change that nobody can see: nothing panics.
                if let Ok(checkpoint) = open_bytes(dir.path(), file, &bytes) {
                    read += usize::from(read_all(&checkpoint).is_ok());
                }
                bytes[at] ^= flip;
            }
        }
    }
    assert!(read > 0);
}

#[test]
fn changed_elements_of_an_archive_are_found() {
    let dir = tempfile::tempdir().unwrap();
    for (file, tensor) in [("views.pth", "whole"), ("arrays.npz", "a"), ("arrays-deflated.npz", "a")] {
        let whole = std::fs::read(folder().join(file)).unwrap();
        let original = Checkpoint::open(&folder().join(file)).unwrap();
        let bytes = original.bytes(tensor).unwrap();
        let Some(at) = whole.windows(bytes.len()).position(|part| part == &bytes[..]) else { continue };
        let mut changed = whole.clone();
        changed[at] ^= 1;
        let checkpoint = open_bytes(dir.path(), file, &changed).unwrap();
        let e = checkpoint.bytes(tensor).unwrap_err().to_string();
        assert!(e.contains(&format!("tensor `{tensor}`")) && e.contains("damaged"), "{e}");
    }
}

fn refusal(file: &str) -> String {
    Checkpoint::open(&folder().join(file)).unwrap_err().to_string()
}

#[test]
fn pickles_of_more_than_tensors_are_refused_by_name() {
    for form in ["", "-legacy"] {
        let code = refusal(&format!("code{form}.pth"));
        // `os.system` is pickled under the module that defines it.
        assert!(
            code.contains("the pickle calls `posix.system`: refused, a checkpoint must hold tensors only"),
            "{code}"
        );
        let quantized = refusal(&format!("quantized{form}.pth"));
        assert!(quantized.contains("`torch._utils._rebuild_qtensor`"), "{quantized}");
        let complex = refusal(&format!("complex{form}.pth"));
        assert!(complex.contains("ComplexFloatStorage"), "{complex}");
    }
    let module = refusal("whole-module.pth");
    assert!(module.contains("`torch.nn.modules.linear.Linear`"), "{module}");
    let Err(CheckpointError::Refused { at, .. }) = Checkpoint::open(&folder().join("code-legacy.pth")) else {
        panic!("code is not refused");
    };
    let bytes = std::fs::read(folder().join("code-legacy.pth")).unwrap();
    assert_eq!(&bytes[at as usize..][..14], b"cposix\nsystem\n");
}

#[test]
fn other_kinds_of_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let open = |bytes: &[u8]| open_bytes(dir.path(), "x", bytes).unwrap_err().to_string();
    assert!(open(b"").ends_with("no bytes"));
    assert!(open(b"GGUF\x03\0\0\0").contains("GGUF"));
    assert!(open(b"\x89HDF\r\n\x1a\n").contains("HDF5"));
    assert!(open(b"hello, world").contains("neither PyTorch's"));
    assert!(open(b"\x80\x02K\x01.").contains("a pickle that torch.save did not write"));
    let empty = open_bytes(dir.path(), "x", &safetensors("{}", 0)).unwrap_err().to_string();
    assert!(empty.ends_with("no tensor is in it"), "{empty}");
    let e = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(e.contains("a folder without any of model.safetensors.index.json"), "{e}");
    assert!(Checkpoint::open(Path::new("/nowhere")).unwrap_err().to_string().contains("/nowhere"));
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn headers_of_safetensors_that_lie_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let tensor = |dtype: &str, shape: &str, from: u64, to: u64| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let f32 = |shape: &str, from, to| tensor("F32", shape, from, to);
    let cases = [
        (format!(r#"{{"a":{}}}"#, f32("[1000000,1000000]", 0, 4)), 4, "the header"),
        (format!(r#"{{"a":{}}}"#, f32("[18446744073709551615,2]", 0, 4)), 4, "overflow"),
        (
            format!(r#"{{"a":{},"b":{}}}"#, f32("[2]", 0, 8), f32("[2]", 4, 12)),
            12,
            "invalid offset for tensor `b`",
        ),
        (
            format!(r#"{{"a":{},"a":{}}}"#, f32("[1]", 0, 4), f32("[1]", 4, 8)),
            8,
            "invalid offset for tensor `a`",
        ),
        (format!(r#"{{"a":{}}}"#, f32("[1]", 0, 4)), 8, "the header promises 4"),
        (format!(r#"{{"a":{}}}"#, f32("[1]", 4, 0)), 4, "the header"),
        (
            format!(r#"{{"a":{}}}"#, tensor("F8_E4M3", "[4]", 0, 4)),
            4,
            "tensor `a`: elements of `F8_E4M3` are not read",
        ),
        (format!(r#"{{"a":{}}}"#, tensor("F128", "[4]", 0, 4)), 4, "the header"),
        ("{".repeat(4000), 0, "the header"),
        ("[".repeat(4000).replacen('[', "{\"a\":", 1), 0, "the header"),
    ];
    for (header, data, why) in cases {
        let e = open_bytes(dir.path(), "x.safetensors", &safetensors(&header, data)).unwrap_err().to_string();
        assert!(e.contains(why), "{header:.80}: {e}");
    }
    // Eight tensors whose lengths add up to more than 64 bits.
    let huge: Vec<String> = (0..8u64)
        .map(|i| {
            let at = |i: u64| (i << 61).wrapping_sub(u64::from(i == 8));
            format!(r#""t{i}":{}"#, tensor("U8", &format!("[{}]", 1u64 << 61), at(i), at(i + 1)))
        })
        .collect();
    let header = format!("{{{}}}", huge.join(","));
    assert!(open_bytes(dir.path(), "x.safetensors", &safetensors(&header, 0)).is_err());
    let mut long = safetensors("{}", 0);
    long[..8].copy_from_slice(&99_999_999u64.to_le_bytes());
    let e = open_bytes(dir.path(), "x.safetensors", &long).unwrap_err().to_string();
    assert!(e.contains("a header of 99999999 bytes in a file of 10"), "{e}");
}

#[test]
fn indexes_that_do_not_agree_with_their_shards_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder().join("sharded")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let name = "model.safetensors.index.json";
    let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    let index = std::fs::read_to_string(dir.path().join(name)).unwrap();
    let open = |index: &str| open_bytes(dir.path(), name, index.as_bytes());
    read_all(&open(&index).unwrap()).unwrap();

    let e = open(&index.replacen(one, two, 1)).unwrap_err().to_string();
    assert!(e.contains(&format!("`a` is in `{one}`, the index says `{two}`")), "{e}");
    let e = open(&index.replacen("\"a\":", "\"z\":", 1)).unwrap_err().to_string();
    assert!(e.contains("`a` is in") && e.contains("not in the index") && e.contains("`z` is not in"), "{e}");
    for elsewhere in ["../secret", "/etc/passwd", "a/b", ""] {
        let e = open(&index.replace(one, elsewhere)).unwrap_err().to_string();
        assert!(e.contains(&format!("shard `{elsewhere}` is not a file of its folder")), "{e}");
    }
    assert!(open("{}").unwrap_err().to_string().contains("weight_map"));
    assert!(open(&"[".repeat(100_000)).is_err() && open(&"{\"a\":".repeat(100_000)).is_err());
    // An index may not name an index.
    assert!(open(&index.replace(one, name)).is_err());
    std::fs::copy(dir.path().join(one), dir.path().join("twice.safetensors")).unwrap();
    let e = open(&index.replacen(one, "twice.safetensors", 1)).unwrap_err().to_string();
    assert!(e.contains(&format!("`a` is in `{one}`, the index says `twice.safetensors`")), "{e}");
    std::fs::remove_file(dir.path().join(two)).unwrap();
    let e = open(&index).unwrap_err().to_string();
    assert!(e.contains(&format!("shard `{two}` is missing in")) && e.ends_with("fetch it again"), "{e}");
}

#[test]
fn what_an_archive_says_of_a_member_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    // The sizes of a deflated member, in its directory entry: 7 bytes that claim to be 4 GB.
    let mut bytes = std::fs::read(folder().join("arrays-deflated.npz")).unwrap();
    let entry = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    bytes[entry + 24..entry + 28].copy_from_slice(&0xffff_fff0u32.to_le_bytes());
    let e = open_bytes(dir.path(), "bomb.npz", &bytes).unwrap_err().to_string();
    assert!(e.contains("the header promises 48") || e.contains("more than 100 times as many"), "{e}");
}
