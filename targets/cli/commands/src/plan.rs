//! `edge-run plan`: which rung would run, without touching a weight.

use crate::args::PlanArgs;
use crate::exit::Failure;
use crate::{inputs, load, print, subnet};
use serde_json::Value;
use std::io::Write;

pub fn command(args: &PlanArgs) -> Result<(), Failure> {
    let mut opened = load::open(&args.pack, &args.target)?;
    let arrays = inputs::noise(&opened.model.header().graphs[0], &args.target.shape)?;
    subnet::foretell(&mut opened, &args.target, &arrays, None, true)?;
    let (request, specs) = (opened.request(&args.target), inputs::specs(&arrays));
    let selection = opened.select(&request, &specs)?;
    let next = opened.next_better(&request, &specs, &selection)?;
    let all = if args.all { Some(opened.candidates(&request, &specs, &selection)?) } else { None };
    let mut out = std::io::stdout().lock();
    if args.target.json {
        let mut value = print::selection(&opened, &selection);
        value["next"] = next.map_or(Value::Null, |next| print::candidate(&opened, &next));
        if let Some(all) = all {
            value["candidates"] = all.iter().map(|c| print::candidate(&opened, c)).collect();
        }
        writeln!(out, "{value:#}")?;
        return Ok(());
    }
    write!(out, "{}", print::explanation(&opened, &selection, next.as_ref()))?;
    for candidate in all.iter().flatten() {
        writeln!(out, "{}", print::line(&opened, candidate))?;
    }
    Ok(())
}
