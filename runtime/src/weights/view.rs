//! `view`: some rows, and some channels of every tap, of another expression.

use super::blocks::Blocks;
use super::node::Node;
use super::window::Window;
use super::{WeightError, Weights};

pub(super) fn construct(node: &mut Node<'_, '_>, window: &Window) -> Result<Box<dyn Weights>, WeightError> {
    node.only(&["taps", "rows", "channels", "of"])?;
    node.counts(1, 0)?;
    let taps = node.param("taps", "a divisor of K")?.unwrap_or(1);
    if taps == 0 || !node.k().is_multiple_of(taps) {
        return Err(node.param_error("taps", format!("a divisor of K = {}", node.k())));
    }
    let (n, channels) = (node.n(), node.k() / taps);
    let range = |node: &mut Node<'_, '_>, name: &str, len: usize| {
        let expected = format!("[first, end), {len} long");
        let [first, end]: [usize; 2] = node.need(name, &expected)?;
        match end.checked_sub(first) == Some(len) {
            true => Ok(first..end),
            false => Err(node.param_error(name, expected)),
        }
    };
    let seen = Window { rows: range(node, "rows", n)?, taps, channels: range(node, "channels", channels)? };
    let shape = match node.param::<[usize; 2]>("of", "[n, channels] of the operand")? {
        Some([n, channels]) => match channels.checked_mul(taps) {
            Some(k) => Some((n, k)),
            None => return Err(node.param_error("of", "fewer channels")),
        },
        None => None,
    };
    // A window into a view is a window into what the view shows, when both cut taps alike.
    let inner = match window.with_taps(taps, node.k()) {
        Some(window) => window.inside(&seen),
        None => {
            let seen = format!("{} of {}", window.taps, window.k());
            return Err(node.shape_error("a view with taps and columns", seen, format!("{taps} taps")));
        }
    };
    let clip = node.clip(0, shape, node.take(), &inner)?;
    Ok(Blocks::clipped(clip, &inner, node.isa()))
}
