//! The commands of `edge-run`.
//!
//! A crate of its own, so that they are compiled for size: the program itself cannot be, see the workspace's `profile.release`.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod exit;
mod inputs;
mod inspect;
mod load;
mod logging;
mod plan;
mod print;
mod profile;
mod profile_device;
mod run;
mod subnet;
#[cfg(feature = "text")]
mod text;
mod verify;

use args::{Cli, Command};
use clap::Parser;
use clap::error::ErrorKind;
use exit::Failure;
use std::process::ExitCode;

/// Does what the command line says; the exit code is the published one.
pub fn main() -> ExitCode {
    exit::panics_are_internal_errors();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let help = matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // A closed pipe while printing help is nobody's error.
            let _ = e.print();
            return ExitCode::from(if help { 0 } else { exit::USAGE });
        }
    };
    match command(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Stdout(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("edge-run: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn command(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Some(Command::Plan(a)) => plan::command(&a),
        Some(Command::Bench(a)) => bench::command(&a),
        Some(Command::ProfileDevice(a)) => profile_device::command(&a),
        Some(Command::Verify(a)) => verify::command(&a),
        Some(Command::Inspect(a)) => inspect::command(&a),
        #[cfg(feature = "text")]
        Some(Command::Chat(a)) => text::chat::command(&a),
        #[cfg(feature = "text")]
        Some(Command::Perplexity(a)) => text::perplexity::command(&a),
        #[cfg(feature = "text")]
        Some(Command::Embed(a)) => text::embed::command(&a),
        #[cfg(feature = "text")]
        Some(Command::Tokenize(a)) => text::tokenize::command(&a),
        None => run::command(&cli.run),
    }
}
