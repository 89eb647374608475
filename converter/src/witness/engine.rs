//! tract itself: the only file that knows it.

use super::verdict::Answer;
use edge_runtime::graph::DType;
use edge_runtime::inputs::NamedArray;
use std::path::Path;
use std::sync::Arc;
use tract_onnx::tract_hir::infer::GenericFactoid;
use tract_onnx::tract_hir::internal::{
    Datum, Framework, InferenceFact, InferenceModelExt, IntoRunnable, IntoTValue, TValue, TVec, Tensor,
    TractResult, anyhow,
};

/// Integers beyond this are not all floats.
const EXACT: i64 = 1 << 24;

/// The outputs of an ONNX file in order.
///
/// # Errors
/// In the engine's own words, one line.
pub(super) fn run(model: &Path, inputs: &[NamedArray]) -> Result<Vec<Answer>, String> {
    evaluate(model, inputs).map_err(|e| format!("{e:#}").replace('\n', " "))
}

fn evaluate(path: &Path, inputs: &[NamedArray]) -> TractResult<Vec<Answer>> {
    // Declared shapes hold exporters' mistakes; the inputs say what there is.
    let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    let mut model = onnx.model_for_path(path)?;
    let outlets = model.input_outlets()?.to_vec();
    let mut values = TVec::new();
    for (i, outlet) in outlets.iter().enumerate() {
        let name = model.node(outlet.node).name.clone();
        let array = inputs.iter().find(|a| a.name == name);
        let array = array.ok_or_else(|| anyhow!("input `{name}` is not among those given"))?;
        let value = Arc::new(tensor(array)?);
        let mut fact = InferenceFact::dt_shape_from_tensor(&value);
        // A single integer decides shapes or branches: the engine may know it when it plans.
        if array.dtype != DType::F32 && value.len() == 1 {
            fact.value = GenericFactoid::Only(value.clone());
        }
        model.set_input_fact(i, fact)?;
        values.push(value.into_tvalue());
    }
    model.into_optimized()?.into_runnable()?.run(values)?.iter().map(answer).collect()
}

/// Floats as they are; integers and truth values exactly, or not at all.
fn answer(value: &TValue) -> TractResult<Answer> {
    let exact = !value.datum_type().is_float();
    if exact {
        let integers = value.cast_to::<i64>()?;
        if let Some(large) = integers.to_plain_array_view::<i64>()?.iter().find(|v| v.abs() > EXACT) {
            return Err(anyhow!("an output holds {large}, which is compared as no float"));
        }
    }
    let floats = value.cast_to::<f32>()?;
    Ok(Answer { values: floats.to_plain_array_view::<f32>()?.iter().copied().collect(), exact })
}

fn tensor(array: &NamedArray) -> TractResult<Tensor> {
    /// Elements of `N` little-endian bytes.
    fn elements<const N: usize, T: Datum + Copy>(
        array: &NamedArray,
        read: impl Fn([u8; N]) -> T,
    ) -> TractResult<Tensor> {
        let values: Vec<T> = array.data.as_chunks::<N>().0.iter().map(|bytes| read(*bytes)).collect();
        Tensor::from_shape(&array.dims, &values)
    }
    match array.dtype {
        DType::F32 => elements(array, f32::from_le_bytes),
        DType::I64 => elements(array, i64::from_le_bytes),
        DType::I32 => elements(array, i32::from_le_bytes),
        DType::U8 => elements(array, u8::from_le_bytes),
        DType::I8 => elements(array, i8::from_le_bytes),
        DType::Bool => elements(array, |[byte]: [u8; 1]| byte != 0),
        other => Err(anyhow!("input `{}` of type {other}", array.name)),
    }
}
