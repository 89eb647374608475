//! Which node computes a value, and whether that takes data which only a run has.

use super::Ctx;
use crate::import::plan_time;
use edge_runtime::graph::{Node, Op, ValueId};

/// What is noted of values while their nodes are appended: asking costs a look, in however many nodes there are.
#[derive(Default)]
pub(super) struct Makers {
    by_value: Vec<Option<Maker>>,
}

#[derive(Clone, Copy)]
struct Maker {
    /// Which of the open blocks the node was appended to, and its place there.
    block: usize,
    node: usize,
    of_a_run: bool,
}

impl Makers {
    fn note(&mut self, id: ValueId, maker: Maker) {
        let i = id as usize;
        if self.by_value.len() <= i {
            self.by_value.resize(i + 1, None);
        }
        self.by_value[i] = Some(maker);
    }

    fn of(&self, id: ValueId) -> Option<Maker> {
        self.by_value.get(id as usize).copied().flatten()
    }
}

impl Ctx<'_> {
    /// Whether a value depends on data that the planner does not see, so that only a run computes it.
    pub fn is_of_a_run(&self, id: ValueId) -> bool {
        self.makers.of(id).is_some_and(|maker| maker.of_a_run)
    }

    /// The node of an open block that computes a value.
    pub fn maker(&self, id: ValueId) -> Option<&Node> {
        let Maker { block, node, .. } = self.makers.of(id)?;
        // What was taken back since is not there, or is another node.
        self.blocks.get(block)?.nodes.get(node).filter(|node| node.outputs.contains(&Some(id)))
    }

    /// Notes a graph's input that the planner may not ask for.
    pub fn note_input_of_a_run(&mut self, id: ValueId) {
        self.makers.note(id, Maker { block: usize::MAX, node: 0, of_a_run: true });
    }

    /// Notes what a node computes that is appended next.
    pub(super) fn note_results(&mut self, op: &Op, inputs: &[Option<ValueId>], outputs: &[Option<ValueId>]) {
        let is = |id: &Option<ValueId>| id.is_some_and(|id| self.is_of_a_run(id));
        let of = |i: usize| match op {
            Op::If { .. } => {
                let results = op.blocks().filter_map(|branch| branch.outputs.get(i).copied());
                inputs.first().is_some_and(is) || results.map(Some).any(|id| is(&id))
            }
            Op::Shape { .. } | Op::Size => false,
            op if !plan_time::carries_values(op) => true,
            _ => inputs.iter().any(is),
        };
        let block = self.blocks.len().saturating_sub(1);
        let node = self.blocks.last().map_or(0, |block| block.nodes.len());
        let made: Vec<(ValueId, bool)> =
            outputs.iter().enumerate().filter_map(|(i, id)| Some(((*id)?, of(i)))).collect();
        for (id, of_a_run) in made {
            self.makers.note(id, Maker { block, node, of_a_run });
        }
    }
}
