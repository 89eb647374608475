//! The part of ONNX's protobuf schema that the importer reads; field numbers as in `onnx.proto`. Doc strings, training info and
//! annotations are skipped by the decoder. Byte fields share the buffer of the file.

use prost::bytes::Bytes;

/// Declares messages by name, type and field number.
macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $ty:ty,)* })*) => {
        $($(#[$doc])* #[derive(Clone, PartialEq, prost::Message)]
        pub struct $name { $($(#[$attr])* pub $field: $ty,)* })*
    };
}

messages! {
    /// The file.
    ModelProto {
        #[prost(int64, tag = "1")] ir_version: i64,
        #[prost(string, tag = "2")] producer_name: String,
        #[prost(string, tag = "3")] producer_version: String,
        #[prost(message, optional, tag = "7")] graph: Option<GraphProto>,
        #[prost(message, repeated, tag = "8")] opset_import: Vec<OperatorSetIdProto>,
        #[prost(message, repeated, tag = "14")] metadata_props: Vec<StringStringEntryProto>,
        #[prost(message, repeated, tag = "25")] functions: Vec<FunctionProto>,
    }
    /// A domain and the version of its operators.
    OperatorSetIdProto {
        #[prost(string, tag = "1")] domain: String,
        #[prost(int64, tag = "2")] version: i64,
    }
    /// Metadata.
    StringStringEntryProto {
        #[prost(string, tag = "1")] key: String,
        #[prost(string, tag = "2")] value: String,
    }
    /// A graph, or a branch.
    GraphProto {
        #[prost(message, repeated, tag = "1")] node: Vec<NodeProto>,
        #[prost(string, tag = "2")] name: String,
        #[prost(message, repeated, tag = "5")] initializer: Vec<TensorProto>,
        #[prost(message, repeated, tag = "11")] input: Vec<ValueInfoProto>,
        #[prost(message, repeated, tag = "12")] output: Vec<ValueInfoProto>,
        #[prost(message, repeated, tag = "13")] value_info: Vec<ValueInfoProto>,
        #[prost(message, repeated, tag = "15")] sparse_initializer: Vec<SparseTensorProto>,
    }
    /// One call of an operator or of a function.
    NodeProto {
        #[prost(string, repeated, tag = "1")] input: Vec<String>,
        #[prost(string, repeated, tag = "2")] output: Vec<String>,
        #[prost(string, tag = "3")] name: String,
        #[prost(string, tag = "4")] op_type: String,
        #[prost(message, repeated, tag = "5")] attribute: Vec<AttributeProto>,
        #[prost(string, tag = "7")] domain: String,
        #[prost(string, tag = "8")] overload: String,
    }
    /// A named argument; `type` says which field holds it (0 in very old files).
    AttributeProto {
        #[prost(string, tag = "1")] name: String,
        #[prost(float, optional, tag = "2")] f: Option<f32>,
        #[prost(int64, optional, tag = "3")] i: Option<i64>,
        #[prost(bytes = "bytes", optional, tag = "4")] s: Option<Bytes>,
        #[prost(message, optional, tag = "5")] t: Option<TensorProto>,
        #[prost(message, optional, tag = "6")] g: Option<GraphProto>,
        #[prost(float, repeated, tag = "7")] floats: Vec<f32>,
        #[prost(int64, repeated, tag = "8")] ints: Vec<i64>,
        #[prost(bytes = "bytes", repeated, tag = "9")] strings: Vec<Bytes>,
        #[prost(int32, tag = "20")] r#type: i32,
        #[prost(string, tag = "21")] ref_attr_name: String,
        #[prost(message, optional, tag = "22")] sparse_tensor: Option<SparseTensorProto>,
    }
    /// A stored array.
    TensorProto {
        #[prost(int64, repeated, tag = "1")] dims: Vec<i64>,
        #[prost(int32, tag = "2")] data_type: i32,
        #[prost(message, optional, tag = "3")] segment: Option<SegmentProto>,
        #[prost(float, repeated, tag = "4")] float_data: Vec<f32>,
        #[prost(int32, repeated, tag = "5")] int32_data: Vec<i32>,
        #[prost(int64, repeated, tag = "7")] int64_data: Vec<i64>,
        #[prost(string, tag = "8")] name: String,
        #[prost(bytes = "bytes", optional, tag = "9")] raw_data: Option<Bytes>,
        #[prost(double, repeated, tag = "10")] double_data: Vec<f64>,
        #[prost(uint64, repeated, tag = "11")] uint64_data: Vec<u64>,
        #[prost(message, repeated, tag = "13")] external_data: Vec<StringStringEntryProto>,
        #[prost(int32, tag = "14")] data_location: i32,
    }
    /// Part of an array; read only to refuse it.
    SegmentProto {
        #[prost(int64, tag = "1")] begin: i64,
        #[prost(int64, tag = "2")] end: i64,
    }
    /// A sparse array; read only to refuse it by name.
    SparseTensorProto {
        #[prost(message, optional, tag = "1")] values: Option<TensorProto>,
    }
    /// Name and type of a value.
    ValueInfoProto {
        #[prost(string, tag = "1")] name: String,
        #[prost(message, optional, tag = "2")] r#type: Option<TypeProto>,
    }
    /// A type; only tensors are imported, the other kinds leave `tensor_type` empty.
    TypeProto {
        #[prost(message, optional, tag = "1")] tensor_type: Option<TensorTypeProto>,
    }
    /// Element type and shape.
    TensorTypeProto {
        #[prost(int32, tag = "1")] elem_type: i32,
        #[prost(message, optional, tag = "2")] shape: Option<TensorShapeProto>,
    }
    /// A shape.
    TensorShapeProto {
        #[prost(message, repeated, tag = "1")] dim: Vec<DimensionProto>,
    }
    /// A dimension: a size, a name, or neither.
    DimensionProto {
        #[prost(int64, optional, tag = "1")] dim_value: Option<i64>,
        #[prost(string, optional, tag = "2")] dim_param: Option<String>,
    }
    /// An operator defined in the model itself.
    FunctionProto {
        #[prost(string, tag = "1")] name: String,
        #[prost(string, repeated, tag = "4")] input: Vec<String>,
        #[prost(string, repeated, tag = "5")] output: Vec<String>,
        #[prost(string, repeated, tag = "6")] attribute: Vec<String>,
        #[prost(message, repeated, tag = "7")] node: Vec<NodeProto>,
        #[prost(message, repeated, tag = "9")] opset_import: Vec<OperatorSetIdProto>,
        #[prost(string, tag = "10")] domain: String,
        #[prost(message, repeated, tag = "11")] attribute_proto: Vec<AttributeProto>,
        #[prost(string, tag = "13")] overload: String,
    }
}

/// Values of [`AttributeProto::type`].
pub mod attribute_type {
    #![allow(missing_docs)]
    pub const FLOAT: i32 = 1;
    pub const INT: i32 = 2;
    pub const STRING: i32 = 3;
    pub const TENSOR: i32 = 4;
    pub const GRAPH: i32 = 5;
    pub const FLOATS: i32 = 6;
    pub const INTS: i32 = 7;
    pub const STRINGS: i32 = 8;
}
