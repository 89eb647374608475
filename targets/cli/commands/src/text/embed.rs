//! `edge-run embed`: vectors of texts.

use super::args::EmbedArgs;
use super::open;
use crate::exit::Failure;
use edge_runtime::device::{ByteSize, peak_rss};
use edge_runtime::graph::DType;
use edge_runtime::inputs::{NamedArray, write_npy};
use serde_json::json;
use std::io::{Read, Write};
use std::time::Instant;

/// Columns of a similarity, and most characters of a text beside it.
const COLUMN: usize = 7;
const SHOWN: usize = 40;

pub fn command(args: &EmbedArgs) -> Result<(), Failure> {
    let target = &args.target;
    let texts = texts(args)?;
    let prepared = open::prepare(&args.pack, target)?;
    let longest = prepared.tokenizer.tokens().longest;
    let lengths = texts.iter().map(|text| prepared.tokenizer.framed(text, false, usize::MAX).len());
    // Room for the longest text is room for all.
    let room = lengths.max().unwrap_or(1).min(longest.unwrap_or(usize::MAX));
    let mut opened = prepared.open_embedder(target, args.ctx.unwrap_or(room))?;
    let load = opened.load;
    let start = Instant::now();
    let (mut vectors, mut tokens, mut columns) = (Vec::new(), Vec::new(), 0);
    for (i, text) in texts.iter().enumerate() {
        let made = opened.embedder.embed(text, !args.no_normalize)?;
        if made.read < made.tokens {
            eprintln!(
                "edge-run: text {}: {} of its {} tokens are read, for more there is no room",
                i + 1,
                made.read,
                made.tokens
            );
        }
        columns = made.vector.len();
        vectors.extend_from_slice(made.vector);
        tokens.push(made.read);
    }
    let seconds = start.elapsed().as_secs_f64();
    let rows: Vec<&[f32]> = vectors.chunks_exact(columns.max(1)).collect();
    if let Some(path) = &args.output {
        let data = vectors.iter().flat_map(|x| x.to_le_bytes()).collect();
        let dims = vec![rows.len(), columns];
        write_npy(path, &NamedArray { name: "embeddings".into(), dtype: DType::F32, dims, data })?;
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if target.json {
        let one = |(i, row): (usize, &&[f32])| json!({"index": i, "tokens": tokens[i], "embedding": row});
        let all: Vec<_> = rows.iter().enumerate().map(one).collect();
        let peak = peak_rss().unwrap_or(0);
        let value = json!({"data": all, "columns": columns, "tokens": tokens.iter().sum::<usize>(),
            "load_seconds": load.as_secs_f64(), "seconds": seconds, "peak_rss": peak, "budget": opened.device.ledger().budget()});
        writeln!(out, "{value}")?;
    } else if args.cosine {
        for (i, row) in rows.iter().enumerate() {
            for other in &rows {
                write!(out, "{:>COLUMN$.3}", cosine(row, other))?;
            }
            let text: String =
                texts[i].chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
            writeln!(out, "  {text}")?;
        }
    } else if args.output.is_none() {
        rows.iter().try_for_each(|row| writeln!(out, "{}", json!(row)))?;
    }
    out.flush()?;
    if target.verbose > 0 {
        eprintln!(
            "edge-run: load {:.0} ms; {} tokens of {} texts in {:.1} ms; peak memory {}",
            load.as_secs_f64() * 1e3,
            tokens.iter().sum::<usize>(),
            texts.len(),
            seconds * 1e3,
            ByteSize(peak_rss().unwrap_or(0))
        );
    }
    Ok(())
}

/// The texts of the command line, or those of a file, one a line.
fn texts(args: &EmbedArgs) -> Result<Vec<String>, Failure> {
    let Some(path) = &args.lines else { return Ok(args.texts.clone()) };
    let bad = |e: std::io::Error| Failure::BadFile(format!("{}: {e}", path.display()));
    let mut all = String::new();
    match path.as_os_str() == "-" {
        true => std::io::stdin().lock().read_to_string(&mut all).map_err(bad)?,
        false => std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut all)).map_err(bad)?,
    };
    Ok(all.lines().map(str::to_string).collect())
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE)
}
