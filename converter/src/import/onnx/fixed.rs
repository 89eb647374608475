//! Sizes for free dimensions, given before the model is read: what depends on them, as the turns of a loop do, is then known.

use super::ports::is_name;
use super::proto::{DimensionProto, GraphProto, ValueInfoProto};
use crate::import::ImportError;
use std::collections::HashMap;

/// Gives inputs these shapes, and the names of their dimensions the sizes wherever they stand.
///
/// # Errors
/// [`ImportError::Fixed`] for an input that is not there, and for a shape that contradicts the declared one or another.
pub fn fix(graph: &mut GraphProto, shapes: &[(String, Vec<usize>)]) -> Result<(), ImportError> {
    let mut sizes: HashMap<String, i64> = HashMap::new();
    for (name, shape) in shapes {
        let wrong = |reason: String| ImportError::Fixed { input: name.clone(), shape: shape.clone(), reason };
        let have: Vec<String> = graph.input.iter().map(|info| format!("`{}`", info.name)).collect();
        let info = graph.input.iter_mut().find(|info| info.name == *name);
        let info = info.ok_or_else(|| wrong(format!("the model has the inputs {}", have.join(", "))))?;
        let dims = dims(info).ok_or_else(|| wrong("the model declares no shape for it".into()))?;
        if dims.len() != shape.len() {
            return Err(wrong(format!("the model declares {} dimensions", dims.len())));
        }
        for (dim, size) in dims.iter_mut().zip(shape) {
            let size = i64::try_from(*size).ok().filter(|size| *size > 0);
            let size = size.ok_or_else(|| wrong("sizes are 1 and more".into()))?;
            match (dim.dim_value, dim.dim_param.as_deref()) {
                (Some(declared), _) if declared > 0 && declared != size => {
                    return Err(wrong(format!("the model declares {declared} where {size} is given")));
                }
                (Some(declared), _) if declared > 0 => {}
                (_, Some(param)) if is_name(param) => {
                    let known = *sizes.entry(param.to_owned()).or_insert(size);
                    if known != size {
                        return Err(wrong(format!("dimension `{param}` is {known} and {size}")));
                    }
                }
                _ => (dim.dim_value, dim.dim_param) = (Some(size), None),
            }
        }
    }
    for info in graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info) {
        for dim in dims(info).into_iter().flatten() {
            if let Some(size) = dim.dim_param.as_deref().and_then(|param| sizes.get(param)) {
                (dim.dim_value, dim.dim_param) = (Some(*size), None);
            }
        }
    }
    Ok(())
}

fn dims(info: &mut ValueInfoProto) -> Option<&mut Vec<DimensionProto>> {
    Some(&mut info.r#type.as_mut()?.tensor_type.as_mut()?.shape.as_mut()?.dim)
}
