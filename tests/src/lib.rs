//! What the tests of the whole share: tiny ONNX models, the built programs, temporary folders, packs.
//!
//! Everything here panics when it fails: it is for tests only.
#![deny(missing_docs)]

pub mod decoder;
mod disk;
pub mod family;
mod folder;
pub mod fuzz;
pub mod gguf;
pub mod models;
pub mod moving;
pub mod onnx;
mod packs;
pub mod pretrained;
mod programs;
mod samples;

pub use disk::SmallDisk;
pub use folder::Folder;
pub use packs::{Quiet, cached_model, convert_in_process, inputs_of, open};
pub use programs::{Ended, Program, edge_convert, edge_run, ocr, program};
pub use samples::Sample;
