//! Keys and values in a file: what was read in one process goes on in another, with the same bits.

use edge_runtime::decode::{DecodeOptions, Decoder, SavedError};
use edge_runtime::device::Device;
use edge_runtime::graph::DType;
use edge_runtime::inputs::read_npz;
use edge_runtime::pack::PackFile;
use edge_tests::gguf::talking;
use edge_tests::{Folder, edge_convert, edge_run};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reference").join(name)
}

fn converted(folder: &Folder, source: &Path) -> Arc<PackFile> {
    let pack = folder.file("m.pack");
    edge_convert().arg(source).arg("-o").arg(&pack).run().expect(0);
    Arc::new(PackFile::open(pack).unwrap())
}

fn opened(pack: &Arc<PackFile>, kept: DType, context: usize) -> Decoder {
    let device = Device::builder().threads(Some(1)).budget(Some(1 << 30)).build().unwrap();
    let options = DecodeOptions { kept: Some(kept), context: Some(context), exact: true };
    Decoder::open_with(&device, pack, None, options).unwrap()
}

/// Token ids of a tiny model's reference, four times over.
fn ids(family: &str) -> Vec<i64> {
    let arrays = read_npz(&reference(&format!("gguf/{family}.npz")), 1 << 20).unwrap();
    let data = &arrays.iter().find(|array| array.name == "input_ids").unwrap().data;
    data.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect::<Vec<i64>>().repeat(4)
}

fn saved(decoder: &Decoder, ids: &[i64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    decoder.save(ids, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_text_goes_on_from_a_file() {
    for family in ["llama", "gemma3"] {
        let folder = Folder::new("saved");
        let pack = converted(&folder, &reference(&format!("gguf/{family}.gguf")));
        let ids = ids(family);
        for kept in [DType::F32, DType::F16, DType::I8] {
            let mut decoder = opened(&pack, kept, ids.len() + 1);
            // Not whole panels of 16 tokens; a whole one; a single token.
            for read in [21, 16, 1] {
                let what = format!("{family} {kept} {read}");
                decoder.truncate(0);
                decoder.feed(&ids[..read]).unwrap();
                let file = saved(&decoder, &ids[..read]);
                let want = decoder.feed(&ids[read..read + 3]).unwrap().to_vec();
                // A longer context, which has another layout.
                let mut other = opened(&pack, kept, ids.len() + 16);
                assert_eq!(other.restore(&mut &file[..]).unwrap(), ids[..read], "{what}");
                assert_eq!(other.past(), read);
                assert_eq!(other.feed(&ids[read..read + 3]).unwrap(), want, "{what}");
                // A shorter one has room for the first tokens alone.
                let mut short = opened(&pack, kept, read.div_ceil(2) + 4);
                let taken = short.restore(&mut &file[..]).unwrap();
                assert_eq!(taken, ids[..read.min(short.context())], "{what}");
                short.truncate(taken.len().min(short.context() - 3));
                let from = short.past();
                let got = short.feed(&ids[from..from + 3]).unwrap().to_vec();
                decoder.truncate(0);
                decoder.feed(&ids[..from]).ok();
                assert_eq!(decoder.feed(&ids[from..from + 3]).unwrap(), got, "{what} from {from}");
            }
        }
    }
}

#[test]
fn what_is_damaged_or_of_something_else_is_refused() {
    let folder = Folder::new("saved-bad");
    let pack = converted(&folder, &reference("gguf/llama.gguf"));
    let ids = ids("llama");
    let mut decoder = opened(&pack, DType::F16, 40);
    decoder.feed(&ids[..19]).unwrap();
    let file = saved(&decoder, &ids[..19]);
    let restore = |decoder: &mut Decoder, bytes: &[u8]| decoder.restore(&mut &bytes[..]).unwrap_err();

    let error = restore(&mut opened(&pack, DType::I8, 40), &file);
    assert_eq!(error.to_string(), "keys and values of elements f16, this is i8");
    let other = Folder::new("saved-other");
    let error =
        restore(&mut opened(&converted(&other, &reference("gguf/qwen2.gguf")), DType::F16, 40), &file);
    assert!(matches!(error, SavedError::Other { what: "pack", .. }), "{error}");
    assert!(matches!(restore(&mut decoder, b"PK\x03\x04 and so on"), SavedError::Magic));
    // Cut anywhere, or with a bit that is another.
    for at in (8..file.len()).step_by(97).chain([file.len() - 1]) {
        let error = restore(&mut decoder, &file[..at]);
        assert!(matches!(error, SavedError::Damaged(_)), "{at}: {error}");
        let mut wrong = file.clone();
        wrong[at] ^= 0x10;
        let error = restore(&mut decoder, &wrong);
        assert!(matches!(error, SavedError::Damaged(_) | SavedError::Other { .. }), "{at}: {error}");
        if matches!(error, SavedError::Damaged(_)) {
            assert_eq!(decoder.past(), 0, "{at}");
        }
    }
    assert_eq!(decoder.restore(&mut &file[..]).unwrap().len(), 19);
}

#[test]
fn a_prompt_is_read_once() {
    let folder = Folder::new("saved-prompt");
    let source = folder.write("m.gguf", &talking(None).finish());
    let (pack, cache) = (folder.file("m.pack"), folder.file("text.cache"));
    edge_convert().arg(source).arg("-o").arg(&pack).run().expect(0);
    let run = |pack: &Path| {
        let program = edge_run().arg(pack).args("-n 4 --temp 0 --json --ignore-eos --prompt");
        program.arg("hello hello hello").arg("--prompt-cache").arg(&cache).run()
    };
    let number = |stdout: &str, name: &str| {
        let value: serde_json::Value = serde_json::from_str(stdout).unwrap();
        value["prompt"][name].as_u64().unwrap_or_else(|| panic!("{name} in {stdout}"))
    };
    let first = run(&pack).expect(0).stdout.clone();
    assert_eq!(number(&first, "reused"), 0);
    let second = run(&pack).expect(0).stdout.clone();
    // All but the last, after which the answer begins.
    assert_eq!(number(&second, "reused"), number(&second, "tokens") - 1);
    let text = |stdout: &str| serde_json::from_str::<serde_json::Value>(stdout).unwrap()["text"].clone();
    assert_eq!(text(&first), text(&second));
    assert_eq!(folder.names().iter().filter(|name| name.contains("cache")).count(), 1);
    // Of another pack: read anew, and said.
    let other = folder.file("other.pack");
    edge_convert().arg(reference("gguf/llama.gguf")).arg("-o").arg(&other).run().expect(0);
    let mut bytes = std::fs::read(&cache).unwrap();
    bytes[9] ^= 1;
    std::fs::write(&cache, &bytes).unwrap();
    let ended = run(&pack);
    let anew = ended.expect(0);
    assert!(anew.stderr.contains("read anew"), "{}", anew.stderr);
    assert_eq!(number(&anew.stdout, "reused"), 0);
    // Damaged: nothing is made of it.
    let whole = std::fs::read(&cache).unwrap();
    std::fs::write(&cache, &whole[..whole.len() - 3]).unwrap();
    let ended = run(&pack);
    assert!(ended.expect(4).stderr.contains("text.cache"), "{:?}", ended);
    std::fs::write(&cache, b"something else entirely").unwrap();
    assert!(run(&pack).expect(4).stderr.contains("first bytes"));
}
