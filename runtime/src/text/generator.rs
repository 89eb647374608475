//! A prompt in, text out, token by token.

use super::sampler::{SampleError, Sampler};
use super::stream::Stream;
use crate::decode::{DecodeError, Decoder, SavedError};
use crate::tokenizer::{TokenKind, Tokenizer, TokenizerError};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Tokens of a prompt between two looks at whether it is to stop.
const PIECE: usize = 128;

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum TextError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Sample(#[from] SampleError),
    #[error("the prompt is empty: there is nothing to go on from")]
    Empty,
    #[error("the prompt has {tokens} tokens, the context {context}: shorten it, or ask for a longer context")]
    Long { tokens: usize, context: usize },
    #[error("the pack's tokenizer has {tokens} tokens, its model {vocabulary}; make the pack again")]
    Vocabulary { tokens: usize, vocabulary: usize },
    #[error(
        "the text has {tokens} tokens, at least {least} are needed for a window; give a longer text or a shorter window"
    )]
    Short { tokens: usize, least: usize },
    #[error("a window of {window} tokens is expected to have 2 to {context}, the context")]
    Window { window: usize, context: usize },
    #[error("{0}")]
    Show(std::io::Error),
    #[cfg(feature = "templates")]
    #[error(transparent)]
    Template(#[from] super::template::TemplateError),
}

/// When an answer is long enough.
pub struct Until<'a> {
    /// Tokens at most; `None`: the context.
    pub tokens: Option<usize>,
    /// It ends before any of these.
    pub stops: &'a [String],
    /// Tokens that would end it are written like others.
    pub ignore_last: bool,
    /// Set from any thread to stop it; it is left set.
    pub stopped: &'a AtomicBool,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The model said so.
    Last,
    /// By a stop string.
    Stop,
    /// It has as many tokens as were asked for.
    Tokens,
    /// The context is full.
    Context,
    /// It was stopped.
    Interrupted,
}

/// What an answer took.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Why it ended.
    pub end: End,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Of these, what had been read before.
    pub reused: usize,
    /// Tokens that were chosen, the last that ends it among them.
    pub tokens: usize,
    /// Until the prompt was read.
    pub prefill: Duration,
    /// From there to the end.
    pub decode: Duration,
}

/// A decoder, its tokenizer and what it has read.
pub struct Generator {
    decoder: Decoder,
    tokenizer: Tokenizer,
    read: Vec<i64>,
    written: Vec<u32>,
}

impl Generator {
    /// Of a decoder that has read nothing.
    ///
    /// # Errors
    /// When the tokenizer has tokens that the model does not.
    pub fn new(decoder: Decoder, tokenizer: Tokenizer) -> Result<Generator, TextError> {
        let (tokens, vocabulary) = (tokenizer.tokens().tokens, decoder.vocabulary());
        if tokens > vocabulary {
            return Err(TextError::Vocabulary { tokens, vocabulary });
        }
        let room = decoder.context();
        Ok(Generator {
            read: Vec::with_capacity(room),
            written: Vec::with_capacity(room),
            decoder,
            tokenizer,
        })
    }

    /// The decoder.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The decoder, for whoever has it read something else; what it had read is forgotten.
    pub fn decoder_mut(&mut self) -> &mut Decoder {
        self.read.clear();
        self.decoder.truncate(0);
        &mut self.decoder
    }

    /// Writes what was read, such that [`Generator::restore`] goes on from there in another process.
    ///
    /// # Errors
    /// As [`Decoder::save`].
    pub fn save(&self, to: &mut dyn Write) -> Result<(), SavedError> {
        self.decoder.save(&self.read[..self.decoder.past()], to)
    }

    /// Takes what was saved for read, in place of what was; gives the number of its tokens.
    ///
    /// # Errors
    /// As [`Decoder::restore`].
    pub fn restore(&mut self, from: &mut dyn Read) -> Result<usize, SavedError> {
        let ids = self.decoder.restore(from);
        self.read.truncate(self.decoder.past());
        let ids = ids?;
        // What was made room for stays.
        self.read.clear();
        self.read.extend(ids);
        Ok(self.read.len())
    }

    /// The tokens of the last answer, without the one that ended it.
    pub fn written(&self) -> &[u32] {
        &self.written
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Goes on from a prompt of token ids and shows the text. The longest beginning that was read before is not read again.
    ///
    /// # Errors
    /// When the prompt is empty or longer than the context, or the model's numbers are not finite; and what `show` says.
    pub fn answer(
        &mut self,
        prompt: &[u32],
        sampler: &mut Sampler,
        until: &Until<'_>,
        show: &mut dyn FnMut(&str) -> std::io::Result<()>,
    ) -> Result<Answer, TextError> {
        let context = self.decoder.context();
        if prompt.len() > context {
            return Err(TextError::Long { tokens: prompt.len(), context });
        }
        let start = Instant::now();
        self.written.clear();
        let known = self.read.iter().zip(prompt).take_while(|(a, b)| **a == i64::from(**b)).count();
        // Logits are those after the last token, which is read in any case.
        let reused = known.min(prompt.len().checked_sub(1).ok_or(TextError::Empty)?);
        self.decoder.truncate(reused);
        self.read.truncate(reused);
        sampler.reset();
        prompt.iter().for_each(|id| sampler.accept(*id));
        let mut answer = Answer {
            end: End::Interrupted,
            prompt: prompt.len(),
            reused,
            tokens: 0,
            prefill: Duration::ZERO,
            decode: Duration::ZERO,
        };
        let mut next = None;
        let ids: Vec<i64> = prompt[reused..].iter().map(|id| i64::from(*id)).collect();
        for piece in ids.chunks(PIECE) {
            if until.stopped.load(Ordering::Relaxed) {
                answer.prefill = start.elapsed();
                return Ok(answer);
            }
            let last = self.read.len() + piece.len() == prompt.len();
            let logits = read(&mut self.decoder, &mut self.read, piece)?;
            if last && until.tokens != Some(0) {
                next = Some(sampler.sample(logits)?);
            }
        }
        answer.prefill = start.elapsed();
        let (start, mut stream, mut shown) = (Instant::now(), Stream::new(until.stops), Ok(()));
        let mut see = |text: &str| {
            if shown.is_ok() {
                shown = show(text);
            }
        };
        answer.end = End::Tokens;
        while let Some(id) = next.take() {
            answer.tokens += 1;
            if !until.ignore_last && self.tokenizer.tokens().last.contains(&id) {
                answer.end = End::Last;
                break;
            }
            // What controls a model is not text, and tokens beyond the tokenizer's are padding.
            let text = match self.tokenizer.kind(id) {
                Some(kind) if kind != TokenKind::Control => self.tokenizer.text(id)?,
                _ => &[],
            };
            if stream.push(text, &mut see) {
                answer.end = End::Stop;
                break;
            }
            sampler.accept(id);
            self.written.push(id);
            answer.end = match () {
                () if until.stopped.load(Ordering::Relaxed) => End::Interrupted,
                () if until.tokens.is_some_and(|most| answer.tokens >= most) => End::Tokens,
                () if self.read.len() == context => End::Context,
                () => {
                    let logits = read(&mut self.decoder, &mut self.read, &[i64::from(id)])?;
                    next = Some(sampler.sample(logits)?);
                    continue;
                }
            };
        }
        stream.finish(&mut see);
        answer.decode = start.elapsed();
        shown.map(|()| answer).map_err(TextError::Show)
    }
}

/// Has the decoder read tokens, and takes note of those that it has.
fn read<'a>(decoder: &'a mut Decoder, known: &mut Vec<i64>, ids: &[i64]) -> Result<&'a [f32], DecodeError> {
    // Of a piece that fails nothing is kept.
    let before = known.len();
    decoder.truncate(before);
    known.extend_from_slice(ids);
    let fed = decoder.feed(ids);
    if fed.is_err() {
        known.truncate(before);
    }
    fed
}
