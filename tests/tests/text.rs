//! Text commands of edge-run from outside, on a tiny decoder with a tokenizer of bytes.

use edge_tests::gguf::{Builder, Tiny, VOCABULARY, llama, talking};
use edge_tests::{Ended, Folder, Program, edge_convert, edge_run};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Child;

const TEMPLATE: &str = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role here') }}{% endif %}{{ '<user>' \
    if m.role == 'user' else '<bot>' }}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}";

fn pack(folder: &Folder, file: &Builder) -> PathBuf {
    let (source, pack) = (folder.write("m.gguf", &file.finish()), folder.file("m.pack"));
    edge_convert().arg(source).arg("-o").arg(&pack).run().expect(0);
    pack
}

fn prompt(pack: &Path, text: &str, args: &str) -> Ended {
    edge_run().arg(pack).args("--prompt").arg(text).args(args).run()
}

/// Says lines to a chat and reads all of it.
fn chat(program: Program, lines: &str) -> Ended {
    let mut child = program.spawn_with_stdin();
    // A program that refused has closed it.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    Ended::of(child)
}

#[test]
fn a_prompt_goes_on() {
    let folder = Folder::new("text");
    let pack = pack(&folder, &talking(None));
    let first = prompt(&pack, "abc", "-n 12 --temp 0 --ignore-eos");
    first.expect(0);
    assert!(first.stdout.ends_with('\n') && first.stdout.chars().count() > 3, "{first:?}");
    // Greedy, with any threads, in JSON too: the same.
    let again = prompt(&pack, "abc", "-n 12 --temp 0 --ignore-eos --threads 2 --json -v");
    let value = again.expect_saying(0, &["tokens/s", "peak memory"]).json();
    assert_eq!(value["text"].as_str().unwrap().to_string() + "\n", first.stdout);
    assert_eq!((&value["answer"]["tokens"], &value["ended_by"]), (&Value::from(12), &Value::from("length")));
    assert_eq!(value["prompt"]["tokens"], 3);
    // Equal seeds, equal texts.
    let seeded = |seed: &str| {
        prompt(&pack, "abc", &format!("-n 24 --temp 2 --top-k 0 --top-p 1 --min-p 0 --seed {seed}")).stdout
    };
    assert_eq!(seeded("1"), seeded("1"));
    assert_ne!(seeded("1"), seeded("2"));
    // A stop string that the text has.
    let text = first.stdout.trim_end();
    let stop: String = text.chars().skip(2).take(2).collect();
    let stopped =
        edge_run().arg(&pack).args("--prompt abc -n 12 --temp 0 --ignore-eos --json --stop").arg(&stop).run();
    assert_eq!(stopped.expect(0).json()["ended_by"], "stop");
    assert_eq!(stopped.json()["text"].as_str(), text.split(&stop).next());
    // Until the context is full.
    let full = prompt(&pack, "abc", "--temp 0 --ignore-eos --json --ctx 20").expect(0).json();
    assert_eq!((&full["ended_by"], &full["answer"]["tokens"]), (&Value::from("context"), &Value::from(18)));
}

#[test]
fn prompts_that_cannot_be_are_refused() {
    let folder = Folder::new("text");
    let pack = pack(&folder, &talking(None));
    prompt(&pack, "", "").expect_saying(2, &["prompt is empty"]);
    prompt(&pack, &"a".repeat(30), "--ctx 16").expect_saying(2, &["30 tokens", "16"]);
    prompt(&pack, "a", "--ctx 65").expect_saying(2, &["65", "64"]);
    prompt(&pack, "a", "--temp=-1").expect_saying(2, &["temperature -1"]);
    prompt(&pack, "a", "--top-p 2").expect_saying(2, &["top-p 2"]);
    prompt(&pack, "a", "--mem 1MB").expect(5);
    prompt(&pack, "a", "--input x.npy").expect(2);
    edge_run().arg(&pack).args("--temp 1").run().expect_saying(2, &["--temp goes with --prompt"]);
    // Of no tokenizer, and of no decoder.
    let bare = folder.file("bare.pack");
    let mut file = llama(&Tiny { kind: "Q8_0", embedding: "Q8_0", tied: false, bias: false });
    file.text("tokenizer.ggml.model", "t5");
    edge_convert().arg(folder.write("bare.gguf", &file.finish())).arg("-o").arg(&bare).run().expect(0);
    prompt(&bare, "a", "").expect_saying(3, &["no tokenizer", "t5"]);
    edge_run().args("tokenize").arg(&bare).arg("a").run().expect_saying(3, &["no tokenizer"]);
}

#[test]
fn a_conversation_goes_on_line_by_line() {
    let folder = Folder::new("text");
    let pack = pack(&folder, &talking(Some(TEMPLATE)));
    let run = |args: &str, lines: &str| chat(edge_run().args("chat").arg(&pack).args(args), lines);
    let said = run("--temp 0 -n 5 --ignore-eos --json", "abc\n\nde\n/clear\nabc\n/exit\nnever\n");
    let rows: Vec<Value> =
        said.expect(0).stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 3, "{said:?}");
    assert_eq!(rows[0]["prompt"]["tokens"], 5);
    // What was said before is not read again, but for the last token of an answer, which nobody has read.
    let reused = rows[1]["prompt"]["reused"].as_u64().unwrap();
    assert!(reused >= 5, "{rows:?}");
    // Forgotten: the same answer as at first.
    assert_eq!(rows[2]["content"], rows[0]["content"]);
    // Without a line end, and without JSON.
    let plain = run("--temp 0 -n 5 --ignore-eos", "abc");
    assert_eq!(plain.expect(0).stdout.trim_end_matches('\n'), rows[0]["content"].as_str().unwrap());
    run("--system s", "abc\n")
        .expect_saying(2, &["line 1", "no system role here", "2 messages (system, user)"]);
    run("--ctx 16", &format!("{}\n", "a".repeat(40))).expect_saying(2, &["42 tokens", "16"]);
    let mut child = edge_run().args("chat").arg(&pack).spawn_with_stdin();
    child.stdin.take().unwrap().write_all(b"ab\xff\n").unwrap();
    Ended::of(child).expect_saying(2, &["line 1", "byte 2", "0xff"]);
    // A template in place of the pack's, and one that is none.
    let other = folder.write("other.jinja", b"{{ messages[0].content }}");
    let given = chat(
        edge_run().args("chat").arg(&pack).args("--temp 0 -n 1 --json --chat-template").arg(other),
        "abcd\n",
    );
    assert!(given.expect(0).stdout.contains("\"tokens\":4"), "{given:?}");
    let broken = folder.write("broken.jinja", b"a\n{% for %}");
    chat(edge_run().args("chat").arg(&pack).args("--chat-template").arg(broken), "a\n")
        .expect_saying(4, &["line 2"]);
}

#[test]
fn without_a_template_none_is_assumed() {
    let folder = Folder::new("text");
    let pack = pack(&folder, &talking(None));
    let refused = edge_run().args("chat").arg(&pack).run();
    refused.expect_saying(2, &["no chat template", "--chat-template", "--prompt"]);
}

#[test]
fn a_closed_pipe_ends_quietly_and_an_interrupt_ends_an_answer() {
    let folder = Folder::new("text");
    let pack = pack(&folder, &talking(Some(TEMPLATE)));
    let mut child = edge_run().arg(&pack).args("--prompt abc --ignore-eos --temp 0 -n 60").spawn();
    drop(child.stdout.take());
    Ended::of(child).expect(0);
    // The context is short, so that answers are stopped in any case; an interrupt before a line ends the program.
    let mut child =
        edge_run().args("chat").arg(&pack).args("--ignore-eos --temp 0 --json").spawn_with_stdin();
    let (mut input, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    input.write_all(b"abc\n").unwrap();
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert!(line.contains("\"ended_by\":\"context\""), "{line}");
    interrupt(&child);
    drop(output);
    assert_eq!(Ended::of(child).code, Some(130));
}

fn interrupt(child: &Child) {
    // SAFETY: a signal to a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
}

#[test]
fn perplexity_is_that_of_the_logits() {
    let folder = Folder::new("text");
    let pack = pack(&folder, &talking(None));
    let text = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ.,:!?012".repeat(3);
    let file = folder.write("t.txt", text.as_bytes());
    let run = |args: &str| edge_run().args("perplexity").arg(&pack).arg(&file).args(args).run();
    let half = run("--ctx 32 --json").expect(0).json();
    assert_eq!(
        (&half["windows"], &half["tokens"], &half["counted_from"]),
        (&4.into(), &(4 * 15).into(), &17.into())
    );
    let all = run("--ctx 32 --json --all --windows 2").expect(0).json();
    assert_eq!((&all["windows"], &all["tokens"]), (&2.into(), &(2 * 31).into()));
    // A model of noise foretells nothing: about as many choices as tokens, or worse.
    for value in [&half, &all] {
        assert!(value["perplexity"].as_f64().unwrap() > VOCABULARY as f64 / 2.0, "{value}");
    }
    assert!(run("--ctx 32").expect(0).stdout.contains("as llama.cpp"));
    run("--ctx 200").expect_saying(2, &["200", "64"]);
    let short = folder.write("short.txt", b"abc");
    edge_run()
        .args("perplexity")
        .arg(&pack)
        .arg(short)
        .args("--ctx 32")
        .run()
        .expect_saying(2, &["3 tokens", "32"]);
    let bad = folder.write("bad.txt", b"abc\xffdef");
    edge_run()
        .args("perplexity")
        .arg(&pack)
        .arg(bad)
        .args("--ctx 32")
        .run()
        .expect_saying(4, &["byte 3", "UTF-8"]);
    edge_run()
        .args("perplexity")
        .arg(&pack)
        .arg(folder.file("none.txt"))
        .run()
        .expect_saying(4, &["none.txt"]);
}

#[test]
fn tokens_are_shown_and_timed() {
    let folder = Folder::new("text");
    let pack = pack(&folder, &talking(None));
    let shown = edge_run().args("tokenize").arg(&pack).arg("ab<end>é").args("--json").run().expect(0).json();
    assert_eq!(shown["ids"], serde_json::json!([0, 1, 44, 48, 49]));
    let lines = chat(edge_run().args("tokenize").arg(&pack).args("--lines"), "\"ab\"\n\"\\u00e9\"\n");
    assert_eq!(lines.expect(0).stdout, "[0,1]\n[48,49]\n");
    chat(edge_run().args("tokenize").arg(&pack).args("--lines"), "ab\n")
        .expect_saying(2, &["line 1", "JSON"]);
    let timed =
        edge_run().args("bench").arg(&pack).args("-p 16 -n 8 --repeat 2 --json").run().expect(0).json();
    let names: Vec<&str> =
        timed.as_array().unwrap().iter().map(|row| row["test"].as_str().unwrap()).collect();
    assert_eq!(names, ["pp16", "tg8"]);
    assert!(
        timed[0]["avg_ts"].as_f64().unwrap() > 0.0 && timed[1]["samples_ns"].as_array().unwrap().len() == 2
    );
    let table =
        edge_run().args("bench").arg(&pack).args("-p 16 -n 0 --repeat 1").run().expect(0).stdout.clone();
    assert!(table.contains("| pp16 |") && !table.contains("| tg"), "{table}");
    let csv =
        edge_run().args("bench").arg(&pack).args("-p 0 -n 4 --format csv").run().expect(0).stdout.clone();
    assert!(csv.lines().nth(1).is_some_and(|row| row.contains(",tg4,")), "{csv}");
}
