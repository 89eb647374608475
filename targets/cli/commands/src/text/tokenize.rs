//! `edge-run tokenize`: the ids of a text.

use super::args::TokenizeArgs;
use super::open;
use crate::exit::Failure;
use edge_runtime::pack::PackFile;
use serde_json::json;
use std::io::{BufRead, Read, Write};

pub fn command(args: &TokenizeArgs) -> Result<(), Failure> {
    let pack = PackFile::open(&args.pack)?;
    let tokenizer = open::tokenizer(&pack)?;
    let encode = |text: &str| {
        let mut ids: Vec<u32> = tokenizer.tokens().first.filter(|_| !args.no_bos).into_iter().collect();
        tokenizer.encode(text, true, &mut ids);
        ids.extend(tokenizer.tokens().behind.filter(|_| !args.no_bos));
        ids
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if args.lines {
        for (i, line) in std::io::stdin().lock().lines().enumerate() {
            let line = line.map_err(|e| Failure::Usage(format!("stdin, line {}: {e}", i + 1)))?;
            let text: String = serde_json::from_str(&line).map_err(|e| {
                Failure::Usage(format!("stdin, line {}: a JSON string is expected: {e}", i + 1))
            })?;
            writeln!(out, "{}", json!(encode(&text)))?;
        }
        return Ok(out.flush()?);
    }
    let mut text = args.text.clone().unwrap_or_default();
    if text == "-" {
        text.clear();
        let read = std::io::stdin().lock().read_to_string(&mut text);
        read.map_err(|e| Failure::Usage(format!("stdin: {e}")))?;
    }
    let ids = encode(&text);
    let said = |id: &u32| String::from_utf8_lossy(tokenizer.text(*id).unwrap_or_default()).into_owned();
    if args.json {
        let value = json!({"ids": ids, "texts": ids.iter().map(said).collect::<Vec<_>>()});
        writeln!(out, "{value}")?;
    } else {
        for id in &ids {
            writeln!(out, "{id:>7} {:?}", said(id))?;
        }
    }
    Ok(out.flush()?)
}
