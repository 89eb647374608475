//! `tiles`: a matrix stored as rectangles in ladder order. A narrower subnet reads the first of them; a wider one adds
//! L-shaped shells.

use super::blocks::{Block, Blocks};
use super::node::Node;
use super::window::{Window, common};
use super::{WeightError, Weights};

/// Most rectangles: their overlaps are looked for pair by pair.
const MAX_BLOCKS: usize = 256;

pub(super) fn construct(node: &mut Node<'_, '_>, window: &Window) -> Result<Box<dyn Weights>, WeightError> {
    node.only(&["taps", "blocks"])?;
    let taps = node.param("taps", "a divisor of K")?.unwrap_or(1);
    if taps == 0 || !node.k().is_multiple_of(taps) {
        return Err(node.param_error("taps", format!("a divisor of K = {}", node.k())));
    }
    let (n, channels, isa) = (node.n(), node.k() / taps, node.isa());
    let ranges = format!("one [n0, n1, c0, c1] an operand, in {n} rows and {channels} channels");
    let blocks: Vec<[usize; 4]> = node.need("blocks", &ranges)?;
    let inside = |[n0, n1, c0, c1]: [usize; 4]| n0 < n1 && n1 <= n && c0 < c1 && c1 <= channels;
    if blocks.is_empty() || blocks.len() > MAX_BLOCKS || !blocks.iter().all(|&block| inside(block)) {
        return Err(node.param_error("blocks", ranges));
    }
    node.counts(blocks.len(), 0)?;
    node.charge(blocks.len() * blocks.len())?;
    let Some(window) = window.with_taps(taps, node.k()) else {
        let seen = format!("{} of {}", window.taps, window.k());
        return Err(node.shape_error("a view with taps and columns", seen, format!("{taps} taps")));
    };

    let mut bound: Vec<Block> = Vec::new();
    let mut area = 0;
    for (index, &[n0, n1, c0, c1]) in blocks.iter().enumerate() {
        let (rows, inside) = (common(&(n0..n1), &window.rows), common(&(c0..c1), &window.channels));
        if rows.is_empty() || inside.is_empty() {
            continue;
        }
        let place = Window {
            rows: rows.start - window.rows.start..rows.end - window.rows.start,
            taps,
            channels: inside.start - window.channels.start..inside.end - window.channels.start,
        };
        let overlaps = |block: &Block| {
            !common(&block.window.rows, &place.rows).is_empty()
                && !common(&block.window.channels, &place.channels).is_empty()
        };
        if bound.iter().any(overlaps) {
            return Err(node.param_error("blocks", "rectangles that do not overlap"));
        }
        area += rows.len() * inside.len();
        let below = Window {
            rows: rows.start - n0..rows.end - n0,
            taps,
            channels: inside.start - c0..inside.end - c0,
        };
        let clip = node.clip(index, Some((n1 - n0, taps * (c1 - c0))), node.take(), &below)?;
        bound.push(Block { window: place, clip });
    }
    let (rows, channels) = (window.rows.len(), window.channels.len());
    if area != rows * channels {
        let wanted = format!("rectangles that cover rows {:?}, channels {:?}", window.rows, window.channels);
        return Err(node.param_error("blocks", wanted));
    }
    match bound.len() {
        // The first rung's block alone: its bytes stay borrowable.
        1 => Ok(Blocks::clipped(bound.remove(0).clip, &window, isa)),
        _ => Ok(Box::new(Blocks::new(rows, taps, channels, bound, isa))),
    }
}
