//! `sparse`: the values of some positions, every other element being 0.
//!
//! Values are a matrix of their own, in any leaf; what is stored here says where they are. A position costs bits, a zero nothing, and
//! no code of `planes` stands for 0. No byte of the positions is read when a weight is bound, and any bytes are positions: each form
//! says which of them stand for nothing.

mod bitmap;
mod blocks;
mod encode;
mod few;

pub use bitmap::Bitmap;
pub use encode::{Positions, bitmap, blocks, few};

use super::node::Node;
use super::window::common;
use super::{CHUNK, CodeForm, MAX_CODE_GROUP, PANEL, Part, WeightError, Weights, blank};
use edge_kernels::cpu::gemm_blocks::Kept;
use edge_kernels::cpu::gemv_planes::PlanePanels;
use edge_kernels::cpu::spread::Few;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How positions are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Each panel of 16 rows keeps a list of blocks of consecutive columns.
    Blocks,
    /// Each row keeps some of every few consecutive columns.
    Few,
    /// A bit an element.
    Bitmap,
}

/// A weight whose panels keep some blocks of columns.
pub struct KeptBlocks<'a> {
    /// The lists, of blocks of columns.
    pub kept: Kept<'a>,
    /// What is kept, `[n, entries * block]`: the columns of a panel's list one after the other.
    pub values: &'a dyn Weights,
}

/// Panels of which each row keeps some of every few columns, as products of a few rows take them.
pub struct FewPanels<'a> {
    /// Which columns.
    pub few: Few<'a>,
    /// What is kept.
    pub planes: PlanePanels<'a>,
}

pub(super) fn construct(node: &mut Node<'_, '_>) -> Result<Box<dyn Weights>, WeightError> {
    match node.need("form", "blocks, few or bitmap")? {
        Form::Blocks => blocks::construct(node),
        Form::Few => few::construct(node),
        Form::Bitmap => bitmap::construct(node),
    }
}

/// The rows of a part that are of one panel, with the lane that the first of them goes to.
fn panels_of(part: &Part) -> impl Iterator<Item = (usize, Range<usize>, usize)> {
    let (rows, lane) = (part.rows.clone(), part.lane);
    (rows.start / PANEL..rows.end.div_ceil(PANEL)).map(move |panel| {
        let own = common(&rows, &(panel * PANEL..(panel + 1) * PANEL));
        (panel, own.clone(), lane + own.start - rows.start)
    })
}

/// Whether a part is all rows of a panel.
fn is_whole(part: &Part) -> bool {
    part.rows.len() == PANEL && part.rows.start.is_multiple_of(PANEL)
}

/// Sets some lanes of columns `[columns][16]` to 0.
fn clear(lanes: Range<usize>, out: &mut [f32]) {
    if lanes == (0..PANEL) {
        return out.fill(0.0);
    }
    out.chunks_exact_mut(PANEL).for_each(|out| out[lanes.clone()].fill(0.0));
}

/// The form of the codes of `k` columns when those of the values have one scale a row and stand for themselves: then 0 is one of them.
fn form_of(values: &dyn Weights, k: usize) -> Option<CodeForm> {
    let form = values.code_form()?;
    let plain = form.group >= values.k() && !form.half_offset && k <= MAX_CODE_GROUP;
    plain.then_some(CodeForm { group: k, ..form })
}

/// Columns of values that are decoded at a time, and where each of them belongs; no column stands for nothing.
type Targets = [usize; CHUNK];

/// Belongs nowhere.
const NOWHERE: usize = usize::MAX;
