//! One vector of a text, such that texts that mean like things have vectors of like directions.

use crate::cpu::RunError;
use crate::device::Device;
use crate::graph::{DType, Dim, Graph};
use crate::pack::PackFile;
use crate::plan::InputSpec;
use crate::select::{Access, Request};
use crate::session::{MoveError, Session, SessionError};
use crate::tokenizer::Tokenizer;
use std::sync::Arc;

/// Tokens of a text where neither the caller nor the pack says how many there may be.
const TOKENS: usize = 512;
/// Texts are filled up to a multiple of so many tokens: those of nearly one length share a plan.
const STEP: usize = 8;

/// Why there is no vector.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum EmbedError {
    #[error(
        "the pack gives no vector of a text: inputs `input_ids` and `attention_mask` [batch, tokens] of i64 and a result [batch, columns] are \
         expected; it has {found}"
    )]
    NoEncoder { found: String },
    #[error("a text of {tokens} tokens; the model was made for {longest} at most")]
    Long { tokens: usize, longest: usize },
    #[error(transparent)]
    Open(#[from] MoveError),
    #[error(transparent)]
    Plan(#[from] SessionError),
    #[error(transparent)]
    Run(#[from] RunError),
}

/// The vector of a text.
#[derive(Clone, Copy, Debug)]
pub struct Embedding<'a> {
    /// As long as the model has columns; of length 1 unless the model's own was asked for.
    pub vector: &'a [f32],
    /// Tokens of the text.
    pub tokens: usize,
    /// How many of them were read: the first that there is room for.
    pub read: usize,
}

/// What an input is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Ids,
    Mask,
    Types,
}

/// An encoder and its tokenizer.
pub struct Embedder {
    session: Session,
    tokenizer: Tokenizer,
    /// Inputs in their order.
    roles: Vec<Role>,
    output: usize,
    /// Tokens that there is room for.
    room: usize,
    /// Tokens of the plan at hand.
    planned: usize,
    ids: Vec<u32>,
    vector: Vec<f32>,
}

impl Embedder {
    /// Opens a rung of a pack, the best that fits when none is named, with room for `tokens` of a text; `None`: for as many as the model was made for.
    ///
    /// # Errors
    /// When the pack makes no vector of a text, was made for fewer tokens, has no such rung, cannot be mapped, or the budget has no room.
    pub fn open(
        device: &Arc<Device>,
        pack: &Arc<PackFile>,
        tokenizer: Tokenizer,
        rung: Option<&str>,
        tokens: Option<usize>,
    ) -> Result<Embedder, EmbedError> {
        let graph = pack.header().graphs.first();
        let missing = || EmbedError::NoEncoder { found: graph.map_or("no graph".into(), ports) };
        let (roles, output) = graph.and_then(read).ok_or_else(missing)?;
        let stated = tokenizer.tokens().longest;
        let room = tokens.unwrap_or(stated.unwrap_or(TOKENS)).max(1);
        if let Some(longest) = stated.filter(|longest| room > *longest) {
            return Err(EmbedError::Long { tokens: room, longest });
        }
        // Texts are looked for in those of tokens, which were not read when the tables were checked.
        let extra = tokenizer.unread() as u64;
        let request = Request { forced: rung, extra, ..Request::default() };
        let session = Session::open_as(device, pack, &specs(&roles, room), Access::Mapped, &request)?;
        Ok(Embedder {
            session,
            tokenizer,
            roles,
            output,
            room,
            planned: room,
            ids: Vec::new(),
            vector: Vec::new(),
        })
    }

    /// The session that runs.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Tokens of a text that there is room for.
    pub fn room(&self) -> usize {
        self.room
    }

    /// The vector of a text. Of one that is longer than there is room for the beginning is read; `normalized` gives it length 1.
    ///
    /// # Errors
    /// When the run is cancelled or fails.
    pub fn embed(&mut self, text: &str, normalized: bool) -> Result<Embedding<'_>, EmbedError> {
        self.ids = self.tokenizer.framed(text, false, usize::MAX);
        let tokens = self.ids.len();
        self.tokenizer.cut(&mut self.ids, self.room);
        let read = self.ids.len();
        let planned = read.max(1).next_multiple_of(STEP).min(self.room);
        if planned != self.planned {
            self.session.reshape(&specs(&self.roles, planned))?;
            self.planned = planned;
        }
        for (i, role) in self.roles.iter().enumerate() {
            let ids = &self.ids;
            self.session.write_input(i, |bytes| {
                for (at, word) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                    let value = match role {
                        Role::Ids => ids.get(at).map_or(0, |id| i64::from(*id)),
                        Role::Mask => i64::from(at < ids.len()),
                        Role::Types => 0,
                    };
                    *word = value.to_le_bytes();
                }
            })?;
        }
        self.session.run()?;
        let (_, bytes) = self.session.output(self.output);
        self.vector.clear();
        self.vector.extend(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)));
        if normalized {
            let length = self.vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
            let factor = if length > 0.0 { 1.0 / length } else { 0.0 };
            self.vector.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
        }
        Ok(Embedding { vector: &self.vector, tokens, read })
    }
}

/// Inputs of a text of so many tokens.
fn specs(roles: &[Role], tokens: usize) -> Vec<InputSpec> {
    let spec = |role: &Role| InputSpec {
        name: name(*role).into(),
        dtype: DType::I64,
        dims: vec![1, tokens],
        value: None,
    };
    roles.iter().map(spec).collect()
}

/// What exporters of encoders call their inputs.
fn name(role: Role) -> &'static str {
    match role {
        Role::Ids => "input_ids",
        Role::Mask => "attention_mask",
        Role::Types => "token_type_ids",
    }
}

/// The inputs of an encoder, and its result that is a vector of each text.
fn read(graph: &Graph) -> Option<(Vec<Role>, usize)> {
    let role = |port: &crate::graph::Port| {
        let all = [Role::Ids, Role::Mask, Role::Types];
        let role = all.into_iter().find(|role| name(*role) == graph.name(port.value))?;
        (port.dtype == DType::I64 && port.dims.as_ref().is_some_and(|dims| dims.len() == 2)).then_some(role)
    };
    let roles: Vec<Role> = graph.inputs.iter().map(role).collect::<Option<_>>()?;
    let vector = |port: &crate::graph::Port| {
        let dims = port.dims.as_deref().unwrap_or_default();
        port.dtype == DType::F32 && matches!(dims, [_, Dim::Fixed(_)])
    };
    let output = graph.outputs.iter().position(vector)?;
    (roles.contains(&Role::Ids) && graph.decoding.is_none()).then_some((roles, output))
}

/// What a graph has, in words.
fn ports(graph: &Graph) -> String {
    let names = |ports: &[crate::graph::Port]| {
        ports.iter().map(|port| format!("`{}`", graph.name(port.value))).collect::<Vec<_>>().join(", ")
    };
    format!("inputs {} and results {}", names(&graph.inputs), names(&graph.outputs))
}
