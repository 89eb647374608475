//! What a decoder refuses.

use crate::cpu::RunError;
use crate::device::{BudgetError, ByteSize};
use crate::graph::DType;
use crate::pack::PackError;
use crate::plan::PlanError;
use crate::select::SelectError;
use crate::session::SessionError;

/// A decoder that cannot be opened, or tokens that it does not take.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum DecodeError {
    #[error(
        "{more} more tokens behind {past} that are kept, of a context of {context}: give fewer, or open with a longer context"
    )]
    Context { more: usize, past: usize, context: usize },
    #[error("no tokens are given; at least one is expected")]
    NoTokens,
    #[error("token {index} is {id}; the vocabulary has ids from 0 to {}", vocabulary - 1)]
    Id { id: i64, index: usize, vocabulary: usize },
    #[error(
        "a context of {context} tokens is asked for; 1 to {longest} are possible, what the model was made for"
    )]
    Longest { context: usize, longest: usize },
    #[error(
        "rung `{rung}` with a context of {context} tokens needs {}, the budget has {} left: a context of {fits} fits",
        ByteSize(*need), ByteSize(*room)
    )]
    Room { rung: String, context: usize, need: u64, room: u64, fits: usize },
    #[error("keys and values kept as {kept}; f32, f16 and i8 are possible")]
    Kept { kept: DType },
    #[error("the pack holds no decoder of text; convert one from a GGUF file")]
    NoDecoder,
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Budget(#[from] BudgetError),
    #[error(transparent)]
    Run(#[from] RunError),
}

impl From<PackError> for DecodeError {
    fn from(error: PackError) -> DecodeError {
        DecodeError::Select(error.into())
    }
}
