//! What coverage-guided fuzzing runs (`tests/fuzz`) and `tests/fuzz_replay.rs` replays: one function for each target.
//!
//! A target takes bytes and may do nothing but return: an error of the code under test is an answer, a panic is a finding. So is memory
//! beyond [`bound`], where the program's allocator is [`Counting`].

mod blobs;
#[path = "../../../runtime/src/weights/tests/check.rs"]
mod check;
mod import;
mod memory;
mod pack;
mod parts;
mod weights;

// What `check.rs` names.
use edge_runtime::random::{philox, uniform};
use edge_runtime::weights::{BLOCK, CodeForm, CodesOut, PANEL, Part, Weights};

pub use import::import;
pub use memory::{Counting, bound};
pub use pack::pack;
pub use parts::Parts;
pub use weights::weights;

/// A target: any bytes in, nothing out.
pub type Target = fn(&[u8]);

/// The targets, by the names of their corpora.
pub const TARGETS: [(&str, Target); 3] = [("import", import), ("pack", pack), ("weights", weights)];
