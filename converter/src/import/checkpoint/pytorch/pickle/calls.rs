//! What globals are called for: dictionaries, sizes, tensors, storages. Nothing else is made, and nothing runs.

use super::globals::{Element, Global, global};
use super::machine::{Fault, MAX_OBJECTS, Machine, Step};
use super::{Id, Object, Storage, Tensor};
use std::rc::Rc;

/// Most tensors, each of which has up to a kilobyte of sizes and strides.
const MAX_TENSORS: usize = 1 << 18;
/// Bytes of the longest name of a storage; each tensor has a copy.
const MAX_KEY: usize = 128;
/// Most elements of a size or stride tuple; PyTorch allows 64 dimensions at most.
const MAX_RANK: usize = 64;

impl Machine<'_> {
    /// A known global as an object.
    pub(super) fn known(&self, module: &str, name: &str) -> Step<Object> {
        match global(module, name) {
            Ok(global) => Ok(Object::Global(global)),
            Err(why) => Err(Fault::Global { at: self.op, name: format!("{module}.{name}"), why }),
        }
    }

    /// State that is given to an object: attributes of a dictionary or a tensor, which nothing here needs.
    pub(super) fn build(&mut self) -> Step {
        self.pop()?;
        match self.object(self.top()?) {
            Object::Dict(_) | Object::Tensor(_) | Object::Inert => Ok(()),
            _ => self.wrong("state for an object that has none"),
        }
    }

    pub(super) fn call(&mut self, callee: Id, args: Id) -> Step {
        let Object::Global(global) = self.object(callee) else {
            return self.wrong("a call of what is no global");
        };
        let Object::Tuple(args) = self.object(args) else {
            return self.wrong("a call whose arguments are no tuple");
        };
        let object = match global {
            Global::Dict => match args.first() {
                None => Object::Dict(Vec::new()),
                Some(items) => Object::Dict(self.entries(*items)?),
            },
            Global::Size => match args.first().map(|id| self.object(*id)) {
                Some(Object::Tuple(items) | Object::List(items)) => Object::Tuple(items.clone()),
                _ => return self.wrong("a size that is no tuple"),
            },
            Global::Tensor | Global::TypedTensor => self.tensor(args, *global == Global::TypedTensor)?,
            Global::Parameter => match args.first().map(|id| self.object(*id)) {
                Some(Object::Tensor(tensor)) => Object::Tensor(Rc::clone(tensor)),
                _ => return self.wrong("a parameter that is no tensor"),
            },
            Global::Inert => Object::Inert,
            Global::Storage(_) | Global::Element(_) => return self.wrong("a call of an element type"),
        };
        match &object {
            Object::Dict(pairs) => self.copied += pairs.len(),
            Object::Tuple(items) => self.copied += items.len(),
            Object::Tensor(_) => self.tensors += 1,
            _ => {}
        }
        if self.copied > MAX_OBJECTS || self.tensors > MAX_TENSORS {
            return self.wrong(format!("more than {MAX_TENSORS} tensors or {MAX_OBJECTS} entries"));
        }
        self.push(object)
    }

    /// The entries of a dictionary that is made of a list of pairs.
    fn entries(&self, items: Id) -> Step<Vec<(Id, Id)>> {
        let (Object::List(items) | Object::Tuple(items)) = self.object(items) else {
            return self.wrong("a dictionary of what is no list of pairs");
        };
        let pair = |id: &Id| match self.object(*id) {
            Object::List(pair) | Object::Tuple(pair) => match pair[..] {
                [key, value] => Some((key, value)),
                _ => None,
            },
            _ => None,
        };
        match items.iter().map(pair).collect() {
            Some(pairs) => Ok(pairs),
            None => self.wrong("a dictionary of what is no list of pairs"),
        }
    }

    fn count(&self, id: Id) -> Step<u64> {
        match self.object(id) {
            Object::Int(n) if u64::try_from(*n).is_ok() => Ok(*n as u64),
            other => self.wrong(format!("{} where a size or an offset belongs", described(other))),
        }
    }

    fn counts(&self, id: Id) -> Step<Vec<u64>> {
        match self.object(id) {
            Object::Tuple(items) | Object::List(items) if items.len() <= MAX_RANK => {
                items.iter().map(|id| self.count(*id)).collect()
            }
            Object::Tuple(items) | Object::List(items) => {
                self.wrong(format!("a tensor of {} dimensions, at most {MAX_RANK} are read", items.len()))
            }
            other => self.wrong(format!("{} where sizes belong", described(other))),
        }
    }

    /// Arguments: storage, offset, sizes, strides, requires_grad, hooks and, when `typed`, the element type.
    fn tensor(&self, args: &[Id], typed: bool) -> Step<Object> {
        let [storage, offset, dims, strides, ..] = args[..] else {
            return self.wrong(format!(
                "a tensor of {} arguments, expected storage, offset, sizes and strides",
                args.len()
            ));
        };
        let Object::Storage(storage) = self.object(storage) else {
            return self
                .wrong(format!("a tensor in {}, expected a storage", described(self.object(storage))));
        };
        let element = match (typed, args.get(6).map(|id| self.object(*id))) {
            (false, _) => storage.element.clone(),
            (true, Some(Object::Global(Global::Element(element)))) => element.clone(),
            (true, _) => return self.wrong("a tensor without its element type"),
        };
        let (offset, dims, strides) = (self.count(offset)?, self.counts(dims)?, self.counts(strides)?);
        if dims.len() != strides.len() {
            return self.wrong(format!("a tensor of sizes {dims:?} and strides {strides:?}"));
        }
        Ok(Object::Tensor(Rc::new(Tensor { storage: storage.clone(), element, offset, dims, strides })))
    }

    /// `('storage', type, key, location, len)`, with `(key, offset, len)` of a part behind, or `None`, before PyTorch 1.6.
    pub(super) fn persistent(&mut self) -> Step {
        let id = self.pop()?;
        let Object::Tuple(items) = self.object(id) else {
            return self.wrong("an outside object that is no storage");
        };
        let (tag, class, key, len, part) = match items[..] {
            [tag, class, key, _, len] => (tag, class, key, len, None),
            [tag, class, key, _, len, part] => (tag, class, key, len, Some(part)),
            _ => return self.wrong("an outside object that is no storage"),
        };
        if !matches!(self.object(tag), Object::Str(tag) if tag == "storage") {
            return self.wrong("an outside object that is no storage");
        }
        let Object::Global(Global::Storage(element)) = self.object(class) else {
            return self.wrong(format!("a storage of class {}", described(self.object(class))));
        };
        let key = match self.object(key) {
            Object::Str(key) if key.len() <= MAX_KEY => key.clone(),
            Object::Int(key) => key.to_string(),
            _ => return self.wrong("a storage whose key is no short string"),
        };
        let part = match part.map(|id| self.object(id)) {
            None | Some(Object::None) => None,
            Some(Object::Tuple(part)) => match part[..] {
                [_, offset, len] => Some((self.count(offset)?, self.count(len)?)),
                _ => return self.wrong("a part of a storage without offset and length"),
            },
            Some(_) => return self.wrong("a part of a storage without offset and length"),
        };
        let storage = Storage { element: element.clone(), key, len: self.count(len)?, part };
        self.push(Object::Storage(storage))
    }
}

/// An object in a few words.
fn described(object: &Object) -> String {
    match object {
        Object::None => "nothing".to_string(),
        Object::Bool(b) => format!("the truth value {b}"),
        Object::Int(n) => format!("the number {n}"),
        Object::Float(x) => format!("the number {x}"),
        Object::Str(text) => format!("the string `{text:.40}`"),
        Object::Bytes => "bytes".to_string(),
        Object::Tuple(items) => format!("a tuple of {}", items.len()),
        Object::List(items) => format!("a list of {}", items.len()),
        Object::Dict(items) => format!("a dictionary of {}", items.len()),
        Object::Global(Global::Storage(Element::Other(name)) | Global::Element(Element::Other(name))) => {
            name.clone()
        }
        Object::Global(global) => format!("{global:?}").to_lowercase(),
        Object::Storage(storage) => format!("storage `{}`", storage.key),
        Object::Tensor(_) => "a tensor".to_string(),
        Object::Inert => "another object".to_string(),
    }
}
