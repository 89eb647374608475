//! The built programs, run as processes.
//!
//! Cargo tells a test only the programs of its own package, so the first use builds them with the same cargo and
//! profile as the tests; when they are built already that takes a fraction of a second.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// The path of a program of this repository: `edge-run`, `edge-convert` or an example's.
pub fn program(name: &str) -> &'static Path {
    static PROGRAMS: OnceLock<HashMap<String, PathBuf>> = OnceLock::new();
    let programs = PROGRAMS.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        cargo.args(["build", "--quiet", "--message-format=json-render-diagnostics"]);
        cargo.args(["-p", "edge-cli", "-p", "edge-converter", "-p", "edge-example-ocr", "--bins"]);
        if cfg!(feature = "witness") {
            cargo.args(["--features", "edge-converter/witness"]);
        }
        match profile().as_str() {
            "debug" => {}
            name => {
                cargo.args(["--profile", name]);
            }
        }
        let built = cargo.stderr(Stdio::inherit()).output().unwrap();
        assert!(built.status.success(), "building the programs failed");
        let messages = String::from_utf8(built.stdout).unwrap();
        let executable = |line: &str| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            let path = message["executable"].as_str()?;
            Some((message["target"]["name"].as_str()?.to_string(), PathBuf::from(path)))
        };
        messages.lines().filter_map(executable).collect()
    });
    programs.get(name).unwrap_or_else(|| panic!("cargo built no {name}"))
}

/// The profile that the running test was built with, as cargo names its folder: `PROFILE/deps/TEST`.
fn profile() -> String {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).and_then(Path::file_name).unwrap().to_string_lossy().into_owned()
}

/// A call of a program, with a clean environment of the EDGE_ variables.
pub struct Program(Command);

/// A call of `edge-run`.
pub fn edge_run() -> Program {
    Program::new("edge-run")
}

/// A call of `edge-convert`.
pub fn edge_convert() -> Program {
    Program::new("edge-convert")
}

/// A call of the example `ocr`.
pub fn ocr() -> Program {
    Program::new("ocr")
}

impl Program {
    fn new(name: &str) -> Program {
        let mut command = Command::new(program(name));
        for variable in ["EDGE_THREADS", "EDGE_ISA", "EDGE_LOG"] {
            command.env_remove(variable);
        }
        // Conversions measure for themselves, and leave nothing in the home of whoever tests.
        command.env("EDGE_CACHE_DIR", "");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Program(command)
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Program {
        self.0.arg(arg);
        self
    }

    /// Adds arguments that stand between spaces.
    pub fn args(mut self, args: &str) -> Program {
        self.0.args(args.split_whitespace());
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Program {
        self.0.env(name, value);
        self
    }

    /// Takes an environment variable away.
    pub fn without(mut self, name: &str) -> Program {
        self.0.env_remove(name);
        self
    }

    /// Starts it; for tests that send signals or close pipes.
    pub fn spawn(mut self) -> Child {
        self.0.spawn().unwrap()
    }

    /// As [`Program::spawn`], for tests that write to its stdin.
    pub fn spawn_with_stdin(mut self) -> Child {
        self.0.stdin(Stdio::piped()).spawn().unwrap()
    }

    /// Runs it to its end.
    pub fn run(self) -> Ended {
        Ended::of(self.spawn())
    }
}

/// A process that ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// Its greatest resident size in bytes as seen from outside, at most 200 microseconds before its end.
    pub peak: u64,
}

impl Ended {
    /// Waits for a child whose stdout and stderr are pipes, or closed.
    pub fn of(mut child: Child) -> Ended {
        let stderr = child.stderr.take().map(|mut pipe| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                pipe.read_to_end(&mut bytes).unwrap();
                bytes
            })
        });
        // Read while it runs: the count that `wait4` gives afterwards includes this process's own size, for between
        // fork and exec the two are one.
        let process = child.id();
        let peak = std::thread::spawn(move || {
            let mut peak = 0;
            while let Some(now) = peak_of(process) {
                peak = now;
                std::thread::sleep(Duration::from_micros(200));
            }
            peak
        });
        let mut stdout = Vec::new();
        if let Some(mut pipe) = child.stdout.take() {
            pipe.read_to_end(&mut stdout).unwrap();
        }
        let stderr = stderr.map(|reader| reader.join().unwrap()).unwrap_or_default();
        let (status, peak) = (child.wait().unwrap(), peak.join().unwrap());
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ended {
            code: status.code(),
            signal: status.signal(),
            stdout: text(stdout),
            stderr: text(stderr),
            peak,
        }
    }

    /// Fails unless the exit code is `code`, and, for an error, unless stderr says something and is no panic.
    #[track_caller]
    pub fn expect(&self, code: i32) -> &Ended {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        assert!(code == 0 || !self.stderr.trim().is_empty(), "an error without a message: {self:#?}");
        self
    }

    /// As [`Ended::expect`], and stderr holds each of `words`.
    #[track_caller]
    pub fn expect_saying(&self, code: i32, words: &[&str]) -> &Ended {
        self.expect(code);
        for word in words {
            assert!(self.stderr.contains(word), "no `{word}` in {self:#?}");
        }
        self
    }

    /// The last number of bytes, `(8,005,846 bytes)`, that stderr names.
    #[track_caller]
    pub fn bytes_named(&self) -> u64 {
        let last = self.stderr.rsplit_once(" bytes)").and_then(|(before, _)| before.rsplit_once('('));
        let number = last.and_then(|(_, number)| number.replace(',', "").parse().ok());
        number.unwrap_or_else(|| panic!("no bytes named in {self:#?}"))
    }

    /// The stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
}

/// The greatest resident size so far of a process, in bytes, as the kernel counts it; `None` once it has ended.
fn peak_of(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}
