//! A session that moves along its pack's ladder while it lives.
//!
//! ```text
//! choose:   the rung of the new budget, beside what the process holds without this session
//! let go:   the arena; the mapping of the old rung when the new mapping stands, for both show the same pages of the file
//! take:     the new arena, the state that was saved, the new rung's mapping; its pages come as they are read
//! ```
//! Nothing is read twice from storage: what the two rungs share is in the page cache, and no weight is copied. A session whose
//! weights are in memory of their own ([`Access::Loaded`]) shares what both rungs have, reads the rest before it lets go of the old
//! rung, and so holds for that moment what either needs.

use super::{Session, SessionError};
use crate::device::{self, BudgetError, Device, Reservation};
use crate::model::Model;
use crate::pack::{Choice, PackFile, Rung};
use crate::plan::InputSpec;
use crate::select::{self, Access, Reader, Request, SelectError, Selection, Weighing};
use crate::weights::Registry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How short of memory the system says it is, in Android's terms (`onTrimMemory`): what a session gives back of what it takes
/// beside the process itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// A quarter.
    Moderate,
    /// Half.
    Low,
    /// All that it can: the least rung, its weights streamed if that takes less.
    Critical,
}

/// What a move did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The rung before.
    pub from: String,
    /// The rung now; it may be the same, in a plan of another size.
    pub to: String,
    /// Whether states went along; they are zeros when the new rung's graph has others.
    pub state_kept: bool,
}

/// A session that cannot be opened or moved. It is unchanged then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// No rung fits, or the pack cannot be read.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// Others hold too much of the budget.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The session cannot be made.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// It was made for one rung: see [`Session::open`].
    #[error("the session was made for one rung and not of a pack; open it with Session::open to move it")]
    OneRung,
    /// Hashes are checked, and a blob of the rung that was to be moved to has another: see [`Access`].
    #[error(
        "{damage}; the session stays at rung `{stays}`, and rungs that need the blob are not tried again"
    )]
    Damaged {
        /// What is wrong with the blob.
        damage: Box<SelectError>,
        /// The rung that runs.
        stays: String,
    },
}

/// What a session that moves was opened with.
pub(super) struct Origin {
    reader: Reader,
    /// Over a mapping of the whole file, for planning; no weight is read through it.
    model: Model,
    inputs: Vec<InputSpec>,
    /// What the process held when the session was opened.
    baseline: u64,
    /// What the session takes by plan, beside the process.
    taken: u64,
    /// The process, the weights' pages and the caller's buffers in the account.
    held: Reservation,
    wanted: Arc<AtomicU64>,
    /// An input of the next run is set: it is not moved away from under it.
    inputs_set: bool,
}

impl Origin {
    /// The session is for other inputs from now on, none of which is set, and takes so many bytes more.
    pub(super) fn reshaped(&mut self, inputs: &[InputSpec], more: u64) {
        self.inputs = inputs.to_vec();
        self.taken += more;
        self.inputs_set = false;
    }
}

/// No wish.
const NONE: u64 = 0;
/// Wishes from here on are pressures.
const PRESSURES: u64 = u64::MAX - 2;

/// Asks a session to move, from any thread and in the midst of a run: it does so before the inputs of its next run are set. The last
/// wish counts.
#[derive(Clone, Debug)]
pub struct Mover(Arc<AtomicU64>);

impl Mover {
    /// See [`Session::resize`].
    pub fn resize(&self, budget: u64) {
        self.0.store(budget.clamp(1, PRESSURES - 1), Ordering::Relaxed);
    }

    /// See [`Session::on_memory_pressure`].
    pub fn on_memory_pressure(&self, level: Pressure) {
        self.0.store(PRESSURES + level as u64, Ordering::Relaxed);
    }
}

impl Session {
    /// The best rung of a pack for inputs of the given shapes within the device's budget, mapped and ready to run. Such a session
    /// can move along the ladder.
    ///
    /// # Errors
    /// When no rung fits the budget, the inputs do not suit the model, or the pack cannot be mapped.
    pub fn open(
        device: &Arc<Device>,
        pack: &Arc<PackFile>,
        inputs: &[InputSpec],
    ) -> Result<Session, MoveError> {
        Session::open_by(device, pack, inputs, Access::Mapped)
    }

    /// As [`Session::open`], with weights that are checked before they are used, or read into memory. Rungs whose bytes are not what
    /// the header says are left out with a warning in the log, when the session is opened and when it moves.
    ///
    /// # Errors
    /// As [`Session::open`], and when no rung is left.
    pub fn open_by(
        device: &Arc<Device>,
        pack: &Arc<PackFile>,
        inputs: &[InputSpec],
        access: Access,
    ) -> Result<Session, MoveError> {
        Session::open_as(device, pack, inputs, access, &Request::default())
    }

    /// As [`Session::open_by`], of the rungs that a request leaves.
    pub(crate) fn open_as(
        device: &Arc<Device>,
        pack: &Arc<PackFile>,
        inputs: &[InputSpec],
        access: Access,
        request: &Request<'_>,
    ) -> Result<Session, MoveError> {
        let whole = Arc::new(pack.map(pack.file_len()).map_err(SelectError::from)?);
        let model = Model::new(pack.shared_header(), whole, Arc::new(Registry::standard()));
        let mut reader = Reader::new(pack.clone(), access);
        let baseline = device::current_rss().unwrap_or(0);
        let (chosen, source) = select::select_read(device, &model, inputs, request, &mut reader)?;
        let need = chosen.need;
        let what = format!("process and weights of {}", model.name());
        let held = device.ledger().reserve(what, need.process + need.weights + need.extra)?;
        let rung = model.rungs()[chosen.rung].clone();
        let bound = Arc::new(model.with_source(source));
        let mut session = Session::with_plan(device, &bound, &rung, chosen.plan)?;
        if chosen.weighing == Weighing::Streamed {
            session.stream_weights().map_err(SessionError::from)?;
        }
        session.origin = Some(Origin {
            reader,
            model,
            inputs: inputs.to_vec(),
            baseline,
            taken: need.total() - need.process,
            held,
            wanted: Arc::default(),
            inputs_set: false,
        });
        Ok(session)
    }

    /// The id of the rung that runs.
    pub fn rung(&self) -> &str {
        &self.rung.id
    }

    /// Moves to the best rung for another budget of the whole process, up or down the ladder, which becomes the device's. States go
    /// along; outputs of the last run are gone. The result is that of a session opened at that rung.
    ///
    /// # Errors
    /// When no rung fits, others hold too much of the budget, or the pack cannot be read or has other bytes than it should
    /// ([`MoveError::Damaged`]: asking again moves to the best of the other rungs). The session is unchanged then, and the budget.
    pub fn resize(&mut self, budget: u64) -> Result<Moved, MoveError> {
        let chosen = self.choose(budget, self.beside()?)?;
        self.move_to(chosen, budget)
    }

    /// Moves to a subnet of the pack, at the precision of `like` or else the finest of the nearest subnet's rungs that fits the
    /// device's budget; [`Session::resize`] then chooses among these precisions, until [`Session::to_ladder`] is called. States go along where
    /// the subnet has the same; outputs of the last run are gone.
    ///
    /// # Errors
    /// As [`Session::resize`], and when the subnet cannot be made. The session is unchanged then.
    ///
    /// # Panics
    /// As [`Model::subnet`].
    pub fn to_subnet(
        &mut self,
        graph: u32,
        choice: &Choice,
        like: Option<&Rung>,
    ) -> Result<Moved, MoveError> {
        let origin = self.origin.as_ref().ok_or(MoveError::OneRung)?;
        let cut = origin.model.subnet(graph, choice, like).map_err(SelectError::from)?;
        let model = origin.model.among(cut.rungs);
        self.move_among(model)
    }

    /// Moves back to the best rung of the pack within the device's budget.
    ///
    /// # Errors
    /// As [`Session::resize`].
    pub fn to_ladder(&mut self) -> Result<Moved, MoveError> {
        let model = self.origin.as_ref().ok_or(MoveError::OneRung)?.model.ladder();
        self.move_among(model)
    }

    /// Moves to the best of a model's rungs, which are those to choose among from then on.
    fn move_among(&mut self, mut model: Model) -> Result<Moved, MoveError> {
        let origin = self.origin.as_mut().ok_or(MoveError::OneRung)?;
        std::mem::swap(&mut origin.model, &mut model);
        let before = origin.reader.choose_among(&origin.model);
        let budget = self.device.ledger().budget();
        let moved = self.resize(budget);
        if let (Err(_), Some(origin)) = (&moved, &mut self.origin) {
            origin.model = model;
            origin.reader.restore(before);
        }
        moved
    }

    /// Bytes of the account that others hold, and what the process holds without this session: what the caller took since it was
    /// opened counts, what is resident of the session itself does not.
    fn beside(&self) -> Result<[u64; 2], MoveError> {
        let origin = self.origin.as_ref().ok_or(MoveError::OneRung)?;
        let others = self.device.ledger().used() - origin.held.bytes() - self.reservation.bytes();
        let rest = device::current_rss().unwrap_or(0).saturating_sub(origin.taken);
        Ok([others, origin.baseline.max(rest)])
    }

    fn choose(&self, budget: u64, [others, baseline]: [u64; 2]) -> Result<Selection, MoveError> {
        let origin = self.origin.as_ref().ok_or(MoveError::OneRung)?;
        let request = Request { available: origin.reader.available(), ..Request::default() };
        if request.available.is_empty() {
            return Err(SelectError::NoRung.into());
        }
        let room = budget.saturating_sub(others);
        Ok(select::select_beside(&self.device, &origin.model, &origin.inputs, &request, baseline, room)?)
    }

    /// Gives memory back, as much as the level says or as can be; [`Session::resize`] takes it again. The device's budget becomes what
    /// is then needed.
    ///
    /// # Errors
    /// As [`Session::resize`], but for rungs that do not fit; of those that are damaged the next best is tried.
    pub fn on_memory_pressure(&mut self, level: Pressure) -> Result<Moved, MoveError> {
        let origin = self.origin.as_ref().ok_or(MoveError::OneRung)?;
        let ledger = self.device.ledger();
        let rest = ledger.used() - origin.taken.min(ledger.used());
        let left = match level {
            Pressure::Moderate => origin.taken / 4 * 3,
            Pressure::Low => origin.taken / 2,
            Pressure::Critical => 0,
        };
        self.resize_or_least(rest + left)
    }

    /// As [`Session::resize`], but where nothing fits, to what takes least, and past rungs that are damaged: the one that runs is not.
    fn resize_or_least(&mut self, budget: u64) -> Result<Moved, MoveError> {
        // Planning itself takes memory: what is beside the session is measured once.
        let beside = self.beside()?;
        loop {
            let moved = match self.choose(budget, beside) {
                Ok(chosen) => self.move_to(chosen, budget),
                Err(MoveError::Select(SelectError::DoesNotFit { least, .. })) => {
                    let budget = least + beside[0];
                    self.move_to(self.choose(budget, beside)?, budget)
                }
                Err(error) => Err(error),
            };
            match moved {
                // Each time there are fewer rungs to choose among.
                Err(error @ MoveError::Damaged { .. }) => log::warn!("{error}"),
                moved => return moved,
            }
        }
    }

    /// Asks the session to move from another thread.
    ///
    /// # Errors
    /// When it cannot move.
    pub fn mover(&self) -> Result<Mover, MoveError> {
        Ok(Mover(self.origin.as_ref().ok_or(MoveError::OneRung)?.wanted.clone()))
    }

    /// Does what a [`Mover`] asked for, before the first input of a run is set or the run begins.
    pub(super) fn follow(&mut self, sets_input: bool) -> Result<(), MoveError> {
        let Some(origin) = &mut self.origin else { return Ok(()) };
        if std::mem::replace(&mut origin.inputs_set, sets_input) {
            return Ok(());
        }
        match origin.wanted.swap(NONE, Ordering::Relaxed) {
            NONE => return Ok(()),
            budget if budget < PRESSURES => self.resize_or_least(budget)?,
            level => self.on_memory_pressure(match level - PRESSURES {
                0 => Pressure::Moderate,
                1 => Pressure::Low,
                _ => Pressure::Critical,
            })?,
        };
        Ok(())
    }

    fn move_to(&mut self, chosen: Selection, budget: u64) -> Result<Moved, MoveError> {
        let Selection { rung, weighing, need, plan, .. } = chosen;
        let origin = self.origin.as_mut().ok_or(MoveError::OneRung)?;
        let rung = origin.model.rungs()[rung].clone();
        let from = self.rung.id.clone();
        // What is in memory is not streamed, and what is streamed not in memory.
        let same = from == rung.id
            && (origin.reader.access() != Access::Loaded
                || self.released.is_empty() == (weighing == Weighing::Resident));
        // All that may fail comes first.
        let (bound, rung) = match same {
            true => (self.model.clone(), self.rung.clone()),
            false => match origin.reader.source(&origin.model, &rung, weighing, Some(&self.model)) {
                Ok(source) => Model::owned(&Arc::new(origin.model.with_source(source)), &rung)
                    .map_err(SessionError::from)?,
                Err(damage) if damage.damaged().is_some() => {
                    return Err(MoveError::Damaged { damage: Box::new(damage), stays: from });
                }
                Err(error) => return Err(error.into()),
            },
        };
        let weights = super::bound(&bound, &rung)?;
        let released = match weighing {
            Weighing::Resident => Vec::new(),
            Weighing::Streamed => super::blobs_by_step(&bound, &rung, &plan).map_err(SessionError::from)?,
        };
        let ledger = self.device.ledger().clone();
        let before = ledger.budget();
        let (held, arena) = (need.process + need.weights + need.extra, super::reserved_for(&plan));
        let were = [origin.held.bytes(), self.reservation.bytes()];
        ledger.set_budget(before.max(budget))?;
        let account = |held: u64, arena: u64, origin: &mut Reservation, own: &mut Reservation| {
            // What shrinks makes room for what grows.
            if held <= origin.bytes() {
                origin.resize(held)?;
                own.resize(arena)
            } else {
                own.resize(arena)?;
                origin.resize(held)
            }
        };
        let fits = account(held, arena, &mut origin.held, &mut self.reservation)
            .and_then(|()| ledger.set_budget(budget));
        if let Err(error) = fits {
            account(were[0], were[1], &mut origin.held, &mut self.reservation)?;
            ledger.set_budget(before)?;
            return Err(error.into());
        }
        origin.taken = need.total() - need.process;
        let states: Vec<(Vec<u8>, _)> = self
            .plan
            .states
            .iter()
            .map(|(_, to)| {
                (self.memory.read(&self.model, &self.plan.buffers, to).to_vec(), (to.dtype, to.dims.clone()))
            })
            .collect();
        (self.plan, self.model, self.weights, self.rung) = (plan, bound, weights, rung);
        self.others.clear();
        self.memory.renew(&self.plan);
        (self.baked, self.released) = (false, released);
        device::trim_heap();
        let now: Vec<_> = self.plan.states.iter().map(|(_, to)| to.clone()).collect();
        let state_kept = states.len() == now.len()
            && states.iter().zip(&now).all(|((_, kind), to)| *kind == (to.dtype, to.dims.clone()));
        if state_kept {
            for ((bytes, _), to) in states.iter().zip(&now) {
                self.memory.write(&self.plan.buffers, to).copy_from_slice(bytes);
            }
        } else {
            self.reset_state();
        }
        Ok(Moved { from, to: self.rung.id.clone(), state_kept })
    }
}
