//! `edge-run`: runs a model.pack inside a memory budget.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod exit;
mod inputs;
mod inspect;
mod load;
mod logging;
mod options;
mod plan;
mod print;
mod run;
mod verify;

use args::Command;
use exit::Failure;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    exit::panics_are_internal_errors();
    let done = match args::parse(std::env::args_os().skip(1)) {
        Ok(parsed) => command(parsed),
        Err(why) => Err(Failure::Usage(why)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Stdout(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("edge-run: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn command(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(a) => run::command(&a),
        Command::Plan(a) => plan::command(&a),
        Command::Bench(a) => bench::command(&a),
        Command::Verify(a) => verify::command(&a),
        Command::Inspect(a) => inspect::command(&a),
        Command::Say(text) => Ok(std::io::stdout().write_all(text.as_bytes())?),
    }
}
