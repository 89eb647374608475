//! From a path and a budget to a generator.

use crate::args::Target;
use crate::exit::Failure;
use crate::load;
use edge_runtime::decode::{DecodeError, Decoder};
use edge_runtime::device::{ByteSize, Device, Reservation};
use edge_runtime::pack::{Header, PackFile};
use edge_runtime::subnet::ChoiceError;
use edge_runtime::text::{Embedder, Generator, Sampling};
use edge_runtime::tokenizer::{Tokenizer, TokenizerError};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A language model that is ready.
pub struct Opened {
    pub device: Arc<Device>,
    pub pack: Arc<PackFile>,
    pub generator: Generator,
    /// Until it was.
    pub load: Duration,
    /// What texts and the sampler will take.
    _held: Reservation,
}

/// An encoder that is ready.
pub struct OpenedEmbedder {
    pub embedder: Embedder,
    pub device: Arc<Device>,
    /// Until it was.
    pub load: Duration,
}

/// The tokenizer of a pack.
pub fn tokenizer(pack: &PackFile) -> Result<Tokenizer, Failure> {
    let header: &Header = pack.header();
    let blob = header.tokenizer_blob().and_then(|id| header.blobs.get(id as usize));
    // Nothing behind its tables is mapped, where there are any.
    let end = blob.map_or(pack.file_len(), |blob| blob.offset + blob.len);
    Tokenizer::new(header, Arc::new(pack.map(end)?)).map_err(|e| {
        let why = header.card.metadata.get("no_tokenizer").filter(|_| e == TokenizerError::None);
        Failure::Unsupported(why.map_or(e.to_string(), |why| format!("{e}: {why}")))
    })
}

/// Tokens of context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// So many, or it is an error.
    Asked(usize),
    /// So many are enough; fewer where the memory or the model has no more.
    Enough(usize),
    /// As many as the memory allows.
    Most,
}

/// A pack whose tokenizer is ready, before its model is.
pub struct Prepared {
    device: Arc<Device>,
    pack: Arc<PackFile>,
    pub tokenizer: Tokenizer,
    start: Instant,
}

/// Opens a pack as far as its tokenizer.
pub fn prepare(path: &Path, target: &Target) -> Result<Prepared, Failure> {
    let start = Instant::now();
    if target.subnet.is_some() {
        return Err(Failure::Usage(ChoiceError::NoChoices.to_string()));
    }
    if let Some(shape) = target.shape.first() {
        return Err(Failure::Usage(format!(
            "--shape {shape}: the shapes of a text follow from it; use --ctx"
        )));
    }
    let device = load::device(target)?;
    let pack = Arc::new(PackFile::open_within(path, device.ledger().budget())?);
    if pack.missing_bytes() > 0 && target.strict {
        return Err(Failure::Pack(pack.cut_error()));
    }
    let tokenizer = tokenizer(&pack)?;
    Ok(Prepared { device, pack, tokenizer, start })
}

impl Prepared {
    /// The model, for so many tokens of context. What the process holds, and what tokenizer and sampler take, is counted before a rung is chosen.
    pub fn open(
        self,
        target: &Target,
        context: Context,
        sampling: Option<&Sampling>,
    ) -> Result<Opened, Failure> {
        let Prepared { device, pack, tokenizer, start } = self;
        let chosen = sampling.map_or(0, |sampling| sampling.bytes(tokenizer.tokens().tokens));
        let held = device.ledger().reserve("texts of tokens, sampler", (tokenizer.unread() + chosen) as u64);
        let held = held.map_err(|e| Failure::NoRoom(e.to_string()))?;
        let open = |context| Decoder::open(&device, &pack, target.rung.as_deref(), context);
        let decoder = match context {
            Context::Asked(tokens) => open(Some(tokens)),
            Context::Most => open(None),
            Context::Enough(tokens) => match open(Some(tokens)) {
                Err(DecodeError::Longest { .. } | DecodeError::Room { .. }) => open(None),
                decoder => decoder,
            },
        };
        let generator = Generator::new(decoder?, tokenizer)?;
        log::info!(
            "context {} tokens, budget {}",
            generator.decoder().context(),
            ByteSize(device.ledger().budget())
        );
        Ok(Opened { device, pack, generator, load: start.elapsed(), _held: held })
    }

    /// The model that makes vectors of texts, with room for so many tokens of one.
    pub fn open_embedder(self, target: &Target, tokens: usize) -> Result<OpenedEmbedder, Failure> {
        let Prepared { device, pack, tokenizer, start } = self;
        let embedder = Embedder::open(&device, &pack, tokenizer, target.rung.as_deref(), Some(tokens))?;
        Ok(OpenedEmbedder { embedder, device, load: start.elapsed() })
    }
}
