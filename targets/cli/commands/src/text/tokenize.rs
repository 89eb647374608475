//! `edge-run tokenize`: the ids of a text.

use super::args::TokenizeArgs;
use super::open;
use crate::exit::Failure;
use edge_runtime::pack::PackFile;
use serde_json::json;
use std::io::{Read, Write};

pub fn command(args: &TokenizeArgs) -> Result<(), Failure> {
    let pack = PackFile::open(&args.pack)?;
    let tokenizer = open::tokenizer(&pack)?;
    let mut text = String::new();
    if args.text == "-" {
        let read = std::io::stdin().lock().read_to_string(&mut text);
        read.map_err(|e| Failure::Usage(format!("stdin: {e}")))?;
    } else {
        text.push_str(&args.text);
    }
    let mut ids: Vec<u32> = tokenizer.tokens().first.filter(|_| !args.no_bos).into_iter().collect();
    tokenizer.encode(&text, true, &mut ids);
    let said = |id: &u32| String::from_utf8_lossy(tokenizer.text(*id).unwrap_or_default()).into_owned();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
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
