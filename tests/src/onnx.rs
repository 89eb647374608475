//! ONNX models written by hand: protobuf's wire format with the field numbers of `onnx.proto`.
//!
//! Independent of the converter's own schema, so that a wrong field number there does not cancel out here.

use edge_runtime::random::uniform;

/// ONNX's number of `f32`.
pub const FLOAT: i64 = 1;
/// ONNX's number of booleans.
pub const BOOL: i64 = 9;
/// ONNX's number of `i64`.
pub const INT64: i64 = 7;
/// ONNX's number of `f16`.
pub const FLOAT16: i64 = 10;
/// ONNX's number of `bf16`.
pub const BFLOAT16: i64 = 16;

/// A protobuf message in the making; for files that no [`Builder`] would write.
#[derive(Clone, Debug, Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Adds a number.
    pub fn int(mut self, field: u64, value: i64) -> Message {
        self.varint(field << 3);
        self.varint(value as u64);
        self
    }

    fn float(mut self, field: u64, value: f32) -> Message {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Adds bytes, or a string.
    pub fn bytes(mut self, field: u64, bytes: &[u8]) -> Message {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    /// Adds a message.
    pub fn message(self, field: u64, message: &Message) -> Message {
        self.bytes(field, &message.0)
    }
}

/// A dimension: a size, or a free one with a name.
#[derive(Clone, Copy, Debug)]
pub enum Dim {
    /// Always this size.
    N(i64),
    /// Free.
    Free(&'static str),
}

/// An attribute's value.
#[derive(Clone, Copy, Debug)]
pub enum Attr<'a> {
    /// A number.
    Int(i64),
    /// A float.
    Float(f32),
    /// Several numbers.
    Ints(&'a [i64]),
    /// A word.
    Str(&'a str),
    /// A graph.
    Graph(&'a Message),
}

/// A model in the making. Weights are seeded noise.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    graph: Message,
    seed: u64,
}

impl Builder {
    /// An empty model.
    pub fn new() -> Builder {
        Builder::default()
    }

    fn port(&mut self, field: u64, name: &str, elem_type: i64, dims: Option<&[Dim]>) {
        let mut tensor = Message::default().int(1, elem_type);
        if let Some(dims) = dims {
            let shape = dims.iter().fold(Message::default(), |shape, dim| {
                let dim = match dim {
                    Dim::N(size) => Message::default().int(1, *size),
                    Dim::Free(name) => Message::default().bytes(2, name.as_bytes()),
                };
                shape.message(1, &dim)
            });
            tensor = tensor.message(2, &shape);
        }
        let kind = Message::default().message(1, &tensor);
        let port = Message::default().bytes(1, name.as_bytes()).message(2, &kind);
        self.graph = std::mem::take(&mut self.graph).message(field, &port);
    }

    /// Adds a float input.
    pub fn input(&mut self, name: &str, dims: &[Dim]) -> &mut Builder {
        self.port(11, name, FLOAT, Some(dims));
        self
    }

    /// Adds an input of floats of another width.
    pub fn float_input(&mut self, name: &str, elem_type: i64, dims: &[Dim]) -> &mut Builder {
        self.port(11, name, elem_type, Some(dims));
        self
    }

    /// Adds an output of floats of another width.
    pub fn float_output(&mut self, name: &str, elem_type: i64) -> &mut Builder {
        self.port(12, name, elem_type, None);
        self
    }

    /// Adds a stored array of floats of 16 bits, given as their bits.
    pub fn halves(&mut self, name: &str, elem_type: i64, dims: &[i64], bits: &[u16]) -> &mut Builder {
        let raw: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let tensor = dims.iter().fold(Message::default(), |t, d| t.int(1, *d));
        let tensor = tensor.int(2, elem_type).bytes(8, name.as_bytes()).bytes(9, &raw);
        self.graph = std::mem::take(&mut self.graph).message(5, &tensor);
        self
    }

    /// Adds an input of i64.
    pub fn int_input(&mut self, name: &str, dims: &[Dim]) -> &mut Builder {
        self.port(11, name, INT64, Some(dims));
        self
    }

    /// Adds a float output; its shape is the importer's to find.
    pub fn output(&mut self, name: &str) -> &mut Builder {
        self.port(12, name, FLOAT, None);
        self
    }

    /// Adds a stored array of floats in `[-scale, scale)`.
    pub fn weight(&mut self, name: &str, dims: &[i64], scale: f32) -> &mut Builder {
        self.seed += 1;
        let count = dims.iter().product::<i64>() as u64;
        let seed = self.seed;
        let values: Vec<f32> = (0..count).map(|i| (uniform(seed, i) * 2.0 - 1.0) * scale).collect();
        self.array(name, dims, &values)
    }

    /// Adds a stored array of these floats.
    pub fn array(&mut self, name: &str, dims: &[i64], values: &[f32]) -> &mut Builder {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = dims.iter().fold(Message::default(), |t, d| t.int(1, *d));
        let tensor = tensor.int(2, FLOAT).bytes(8, name.as_bytes()).bytes(9, &raw);
        self.graph = std::mem::take(&mut self.graph).message(5, &tensor);
        self
    }

    /// Adds a stored vector of i64.
    pub fn ints(&mut self, name: &str, values: &[i64]) -> &mut Builder {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensor = Message::default().int(1, values.len() as i64).int(2, INT64);
        let tensor = tensor.bytes(8, name.as_bytes()).bytes(9, &raw);
        self.graph = std::mem::take(&mut self.graph).message(5, &tensor);
        self
    }

    /// Adds a node; operands and results are names between spaces, `-` is an operand that is left out.
    pub fn node(
        &mut self,
        op: &str,
        inputs: &str,
        outputs: &str,
        attrs: &[(&str, Attr<'_>)],
    ) -> &mut Builder {
        let operand = |name: &'_ str| if name == "-" { String::new() } else { name.to_string() };
        let mut node = Message::default();
        for name in inputs.split_whitespace() {
            node = node.bytes(1, operand(name).as_bytes());
        }
        for name in outputs.split_whitespace() {
            node = node.bytes(2, operand(name).as_bytes());
        }
        let name = format!("{op}_{}", outputs.split_whitespace().next().unwrap_or(""));
        node = node.bytes(3, name.as_bytes()).bytes(4, op.as_bytes());
        for (name, value) in attrs {
            let attr = Message::default().bytes(1, name.as_bytes());
            let attr = match value {
                Attr::Float(f) => attr.float(2, *f).int(20, 1),
                Attr::Int(i) => attr.int(3, *i).int(20, 2),
                Attr::Str(word) => attr.bytes(4, word.as_bytes()).int(20, 3),
                Attr::Graph(graph) => attr.message(6, graph).int(20, 5),
                Attr::Ints(ints) => ints.iter().fold(attr, |a, i| a.int(8, *i)).int(20, 7),
            };
            node = node.message(5, &attr);
        }
        self.graph = std::mem::take(&mut self.graph).message(1, &node);
        self
    }

    /// Adds a field of the graph as it is.
    pub fn raw(&mut self, field: u64, message: &Message) -> &mut Builder {
        self.graph = std::mem::take(&mut self.graph).message(field, message);
        self
    }

    /// The graph alone.
    pub fn graph(&self) -> Message {
        self.graph.clone()
    }

    /// The bytes of the file: opset 17, IR version 8.
    pub fn finish(&self, name: &str) -> Vec<u8> {
        let graph = self.graph.clone().bytes(2, name.as_bytes());
        let opset = Message::default().bytes(1, b"").int(2, 17);
        Message::default().int(1, 8).bytes(2, b"edge-tests").message(7, &graph).message(8, &opset).0
    }
}
