//! The process that the witness runs in, from both sides.

#[cfg(feature = "witness")]
use super::engine;
use super::verdict::Answer;
use super::{CHILD, Witness};
use crate::error::ConvertError;
use edge_runtime::graph::DType;
use edge_runtime::inputs::{NamedArray, read_npz, write_npz};
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Most bytes of arrays that go either way.
const LIMIT: u64 = 1 << 30;
/// How often the child is looked at.
const PAUSE: Duration = Duration::from_millis(5);

/// The outputs of one run in order, or why there are none.
///
/// # Errors
/// When the files for the child cannot be written, or `stop` is set.
pub(super) fn run(
    witness: &Witness,
    model: &Path,
    inputs: &[NamedArray],
    stop: &AtomicBool,
) -> Result<Result<Vec<Answer>, String>, ConvertError> {
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| ConvertError::Io { path, source }
    };
    let folder =
        tempfile::Builder::new().prefix("edge-witness-").tempdir().map_err(io(&std::env::temp_dir()))?;
    let file = |name: &str| folder.path().join(name);
    let (given, results, words) = (file("in.npz"), file("out.npz"), file("words.txt"));
    write_npz(&given, inputs)?;
    let child = Command::new(&witness.program)
        .arg(CHILD)
        .args([model, &given, &results])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&words).map_err(io(&words))?)
        .spawn();
    let child = match child {
        Ok(child) => child,
        Err(e) => return Ok(Err(format!("{}: {e}", witness.program.display()))),
    };
    let Some(status) = wait(child, witness.timeout, stop).map_err(io(&witness.program))? else {
        return Ok(Err(format!("no answer in {} s", witness.timeout.as_secs_f64())));
    };
    // An interrupt at a terminal reaches the child too, perhaps before `stop` is set.
    if stop.load(Ordering::Relaxed) || by_interrupt(status) {
        return Err(ConvertError::Interrupted);
    }
    if !status.success() {
        let words = std::fs::read(&words).unwrap_or_default();
        return Ok(Err(last_words(&String::from_utf8_lossy(&words), status)));
    }
    Ok(read_npz(&results, LIMIT).map(outputs).map_err(|e| e.to_string()))
}

#[cfg(unix)]
fn by_interrupt(status: ExitStatus) -> bool {
    const SIGINT: i32 = 2;
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(SIGINT)
}

#[cfg(not(unix))]
fn by_interrupt(_: ExitStatus) -> bool {
    false
}

/// How the child ended; `None` when it had to be killed because time was up. An interrupt kills it, too.
fn wait(
    mut child: Child,
    timeout: Duration,
    stop: &AtomicBool,
) -> Result<Option<ExitStatus>, std::io::Error> {
    let end = Instant::now() + timeout;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let interrupted = stop.load(Ordering::Relaxed);
        if interrupted || Instant::now() >= end {
            child.kill()?;
            let status = child.wait()?;
            return Ok(interrupted.then_some(status));
        }
        std::thread::sleep(PAUSE);
    }
}

/// What a child that failed said: its error, or the message of its panic.
fn last_words(said: &str, status: ExitStatus) -> String {
    let said = said
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with("thread '") && !line.starts_with("note:"));
    match (said, status.code()) {
        (Some(line), Some(1)) => line.to_string(),
        (Some(line), _) => format!("{status}: {line}"),
        (None, _) => status.to_string(),
    }
}

/// Arrays named by their position, as the child writes them.
fn outputs(mut arrays: Vec<NamedArray>) -> Vec<Answer> {
    arrays.sort_by_key(|a| a.name.parse::<usize>().unwrap_or(usize::MAX));
    let answer = |a: &NamedArray| Answer {
        values: crate::draft::to_f32(a.dtype, &a.data),
        exact: a.dtype != DType::F32,
    };
    arrays.iter().map(answer).collect()
}

#[cfg(feature = "witness")]
fn evaluate(model: &Path, inputs: &[NamedArray]) -> Result<Vec<Answer>, String> {
    engine::run(model, inputs)
}

#[cfg(not(feature = "witness"))]
fn evaluate(model: &Path, _: &[NamedArray]) -> Result<Vec<Answer>, String> {
    Err(format!("{}: this program is built without the feature `witness`", model.display()))
}

/// MODEL IN.npz OUT.npz: the child's side.
pub(super) fn serve(arguments: &[OsString]) -> Result<(), String> {
    let [model, given, results] = arguments else {
        return Err(format!(
            "{} arguments, expected a model, inputs and a file for outputs",
            arguments.len()
        ));
    };
    let inputs = read_npz(Path::new(given), LIMIT).map_err(|e| e.to_string())?;
    let outputs = evaluate(Path::new(model), &inputs)?;
    let arrays: Vec<NamedArray> = outputs
        .into_iter()
        .enumerate()
        .map(|(i, answer)| {
            let floats = answer.values.iter();
            let (dtype, data) = if answer.exact {
                (DType::I64, floats.flat_map(|v| (*v as i64).to_le_bytes()).collect())
            } else {
                (DType::F32, floats.flat_map(|v| v.to_le_bytes()).collect())
            };
            NamedArray { name: i.to_string(), dtype, dims: vec![answer.values.len()], data }
        })
        .collect();
    write_npz(Path::new(results), &arrays).map_err(|e| e.to_string())
}
