//! Rungs that run fast enough on this device, which is measured and not foretold: what a rung takes depends on the CPU, on its other work and
//! on the inputs.

use super::{Paced, Reader, Request, SelectError, Weighing, held, select_beside};
use crate::RunError;
use crate::device::{self, Device};
use crate::model::Model;
use crate::pack::Rung;
use crate::plan::InputSpec;
use crate::session::{Session, SessionError};
use crate::sort;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Timed runs of a rung, of which the median counts; one goes before them.
const RUNS: usize = 5;
/// A first run that takes so many times what is allowed says enough: it is never so much slower than those after it.
const HOPELESS: u32 = 10;
/// After a rung that is too slow, of those that hold values alike only such of at most this part of its bytes are tried.
const NEXT: f64 = 0.7;

/// No rung can be chosen that is fast enough.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum PaceError {
    #[error(
        "no rung that fits runs within {latency:.1?} here: the fastest of {tried} tried, `{rung}`, takes {took:.2?}"
    )]
    TooSlow { latency: Duration, tried: usize, rung: String, took: Duration },
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Run(#[from] RunError),
}

/// The best rung that fits the budget and runs within `latency` on this device, and how long it took. `set` sets a session's inputs.
///
/// Rungs are tried from the best down. After one that is too slow, those that hold the same values the same way are passed over unless they have much less
/// to read: a few tries tell, of some runs each.
///
/// # Errors
/// When nothing fits or nothing that fits is fast enough, or a run fails.
pub fn select_within(
    device: &Arc<Device>,
    model: &Model,
    inputs: &[InputSpec],
    request: &Request<'_>,
    reader: &mut Reader,
    latency: Duration,
    mut set: impl FnMut(&mut Session) -> Result<(), RunError>,
) -> Result<Paced, PaceError> {
    let (baseline, budget) = (device::current_rss().unwrap_or(0), device.ledger().budget());
    let rungs = model.rungs();
    let mut left = reader.available().to_vec();
    let mut fastest: Option<(Duration, usize)> = None;
    let mut tried = 0;
    while !left.is_empty() {
        let request = Request { available: &left, ..request.clone() };
        let chosen = match select_beside(device, model, inputs, &request, baseline, budget) {
            // Others did fit, and were too slow.
            Err(SelectError::DoesNotFit { .. }) if fastest.is_some() => break,
            chosen => chosen?,
        };
        let (rung, index) = (&rungs[chosen.rung], chosen.rung);
        let source = match reader.source(model, rung, chosen.weighing, None) {
            Err(error) if error.damaged().is_some() && left.len() > 1 => {
                log::warn!("{error}; rung `{}` needs it", rung.id);
                left.retain(|other| *other != index);
                continue;
            }
            source => source?,
        };
        let model = Arc::new(model.with_source(source));
        let mut session = Session::with_plan(device, &model, rung, chosen.plan)?;
        if chosen.weighing == Weighing::Streamed {
            session.stream_weights().map_err(SelectError::from)?;
        }
        let took = pace(&mut session, latency, &mut set)?;
        tried += 1;
        log::info!("rung `{}` takes {took:.2?}", rung.id);
        if took <= latency {
            return Ok(Paced { rung: index, took, latency });
        }
        if fastest.is_none_or(|(least, _)| took < least) {
            fastest = Some((took, index));
        }
        left.retain(|other| {
            *other != index && !(held(&rungs[*other]) == held(rung) && near(&rungs[*other], rung))
        });
    }
    let (took, index) = fastest.ok_or(SelectError::NoRung)?;
    Err(PaceError::TooSlow { latency, tried, rung: rungs[index].id.clone(), took })
}

/// Median of [`RUNS`] runs, or a first one that is [`HOPELESS`].
fn pace(
    session: &mut Session,
    latency: Duration,
    set: &mut dyn FnMut(&mut Session) -> Result<(), RunError>,
) -> Result<Duration, RunError> {
    let mut timed = || -> Result<Duration, RunError> {
        // A run may use the memory of its inputs.
        set(session)?;
        let start = Instant::now();
        session.run()?;
        Ok(start.elapsed())
    };
    let first = timed()?;
    if first > latency * HOPELESS {
        return Ok(first);
    }
    let mut times = [Duration::ZERO; RUNS];
    for time in &mut times {
        *time = timed()?;
    }
    sort::ascending(&mut times);
    Ok(times[RUNS / 2])
}

fn near(rung: &Rung, slow: &Rung) -> bool {
    rung.bytes as f64 > NEXT * slow.bytes as f64
}
