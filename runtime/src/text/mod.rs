//! Text from a decoder, and what an encoder makes of text: which token comes next, when it is enough, what may be shown of it yet, and what a conversation is for the model.
//!
//! ```text
//! sampler.rs    logits -> a token
//! stream.rs     bytes of tokens -> text that can be shown: whole characters, up to a stop string
//! generator.rs  prompt -> text; of what a decoder has read already nothing is read again
//! perplexity.rs how well a text is foretold
//! embedder.rs   a text -> one vector
//! conversation.rs  turns of messages, of which none is read twice (feature `templates`)
//! template.rs   messages -> prompt, by the template that came with the model (feature `templates`)
//! clock.rs      a date for templates that ask for one
//! ```

#[cfg(feature = "templates")]
mod clock;
#[cfg(feature = "templates")]
mod conversation;
mod embedder;
mod generator;
mod perplexity;
mod sampler;
mod stream;
#[cfg(feature = "templates")]
mod template;

#[cfg(feature = "templates")]
pub use conversation::Conversation;
pub use embedder::{EmbedError, Embedder, Embedding};
pub use generator::{Answer, End, Generator, TextError, Until};
pub use perplexity::{Perplexity, Windows, perplexity};
pub use sampler::{Candidate, SampleError, Sampler, Sampling};
pub use stream::Stream;
#[cfg(feature = "templates")]
pub use template::{ChatTemplate, Message, TemplateError};
