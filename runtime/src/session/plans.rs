//! Several plans of one session: over one arena, with one set of weights and of what is kept.

use super::{Session, SessionError, reserved_for};
use crate::cpu::memory::KnownValues;
use crate::plan::Plan;

/// A plan that does not run at the moment.
pub(super) struct Waiting {
    plan: Plan,
    known: KnownValues,
}

impl Session {
    /// Adds a plan for inputs of other shapes, made of the same rung, with as many threads and as much that is kept
    /// ([`Plan::kept_bytes`]). It runs once [`Session::switch`] is called with the number given back. What is kept stays; all else of the
    /// arena may be lost.
    ///
    /// # Errors
    /// When the budget has no room. The session is unchanged then.
    ///
    /// # Panics
    /// When another plan's bytes are kept.
    pub(crate) fn add_plan(&mut self, plan: Plan) -> Result<usize, SessionError> {
        assert_eq!(plan.kept_bytes, self.plan.kept_bytes, "bytes that plans of one session keep");
        let all = || self.others.iter().map(|waiting| &waiting.plan).chain([&self.plan, &plan]);
        let arena = all().map(|plan| plan.arena_bytes).max().unwrap_or(0);
        let beside = |plan: &Plan| reserved_for(plan) - plan.arena_bytes as u64;
        let need = arena as u64 + all().map(beside).sum::<u64>();
        if need > self.reservation.bytes() {
            self.reservation.resize(need)?;
        }
        self.memory.grow(arena);
        self.baked = false;
        let known = KnownValues::new(&plan.buffers, plan.known_bytes);
        self.others.push(Waiting { plan, known });
        Ok(self.others.len())
    }

    /// Exchanges the plan that runs with the one that [`Session::add_plan`] gave the number `i`; the same again brings it back. Inputs are to be
    /// set again.
    ///
    /// # Panics
    /// When there is no such plan.
    pub(crate) fn switch(&mut self, i: usize) {
        let Waiting { plan, known } = &mut self.others[i - 1];
        std::mem::swap(&mut self.plan, plan);
        self.memory.exchange(known);
        self.baked = false;
    }
}
