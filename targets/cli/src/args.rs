//! The command line.

use crate::options::{Flag, Given, Operand, Syntax, row};
use edge_runtime::device::ByteSize;
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

const EXAMPLES: &str = "\
Examples:
  edge-run model.pack --mem 64MB --input photo.png --top 5
  edge-run model.pack --mem 8MiB --input x=x.npy --output out.npz --explain
  edge-run plan model.pack --mem 64MB --json
  edge-run inspect model.pack
  edge-run verify model.pack
  edge-run bench model.pack --mem 64MB --repeat 50

Exit codes: 0 ok, 1 internal, 2 usage, 3 unsupported model, 4 bad or missing file, 5 does not fit the memory,
6 device or I/O, 7 golden check failed, 130 interrupted.

Environment: EDGE_THREADS, EDGE_ISA (scalar, avx2, ...), EDGE_LOG (error, warn, info, debug).
";

const fn value(short: Option<char>, long: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag { short, long, value: Some(value), help }
}

const fn switch(short: Option<char>, long: &'static str, help: &'static str) -> Flag {
    Flag { short, long, value: None, help }
}

const SHAPE: Flag = value(
    None,
    "shape",
    "[NAME=]DIMS",
    "Shape of an input whose dimensions are free: NAME=1,3,640,640 or 1,3,640,640 for the only input.",
);
const JSON: Flag = switch(None, "json", "Print JSON.");

const TARGET: &[Flag] = &[
    value(
        None,
        "mem",
        "SIZE",
        "Memory for the whole process, such as 512MB (10^6) or 512MiB (2^20) [default: what the system allows].",
    ),
    value(None, "rung", "ID", "Run this rung instead of the best that fits (`edge-run inspect` lists them)."),
    value(Some('t'), "threads", "N", "Worker threads [default: the CPUs that the system grants]."),
    SHAPE,
    switch(
        None,
        "strict",
        "Refuse a pack whose end is missing, instead of running the best rung that is whole.",
    ),
    JSON,
    switch(Some('v'), "verbose", "Say more on stderr; twice for debugging."),
];

const PACK: Operand = Operand { name: "<PACK>", help: "The pack." };

const RUN: Syntax = Syntax {
    name: "edge-run",
    about: "Runs a model.pack on the best rung that fits the memory.",
    operand: PACK,
    flags: &[
        TARGET,
        &[
            value(
                Some('i'),
                "input",
                "[NAME=]FILE",
                "An input: x.npy, inputs.npz, picture.png or .jpg, sound.wav; NAME= where the model has several.",
            ),
            value(Some('o'), "output", "FILE.npz", "Write the outputs to a NumPy archive."),
            value(None, "top", "N", "Print the N greatest elements of the first output, with their labels."),
            switch(None, "explain", "Say why this rung, what it takes, and what the next one would need."),
            switch(None, "no-mmap", "Read the weights into memory instead of mapping the file."),
            switch(None, "verify", "Check the hashes of what is read before it is used."),
            switch(Some('V'), "version", "Print the version."),
        ],
    ],
};

const PLAN: Syntax = Syntax {
    name: "edge-run plan",
    about: "Say which rung would run and what it takes; reads no weights.",
    operand: PACK,
    flags: &[TARGET],
};

const BENCH: Syntax = Syntax {
    name: "edge-run bench",
    about: "Time runs on seeded inputs.",
    operand: PACK,
    flags: &[
        TARGET,
        &[
            value(None, "repeat", "N", "Timed runs [default: 20]."),
            value(None, "warmup", "N", "Runs before timing [default: 3]."),
            switch(None, "profile", "Time every step and list the slowest."),
            value(
                None,
                "format",
                "FORMAT",
                "How the result is written: md (a table), csv, or json with every sample [default: md].",
            ),
        ],
    ],
};

const VERIFY: Syntax = Syntax {
    name: "edge-run verify",
    about: "Check every hash of the file, then the golden outputs.",
    operand: PACK,
    flags: &[TARGET],
};

const INSPECT: Syntax = Syntax {
    name: "edge-run inspect",
    about: "List the model card, the ladder and the values that stay floats.",
    operand: PACK,
    flags: &[&[value(None, "rung", "ID", "List the steps of the plan of a rung."), SHAPE, JSON]],
};

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    Run(RunArgs),
    Plan(PlanArgs),
    Bench(BenchArgs),
    Verify(VerifyArgs),
    Inspect(InspectArgs),
    /// Text for stdout: help, the version.
    Say(String),
}

/// What every command that makes a plan takes.
#[derive(Debug)]
pub struct Target {
    pub mem: Option<ByteSize>,
    pub rung: Option<String>,
    pub threads: Option<usize>,
    pub shape: Vec<String>,
    pub strict: bool,
    pub json: bool,
    pub verbose: u8,
}

#[derive(Debug)]
pub struct RunArgs {
    pub pack: PathBuf,
    pub target: Target,
    pub input: Vec<String>,
    pub output: Option<PathBuf>,
    pub top: Option<usize>,
    pub explain: bool,
    pub no_mmap: bool,
    pub verify: bool,
}

#[derive(Debug)]
pub struct PlanArgs {
    pub pack: PathBuf,
    pub target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BenchFormat {
    /// A table.
    Md,
    /// Comma-separated values.
    Csv,
    /// JSON with every sample.
    Json,
}

impl FromStr for BenchFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "md" => Ok(BenchFormat::Md),
            "csv" => Ok(BenchFormat::Csv),
            "json" => Ok(BenchFormat::Json),
            _ => Err("expected md, csv or json"),
        }
    }
}

#[derive(Debug)]
pub struct BenchArgs {
    pub pack: PathBuf,
    pub target: Target,
    pub repeat: usize,
    pub warmup: usize,
    pub profile: bool,
    pub format: BenchFormat,
}

#[derive(Debug)]
pub struct VerifyArgs {
    pub pack: PathBuf,
    pub target: Target,
}

#[derive(Debug)]
pub struct InspectArgs {
    pub pack: PathBuf,
    pub rung: Option<String>,
    pub shape: Vec<String>,
    pub json: bool,
}

fn target(given: &Given) -> Result<Target, String> {
    Ok(Target {
        mem: given.one("mem")?,
        rung: given.one("rung")?,
        threads: given.one("threads")?,
        shape: given.all("shape"),
        strict: given.has("strict"),
        json: given.has("json"),
        verbose: given.count("verbose"),
    })
}

fn pack(given: &mut Given, syntax: &Syntax) -> Result<PathBuf, String> {
    let pack = given.operand().ok_or_else(|| format!("no pack given; see {} --help", syntax.name))?;
    Ok(pack.into())
}

/// The help of the whole: that of a run, the other commands, examples.
fn overview() -> String {
    let mut text = RUN.help();
    text += "\nCommands (each has its own --help):\n";
    for syntax in [&PLAN, &BENCH, &VERIFY, &INSPECT] {
        let name = syntax.name.trim_start_matches("edge-run ");
        text += &row(name, syntax.about, 9);
    }
    text + "\n" + EXAMPLES
}

/// Reads a command line, without the program's name.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut args = args.peekable();
    let syntax = match args.peek().and_then(|first| first.to_str()) {
        Some("plan") => &PLAN,
        Some("bench") => &BENCH,
        Some("verify") => &VERIFY,
        Some("inspect") => &INSPECT,
        Some("help") => return Ok(Command::Say(overview())),
        _ => &RUN,
    };
    if syntax.name != RUN.name {
        args.next();
    }
    let Some(mut given) = syntax.parse(args)? else {
        return Ok(Command::Say(if syntax.name == RUN.name { overview() } else { syntax.help() }));
    };
    if given.has("version") {
        return Ok(Command::Say(format!("edge-run {}\n", env!("CARGO_PKG_VERSION"))));
    }
    let pack = pack(&mut given, syntax)?;
    Ok(match syntax.name {
        "edge-run plan" => Command::Plan(PlanArgs { pack, target: target(&given)? }),
        "edge-run bench" => Command::Bench(BenchArgs {
            pack,
            target: target(&given)?,
            repeat: given.one("repeat")?.unwrap_or(20),
            warmup: given.one("warmup")?.unwrap_or(3),
            profile: given.has("profile"),
            format: given.one("format")?.unwrap_or(BenchFormat::Md),
        }),
        "edge-run verify" => Command::Verify(VerifyArgs { pack, target: target(&given)? }),
        "edge-run inspect" => Command::Inspect(InspectArgs {
            pack,
            rung: given.one("rung")?,
            shape: given.all("shape"),
            json: given.has("json"),
        }),
        _ => Command::Run(RunArgs {
            pack,
            target: target(&given)?,
            input: given.all("input"),
            output: given.one("output")?,
            top: given.one("top")?,
            explain: given.has("explain"),
            no_mmap: given.has("no-mmap"),
            verify: given.has("verify"),
        }),
    })
}
