//! States: outputs of one run that are inputs of the next.

use super::ImportError;
use crate::model::Model;
use edge_runtime::graph::{Dim, Port, State};

/// An output that looks like the next value of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateGuess {
    /// The output's name.
    pub output: String,
    /// The input's name.
    pub input: String,
}

/// Ties outputs to inputs, as `--state OUT=IN` names them.
///
/// # Errors
/// [`ImportError::State`] when a name is unknown or used twice, or the two cannot be one value (element type, rank, fixed sizes).
pub fn apply_states(model: &mut Model, pairs: &[(String, String)]) -> Result<(), ImportError> {
    for (output, input) in pairs {
        let error =
            |reason: String| ImportError::State { output: output.clone(), input: input.clone(), reason };
        let graph = &model.graph;
        let find = |ports: &[Port], name: &str, kind: &str| {
            let names = || ports.iter().map(|p| graph.name(p.value)).collect::<Vec<_>>().join(", ");
            let found = ports.iter().position(|p| graph.name(p.value) == name);
            found.ok_or_else(|| error(format!("no {kind} is named `{name}`; there are {}", names())))
        };
        let to = find(&graph.inputs, input, "input")?;
        let from = find(&graph.outputs, output, "output")?;
        if graph.states.iter().any(|s| s.input == to || s.output == from) {
            return Err(error("one of them is a state already".into()));
        }
        if let Some(reason) = mismatch(&graph.outputs[from], &graph.inputs[to]) {
            return Err(error(reason));
        }
        model.graph.states.push(State { input: to, output: from });
    }
    Ok(())
}

/// Pairs that look like states: the output's name less a mark of newness is the input's, and the two can be one value. They are
/// suggestions; nothing is tied.
pub fn guess_states(model: &Model) -> Vec<StateGuess> {
    let graph = &model.graph;
    let mut guesses: Vec<StateGuess> = Vec::new();
    for output in &graph.outputs {
        let name = graph.name(output.value);
        let fits = |input: &&Port| {
            let candidate = graph.name(input.value);
            let free = !guesses.iter().any(|g| g.input == candidate);
            free && candidate != name && stem(name) == stem(candidate) && mismatch(output, input).is_none()
        };
        if let Some(input) = graph.inputs.iter().find(fits) {
            let input = graph.name(input.value).to_owned();
            guesses.push(StateGuess { output: name.to_owned(), input });
        }
    }
    guesses
}

/// A name without marks of before and after: `stateN`, `hn`, `h_out`, `new_h`, `present.0`, `past.0`.
fn stem(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let mut stem = lower.as_str();
    for mark in ["new_", "next_", "present_", "past_", "present.", "past.", "prev_", "out_", "in_"] {
        stem = stem.strip_prefix(mark).unwrap_or(stem);
    }
    for mark in ["_out", "_new", "_next", "_in", "_prev", "new", "out", "_n", "n", "0"] {
        // What is left must still name something.
        stem = stem.strip_suffix(mark).filter(|s| !s.is_empty()).unwrap_or(stem);
    }
    stem.to_owned()
}

/// Why an output cannot be an input's next value.
fn mismatch(output: &Port, input: &Port) -> Option<String> {
    if output.dtype != input.dtype {
        return Some(format!("the output is {}, the input {}", output.dtype, input.dtype));
    }
    let (Some(from), Some(to)) = (&output.dims, &input.dims) else { return None };
    if from.len() != to.len() {
        return Some(format!("the output has {} dimensions, the input {}", from.len(), to.len()));
    }
    from.iter().zip(to).enumerate().find_map(|(axis, pair)| match pair {
        (Dim::Fixed(a), Dim::Fixed(b)) if a != b => {
            Some(format!("axis {axis} is {a} in the output and {b} in the input"))
        }
        _ => None,
    })
}
