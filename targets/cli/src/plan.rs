//! `edge-run plan`: which rung would run, without touching a weight.

use crate::args::PlanArgs;
use crate::exit::Failure;
use crate::{inputs, load, print};
use std::io::Write;

pub fn command(args: &PlanArgs) -> Result<(), Failure> {
    let opened = load::open(&args.pack, &args.target)?;
    let graph = &opened.model.header().graphs[0];
    let arrays = inputs::noise(graph, &args.target.shape)?;
    let selection = opened.select(&args.target, &inputs::specs(&arrays), 0, true)?;
    let mut out = std::io::stdout().lock();
    if args.target.json {
        writeln!(out, "{:#}", print::selection(&opened.model, &opened.device, &selection))?;
    } else {
        write!(out, "{}", print::explanation(&opened.model, &opened.device, &selection))?;
    }
    Ok(())
}
