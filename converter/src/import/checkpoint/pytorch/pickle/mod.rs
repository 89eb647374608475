//! A pickle read as data: a machine that builds containers, numbers, strings and descriptions of tensors, and runs nothing.
//!
//! A pickle is a program. This machine has its stack and memo, and none of its calls: a global is one of the few of [`globals`] or
//! refused by name, and what calling one gives is built here. Source of the opcodes: CPython's `pickletools`, protocols 0 to 5.
//!
//! Objects live in one list and refer to one another by index, so that an object that holds itself, or a chain of a million
//! nested ones, costs nothing to make or to drop. Memory is bounded by the pickle's length.

mod calls;
mod globals;
mod machine;

#[cfg(test)]
mod tests;

pub(super) use globals::{Element, Global};
pub(super) use machine::{Fault, Pickle, read};

use std::rc::Rc;

/// Index of an object.
pub(super) type Id = u32;

/// What a pickle can hold.
#[derive(Clone, Debug)]
pub(super) enum Object {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(String),
    /// Bytes, whose content nothing here needs.
    Bytes,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Storage),
    Tensor(Rc<Tensor>),
    /// Something harmless that holds no tensor: a device, a number of NumPy's.
    Inert,
}

/// Elements somewhere in the checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage {
    /// Their type.
    pub element: Element,
    /// The name by which the checkpoint knows them.
    pub key: String,
    /// How many: bytes when the type is [`Element::Untyped`].
    pub len: u64,
    /// A part of them: where it starts and how many elements it has. Only in the form before PyTorch 1.6.
    pub part: Option<(u64, u64)>,
}

/// A tensor's place in a storage.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    pub storage: Storage,
    /// The type of its elements, where the storage does not say.
    pub element: Element,
    /// In elements, as the strides.
    pub offset: u64,
    pub dims: Vec<u64>,
    pub strides: Vec<u64>,
}
