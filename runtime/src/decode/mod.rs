//! Text piece by piece: a decoder with the keys and values of the tokens that it has taken.
//!
//! ```text
//! open     a rung, a context: how many tokens there is room for; plans for pieces of a few lengths, over one arena
//! feed     new tokens behind those that are kept; the logits after the last one
//! save     writes what is kept to a file, from which `restore` takes it, in another process too
//! truncate forgets the last tokens, so that another text with the same beginning goes on from there
//! ```
//! A piece that no plan has the length of runs with a longer one: what stands behind its tokens is seen by none of them, and the next tokens
//! are written over it. What a run takes grows with the tokens before it, and not with the context.

mod error;
mod fit;
mod saved;

pub use error::DecodeError;
pub use fit::DecodeOptions;
pub use saved::SavedError;

use crate::device::Device;
use crate::graph::Decoding;
use crate::model::Model;
use crate::pack::{PackFile, Rung};
use crate::plan::Plan;
use crate::select::Need;
use crate::session::Session;
use fit::Fit;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Tokens of a run, and of how many of them it gives logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    tokens: usize,
    wanted: usize,
}

impl Shape {
    /// The next token.
    const STEP: Shape = Shape { tokens: 1, wanted: 1 };
}

/// Most bytes of logits of a run that gives those of all its tokens.
const LOGITS: usize = 16 << 20;
/// Tokens of such a run, most first.
const ALL: [usize; 4] = [64, 32, 16, 8];
/// Tokens that take less time as steps than as a padded piece.
const STEPS: usize = 3;

/// A language model that reads and goes on with a text.
///
/// After it is open, [`Decoder::feed`] allocates nothing.
pub struct Decoder {
    device: Arc<Device>,
    model: Arc<Model>,
    rung: Rung,
    decoding: Decoding,
    options: DecodeOptions,
    session: Session,
    /// What the session's plans are for; the first is the one that runs.
    shapes: Vec<Shape>,
    need: Need,
    /// The pack's.
    hash: u128,
    context: usize,
    vocabulary: usize,
    past: usize,
}

impl Decoder {
    /// Opens a rung of a pack, the best that fits when none is named, with room for `context` tokens; `None`: as many as the budget and the
    /// model allow.
    ///
    /// # Errors
    /// When the pack holds no decoder or no such rung, cannot be mapped, or the budget has no room.
    pub fn open(
        device: &Arc<Device>,
        pack: &Arc<PackFile>,
        rung: Option<&str>,
        context: Option<usize>,
    ) -> Result<Decoder, DecodeError> {
        Decoder::open_with(device, pack, rung, DecodeOptions { context, ..DecodeOptions::default() })
    }

    /// As [`Decoder::open`].
    ///
    /// # Errors
    /// As [`Decoder::open`].
    pub fn open_with(
        device: &Arc<Device>,
        pack: &Arc<PackFile>,
        rung: Option<&str>,
        options: DecodeOptions,
    ) -> Result<Decoder, DecodeError> {
        let Fit { model, rung, decoding, context, plans, need } = fit::fit(device, pack, rung, &options)?;
        let what = format!("process and weights of {}", model.name());
        let held = device.ledger().reserve(what, need.process + need.weights + need.extra)?;
        let mut plans = plans.into_iter();
        let first = plans.next().map(|(shape, plan)| (vec![shape], plan));
        let Some((mut shapes, plan)) = first else { return Err(DecodeError::NoDecoder) };
        let mut session = Session::with_plan(device, &model, &rung, plan)?;
        session.hold(held);
        for (shape, plan) in plans {
            session.add_plan(plan)?;
            shapes.push(shape);
        }
        let vocabulary =
            session.plan().outputs.get(decoding.logits).and_then(|o| o.dims.last()).copied().unwrap_or(0);
        Ok(Decoder {
            device: device.clone(),
            model,
            rung,
            decoding,
            options,
            session,
            shapes,
            need,
            hash: pack.hash(),
            context,
            vocabulary,
            past: 0,
        })
    }

    /// Tokens that there is room for.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The most tokens that the model was made for.
    pub fn longest(&self) -> usize {
        self.decoding.longest
    }

    /// Tokens that are kept.
    pub fn past(&self) -> usize {
        self.past
    }

    /// Number of logits after a token.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The rung that runs.
    pub fn rung(&self) -> &Rung {
        &self.rung
    }

    /// The model, with its header.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The planned peak of the process.
    pub fn need(&self) -> Need {
        self.need
    }

    /// The session: its plan is the one that ran last.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Set it from any thread to stop a run at its next step: [`DecodeError::Run`] then. Tokens of pieces that had run are kept.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        self.session.cancel_flag()
    }

    /// Takes tokens behind those that are kept, and gives the logits after the last of them, `[vocabulary]`.
    ///
    /// # Errors
    /// When there are no tokens, one is none of the vocabulary, or there is no room for them: nothing was taken then. When a run stops,
    /// [`Decoder::past`] says how many were.
    pub fn feed(&mut self, ids: &[i64]) -> Result<&[f32], DecodeError> {
        self.feed_observed(ids, |_, _| ())
    }

    /// As [`Decoder::feed`], calling `after(step, its name)` after each step of the plans that run ([`Decoder::session`]).
    ///
    /// # Errors
    /// As [`Decoder::feed`].
    pub fn feed_observed(
        &mut self,
        ids: &[i64],
        mut after: impl FnMut(usize, &str),
    ) -> Result<&[f32], DecodeError> {
        self.check(ids)?;
        let mut rest = ids;
        while !rest.is_empty() {
            let shape = self.shape_for(rest.len());
            let (now, later) = rest.split_at(shape.tokens.min(rest.len()));
            self.run(shape, now, &mut after)?;
            rest = later;
        }
        Ok(self.logits())
    }

    /// As [`Decoder::feed`], with the logits after each token: `each(i, logits)` for the i-th of `ids`, in order.
    ///
    /// # Errors
    /// As [`Decoder::feed`].
    pub fn feed_all(&mut self, ids: &[i64], each: &mut dyn FnMut(usize, &[f32])) -> Result<(), DecodeError> {
        self.check(ids)?;
        let whole = if ids.len() > STEPS { self.shape_of_all() } else { Shape::STEP };
        let (mut rest, mut done) = (ids, 0);
        while !rest.is_empty() {
            let shape = if self.past + whole.tokens <= self.room() { whole } else { Shape::STEP };
            let (now, later) = rest.split_at(shape.tokens.min(rest.len()));
            self.run(shape, now, &mut |_, _| ())?;
            for (i, logits) in self.logits().chunks_exact(self.vocabulary.max(1)).take(now.len()).enumerate()
            {
                each(done + i, logits);
            }
            done += now.len();
            rest = later;
        }
        Ok(())
    }

    /// Forgets the tokens after the first `past` that are kept.
    pub fn truncate(&mut self, past: usize) {
        self.past = self.past.min(past);
    }

    fn check(&self, ids: &[i64]) -> Result<(), DecodeError> {
        if ids.is_empty() {
            return Err(DecodeError::NoTokens);
        }
        let known = |id: &i64| (0..self.vocabulary as i64).contains(id);
        if let Some(index) = ids.iter().position(|id| !known(id)) {
            return Err(DecodeError::Id { id: ids[index], index, vocabulary: self.vocabulary });
        }
        if ids.len() > self.context - self.past {
            let (past, context) = (self.past, self.context);
            return Err(DecodeError::Context { more: ids.len(), past, context });
        }
        Ok(())
    }

    /// Tokens that plans have room for: whole panels of the context.
    fn room(&self) -> usize {
        self.context.next_multiple_of(fit::UNIT)
    }

    /// The plan to run next for so many tokens: the longest that they fill, or the shortest that holds them all.
    fn shape_for(&self, tokens: usize) -> Shape {
        let room = self.room() - self.past;
        let usable = || self.shapes.iter().filter(|shape| shape.wanted == 1 && shape.tokens <= room);
        let filled = usable().filter(|shape| shape.tokens <= tokens).max_by_key(|shape| shape.tokens);
        let filled = filled.copied().unwrap_or(Shape::STEP);
        if filled == Shape::STEP && tokens > STEPS {
            let above = usable().filter(|shape| shape.tokens > tokens).min_by_key(|shape| shape.tokens);
            return above.copied().unwrap_or(filled);
        }
        filled
    }

    /// The plan that gives logits of all its tokens, made when it is first asked for; steps where there is no room for one.
    fn shape_of_all(&mut self) -> Shape {
        if let Some(shape) = self.shapes.iter().find(|shape| shape.wanted > 1) {
            return *shape;
        }
        for tokens in ALL {
            if tokens > self.room() || tokens * self.vocabulary * 4 > LOGITS {
                continue;
            }
            let shape = Shape { tokens, wanted: tokens };
            let plan = self.plan(shape).map_err(|why| why.to_string());
            let added = plan.and_then(|plan| self.session.add_plan(plan).map_err(|why| why.to_string()));
            match added {
                Ok(_) => {
                    self.shapes.push(shape);
                    return shape;
                }
                Err(why) => log::info!("no plan for the logits of {tokens} tokens at once: {why}"),
            }
        }
        Shape::STEP
    }

    fn plan(&self, shape: Shape) -> Result<Plan, DecodeError> {
        fit::plan(&self.device, &self.model, &self.rung, shape, self.context, &self.options)
    }

    /// Runs a plan on some tokens, at most as many as it has.
    fn run(
        &mut self,
        shape: Shape,
        ids: &[i64],
        after: &mut dyn FnMut(usize, &str),
    ) -> Result<(), DecodeError> {
        let at = self.shapes.iter().position(|own| *own == shape).unwrap_or(0);
        if at > 0 {
            self.session.switch(at);
            self.shapes.swap(0, at);
        }
        let Decoding { ids: tokens, past, wanted, .. } = self.decoding;
        let write = |to: &mut [u8], number: &dyn Fn(usize) -> i64| {
            for (i, to) in to.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                *to = number(i).to_le_bytes();
            }
        };
        let (before, last) = (self.past as i64, ids.len() as i64 - 1);
        // What stands behind the tokens is any token.
        self.session.write_input(tokens, |to| write(to, &|i| ids.get(i).copied().unwrap_or(0)))?;
        self.session.write_input(past, |to| write(to, &|_| before))?;
        self.session.write_input(wanted, |to| match shape.wanted {
            1 => write(to, &|_| last),
            _ => write(to, &|i| (i as i64).min(last)),
        })?;
        self.session.run_observed(|step, name| after(step, name))?;
        self.past += ids.len();
        Ok(())
    }

    /// The logits of the last run.
    fn logits(&self) -> &[f32] {
        bytemuck::cast_slice(self.session.output(self.decoding.logits).1)
    }
}
