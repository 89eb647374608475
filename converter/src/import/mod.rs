//! Trained models as they come, turned into the runtime's graph and its constants.
//!
//! [`import_onnx`] reads ONNX. What it cannot express it refuses, everything at once ([`ImportError::Unsupported`]); it never
//! guesses. Symbolic dimensions and shape arithmetic stay in the graph. [`apply_states`] ties outputs to inputs of the next run.

mod error;
mod onnx;
mod plan_time;
mod states;
mod text;

pub use error::{ImportError, MOST_LISTED, Unsupported};
pub use onnx::{NEWEST_OPSET, encode_value, four_bit_outputs, import_onnx, import_onnx_bytes, read_value};
pub use states::{StateGuess, apply_states, guess_states};
