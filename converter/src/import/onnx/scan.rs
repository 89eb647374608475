//! What a file takes once it is decoded, found out before it is: two bytes of protobuf can stand for a node of two hundred.
//!
//! One walk over the wire format, no recursion and no allocation but a short stack. It follows the messages of [`super::proto`], counts
//! what each of their fields becomes, and steps over bytes of stored arrays, which stay in the file. What it cannot read it leaves to
//! the decoder.

use super::proto::{
    AttributeProto, DimensionProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    SegmentProto, SparseTensorProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto,
};

/// Deepest messages that are followed; the decoder refuses any of a hundred.
const MAX_DEPTH: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Model,
    Opset,
    Entry,
    Graph,
    Node,
    Attribute,
    Tensor,
    Segment,
    Sparse,
    Value,
    Type,
    TensorType,
    Shape,
    Dimension,
    Function,
}

/// What a field holds.
enum Field {
    Message(Kind),
    /// A string of its own, or one of many.
    Text,
    /// Numbers of so many bytes each once decoded, packed or one by one.
    Numbers(u64),
    /// Bytes that stay in the file, numbers that have a place in their message, and what is not read.
    Nothing,
}

impl Kind {
    fn size(self) -> u64 {
        (match self {
            Kind::Model => size_of::<ModelProto>(),
            Kind::Opset => size_of::<OperatorSetIdProto>(),
            Kind::Entry => size_of::<StringStringEntryProto>(),
            Kind::Graph => size_of::<GraphProto>(),
            Kind::Node => size_of::<NodeProto>(),
            Kind::Attribute => size_of::<AttributeProto>(),
            Kind::Tensor => size_of::<TensorProto>(),
            Kind::Segment => size_of::<SegmentProto>(),
            Kind::Sparse => size_of::<SparseTensorProto>(),
            Kind::Value => size_of::<ValueInfoProto>(),
            Kind::Type => size_of::<TypeProto>(),
            Kind::TensorType => size_of::<TensorTypeProto>(),
            Kind::Shape => size_of::<TensorShapeProto>(),
            Kind::Dimension => size_of::<DimensionProto>(),
            Kind::Function => size_of::<FunctionProto>(),
        }) as u64
    }

    fn field(self, number: u64) -> Field {
        use Field::{Message, Nothing, Numbers, Text};
        match (self, number) {
            (Kind::Model, 2 | 3) => Text,
            (Kind::Model, 7) => Message(Kind::Graph),
            (Kind::Model, 8) => Message(Kind::Opset),
            (Kind::Model, 14) => Message(Kind::Entry),
            (Kind::Model, 25) => Message(Kind::Function),
            (Kind::Opset, 1) => Text,
            (Kind::Entry, 1 | 2) => Text,
            (Kind::Graph, 1) => Message(Kind::Node),
            (Kind::Graph, 2) => Text,
            (Kind::Graph, 5) => Message(Kind::Tensor),
            (Kind::Graph, 11..=13) => Message(Kind::Value),
            (Kind::Graph, 15) => Message(Kind::Sparse),
            (Kind::Node, 1..=4 | 7 | 8) => Text,
            (Kind::Node, 5) => Message(Kind::Attribute),
            (Kind::Attribute, 1 | 21) => Text,
            (Kind::Attribute, 5) => Message(Kind::Tensor),
            (Kind::Attribute, 6) => Message(Kind::Graph),
            (Kind::Attribute, 7) => Numbers(4),
            (Kind::Attribute, 8) => Numbers(8),
            // A reference to the bytes, not the bytes.
            (Kind::Attribute, 9) => Text,
            (Kind::Attribute, 22) => Message(Kind::Sparse),
            (Kind::Tensor, 1 | 7 | 10 | 11) => Numbers(8),
            (Kind::Tensor, 3) => Message(Kind::Segment),
            (Kind::Tensor, 4 | 5) => Numbers(4),
            (Kind::Tensor, 8) => Text,
            (Kind::Tensor, 13) => Message(Kind::Entry),
            (Kind::Sparse, 1) => Message(Kind::Tensor),
            (Kind::Value, 1) => Text,
            (Kind::Value, 2) => Message(Kind::Type),
            (Kind::Type, 1) => Message(Kind::TensorType),
            (Kind::TensorType, 2) => Message(Kind::Shape),
            (Kind::Shape, 1) => Message(Kind::Dimension),
            (Kind::Dimension, 2) => Text,
            (Kind::Function, 1 | 4..=6 | 10 | 13) => Text,
            (Kind::Function, 7) => Message(Kind::Node),
            (Kind::Function, 9) => Message(Kind::Opset),
            (Kind::Function, 11) => Message(Kind::Attribute),
            _ => Nothing,
        }
    }
}

/// What a model takes when it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes, but for those that stay in the file.
    pub bytes: u64,
    /// Nodes, those of branches and functions included.
    pub nodes: usize,
}

/// Counts what a model takes; what follows something unreadable does not count.
pub fn decoded(file: &[u8]) -> Decoded {
    let mut nodes = 0;
    let bytes = bytes(file, &mut nodes);
    Decoded { bytes, nodes }
}

fn bytes(file: &[u8], nodes: &mut usize) -> u64 {
    let mut total = Kind::Model.size();
    let mut stack = vec![(Kind::Model, file.len())];
    let mut at = 0;
    while let Some(&(kind, end)) = stack.last() {
        if at >= end {
            stack.pop();
            continue;
        }
        let Some(key) = varint(file, &mut at, end) else { return total };
        let field = kind.field(key >> 3);
        match (key & 7, &field) {
            (0, Field::Numbers(size)) => total += size,
            (5, Field::Numbers(size)) | (1, Field::Numbers(size)) => total += size,
            _ => {}
        }
        match key & 7 {
            0 => {
                if varint(file, &mut at, end).is_none() {
                    return total;
                }
            }
            1 => at += 8,
            5 => at += 4,
            2 => {
                let Some(length) = varint(file, &mut at, end) else { return total };
                let Some(stop) =
                    usize::try_from(length).ok().and_then(|l| at.checked_add(l)).filter(|s| *s <= end)
                else {
                    return total;
                };
                match field {
                    Field::Message(inner) => {
                        total += inner.size();
                        *nodes += usize::from(inner == Kind::Node);
                        if stack.len() >= MAX_DEPTH {
                            return total;
                        }
                        stack.push((inner, stop));
                        continue;
                    }
                    Field::Text => total += length + size_of::<String>() as u64,
                    // Each number's last byte has no flag; floats have four bytes each, whatever these are.
                    Field::Numbers(4)
                        if matches!((kind, key >> 3), (Kind::Tensor, 4) | (Kind::Attribute, 7)) =>
                    {
                        total += length;
                    }
                    Field::Numbers(_) if (kind, key >> 3) == (Kind::Tensor, 10) => total += length,
                    Field::Numbers(size) => {
                        total += size * file[at..stop].iter().filter(|byte| **byte < 0x80).count() as u64;
                    }
                    Field::Nothing => {}
                }
                at = stop;
            }
            // Groups are no part of these messages: their fields are counted as if they stood here.
            3 | 4 => {}
            _ => return total,
        }
    }
    total
}

fn varint(file: &[u8], at: &mut usize, end: usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *file.get(..end)?.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::proto::*;
    use super::{Decoded, Kind, decoded};
    use prost::Message;

    #[test]
    fn what_messages_take_is_counted_and_what_stays_in_the_file_is_not() {
        let mut model = ModelProto::default();
        let empty = Kind::Model.size();
        assert_eq!(decoded(&model.encode_to_vec()), Decoded { bytes: empty, nodes: 0 });
        let weight = |raw: Option<Vec<u8>>, ints: Vec<i64>| TensorProto {
            raw_data: raw.map(Into::into),
            int64_data: ints,
            ..TensorProto::default()
        };
        model.graph = Some(GraphProto {
            node: vec![NodeProto::default(); 1000],
            initializer: vec![weight(Some(vec![7; 100_000]), vec![]), weight(None, vec![1, 300, -1])],
            ..GraphProto::default()
        });
        let want = empty + Kind::Graph.size() + 1000 * Kind::Node.size() + 2 * Kind::Tensor.size() + 3 * 8;
        assert_eq!(decoded(&model.encode_to_vec()), Decoded { bytes: want, nodes: 1000 });
        let bytes = model.encode_to_vec();
        for end in 0..bytes.len().min(3000) {
            assert!(decoded(&bytes[..end]).bytes <= want);
        }
    }
}
