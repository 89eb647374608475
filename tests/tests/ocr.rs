//! Three real models in one process under one budget: `examples/ocr` reads its page.
//!
//! Needs the models and what samples are drawn from, which `examples/ocr/make_packs.sh` fetches: without them it fails.

use edge_tests::{Ended, Folder, ocr, program};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// Few samples: the calibration is the converter's slowest part, and its quality is not at stake here.
const SAMPLES: &str = "4";

struct Trio {
    folder: Folder,
    example: PathBuf,
}

impl Trio {
    fn new() -> Trio {
        let example = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/ocr"));
        let folder = Folder::new("ocr");
        let mut script = Command::new("bash");
        script
            .arg(example.join("make_packs.sh"))
            .arg(program("edge-convert"))
            .arg(folder.path())
            .arg(SAMPLES);
        let made = script.output().unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "the models cannot be had or converted: {said}");
        Trio { folder, example }
    }

    fn read(&self, args: &str) -> Ended {
        let mut call = ocr();
        for model in ["det", "cls", "rec"] {
            call = call.arg(format!("--{model}")).arg(self.folder.file(&format!("{model}.pack")));
        }
        call.args(args).arg(self.example.join("page.png")).run()
    }

    /// The lines that were drawn, without the sign of those that stand on their heads.
    fn page(&self) -> Vec<(String, bool)> {
        let text = std::fs::read_to_string(self.example.join("page.txt")).unwrap();
        let line = |l: &str| (l.trim_start_matches('<').to_string(), l.starts_with('<'));
        text.lines().filter(|l| !l.is_empty()).map(line).collect()
    }
}

/// Least number of characters to insert, delete or replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let cost = (row[j + 1] + 1).min(row[j] + 1).min(corner + usize::from(x != *y));
            corner = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row[b.len()]
}

fn texts(answer: &Value) -> Vec<&str> {
    answer["lines"].as_array().unwrap().iter().map(|l| l["text"].as_str().unwrap()).collect()
}

fn rungs(answer: &Value) -> Vec<&str> {
    answer["models"].as_array().unwrap().iter().map(|m| m["rung"].as_str().unwrap()).collect()
}

/// Accuracy, the budget from outside, and that the three sessions held their memory together at the end.
fn check(answer: &Value, ended: &Ended, budget: u64, page: &[(String, bool)]) {
    let want: Vec<&str> = page.iter().map(|(text, _)| text.as_str()).collect();
    let (got, want) = (texts(answer).join("\n"), want.join("\n"));
    let accuracy = 1.0 - distance(&got, &want) as f64 / want.chars().count() as f64;
    let planned = answer["planned"].as_u64().unwrap();
    eprintln!(
        "{budget}: {:?}, accuracy {accuracy:.3}, peak {} of {planned} planned",
        rungs(answer),
        ended.peak
    );
    assert!(accuracy >= 0.95, "{accuracy} at {budget}: {got}");
    assert!(
        ended.peak <= planned && planned <= budget,
        "{} measured, {planned} planned, {budget}",
        ended.peak
    );

    let holdings = answer["holdings"].as_array().unwrap();
    let bytes = |what: &str| {
        let found = holdings.iter().find(|h| h["what"] == what);
        found.unwrap_or_else(|| panic!("nothing is held for {what}: {holdings:?}"))["bytes"].as_u64().unwrap()
    };
    let mut sum = bytes("the process itself") + bytes("the decoded page");
    for model in ["det", "cls", "rec"] {
        sum += bytes(&format!("weights of {model}")) + bytes(&format!("arena and plan of {model}"));
    }
    assert!(sum <= planned, "{sum} held, {planned} planned");
    assert_eq!(bytes("the decoded page"), 1000 * 700 * 3);

    let turned = answer["lines"].as_array().unwrap().iter().map(|l| l["upside_down"].as_bool().unwrap());
    assert!(turned.eq(page.iter().map(|(_, turned)| *turned)), "{answer:#}");
}

#[test]
fn the_trio_reads_a_page_in_one_budget() {
    let trio = Trio::new();
    let page = trio.page();
    for budget in [48_000_000, 96_000_000] {
        let answers: Vec<Value> = [1, 2]
            .map(|threads| {
                let ended = trio.read(&format!("--json --mem {budget} --threads {threads}"));
                let answer = ended.expect(0).json();
                check(&answer, &ended, budget, &page);
                answer
            })
            .to_vec();
        assert_eq!(texts(&answers[0]), texts(&answers[1]), "one thread and two at {budget}");
        // Two threads take more scratch, so they may get other rungs; the same rungs on the same map give the same bits.
        if rungs(&answers[0]) == rungs(&answers[1]) && answers[0]["map"] == answers[1]["map"] {
            assert_eq!(answers[0]["lines"], answers[1]["lines"], "one thread and two at {budget}");
        }
    }

    // The least budget that a refusal names is one that does.
    let refused = trio.read("--mem 12MB --threads 1");
    refused.expect_saying(
        5,
        &["rec does not fit: of 12 MB", "beside det", "cls", "the least budget that would do is"],
    );
    let least = refused.bytes_named();
    let ended = trio.read(&format!("--json --mem {least} --threads 1"));
    let answer = ended.expect(0).json();
    assert!(ended.peak <= least, "{} of {least}: {answer:#}", ended.peak);
    // What attempts with larger pictures left on the heap counts, and is more or less from run to run.
    trio.read(&format!("--mem {} --threads 1", least - (3 << 20))).expect(5);

    // Bad calls.
    trio.read("--mem 96MB --side 7").expect(2);
    ocr().args("--det /nowhere --cls /nowhere --rec /nowhere page.png").run().expect(4);
}
