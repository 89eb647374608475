//! Which rung, which context, which plans: what fits the budget.

use super::{DecodeError, Shape};
use crate::device::{self, Device};
use crate::graph::{DType, Decoding};
use crate::model::Model;
use crate::pack::{PackFile, Rung};
use crate::plan::{InputSpec, Plan, PlanError, kept_columns};
use crate::select::{self, Need, Request};
use crate::session::plan_options;
use crate::weights::Registry;
use std::sync::Arc;

/// What is kept has room for tokens in steps of so many.
pub(super) const UNIT: usize = edge_kernels::cpu::attention::PANEL;

/// Tokens of pieces, by how much memory there is: most first. Every decoder takes steps.
const PIECES: [&[usize]; 3] = [&[16, 128], &[16], &[]];

/// How keys and values can be kept.
const KEPT: [DType; 3] = [DType::F32, DType::F16, DType::I8];

/// A context that a rung is worth opening for, when none is asked for.
const WORTH: usize = 256;

/// How a decoder is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Tokens that there is room for; `None`: as many as the budget and the model allow.
    pub context: Option<usize>,
    /// How keys and values are kept, f32, f16 or i8 with a scale for each token and head; `None`: f16.
    pub kept: Option<DType>,
    /// Rows are not rounded where a few of them are multiplied with integers ([`crate::plan::PlanOptions::rounded`]): slower, and the same bits
    /// however a text is cut.
    pub exact: bool,
}

/// What is opened.
pub(super) struct Fit {
    pub model: Arc<Model>,
    pub rung: Rung,
    pub decoding: Decoding,
    pub context: usize,
    pub plans: Vec<(Shape, Plan)>,
    pub need: Need,
}

/// The best rung that has room for the context, or for one that is worth it; then the longest context.
pub(super) fn fit(
    device: &Arc<Device>,
    pack: &Arc<PackFile>,
    forced: Option<&str>,
    options: &DecodeOptions,
) -> Result<Fit, DecodeError> {
    let whole = Arc::new(pack.map(pack.file_len())?);
    let model = Model::new(pack.shared_header(), whole, Arc::new(Registry::standard()));
    if let Some(kept) = options.kept.filter(|kept| !KEPT.contains(kept)) {
        return Err(DecodeError::Kept { kept });
    }
    let request = Request { available: pack.available(), forced, ..Request::default() };
    let baseline = device::current_rss().unwrap_or(0);
    let room = device.ledger().free();
    let mut refusal = DecodeError::NoDecoder;
    for index in select::best(&model, &request)? {
        let rung = &model.header().rungs[index];
        let Some(decoding) = model.graph(rung).decoding.clone() else { continue };
        let (longest, each) = (decoding.longest, token_bytes(&decoding, options));
        if options.context.is_some_and(|context| !(1..=longest).contains(&context)) {
            return Err(DecodeError::Longest { context: options.context.unwrap_or(0), longest });
        }
        let least = options.context.unwrap_or(WORTH.min(longest));
        for pieces in PIECES {
            let planned = |context: usize| plans(device, &model, rung, (pieces, context), options);
            // With room for the longest piece, so that all plans are there.
            let longest_piece = pieces.iter().copied().max().unwrap_or(UNIT);
            let probe = longest_piece.min(least.next_multiple_of(UNIT));
            let made = planned(probe)?;
            let all: Vec<&Plan> = made.iter().map(|(_, plan)| plan).collect();
            let need = Need::of_plans(baseline, &model, rung, &all)?;
            // A page more, for its arena is counted in whole pages.
            let beside = need.total() - probe as u64 * each + device::page_size();
            let units = room.saturating_sub(beside) / (UNIT as u64 * each).max(1);
            let most = usize::try_from(units).unwrap_or(usize::MAX).saturating_mul(UNIT).min(longest);
            if most < least {
                let need = beside + least.next_multiple_of(UNIT) as u64 * each;
                refusal = DecodeError::Room { rung: rung.id.clone(), context: least, need, room, fits: most };
                continue;
            }
            let context = options.context.unwrap_or(most);
            drop(made);
            let made = planned(context)?;
            let all: Vec<&Plan> = made.iter().map(|(_, plan)| plan).collect();
            let need = Need::of_plans(baseline, &model, rung, &all)?;
            let (rung, decoding) = (rung.clone(), *decoding);
            let model = Arc::new(model.with_source(Arc::new(pack.map(rung.end)?)));
            return Ok(Fit { model, rung, decoding, context, plans: made, need });
        }
    }
    Err(refusal)
}

/// Bytes that are kept of a token.
fn token_bytes(decoding: &Decoding, options: &DecodeOptions) -> u64 {
    let kept = options.kept.unwrap_or(DType::F16);
    let bytes =
        decoding.caches.iter().map(|cache| cache.heads * kept_columns(cache.depth, kept) * kept.bytes());
    bytes.sum::<usize>() as u64
}

fn plans(
    device: &Device,
    model: &Model,
    rung: &Rung,
    (pieces, context): (&[usize], usize),
    options: &DecodeOptions,
) -> Result<Vec<(Shape, Plan)>, DecodeError> {
    let pieces = pieces.iter().map(|tokens| Shape { tokens: *tokens, wanted: 1 });
    let shapes = [Shape::STEP].into_iter().chain(pieces.filter(|shape| shape.tokens <= context));
    shapes.map(|shape| Ok((shape, plan(device, model, rung, shape, context, options)?))).collect()
}

/// The plan of a run.
pub(super) fn plan(
    device: &Device,
    model: &Model,
    rung: &Rung,
    shape: Shape,
    context: usize,
    options: &DecodeOptions,
) -> Result<Plan, DecodeError> {
    let graph = model.graph(rung);
    let decoding = graph.decoding.as_ref().ok_or(DecodeError::NoDecoder)?;
    let mut specs = Vec::with_capacity(graph.inputs.len());
    for (i, port) in graph.inputs.iter().enumerate() {
        let name = graph.name(port.value).to_string();
        let dims = match i {
            i if i == decoding.ids => vec![1, shape.tokens],
            i if i == decoding.past => vec![1],
            i if i == decoding.wanted => vec![shape.wanted],
            _ => return Err(PlanError::MissingInput { name }.into()),
        };
        specs.push(InputSpec { name, dtype: port.dtype, dims, value: None });
    }
    let mut made = plan_options(device, false);
    (made.context, made.rounded) = (Some(context), !options.exact);
    made.kept = Some(options.kept.unwrap_or(DType::F16));
    Ok(Plan::new(model, rung, &specs, &made)?)
}
