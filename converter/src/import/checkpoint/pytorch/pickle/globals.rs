//! The globals that a checkpoint of tensors needs.

use edge_runtime::graph::DType;

/// The type of a storage's elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Element {
    /// A type that the runtime knows.
    Known(DType),
    /// Bytes.
    Untyped,
    /// A type that is not read: its name.
    Other(String),
}

/// A global that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Global {
    /// A dictionary.
    Dict,
    /// A tuple of sizes.
    Size,
    /// A storage's type.
    Storage(Element),
    /// An element type.
    Element(Element),
    /// A tensor of a storage, offset, sizes and strides.
    Tensor,
    /// As `Tensor`, with the element type behind.
    TypedTensor,
    /// A tensor that is a parameter.
    Parameter,
    /// Something without tensors; calling it gives something without tensors.
    Inert,
}

/// What a global stands for; `Err` says why it is refused.
pub(super) fn global(module: &str, name: &str) -> Result<Global, String> {
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Global::Dict,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::Tensor,
        ("torch._utils", "_rebuild_tensor_v3") => Global::TypedTensor,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Global::Parameter,
        ("torch", "Size") => Global::Size,
        ("torch.storage", "UntypedStorage" | "_UntypedStorage") => Global::Storage(Element::Untyped),
        ("torch" | "torch.cuda", _) if storage(name).is_some() => {
            Global::Storage(storage(name).unwrap_or(Element::Untyped))
        }
        ("torch", _) if element(name).is_some() => Global::Element(element(name).unwrap_or(Element::Untyped)),
        ("torch", "device")
        | ("numpy", "dtype")
        | ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar")
        | ("_codecs", "encode")
        | ("builtins" | "__builtin__", "set" | "frozenset" | "bytearray") => Global::Inert,
        _ => return Err(reason(module, name).to_string()),
    })
}

/// Why it is refused, and what to do.
fn reason(module: &str, name: &str) -> &'static str {
    match (module, name) {
        ("torch._utils", "_rebuild_qtensor") => {
            "quantized tensors are not read; save the model before it is quantized, or tensor.dequantize()"
        }
        ("torch._utils", "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor") => {
            "sparse tensors are not read; save tensor.to_dense()"
        }
        ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => {
            "arrays of NumPy's inside a pickle are not read; save them as .npz, or torch.from_numpy(array)"
        }
        _ => "a checkpoint must hold tensors only; where it was made, save model.state_dict() alone",
    }
}

/// The element type behind a storage class of `torch`.
fn storage(name: &str) -> Option<Element> {
    let known = match name.strip_suffix("Storage")? {
        "Float" => DType::F32,
        "Half" => DType::F16,
        "BFloat16" => DType::Bf16,
        "Double" => DType::F64,
        "Char" => DType::I8,
        "Byte" => DType::U8,
        "Short" => DType::I16,
        "Int" => DType::I32,
        "Long" => DType::I64,
        "Bool" => DType::Bool,
        "Untyped" => return Some(Element::Untyped),
        "ComplexFloat" | "ComplexDouble" | "QInt8" | "QUInt8" | "QInt32" | "QUInt4x2" | "QUInt2x4" => {
            return Some(Element::Other(name.to_string()));
        }
        _ => return None,
    };
    Some(Element::Known(known))
}

/// The element type that `torch` calls so.
fn element(name: &str) -> Option<Element> {
    let known = match name {
        "float32" | "float" => DType::F32,
        "float16" | "half" => DType::F16,
        "bfloat16" => DType::Bf16,
        "float64" | "double" => DType::F64,
        "int8" => DType::I8,
        "uint8" => DType::U8,
        "int16" | "short" => DType::I16,
        "uint16" => DType::U16,
        "int32" | "int" => DType::I32,
        "uint32" => DType::U32,
        "int64" | "long" => DType::I64,
        "uint64" => DType::U64,
        "bool" => DType::Bool,
        _ => {
            let prefixes = ["float8_", "float4_", "complex", "qint", "quint"];
            let is_type = name.len() < 24 && prefixes.iter().any(|prefix| name.starts_with(prefix));
            return is_type.then(|| Element::Other(name.to_string()));
        }
    };
    Some(Element::Known(known))
}
