//! Trained models as they come, turned into the runtime's graph and its constants.
//!
//! [`checkpoint`] reads named tensors that come without a graph, [`ofa`] makes graphs of those of once-for-all networks.
//! [`gguf`] and [`pretrained`] read language models, [`decoder`] makes graphs of their metadata.
//! [`import_onnx`] reads ONNX. What it cannot express it refuses, everything at once ([`ImportError::Unsupported`]); it never guesses.
//! Symbolic dimensions and shape arithmetic stay in the graph. [`apply_states`] ties outputs to inputs of the next run.

pub mod checkpoint;
mod error;
pub mod gguf;
pub mod language;
pub mod ofa;
mod onnx;
mod plan_time;
pub mod pretrained;
mod states;
pub mod supernet;
mod text;
pub mod tokenizer;

pub use error::{ImportError, MOST_LISTED, Unsupported};
pub use onnx::{Layers, Norms, Statistics, Supernet};
pub use onnx::{
    NEWEST_OPSET, Settled, encode_value, four_bit_outputs, import_onnx, import_onnx_bytes, import_onnx_with,
    read_value,
};
pub use states::{StateGuess, apply_states, guess_states};
