//! Commands for language models.
//!
//! ```text
//! args.rs       what they take
//! open.rs       from a path and a budget to a generator
//! took.rs       what an answer took, as a line and as JSON
//! cache.rs      --prompt-cache FILE
//! prompt.rs     edge-run model.pack --prompt TEXT
//! chat.rs       edge-run chat
//! perplexity.rs edge-run perplexity
//! embed.rs      edge-run embed
//! tokenize.rs   edge-run tokenize
//! bench.rs      edge-run bench of a language model, in llama-bench's terms
//! ```

pub mod args;
pub mod bench;
mod cache;
pub mod chat;
pub mod embed;
mod open;
pub mod perplexity;
pub mod prompt;
pub mod tokenize;
mod took;
