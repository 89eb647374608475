//! A language model and a text become a ladder: rungs whose perplexity is what the runtime finds, chosen by memory.

use edge_runtime::decode::{DecodeOptions, Decoder};
use edge_runtime::device::Device;
use edge_runtime::pack::{PERPLEXITY, PackFile, Quality};
use edge_runtime::tokenizer::Tokenizer;
use edge_tests::pretrained::reference;
use edge_tests::{Folder, edge_convert};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the tiny Llama was made for.
const LONGEST: usize = 128;
/// Windows that perplexity is measured on at most.
const WINDOWS: usize = 8;

/// Real prose that is there: 64 tokens are a window of the tiny models, of which the text has hundreds.
fn text() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md")
}

fn converted(folder: &Folder, family: &str, more: &str) -> Arc<PackFile> {
    let pack = folder.file("m.pack");
    edge_convert()
        .arg(reference(family))
        .arg("-o")
        .arg(&pack)
        .arg("--calib")
        .arg(text())
        .args(more)
        .run()
        .expect(0);
    Arc::new(PackFile::open(&pack).unwrap())
}

fn quality(rung: &edge_runtime::pack::Rung) -> &Quality {
    rung.quality.as_ref().unwrap()
}

#[test]
fn each_rung_foretells_better_than_the_smaller_and_as_the_runtime_finds() {
    let folder = Folder::new("text-ladder");
    let pack = converted(&folder, "llama", "");
    let rungs = &pack.header().rungs;
    assert!(rungs.len() >= 3, "{} rungs", rungs.len());
    // The last one stays whatever it foretells: numbers without a meaning foretell prose no better than coarse ones.
    for pair in rungs[..rungs.len() - 1].windows(2) {
        assert!(pair[0].bytes < pair[1].bytes);
        assert!(quality(&pair[0]).value > quality(&pair[1]).value, "{} {}", pair[0].id, pair[1].id);
    }
    let best = quality(rungs.last().unwrap());
    assert_eq!(best.metric, PERPLEXITY);
    // Of 8 bits a weight nothing is lost that these few tokens show.
    let source: f32 = pack.header().card.metadata["source_perplexity"].parse().unwrap();
    assert!((best.value / source - 1.0).abs() < 1e-2, "{} of {source}", best.value);

    // The same windows of the held-out quarter, fed to the decoder.
    let device = Device::builder().threads(Some(1)).budget(Some(1 << 30)).build().unwrap();
    let blob = &pack.header().blobs[pack.header().tokenizer_blob().unwrap() as usize];
    let tokenizer =
        Tokenizer::new(pack.header(), Arc::new(pack.map(blob.offset + blob.len).unwrap())).unwrap();
    let mut ids = Vec::new();
    tokenizer.encode(&std::fs::read_to_string(text()).unwrap(), false, &mut ids);
    let held_out = &ids[ids.len() - ids.len() / 4..];
    let count = (held_out.len() / (LONGEST + 1)).min(WINDOWS);
    for rung in rungs {
        let options = DecodeOptions { context: Some(LONGEST), exact: true, ..DecodeOptions::default() };
        let mut decoder = Decoder::open_with(&device, &pack, Some(&rung.id), options).unwrap();
        let (mut sum, mut counted) = (0.0, 0);
        for i in 0..count {
            let window = &held_out[i * held_out.len() / count..][..LONGEST + 1];
            let mut fed: Vec<i64> = window[..LONGEST].iter().map(|id| i64::from(*id)).collect();
            fed[0] = tokenizer.tokens().first.map_or(fed[0], i64::from);
            decoder.truncate(0);
            let mut see = |at: usize, logits: &[f32]| {
                if at >= LONGEST / 2 {
                    let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
                    sum += total.ln() - f64::from(logits[window[at + 1] as usize]);
                    counted += 1;
                }
            };
            decoder.feed_all(&fed, &mut see).unwrap();
        }
        // Keys and values of 16 bits are kept there.
        let (found, stated) = ((sum / f64::from(counted)).exp(), f64::from(quality(rung).value));
        assert!((found / stated - 1.0).abs() < 1e-3, "{}: {found}, {stated} is stated", rung.id);
    }
}

#[test]
fn memory_decides_and_budgets_are_kept() {
    let folder = Folder::new("text-budgets");
    let pack = converted(&folder, "qwen3", "--budgets 13kB,18kB");
    let bytes: Vec<u64> = pack.header().rungs.iter().map(|rung| rung.bytes).collect();
    assert!(bytes.contains(bytes.iter().filter(|b| **b <= 13_000).max().unwrap()), "{bytes:?}");
    assert!(bytes.iter().all(|b| *b <= 18_000), "{bytes:?}");
}

#[test]
fn what_cannot_be_is_refused_with_what_can() {
    let folder = Folder::new("text-refused");
    let (short, bad) =
        (folder.write("short.txt", b"three words here"), folder.write("bad.txt", b"abc\xffdef"));
    let refuse = |args: &[&OsStr], code: i32| -> String {
        let start = edge_convert().arg(reference("llama")).arg("-o").arg(folder.file("m.pack"));
        let ended = args.iter().fold(start, |program, arg| program.arg(arg)).run();
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        ended.stderr
    };
    let calib = OsStr::new("--calib");
    let why = refuse(&[calib, short.as_os_str()], 2);
    assert!(why.contains("short.txt") && why.contains("longer text"), "{why}");
    let why = refuse(&[calib, bad.as_os_str()], 2);
    assert!(why.contains("byte 3 is not UTF-8"), "{why}");
    let why = refuse(&[calib, folder.file("none.txt").as_os_str()], 6);
    assert!(why.contains("none.txt"), "{why}");
    let why = refuse(&["--equalize".as_ref(), calib, text().as_os_str()], 2);
    assert!(why.contains("--equalize"), "{why}");
    let why = refuse(&["--heldout".as_ref(), text().as_os_str()], 2);
    assert!(why.contains("--heldout") && why.contains("--calib"), "{why}");
    assert!(!folder.file("m.pack").exists());
}
