//! `edge-run`: runs a model.pack inside a memory budget.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    edge_commands::main()
}
