//! The machine: one opcode after the other.

use super::{Id, Object};
use std::collections::HashMap;

/// Most objects of a pickle: a tensor takes about fifteen. Also the most entries that calls copy, for one call of five bytes may copy
/// as many as there are.
pub(super) const MAX_OBJECTS: usize = 4 << 20;
/// Bytes of the longest integer: the one that opens the form before PyTorch 1.6 has ten.
const MAX_INT: usize = 16;

/// What a pickle held.
pub(in super::super) struct Pickle {
    pub objects: Vec<Object>,
    pub root: Id,
    /// Where it ends in the bytes that it was read from.
    pub end: usize,
}

/// Why a pickle is not read, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Fault {
    /// The bytes are no pickle, or one that asks for what no checkpoint has.
    Format { at: usize, why: String },
    /// A global that is not needed for tensors.
    Global { at: usize, name: String, why: String },
}

/// Reads the pickle that starts at `start`.
pub(in super::super) fn read(bytes: &[u8], start: usize) -> Result<Pickle, Fault> {
    let mut machine = Machine {
        bytes,
        at: start,
        op: start,
        objects: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        copied: 0,
        tensors: 0,
    };
    loop {
        machine.op = machine.at;
        let op = machine.take(1)?[0];
        if op == b'.' {
            let root = machine.pop()?;
            return Ok(Pickle { objects: machine.objects, root, end: machine.at });
        }
        machine.step(op)?;
    }
}

pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the opcode at work stands, for errors.
    pub(super) op: usize,
    pub(super) objects: Vec<Object>,
    stack: Vec<Id>,
    /// Heights of the stack at each mark.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    /// Entries that calls have copied.
    pub(super) copied: usize,
    pub(super) tensors: usize,
}

pub(super) type Step<T = ()> = Result<T, Fault>;

impl<'a> Machine<'a> {
    pub(super) fn wrong<T>(&self, why: impl Into<String>) -> Step<T> {
        Err(Fault::Format { at: self.op, why: why.into() })
    }

    // Bytes of the pickle.

    fn take(&mut self, len: usize) -> Step<&'a [u8]> {
        match self.at.checked_add(len).and_then(|end| self.bytes.get(self.at..end)) {
            Some(taken) => {
                self.at += len;
                Ok(taken)
            }
            None => self.wrong(format!("the pickle ends {len} bytes short; the file may be cut")),
        }
    }

    fn number(&mut self, width: usize) -> Step<u64> {
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(self.take(width)?);
        Ok(u64::from_le_bytes(wide))
    }

    /// Bytes with their length before them.
    fn counted(&mut self, width: usize) -> Step<&'a [u8]> {
        let len = self.number(width)?;
        match usize::try_from(len) {
            Ok(len) => self.take(len),
            Err(_) => self.wrong(format!("a string of {len} bytes")),
        }
    }

    fn line(&mut self) -> Step<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        match rest.iter().position(|b| *b == b'\n') {
            Some(len) => {
                self.at += len + 1;
                Ok(&rest[..len])
            }
            None => self.wrong("the pickle ends within a line; the file may be cut"),
        }
    }

    fn text(&mut self, bytes: &[u8]) -> Step<String> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_string()),
            Err(_) => self.wrong("a string that is no UTF-8"),
        }
    }

    // The stack.

    pub(super) fn push(&mut self, object: Object) -> Step {
        if self.objects.len() >= MAX_OBJECTS {
            return self.wrong(format!("more than {MAX_OBJECTS} objects"));
        }
        self.stack.push(self.objects.len() as Id);
        self.objects.push(object);
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Step<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop() {
            Some(id) if self.stack.len() >= floor => Ok(id),
            _ => self.wrong("an opcode takes from an empty stack"),
        }
    }

    /// Everything above the last mark.
    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => self.wrong("an opcode goes back to a mark that is not there"),
        }
    }

    pub(super) fn top(&self) -> Step<Id> {
        match self.stack.last() {
            Some(id) => Ok(*id),
            None => self.wrong("an opcode looks at an empty stack"),
        }
    }

    pub(super) fn object(&self, id: Id) -> &Object {
        &self.objects[id as usize]
    }

    fn step(&mut self, op: u8) -> Step {
        match op {
            // Frames.
            0x80 => match self.take(1)?[0] {
                0..=5 => Ok(()),
                version => self.wrong(format!("pickle protocol {version}, expected 0 to 5")),
            },
            0x95 => self.take(8).map(|_| ()),
            // The stack and the memo.
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(|_| ()),
            b'1' => self.pop_mark().map(|_| ()),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }
            b'p' | b'q' | b'r' | 0x94 => {
                let key = self.memo_key(op)?;
                let top = self.top()?;
                self.memo.insert(key, top);
                Ok(())
            }
            b'g' | b'h' | b'j' => {
                let key = self.memo_key(op)?;
                match self.memo.get(&key) {
                    Some(id) => {
                        self.stack.push(*id);
                        Ok(())
                    }
                    None => self.wrong(format!("entry {key} of the memo is not there")),
                }
            }
            // Constants.
            b'N' => self.push(Object::None),
            0x88 => self.push(Object::Bool(true)),
            0x89 => self.push(Object::Bool(false)),
            b'I' | b'L' | b'F' | b'J' | b'K' | b'M' | b'G' | 0x8a | 0x8b => self.numeric(op),
            b'S' | b'T' | b'U' | b'V' | b'X' | 0x8c | 0x8d => self.string(op),
            b'B' => self.counted(4).and_then(|_| self.push(Object::Bytes)),
            b'C' => self.counted(1).and_then(|_| self.push(Object::Bytes)),
            0x8e | 0x96 => self.counted(8).and_then(|_| self.push(Object::Bytes)),
            // Containers.
            b')' => self.push(Object::Tuple(Vec::new())),
            b']' => self.push(Object::List(Vec::new())),
            b'}' => self.push(Object::Dict(Vec::new())),
            0x8f => self.push(Object::Inert),
            b't' | b'l' | b'd' | 0x91 => {
                let items = self.pop_mark()?;
                let object = match op {
                    b't' => Object::Tuple(items),
                    b'l' => Object::List(items),
                    b'd' => Object::Dict(self.pairs(&items)?),
                    _ => Object::Inert,
                };
                self.push(object)
            }
            0x85..=0x87 => {
                let mut items: Vec<Id> = (0..op - 0x84).map(|_| self.pop()).collect::<Step<_>>()?;
                items.reverse();
                self.push(Object::Tuple(items))
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])
            }
            b'e' | 0x90 => self.pop_mark().and_then(|items| self.extend(items)),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(vec![(key, value)])
            }
            b'u' => {
                let items = self.pop_mark()?;
                let pairs = self.pairs(&items)?;
                self.set_items(pairs)
            }
            // Globals and what is made of them.
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let (module, name) = (self.text(module)?, self.text(name)?);
                let known = self.known(&module, &name)?;
                self.push(known)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.object(module), self.object(name)) {
                    (Object::Str(module), Object::Str(name)) => {
                        let known = self.known(module, name)?;
                        self.push(known)
                    }
                    _ => self.wrong("a global whose name is no string"),
                }
            }
            b'R' | 0x81 => {
                let (args, callee) = (self.pop()?, self.pop()?);
                self.call(callee, args)
            }
            b'b' => self.build(),
            b'Q' => self.persistent(),
            b'P' => self.wrong("a storage that is named by text, which PyTorch does not write"),
            b'i' | b'o' | 0x92 => self.wrong("an object of a class: a checkpoint must hold tensors only"),
            0x82..=0x84 | 0x97 | 0x98 => {
                self.wrong(format!("opcode {op:#04x} reaches outside of the pickle, which is refused"))
            }
            _ => self.wrong(format!("opcode {op:#04x} is unknown; no pickle, or a damaged one")),
        }
    }

    fn memo_key(&mut self, op: u8) -> Step<u64> {
        match op {
            b'q' | b'h' => self.number(1),
            b'r' | b'j' => self.number(4),
            0x94 => Ok(self.memo.len() as u64),
            _ => {
                let line = self.line()?;
                match std::str::from_utf8(line).ok().and_then(|text| text.trim().parse().ok()) {
                    Some(key) => Ok(key),
                    None => self.wrong("an entry of the memo that is no number"),
                }
            }
        }
    }

    fn numeric(&mut self, op: u8) -> Step {
        let object = match op {
            b'J' => Object::Int(i128::from(self.number(4)? as u32 as i32)),
            b'K' => Object::Int(self.number(1)?.into()),
            b'M' => Object::Int(self.number(2)?.into()),
            b'G' => {
                let bytes = self.take(8)?;
                let mut wide = [0; 8];
                wide.copy_from_slice(bytes);
                Object::Float(f64::from_be_bytes(wide))
            }
            0x8a | 0x8b => {
                let bytes = self.counted(if op == 0x8a { 1 } else { 4 })?;
                if bytes.len() > MAX_INT {
                    return self
                        .wrong(format!("an integer of {} bytes, at most {MAX_INT} are read", bytes.len()));
                }
                let sign = bytes.last().is_some_and(|b| b & 0x80 != 0);
                let mut wide = [if sign { 0xff } else { 0 }; 16];
                wide[..bytes.len()].copy_from_slice(bytes);
                Object::Int(i128::from_le_bytes(wide))
            }
            _ => {
                let line = self.line()?;
                let text = std::str::from_utf8(line).unwrap_or("").trim();
                let int = |text: &str| text.trim_end_matches('L').parse().ok().map(Object::Int);
                let object = match (op, text) {
                    (b'I', "00") => Some(Object::Bool(false)),
                    (b'I', "01") => Some(Object::Bool(true)),
                    (b'F', _) => text.parse().ok().map(Object::Float),
                    _ => int(text),
                };
                match object {
                    Some(object) => object,
                    None => return self.wrong("a number that is none"),
                }
            }
        };
        self.push(object)
    }

    fn string(&mut self, op: u8) -> Step {
        let bytes = match op {
            b'S' | b'V' => self.line()?,
            b'U' | 0x8c => self.counted(1)?,
            b'T' | b'X' => self.counted(4)?,
            _ => self.counted(8)?,
        };
        let text = match op {
            // Python 2's strings are bytes, quoted in the text form; names of tensors are ASCII.
            b'S' => String::from_utf8_lossy(bytes).trim_matches(['\'', '"']).to_string(),
            b'T' | b'U' | b'V' => String::from_utf8_lossy(bytes).into_owned(),
            _ => self.text(bytes)?,
        };
        self.push(Object::Str(text))
    }

    fn pairs(&self, items: &[Id]) -> Step<Vec<(Id, Id)>> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return self.wrong("a dictionary with a key that has no value");
        }
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    }

    fn extend(&mut self, mut items: Vec<Id>) -> Step {
        let list = self.top()?;
        match &mut self.objects[list as usize] {
            Object::List(list) => list.append(&mut items),
            Object::Inert => {}
            _ => return self.wrong("items are added to what is no list"),
        }
        Ok(())
    }

    fn set_items(&mut self, mut pairs: Vec<(Id, Id)>) -> Step {
        let dict = self.top()?;
        match &mut self.objects[dict as usize] {
            Object::Dict(dict) => dict.append(&mut pairs),
            Object::Inert => {}
            _ => return self.wrong("entries are added to what is no dictionary"),
        }
        Ok(())
    }
}
