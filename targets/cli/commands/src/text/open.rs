//! From a path and a budget to a generator.

use crate::args::Target;
use crate::exit::Failure;
use crate::load;
use edge_runtime::decode::Decoder;
use edge_runtime::device::{ByteSize, Device};
use edge_runtime::pack::{Header, PackFile};
use edge_runtime::text::Generator;
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
}

/// The tokenizer of a pack.
pub fn tokenizer(pack: &PackFile) -> Result<Tokenizer, Failure> {
    let header: &Header = pack.header();
    let blob = header.tokenizer_blob().and_then(|id| header.blobs.get(id as usize));
    // Nothing behind its tables is mapped.
    let end = blob.map_or(0, |blob| blob.offset + blob.len);
    Tokenizer::new(header, Arc::new(pack.map(end)?)).map_err(|e| {
        let why = header.card.metadata.get("no_tokenizer").filter(|_| e == TokenizerError::None);
        Failure::Unsupported(why.map_or(e.to_string(), |why| format!("{e}: {why}")))
    })
}

/// Opens a pack for so many tokens of context; what tokenizer and command take is held already when a rung is chosen.
pub fn open(path: &Path, target: &Target, context: Option<usize>) -> Result<Opened, Failure> {
    let start = Instant::now();
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
    let decoder = Decoder::open(&device, &pack, target.rung.as_deref(), context)?;
    let generator = Generator::new(decoder, tokenizer)?;
    log::info!(
        "context {} tokens, budget {}",
        generator.decoder().context(),
        ByteSize(device.ledger().budget())
    );
    Ok(Opened { device, pack, generator, load: start.elapsed() })
}
