//! ONNX files: protobuf's fields are changed as a tree, names and operators for others that exist.
//!
//! Written on the wire format and the field numbers of `onnx.proto`, without any schema of the converter's.

use crate::random::Random;

/// Operators and attributes, each on a line of its own between quotes: libFuzzer's form of a dictionary.
const DICTIONARY: &str = include_str!("../onnx.dict");

/// Deeper messages stay bytes.
const DEPTH: usize = 12;

/// What a message is, as far as its fields matter here.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Info,
    Type,
    TensorType,
    Shape,
    Dim,
    Function,
    Opset,
    Bytes,
}

/// The message in a field of another.
fn inside(kind: Kind, field: u64) -> Kind {
    match (kind, field) {
        (Kind::Model, 7) | (Kind::Attribute, 6 | 11) => Kind::Graph,
        (Kind::Model, 8) | (Kind::Function, 9) => Kind::Opset,
        (Kind::Model, 25) => Kind::Function,
        (Kind::Graph, 1) | (Kind::Function, 7) => Kind::Node,
        (Kind::Graph, 5) | (Kind::Attribute, 5 | 10) => Kind::Tensor,
        (Kind::Graph, 11..=13) => Kind::Info,
        (Kind::Node, 5) | (Kind::Function, 11) => Kind::Attribute,
        (Kind::Info, 2) => Kind::Type,
        (Kind::Type, 1) => Kind::TensorType,
        (Kind::TensorType, 2) => Kind::Shape,
        (Kind::Shape, 1) => Kind::Dim,
        _ => Kind::Bytes,
    }
}

#[derive(Clone)]
enum Value {
    Int(u64),
    /// Of four or eight bytes.
    Fixed(Vec<u8>),
    Bytes(Vec<u8>),
    Message(Kind, Vec<Field>),
}

#[derive(Clone)]
struct Field {
    number: u64,
    value: Value,
}

/// For libFuzzer: changes the first `size` bytes of `data`, which has room for `most`; gives the new size.
pub fn mutate(data: &mut [u8], size: usize, most: usize, seed: u32) -> usize {
    crate::either(data, size, most, seed, |input, _, random| {
        let mut fields = parse(Kind::Model, input, 0)?;
        let mut names = Vec::new();
        collect(Kind::Model, &fields, &mut names);
        for _ in 0..1 + random.below(4) {
            let count = messages(&fields);
            let mut index = random.below(count);
            change(Kind::Model, &mut fields, &mut index, &names, random);
        }
        Some(encode(&fields))
    })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn parse(kind: Kind, mut bytes: &[u8], depth: usize) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let number = tag >> 3;
        let mut take = |len: usize| {
            let (taken, rest) = bytes.split_at_checked(len)?;
            bytes = rest;
            Some(taken)
        };
        let value = match tag & 7 {
            0 => Value::Int(varint(&mut bytes)?),
            1 => Value::Fixed(take(8)?.to_vec()),
            5 => Value::Fixed(take(4)?.to_vec()),
            2 => {
                let len = usize::try_from(varint(&mut bytes)?).ok()?;
                let (content, rest) = bytes.split_at_checked(len)?;
                bytes = rest;
                let inner = inside(kind, number);
                let message =
                    (inner != Kind::Bytes && depth < DEPTH).then(|| parse(inner, content, depth + 1));
                match message.flatten() {
                    Some(fields) => Value::Message(inner, fields),
                    None => Value::Bytes(content.to_vec()),
                }
            }
            _ => return None,
        };
        fields.push(Field { number, value });
    }
    Some(fields)
}

fn put(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn encode(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for Field { number, value } in fields {
        let mut tag = |kind: u64| put(number << 3 | kind, &mut out);
        match value {
            Value::Int(value) => {
                tag(0);
                put(*value, &mut out);
            }
            Value::Fixed(bytes) => {
                tag(if bytes.len() == 8 { 1 } else { 5 });
                out.extend(bytes);
            }
            Value::Bytes(bytes) => {
                tag(2);
                put(bytes.len() as u64, &mut out);
                out.extend(bytes);
            }
            Value::Message(_, fields) => {
                tag(2);
                let inner = encode(fields);
                put(inner.len() as u64, &mut out);
                out.extend(inner);
            }
        }
    }
    out
}

/// Names of values: operands, results, inputs, arrays.
fn is_name(kind: Kind, number: u64) -> bool {
    matches!(
        (kind, number),
        (Kind::Node, 1 | 2) | (Kind::Info, 1) | (Kind::Tensor, 8) | (Kind::Function, 4 | 5)
    )
}

fn collect(kind: Kind, fields: &[Field], names: &mut Vec<Vec<u8>>) {
    for Field { number, value } in fields {
        match value {
            Value::Bytes(name) if is_name(kind, *number) && names.len() < 256 => names.push(name.clone()),
            Value::Message(kind, fields) => collect(*kind, fields, names),
            _ => {}
        }
    }
}

fn messages(fields: &[Field]) -> usize {
    let inner = |f: &Field| match &f.value {
        Value::Message(_, fields) => messages(fields),
        _ => 0,
    };
    1 + fields.iter().map(inner).sum::<usize>()
}

/// Changes the message that `index` counts to.
fn change(kind: Kind, fields: &mut Vec<Field>, index: &mut usize, names: &[Vec<u8>], random: &mut Random) {
    if *index > 0 {
        for field in fields {
            if let Value::Message(kind, fields) = &mut field.value {
                *index -= 1;
                let below = messages(fields);
                if *index < below {
                    return change(*kind, fields, index, names, random);
                }
                *index -= below - 1;
            }
        }
        return;
    }
    let words = || DICTIONARY.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
    let word = |random: &mut Random| {
        let count = words().count();
        words().nth(random.below(count.max(1))).unwrap_or("").as_bytes().to_vec()
    };
    if fields.is_empty() || random.below(12) == 0 {
        // A field that may not be there yet.
        let number = 1 + random.below(20) as u64;
        let value = match random.below(3) {
            0 => Value::Int(random.number(1)),
            1 => Value::Bytes(if names.is_empty() { Vec::new() } else { random.of(names).clone() }),
            _ => Value::Fixed(1.5f32.to_le_bytes().to_vec()),
        };
        return fields.push(Field { number, value });
    }
    let at = random.below(fields.len());
    match random.below(12) {
        0 => drop(fields.remove(at)),
        1 => fields.insert(at, fields[at].clone()),
        2 => {
            let other = random.below(fields.len());
            fields.swap(at, other);
        }
        3 => fields[at].number = 1 + random.below(26) as u64,
        _ => {
            let number = fields[at].number;
            match &mut fields[at].value {
                Value::Int(value) => {
                    *value = match (kind, number) {
                        // Element types and kinds of attributes.
                        (Kind::Tensor, 2) | (Kind::TensorType, 1) => random.below(24) as u64,
                        (Kind::Attribute, 20) => random.below(15) as u64,
                        (Kind::Opset, 2) => random.below(29) as u64,
                        _ => random.number(*value),
                    }
                }
                Value::Fixed(bytes) if bytes.len() == 4 => {
                    let old = bytes.first_chunk().map_or(0.0, |b| f32::from_le_bytes(*b));
                    let value = *random.of(&[
                        0.0,
                        1.0,
                        -1.0,
                        f32::NAN,
                        f32::INFINITY,
                        f32::MAX,
                        1e-40,
                        0.5,
                        old * 2.0,
                    ]);
                    *bytes = value.to_le_bytes().to_vec();
                }
                Value::Fixed(bytes) => bytes.iter_mut().for_each(|b| *b = random.next() as u8),
                Value::Bytes(bytes) => match (kind, number) {
                    (Kind::Node, 4) | (Kind::Attribute, 1 | 4) => *bytes = word(random),
                    (Kind::Node, 7) => {
                        *bytes = random.of(&[&b""[..], b"com.microsoft", b"ai.onnx", b"x"]).to_vec()
                    }
                    _ if is_name(kind, number) && !names.is_empty() && random.below(4) > 0 => {
                        *bytes = random.of(names).clone();
                    }
                    _ if bytes.is_empty() || random.below(4) == 0 => {
                        let len = random.below(1 + 2 * bytes.len().max(4));
                        bytes.resize(len, 1);
                    }
                    _ => {
                        let at = random.below(bytes.len());
                        let old = bytes[at];
                        bytes[at] = *random.of(&[
                            0,
                            1,
                            2,
                            0x7f,
                            0x80,
                            0xff,
                            old.wrapping_add(1),
                            old.wrapping_sub(1),
                        ]);
                    }
                },
                Value::Message(kind, inner) => {
                    let kind = *kind;
                    let mut here = 0;
                    change(kind, inner, &mut here, names, random);
                }
            }
        }
    }
}
