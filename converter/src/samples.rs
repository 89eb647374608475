//! Inputs to calibrate and to measure with.

use crate::convert::Options;
use crate::draft::to_f32;
use crate::error::ConvertError;
use crate::journal::{Key, Mix};
use crate::shapes::Sizes;
use edge_runtime::Model;
use edge_runtime::graph::{DType, Dim, Graph, Port};
use edge_runtime::inputs::{NamedArray, read_npz};
use edge_runtime::pack::Rung;
use edge_runtime::plan::InputSpec;
use edge_runtime::random::uniform;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most bytes that one sample may have.
const SAMPLE_LIMIT: u64 = 1 << 30;
/// Key of the noise that stands in when no samples are given.
pub const NOISE_KEY: u64 = 0x5EED;

/// One set of inputs, in the graph's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// One array an input.
    pub inputs: Vec<NamedArray>,
    /// The right class, when the samples come with labels.
    pub label: Option<usize>,
}

/// Samples for calibration and others for measuring.
#[derive(Clone, Debug)]
pub struct Samples {
    /// Ranges and sensitivities are taken from these.
    pub calibration: Vec<Sample>,
    /// Quality is measured on these.
    pub held_out: Vec<Sample>,
    /// What they are, for the report.
    pub origin: String,
}

impl Sample {
    /// What it is, its label apart.
    pub fn key(&self) -> Key {
        let mix = |mix: Mix, a: &NamedArray| mix.debug(&(&a.name, a.dtype, &a.dims)).bytes(&a.data);
        self.inputs.iter().fold(Mix::of("sample"), mix).done()
    }

    /// What a planner must know of the sample.
    pub fn specs(&self) -> Vec<InputSpec> {
        self.inputs
            .iter()
            .map(|a| InputSpec {
                name: a.name.clone(),
                dtype: a.dtype,
                dims: a.dims.clone(),
                value: Some(a.data.clone().into()),
            })
            .collect()
    }
}

impl Samples {
    /// What they are.
    pub fn key(&self) -> Key {
        let mix = Mix::of("samples").debug(&(self.calibration.len(), self.held_out.len()));
        self.calibration.iter().chain(&self.held_out).fold(mix, |mix, sample| mix.key(&sample.key())).done()
    }

    /// Samples from a directory of `.npz` files (one sample each) or from one `.npz` whose arrays hold samples
    /// along their first axis. The last quarter is held out.
    ///
    /// # Errors
    /// When nothing there suits the graph's inputs.
    pub fn load(path: &Path, graph: &Graph) -> Result<Samples, ConvertError> {
        let mut all = Vec::new();
        if path.is_dir() {
            let mut files: Vec<PathBuf> = std::fs::read_dir(path)
                .map_err(|source| ConvertError::Io { path: path.into(), source })?
                .filter_map(|entry| entry.ok().map(|e| e.path()))
                .filter(|p| p.extension().is_some_and(|e| e == "npz"))
                .collect();
            files.sort();
            for file in &files {
                let sample = ordered(file, graph, read_npz(file, SAMPLE_LIMIT)?)?;
                suits(&sample, graph).map_err(|why| ConvertError::Samples { path: file.into(), why })?;
                all.push(sample);
            }
        } else {
            all = stacked(path, graph, read_npz(path, SAMPLE_LIMIT)?)?;
            for (i, sample) in all.iter().enumerate() {
                let why =
                    |why| ConvertError::Samples { path: path.into(), why: format!("sample {i}: {why}") };
                suits(sample, graph).map_err(why)?;
            }
        }
        if all.is_empty() {
            let why = "no samples; expected .npz files with one array an input".to_string();
            return Err(ConvertError::Samples { path: path.into(), why });
        }
        let held = (all.len() / 4).max(usize::from(all.len() > 1));
        let held_out = all.split_off(all.len() - held);
        let origin = format!("{} of {}", last_part(path), all.len() + held);
        let held_out = if held_out.is_empty() { all.clone() } else { held_out };
        Ok(Samples { calibration: all, held_out, origin })
    }

    /// The samples that the options name, or noise.
    ///
    /// # Errors
    /// As [`Samples::load`].
    pub fn of(options: &Options, model: &Arc<Model>, rung: &Rung) -> Result<Samples, ConvertError> {
        let graph = model.graph(rung);
        let mut samples = match &options.calib {
            Some(path) => Samples::load(path, graph)?,
            None => Samples::noise(model, rung, &options.shapes)?,
        };
        if let Some(path) = &options.held_out {
            let mut other = Samples::load(path, graph)?;
            samples.calibration.append(&mut samples.held_out);
            samples.held_out = other.calibration;
            samples.held_out.append(&mut other.held_out);
            samples.origin = last_part(path);
        }
        Ok(samples)
    }

    /// Seeded noise, for a model that no samples are given for: of the given shapes of inputs, and of [`Sizes::planned`].
    ///
    /// # Errors
    /// When an input has more elements than noise is made for, or no sizes of free dimensions suit the model.
    pub fn noise(
        model: &Arc<Model>,
        rung: &Rung,
        shapes: &[(String, Vec<usize>)],
    ) -> Result<Samples, ConvertError> {
        let sizes =
            Sizes::planned(model, rung, shapes).map_err(|source| ConvertError::FreeDimensions { source })?;
        Samples::noise_of(model.graph(rung), &sizes, shapes)
    }

    /// Seeded noise of the given shapes and sizes, whether they suit the model or not.
    ///
    /// # Errors
    /// When an input has more elements than noise is made for.
    pub(crate) fn noise_of(
        graph: &Graph,
        sizes: &Sizes<'_>,
        shapes: &[(String, Vec<usize>)],
    ) -> Result<Samples, ConvertError> {
        let sample =
            |i: u64| noise_sample(graph, sizes, shapes, 100 * i).ok_or_else(|| large(graph, sizes, shapes));
        Ok(Samples {
            calibration: (0..4).map(sample).collect::<Result<_, _>>()?,
            held_out: (4..8).map(sample).collect::<Result<_, _>>()?,
            origin: "seeded noise".to_string(),
        })
    }
}

/// What a pack says of where samples came from: not where they lay on the machine that converted.
fn last_part(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Most bytes of an input that noise is made for; no plan holds a larger value.
const MOST_NOISE: usize = 1 << 31;

/// The shape of an input: as it is given, or by sizes of its dimensions.
fn dims_of(graph: &Graph, port: &Port, sizes: &Sizes<'_>, shapes: &[(String, Vec<usize>)]) -> Vec<usize> {
    let given = shapes.iter().find(|(name, _)| name == graph.name(port.value));
    given.map_or_else(|| sizes.dims(port), |(_, dims)| dims.clone())
}

/// Bytes of an array, when noise is made for so many.
fn noise_bytes(port: &Port, dims: &[usize]) -> Option<usize> {
    let bytes = dims.iter().try_fold(port.dtype.bytes(), |bytes, dim| bytes.checked_mul(*dim));
    bytes.filter(|bytes| *bytes <= MOST_NOISE)
}

/// Says which input is too large to make noise for.
fn large(graph: &Graph, sizes: &Sizes<'_>, shapes: &[(String, Vec<usize>)]) -> ConvertError {
    let all = graph.inputs.iter().map(|port| (port, dims_of(graph, port, sizes, shapes)));
    let (name, dims) = match all.into_iter().find(|(port, dims)| noise_bytes(port, dims).is_none()) {
        Some((port, dims)) => (graph.name(port.value), dims),
        None => ("", Vec::new()),
    };
    let why = format!(
        "input `{name}` of {dims:?} is beyond {MOST_NOISE} bytes; give another shape, or samples (--calib)"
    );
    ConvertError::Option { option: "--shape", why }
}

/// A sample of noise, its key counted from [`NOISE_KEY`]; `None` when an input would be too large.
pub(crate) fn noise_sample(
    graph: &Graph,
    sizes: &Sizes<'_>,
    shapes: &[(String, Vec<usize>)],
    key: u64,
) -> Option<Sample> {
    let mut inputs = Vec::with_capacity(graph.inputs.len());
    for (i, port) in graph.inputs.iter().enumerate() {
        let dims = dims_of(graph, port, sizes, shapes);
        noise_bytes(port, &dims)?;
        inputs.push(noise(graph, port, dims, NOISE_KEY + key + i as u64));
    }
    Some(Sample { inputs, label: None })
}

fn noise(graph: &Graph, port: &Port, dims: Vec<usize>, key: u64) -> NamedArray {
    let n = dims.iter().product::<usize>();
    let mut data = Vec::with_capacity(n * port.dtype.bytes());
    for i in 0..n as u64 {
        let x = uniform(key, i);
        match port.dtype {
            DType::F32 => data.extend((2.0 * x - 1.0).to_le_bytes()),
            DType::F16 => data.extend(half::f16::from_f32(2.0 * x - 1.0).to_le_bytes()),
            DType::Bf16 => data.extend(half::bf16::from_f32(2.0 * x - 1.0).to_le_bytes()),
            DType::F64 => data.extend(f64::from(2.0 * x - 1.0).to_le_bytes()),
            DType::I64 => data.extend(i64::from((x * 2.0) as i32).to_le_bytes()),
            DType::I32 => data.extend(((x * 2.0) as i32).to_le_bytes()),
            DType::Bool => data.push(1),
            other => data.extend(std::iter::repeat_n(0, other.bytes())),
        }
    }
    NamedArray { name: graph.name(port.value).to_string(), dtype: port.dtype, dims, data }
}

/// The arrays in the graph's order; a state that is left out starts at zero.
fn ordered(path: &Path, graph: &Graph, mut arrays: Vec<NamedArray>) -> Result<Sample, ConvertError> {
    let mut inputs = Vec::with_capacity(graph.inputs.len());
    let given: Vec<(String, Vec<usize>)> = arrays.iter().map(|a| (a.name.clone(), a.dims.clone())).collect();
    let sizes = Sizes::of(graph, &given);
    for (i, port) in graph.inputs.iter().enumerate() {
        let name = graph.name(port.value);
        if let Some(at) = arrays.iter().position(|a| a.name == name) {
            inputs.push(arrays.swap_remove(at));
            continue;
        }
        if !graph.states.iter().any(|s| s.input == i) {
            let why = format!("no array `{name}`");
            return Err(ConvertError::Samples { path: path.into(), why });
        }
        let dims = sizes.dims(port);
        let data = vec![0; dims.iter().product::<usize>() * port.dtype.bytes()];
        inputs.push(NamedArray { name: name.to_string(), dtype: port.dtype, dims, data });
    }
    Ok(Sample { inputs, label: None })
}

/// Says in words how a sample does not suit the graph's inputs.
fn suits(sample: &Sample, graph: &Graph) -> Result<(), String> {
    for (array, port) in sample.inputs.iter().zip(&graph.inputs) {
        let name = &array.name;
        if array.dtype != port.dtype {
            let (got, want) = (array.dtype, port.dtype);
            return Err(format!("array `{name}` is {got}, the model takes {want}; save it as {want}"));
        }
        if let Some(dims) = &port.dims {
            let fits = |(declared, got): (&Dim, &usize)| {
                matches!(declared, Dim::Named(_)) || *declared == Dim::Fixed(*got)
            };
            if dims.len() != array.dims.len() || !dims.iter().zip(&array.dims).all(fits) {
                let got = &array.dims;
                return Err(format!("array `{name}` has shape {got:?}, the model takes {}", written(dims)));
            }
        }
        if matches!(array.dtype, DType::F32 | DType::F64 | DType::F16 | DType::Bf16) {
            let values = to_f32(array.dtype, &array.data);
            if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                let value = values[at];
                return Err(format!(
                    "array `{name}`, element {at} is {value}; samples hold finite numbers only"
                ));
            }
        }
    }
    Ok(())
}

/// A declared shape as people write it: `[batch, 3, 224, 224]`.
fn written(dims: &[Dim]) -> String {
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => size.to_string(),
        Dim::Named(name) if name.starts_with('?') => "?".to_string(),
        Dim::Named(name) => name.clone(),
    };
    format!("[{}]", dims.iter().map(size).collect::<Vec<_>>().join(", "))
}

/// Samples along the first axis of every array; u8 arrays of float inputs are scaled to [0, 1].
fn stacked(path: &Path, graph: &Graph, arrays: Vec<NamedArray>) -> Result<Vec<Sample>, ConvertError> {
    let wrong = |why: String| Err(ConvertError::Samples { path: path.into(), why });
    let first = arrays.iter().find(|a| graph.inputs.iter().any(|p| graph.name(p.value) == a.name));
    let list = |names: &mut dyn Iterator<Item = &str>| {
        names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    };
    let Some(first) = first else {
        let takes = list(&mut graph.inputs.iter().map(|port| graph.name(port.value)));
        let has = list(&mut arrays.iter().map(|a| a.name.as_str()));
        return wrong(format!("no array of an input: the file has {has}, the model takes {takes}"));
    };
    let Some(&count) = first.dims.first() else {
        return wrong(format!(
            "array `{}` is a single number, expected samples along its first axis",
            first.name
        ));
    };
    let mut labels = None;
    if let Some(a) = arrays.iter().find(|a| matches!(a.name.as_str(), "label" | "labels")) {
        let classes = to_f32(a.dtype, &a.data);
        if let Some(at) = classes.iter().position(|class| class.fract() != 0.0 || *class < 0.0) {
            return wrong(format!(
                "array `{}`, element {at} is {}, expected a class from 0 on",
                a.name, classes[at]
            ));
        }
        if classes.len() != count {
            return wrong(format!("array `{}` has {} labels for {count} samples", a.name, classes.len()));
        }
        labels = Some(classes);
    }
    let mut samples = Vec::with_capacity(count);
    for i in 0..count {
        let mut parts = Vec::with_capacity(arrays.len());
        for a in &arrays {
            let Some(port) = graph.inputs.iter().find(|p| graph.name(p.value) == a.name) else { continue };
            if a.dims.first() != Some(&count) {
                return wrong(format!(
                    "array `{}` has shape {:?}, others hold {count} samples",
                    a.name, a.dims
                ));
            }
            let bytes = a.data.len() / count;
            let data = &a.data[i * bytes..(i + 1) * bytes];
            let mut dims = a.dims.clone();
            dims[0] = 1;
            // Without a batch dimension of its own an array's first axis is only the count.
            if port.dims.as_ref().is_some_and(|d| d.len() + 1 == dims.len()) {
                dims.remove(0);
            }
            let (dtype, data) = match (a.dtype, port.dtype) {
                (DType::U8, DType::F32) => {
                    (DType::F32, data.iter().flat_map(|b| (f32::from(*b) / 255.0).to_le_bytes()).collect())
                }
                _ => (a.dtype, data.to_vec()),
            };
            parts.push(NamedArray { name: a.name.clone(), dtype, dims, data });
        }
        let label = labels.as_ref().map(|classes| classes[i] as usize);
        samples.push(Sample { label, ..ordered(path, graph, parts)? });
    }
    Ok(samples)
}
