//! One model's part of a budget that several models share: from the choice to a session.

use super::{Need, Weighing};
use crate::device::{BudgetError, Device, Reservation};
use crate::model::Model;
use crate::pack::{BlobId, BlobSource, Mapped, PackError, PackFile};
use crate::plan::Plan;
use crate::session::{Session, SessionError};
use std::sync::Arc;

/// The rung that one of several models was given, and what it takes beside the process.
#[derive(Debug)]
pub struct Share {
    /// The member's name.
    pub name: String,
    /// Index into the header's rungs.
    pub rung: usize,
    /// How its weights are held.
    pub weighing: Weighing,
    /// What it takes; `process` is 0, for that is counted once for all.
    pub need: Need,
    /// The plan for the inputs that the member named.
    pub plan: Plan,
}

/// A share that cannot become a session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// The pack cannot be mapped.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// Another user took the room since the choice was made.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The session cannot be made.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// A mapping with its place in the account: both go when the last model over it goes.
struct Counted {
    mapped: Mapped,
    _pages: Reservation,
}

impl BlobSource for Counted {
    fn blob(&self, id: BlobId) -> Option<&[u8]> {
        self.mapped.blob(id)
    }

    fn release(&self, id: BlobId) {
        self.mapped.release(id);
    }
}

impl Share {
    /// The model over a mapping of the rung alone, whose pages are reserved for as long as anybody has the model.
    /// Sessions that are made of one such model share its pages.
    ///
    /// # Errors
    /// When the pack cannot be mapped or the budget has no room.
    pub fn map(&self, device: &Device, model: &Model, pack: &PackFile) -> Result<Arc<Model>, ShareError> {
        let pages = device.ledger().reserve(format!("weights of {}", self.name), self.need.weights)?;
        let mapped = pack.map(model.rungs()[self.rung].end)?;
        Ok(Arc::new(model.with_source(Arc::new(Counted { mapped, _pages: pages }))))
    }

    /// The session of the choice: its weights' pages, arena and plan and the caller's buffers are reserved, and given
    /// back when the session is dropped.
    ///
    /// # Errors
    /// When the pack cannot be mapped or the budget has no room.
    pub fn session(
        self,
        device: &Arc<Device>,
        model: &Model,
        pack: &PackFile,
    ) -> Result<Session, ShareError> {
        let model = self.map(device, model, pack)?;
        let rung = &model.rungs()[self.rung];
        let mut session = Session::named(&self.name, device, &model, rung, self.plan)?;
        if self.need.extra > 0 {
            let what = format!("inputs and outputs of {}", self.name);
            session.hold(device.ledger().reserve(what, self.need.extra)?);
        }
        if self.weighing == Weighing::Streamed {
            session.stream_weights().map_err(SessionError::from)?;
        }
        Ok(session)
    }
}
