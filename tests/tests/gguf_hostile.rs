//! GGUF files that are cut, or that somebody made to do harm: an error that names what is wrong, in bounded memory; never a panic.

use edge_converter::import::gguf::Gguf;
use edge_converter::import::{ImportError, language};
use edge_runtime::random::philox;
use edge_tests::gguf::{Builder, Tiny, llama, string};
use edge_tests::{Folder, edge_convert};

fn tiny() -> Builder {
    llama(&Tiny { kind: "Q4_0", embedding: "Q8_0", tied: true, bias: false })
}

fn below(key: u64, i: u64, bound: usize) -> usize {
    philox(key, i)[0] as usize % bound
}

/// Where the elements begin.
fn head(file: &[u8]) -> usize {
    // The name of the last tensor stands near the end of the table.
    let name = b"blk.1.ffn_norm.weight";
    file.windows(name.len()).position(|w| w == name).unwrap() + name.len() + 32
}

/// Opens a file and makes its graph, in this process.
fn read(folder: &Folder, bytes: &[u8]) -> Result<(), ImportError> {
    let path = folder.write("m.gguf", bytes);
    language::import(&Gguf::open(&path)?).map(|_| ())
}

#[test]
fn a_cut_file_is_refused_wherever_it_is_cut() {
    let folder = Folder::new("gguf-cut");
    let file = tiny().finish();
    assert!(read(&folder, &file).is_ok());
    let head = head(&file);
    let cuts = (0..head).chain((0..64).map(|i| head + below(3, i, file.len() - head)));
    for at in cuts {
        let error = read(&folder, &file[..at]).expect_err(&format!("cut at {at}"));
        let text = error.to_string();
        assert!(text.contains("m.gguf") && text.len() < 1000, "{at}: {text}");
        if at > 4 {
            assert!(text.contains("fetch it again") || text.contains("version"), "{at}: {text}");
        }
    }
}

#[test]
fn damaged_heads_never_panic() {
    let folder = Folder::new("gguf-damage");
    let file = tiny().finish();
    let head = head(&file);
    let mut refused = 0;
    for i in 0..4000 {
        let mut bytes = file.clone();
        for j in 0..1 + below(5, i, 3) as u64 {
            let word = philox(7, i * 8 + j);
            let at = word[0] as usize % head;
            match word[1] % 3 {
                0 => bytes[at] = word[2] as u8,
                1 => bytes[at] ^= 1 << (word[2] % 8),
                _ => bytes[at..(at + 8).min(head)].fill(0xff),
            }
        }
        if let Err(error) = read(&folder, &bytes) {
            let text = error.to_string();
            assert!(text.contains("m.gguf"), "{text}");
            refused += 1;
        }
    }
    assert!(refused > 1000, "{refused}");
}

/// Refused by the program with these words, in at most four times the file and 48 MiB.
#[track_caller]
fn refused(bytes: &[u8], words: &[&str]) {
    let folder = Folder::new("gguf-bad");
    let source = folder.write("m.gguf", bytes);
    let ended = edge_convert().arg(source).arg("-o").arg(folder.file("m.pack")).run();
    ended.expect_saying(4, words);
    assert_eq!(folder.names(), ["m.gguf"]);
    assert!(ended.peak <= 4 * bytes.len() as u64 + (48 << 20), "peak {} for {}", ended.peak, bytes.len());
}

/// A head of counts, and what follows.
fn counted(version: u32, tensors: u64, keys: u64, rest: &[u8]) -> Vec<u8> {
    [b"GGUF", &version.to_le_bytes()[..], &tensors.to_le_bytes(), &keys.to_le_bytes(), rest].concat()
}

#[test]
fn wrong_numbers_are_named() {
    let zeros = vec![0; 1 << 16];
    refused(&counted(3, u64::MAX, 0, &zeros), &["18446744073709551615 tensors", "too few"]);
    refused(&counted(3, 0, u64::MAX, &zeros), &["18446744073709551615 keys", "too few"]);
    refused(&counted(1, 0, 0, &zeros), &["version 1", "convert the model again"]);
    refused(&counted(3u32.swap_bytes(), 0, 0, &zeros), &["big-endian"]);
    refused(&counted(77, 0, 0, &zeros), &["version 77; 2 and 3 are read"]);
    refused(
        &counted(3, 0, 1, &[&u64::MAX.to_le_bytes()[..], &zeros].concat()),
        &["name of key 0 of 18446744073709551615 bytes"],
    );
    let key = |kind: u32, value: &[u8]| {
        let entry = [&string(b"k")[..], &kind.to_le_bytes(), value].concat();
        counted(3, 0, 1, &[&entry[..], &zeros].concat())
    };
    refused(&key(13, &[]), &["`k` is of type 13; 0 to 12 are known"]);
    refused(&key(8, &(1u64 << 60).to_le_bytes()), &["text of `k` of 1152921504606846976 bytes"]);
    for kind in [4u32, 8, 9] {
        let array = [&kind.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat();
        refused(&key(9, &array), &["array of 18446744073709551615 elements", "too few"]);
    }
    // Arrays in arrays without end.
    let nested: Vec<u8> =
        (0..1000).flat_map(|_| [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat()).collect();
    refused(&key(9, &nested), &["in more than 4 others"]);
}

#[test]
fn tensors_lie_in_the_file_and_not_on_one_another() {
    let file = |entries: &[(&str, &[u64], u32, u64)], data: usize| {
        let mut rest = Vec::new();
        for (name, dims, kind, offset) in entries {
            rest.extend(string(name.as_bytes()));
            rest.extend((dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|size| rest.extend(size.to_le_bytes()));
            rest.extend(kind.to_le_bytes());
            rest.extend(offset.to_le_bytes());
        }
        let mut bytes = counted(3, entries.len() as u64, 0, &rest);
        bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
        bytes
    };
    let two = |second: u64| file(&[("a", &[64], 0, 0), ("b", &[64], 0, second)], 512);
    refused(&two(224), &["tensor `b`, bytes", "lies on tensor `a`"]);
    refused(&two(260), &["`b`: begins at offset 260, which is no multiple of the alignment, 32"]);
    refused(&two(512), &["`b`: F32 of shape [64] at offset 512", "reaches past"]);
    refused(&two(u64::MAX - 31), &["reaches past"]);
    refused(&file(&[("a", &[1 << 62, 1 << 62], 0, 0)], 512), &["`a`: shape", "2^40"]);
    refused(&file(&[("a", &[0, 4], 0, 0)], 512), &["`a`: shape [4, 0]"]);
    refused(&file(&[("a", &[4; 5], 0, 0)], 512), &["`a`: 5 dimensions; 1 to 4"]);
    refused(
        &file(&[("a", &[33, 2], 2, 0)], 512),
        &["`a`: rows of 33 elements of Q4_0, whose blocks have 32"],
    );
    refused(&file(&[("a", &[8], 0, 0), ("a", &[8], 0, 32)], 512), &["tensor `a` is there twice"]);
    refused(&file(&[("a", &[1 << 20; 2], 0, 0)], 512), &["reaches past the file's"]);
}

#[test]
fn alignments_are_numbers_that_align() {
    for (value, says) in [(0u32, "is 0; a multiple of 8"), (12, "is 12;"), (u32::MAX - 7, "at most")] {
        let mut file = tiny();
        file.count("general.alignment", value);
        refused(&file.finish(), &["general.alignment", says]);
    }
    let mut file = tiny();
    file.text("general.alignment", "32");
    refused(&file.finish(), &["general.alignment", "string", "a u32 is expected"]);
}

#[test]
fn sizes_that_do_not_fit_one_another_are_refused() {
    for (key, value, says) in [
        ("llama.block_count", u32::MAX, "1 to 1048576 is expected"),
        ("llama.block_count", 1 << 20, "blk.2.attn_norm.weight"),
        ("llama.attention.head_count", 0, "0; 1 to 1048576"),
        ("llama.attention.head_count_kv", 3, "3 heads of keys for 4 of queries"),
        ("llama.attention.key_length", 1 << 20, "`blk.0.attn_q.weight`: shape"),
        ("llama.rope.dimension_count", 65, "65 elements of heads of 64"),
        ("llama.embedding_length", 255, "255"),
        ("llama.feed_forward_length", 511, "`blk.0.ffn_gate.weight`: shape"),
    ] {
        let mut file = tiny();
        let mut written = file.finish();
        // Keys that are there are changed where they stand.
        let name = string(key.as_bytes());
        match written.windows(name.len()).position(|w| w == name) {
            Some(at) => written[at + name.len() + 4..][..4].copy_from_slice(&value.to_le_bytes()),
            None => written = file.count(key, value).finish(),
        }
        refused(&written, &[says]);
    }
}

#[test]
fn tokenizers_that_contradict_themselves_are_refused() {
    let with = |change: &dyn Fn(&mut Builder)| {
        let mut file = tiny();
        file.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", "gpt-2");
        file.texts("tokenizer.ggml.tokens", &[b"a", b"b", b"ab"]).texts("tokenizer.ggml.merges", &[b"a b"]);
        change(&mut file);
        file.finish()
    };
    let folder = Folder::new("gguf-tokens");
    let source = folder.write("m.gguf", &with(&|_| ()));
    edge_convert().arg(source).arg("-o").arg(folder.file("m.pack")).run().expect(0);
    let merges = |merge: &'static [u8]| with(&|file| _ = file.texts("tokenizer.ggml.merges", &[merge]));
    refused(&merges(b"a c"), &["merge 0, `a c`", "among the tokens"]);
    refused(&merges(b"ab"), &["merge 0, `ab`: two tokens"]);
    refused(&merges(b""), &["merge 0, ``"]);
    refused(
        &with(&|file| _ = file.count("tokenizer.ggml.merges", 7)),
        &["merges", "an array of strings is expected"],
    );
    refused(&with(&|file| _ = file.count("tokenizer.ggml.eos_token_id", 3)), &["3, and there are 3 tokens"]);
    let kinds = [&5u32.to_le_bytes()[..], &2u64.to_le_bytes(), &[0; 8]].concat();
    refused(
        &with(&|file| _ = file.key("tokenizer.ggml.token_type", 9, &kinds)),
        &["2 elements for 3 tokens"],
    );
}
