//! Chat templates against Jinja2 as the transformers library sets it up (`reference/templates.py`).

use edge_converter::import::gguf::Gguf;
use edge_runtime::text::{ChatTemplate, Message, TemplateError};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reference")
}

/// The template of a name: one of `reference/templates`, or of a model that is in the cache.
fn source(name: &str) -> Option<String> {
    if !name.ends_with(".gguf") {
        return Some(std::fs::read_to_string(folder().join(format!("templates/{name}.jinja"))).unwrap());
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cache = std::fs::read_dir(home.join(".cache/edge-models")).ok()?;
    let path = cache.flatten().map(|entry| entry.path().join(name)).find(|path| path.is_file())?;
    let file = Gguf::open(&path).unwrap();
    file.text("tokenizer.chat_template").unwrap().map(str::to_string)
}

fn messages(conversation: &Value) -> Vec<Message> {
    let text = |message: &Value, key: &str| message[key].as_str().unwrap().to_string();
    let all = conversation.as_array().unwrap().iter();
    all.map(|message| Message::new(text(message, "role"), text(message, "content"))).collect()
}

#[test]
fn prompts_are_those_of_the_reference() {
    let stored = std::fs::read(folder().join("expected/templates.json")).unwrap();
    let stored: Value = serde_json::from_slice(&stored).unwrap();
    let special: BTreeMap<String, String> = serde_json::from_value(stored["special"].clone()).unwrap();
    let (mut compared, mut wrong) = (0, Vec::new());
    for (name, rows) in stored["templates"].as_object().unwrap() {
        let Some(source) = source(name) else { continue };
        let template = ChatTemplate::new(&source, special.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut rows = rows.as_array().unwrap().iter();
        for conversation in stored["conversations"].as_array().unwrap() {
            for variant in stored["variants"].as_array().unwrap() {
                let (answer, more): (bool, String) = serde_json::from_value(variant.clone()).unwrap();
                let row = rows.next().unwrap();
                let said = messages(conversation);
                let ours = template.render(&said, answer, Some(&more));
                let same = match (&ours, row["text"].as_str(), row["refused"].as_str()) {
                    (Ok(ours), Some(want), _) => ours == want,
                    (Err(TemplateError::Render { why, line, .. }), _, Some(want)) => why == want && *line > 0,
                    _ => false,
                };
                compared += 1;
                if !same {
                    wrong.push(format!("{name}: {said:?}, {answer}:\nours {ours:?}\nwant {row}"));
                }
            }
        }
    }
    assert!(compared >= 16 * 24, "{compared}");
    let shown = wrong.iter().take(4).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(wrong.is_empty(), "{} of {compared}:\n{shown}", wrong.len());
}
