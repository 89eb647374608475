//! Files and shapes from the command line as inputs of a graph.

use crate::exit::Failure;
use edge_runtime::graph::{DType, Dim, Graph, Port};
use edge_runtime::inputs::{InputError, NamedArray, read_npy, read_npz, read_picture, read_sound};
use edge_runtime::pack::{Card, ImageLayout, Preprocess};
use edge_runtime::plan::InputSpec;
use edge_runtime::random::uniform;
use std::path::Path;

/// `NAME=FILE` or `FILE`, unless the whole is a file.
fn split(text: &str) -> (Option<&str>, &Path) {
    match text.split_once('=') {
        Some((name, path)) if !Path::new(text).exists() => (Some(name), Path::new(path)),
        _ => (None, Path::new(text)),
    }
}

/// Reads every input; states that are not given start at zero. At most `limit` bytes are decoded.
pub fn read(graph: &Graph, card: &Card, given: &[String], limit: u64) -> Result<Vec<NamedArray>, Failure> {
    let mut arrays: Vec<NamedArray> = Vec::new();
    for text in given {
        let (name, path) = split(text);
        let left = limit.saturating_sub(arrays.iter().map(|a| a.data.len() as u64).sum());
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        match extension.as_str() {
            "npz" => arrays.extend(read_npz(path, left)?),
            "npy" => {
                let mut array = read_npy(path, left)?;
                array.name = target(graph, name, text)?;
                arrays.push(array);
            }
            "png" | "jpg" | "jpeg" | "bmp" => {
                let name = target(graph, name, text)?;
                arrays.push(picture(graph, card, &name, path, left)?);
            }
            "wav" => {
                let name = target(graph, name, text)?;
                let rate = match card.preprocess.get(&name) {
                    Some(Preprocess::Audio { sample_rate }) => *sample_rate,
                    _ => 16_000,
                };
                arrays.push(read_sound(path, &name, rate, left)?);
            }
            _ => return Err(InputError::Kind { path: path.into(), extension }.into()),
        }
    }
    // Before what is missing: a misspelt name is both, and this is the half that says so.
    let names = |p: &Port| graph.name(p.value);
    if let Some(extra) = arrays.iter().find(|a| !graph.inputs.iter().any(|p| names(p) == a.name)) {
        let have: Vec<_> = graph.inputs.iter().map(|p| format!("`{}`", names(p))).collect();
        let what = format!("the model has no input `{}`; it has {}", extra.name, have.join(", "));
        return Err(Failure::Usage(what));
    }
    let mut ordered = Vec::with_capacity(graph.inputs.len());
    for (i, port) in graph.inputs.iter().enumerate() {
        let name = graph.name(port.value);
        match arrays.iter().position(|a| a.name == name) {
            Some(at) => ordered.push(arrays.swap_remove(at)),
            None if graph.states.iter().any(|s| s.input == i) => {
                ordered.push(filled(graph, port, &[], false)?)
            }
            None => {
                let dims = port.dims.as_deref().map(describe).unwrap_or_default();
                let what =
                    format!("input `{name}` ({} {dims}) is missing; give --input {name}=FILE", port.dtype);
                return Err(Failure::Usage(what));
            }
        }
    }
    if let Some(twice) = arrays.first() {
        return Err(Failure::Usage(format!("input `{}` is given twice", twice.name)));
    }
    Ok(ordered)
}

/// The input that a file is for: the named one, or the only one that is no state.
fn target(graph: &Graph, name: Option<&str>, text: &str) -> Result<String, Failure> {
    if let Some(name) = name {
        return Ok(name.to_string());
    }
    let free: Vec<&str> = graph
        .inputs
        .iter()
        .enumerate()
        .filter(|(i, _)| !graph.states.iter().any(|s| s.input == *i))
        .map(|(_, p)| graph.name(p.value))
        .collect();
    match free[..] {
        [only] => Ok(only.to_string()),
        _ => Err(Failure::Usage(format!(
            "--input {text}: the model has inputs {}; write NAME={text}",
            free.join(", ")
        ))),
    }
}

fn picture(graph: &Graph, card: &Card, name: &str, path: &Path, limit: u64) -> Result<NamedArray, Failure> {
    let port = graph.inputs.iter().find(|p| graph.name(p.value) == name);
    let port = port.ok_or_else(|| Failure::Usage(format!("the model has no input `{name}`")))?;
    let how = card.preprocess.get(name).ok_or_else(|| {
        Failure::Usage(format!(
            "the pack does not say how a picture becomes `{name}`; convert with a model card (--card) or give an .npy"
        ))
    })?;
    let fixed = match (how, port.dims.as_deref()) {
        (Preprocess::Image { layout, .. }, Some([_, a, b, c])) => {
            let side = |d: &Dim| match d {
                Dim::Fixed(n) => Some(*n),
                Dim::Named(_) => None,
            };
            if *layout == ImageLayout::Nchw { [side(b), side(c)] } else { [side(a), side(b)] }
        }
        _ => [None, None],
    };
    Ok(read_picture(path, name, how, fixed, limit)?)
}

/// Inputs of given shapes filled with seeded noise, for planning and timing.
pub fn noise(graph: &Graph, shapes: &[String]) -> Result<Vec<NamedArray>, Failure> {
    let mut given = Vec::with_capacity(shapes.len());
    for text in shapes {
        let (name, dims) = match text.rsplit_once('=') {
            Some((name, dims)) => (name.to_string(), dims),
            None => (target(graph, None, text)?, text.as_str()),
        };
        let dims: Result<Vec<usize>, _> = dims.split(',').map(|d| d.trim().parse()).collect();
        let dims = dims.map_err(|_| {
            Failure::Usage(format!("--shape {text}: expected numbers as in NAME=1,3,640,640"))
        })?;
        given.push((name, dims));
    }
    graph.inputs.iter().map(|p| filled(graph, p, &given, true)).collect()
}

fn filled(
    graph: &Graph,
    port: &Port,
    shapes: &[(String, Vec<usize>)],
    noise: bool,
) -> Result<NamedArray, Failure> {
    let name = graph.name(port.value);
    let dims = match shapes.iter().find(|(n, _)| n == name) {
        Some((_, dims)) => dims.clone(),
        None => {
            let declared = port.dims.clone().unwrap_or_default();
            let rank = declared.len();
            let size = |(i, d): (usize, &Dim)| match d {
                Dim::Fixed(n) => *n,
                Dim::Named(_) if i == 0 => 1,
                Dim::Named(_) if rank == 4 => 64,
                Dim::Named(_) => 16,
            };
            declared.iter().enumerate().map(size).collect()
        }
    };
    let n = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n <= 1 << 28);
    let n =
        n.ok_or_else(|| Failure::Usage(format!("--shape of `{name}`: {dims:?} is beyond 2^28 elements")))?;
    let mut data = Vec::with_capacity(n * port.dtype.bytes());
    for i in 0..n as u64 {
        match port.dtype {
            DType::F32 if noise => data.extend((2.0 * uniform(0x5EED, i) - 1.0).to_le_bytes()),
            dtype => data.extend(std::iter::repeat_n(0u8, dtype.bytes())),
        }
    }
    Ok(NamedArray { name: name.to_string(), dtype: port.dtype, dims, data })
}

/// What the planner must know of the inputs.
pub fn specs(arrays: &[NamedArray]) -> Vec<InputSpec> {
    arrays
        .iter()
        .map(|a| InputSpec {
            name: a.name.clone(),
            dtype: a.dtype,
            dims: a.dims.clone(),
            // Only small integers decide shapes; a picture is not copied for the planner.
            value: (a.data.len() <= 4096).then(|| a.data.clone().into()),
        })
        .collect()
}

/// A declared shape as people write it.
pub fn describe(dims: &[Dim]) -> String {
    let dims: Vec<String> = dims
        .iter()
        .map(|d| match d {
            Dim::Fixed(n) => n.to_string(),
            Dim::Named(name) if name.starts_with('?') => "?".to_string(),
            Dim::Named(name) => name.clone(),
        })
        .collect();
    format!("[{}]", dims.join(", "))
}
