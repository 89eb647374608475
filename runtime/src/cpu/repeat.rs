//! What holds a loop together: whether it goes on, what it carries, what it collects.

use super::elements;
use super::memory::Views;

/// Whether a loop begins: `most?` turns and `going?` allow one.
pub(super) fn enter(views: Views<'_>) {
    let Views { inputs: [most, going, ..], outputs: [out, ..], .. } = views;
    out[0] = u8::from(allowed(most, 0) && going.is_none_or(is_true));
}

/// Counts a turn; whether there is another.
pub(super) fn turn(views: Views<'_>) {
    let Views { inputs: [going, most, ..], outputs: [out, turns, _], .. } = views;
    let [done] = super::elements_mut::<i64>(turns) else { return };
    *done += 1;
    out[0] = u8::from(allowed(most, *done) && going.is_some_and(is_true));
}

fn allowed(most: Option<&[u8]>, done: i64) -> bool {
    most.and_then(|most| elements::<i64>(most).first()).is_none_or(|most| done < *most)
}

fn is_true(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|b| *b != 0)
}

/// Copies what is carried.
pub(super) fn carry(x: &[u8], views: Views<'_>) {
    let [out, ..] = views.outputs;
    out.copy_from_slice(x);
}

/// Puts an entry behind those of the turns before.
///
/// # Errors
/// When the list has no room for it.
pub(super) fn append(entry: &[u8], views: Views<'_>) -> Result<(), String> {
    let turn = views.inputs[1].and_then(|turn| elements::<i64>(turn).first().copied()).unwrap_or(0);
    let [list, ..] = views.outputs;
    if entry.is_empty() {
        return Ok(());
    }
    let turn = usize::try_from(turn).unwrap_or(0);
    let place = list.chunks_exact_mut(entry.len()).nth(turn);
    let place = place.ok_or_else(|| {
        format!(
            "the loop goes on after {turn} turns, and what it collects has no room for more: convert the model again with \
             a greater number (`--turns N`)"
        )
    })?;
    place.copy_from_slice(entry);
    Ok(())
}
