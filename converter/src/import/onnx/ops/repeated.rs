//! Loops whose number of turns only a run knows: one body, that the run repeats.

use super::control;
use super::loops::{results, values};
use crate::import::onnx::ctx::{Binding, Ctx, Mark};
use crate::import::onnx::node::{NodeView, OpError, malformed, unsupported};
use crate::import::onnx::proto::{GraphProto, NodeProto};
use crate::import::onnx::ranks::{Extent, Fact};
use edge_runtime::graph::{Block, DType, Op, ValueId};

/// Most turns that a list is planned for without being asked: what is collected takes memory for all of them.
const MOST_LISTED: i64 = 1 << 16;

/// A loop as an operation that repeats its body. Where that is refused, the context is as it was before, but for what was refused in
/// the body.
pub(super) fn repeat<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let mark = ctx.mark();
    let done = build(ctx, node, &mark);
    if done.is_err() {
        let refused = std::mem::take(&mut ctx.refused);
        ctx.rewind(&mark);
        ctx.refused = refused;
    }
    done
}

/// What is carried from turn to turn.
struct Carried {
    /// Which of those that the node carries.
    place: usize,
    /// What holds of it before the first turn; `None` when no turn reads it.
    before: Option<Fact>,
}

fn build<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, mark: &Mark) -> Result<(), OpError> {
    let body = node.graph("body")?;
    let count = node.inputs().saturating_sub(2);
    let Some(collected) = body.output.len().checked_sub(1 + count) else {
        return malformed("the body gives less than is carried");
    };
    let mut operands = Vec::with_capacity(node.inputs());
    for i in 0..2 {
        operands.push(if node.input(i).is_some() { Some(ctx.operand(node, i)?) } else { None });
    }
    let (most, of_a_run) = turns(ctx, operands[0]);
    let listed = (0..collected).any(|i| node.output(count + i).is_some());
    if listed && (of_a_run || most.is_some_and(|most| most > MOST_LISTED)) && ctx.most_turns.is_none() {
        return unsupported(
            "a loop that ends on what it computes, and collects something in each turn, is not implemented without a greatest \
             number of turns: `edge-convert --turns N` gives one",
        );
    }
    let begun = operands[1].map_or(Some(true), |id| ctx.truth_of(id));
    let begins = begun == Some(true) && (operands[0].is_none() || most.is_some_and(|most| most > 0));

    // What a turn begins with.
    let name = |i: usize| body.input.get(i).map_or("", |input| input.name.as_str());
    let number = ctx.value(name(0), Fact::new(Some(DType::I64), Some(Vec::new())));
    let condition = ctx.formula(node).truth(true);
    let mut inner = vec![Binding::Value(number), Binding::Value(condition)];
    let (mut state, mut carried) = (vec![Some(number)], Vec::with_capacity(count));
    for place in 0..count {
        // What the body gives back under the name that it has there is no state: weights come so.
        let given = node.input(2 + place).and_then(|name| ctx.find(name));
        if let (true, Some(binding)) = (name(2 + place) == body.output[1 + place].name, given) {
            inner.push(binding);
            continue;
        }
        let given = ctx.operand(node, 2 + place)?;
        // Where the first turn is sure to come and nothing reads what was there before it, that may be of any shape.
        let read = !begins || reads(body, name(2 + place));
        let fact = if read { kept(ctx, given)? } else { Fact::default() };
        let id = ctx.value(name(2 + place), fact.clone());
        operands.push(Some(given).filter(|_| read));
        inner.push(Binding::Value(id));
        state.push(Some(id));
        carried.push(Carried { place, before: Some(fact).filter(|_| read) });
    }

    ctx.blocks.push(Block::default());
    ctx.push(node, Op::Turn, Vec::new(), state);
    let given = ctx.inline_body(body, node, &inner)?;
    if ctx.refused.len() > mark.refused() {
        return unsupported("a loop with what is refused in its body is not implemented");
    }
    let all = values(ctx, node, &given)?;
    let wanted = std::iter::once(0).chain(carried.iter().map(|c| 1 + c.place)).chain(1 + count..all.len());
    let mut outputs: Vec<ValueId> = wanted.map(|i| all[i]).collect();
    let mut facts = Vec::with_capacity(outputs.len());
    for (i, id) in outputs.iter_mut().enumerate().skip(1) {
        if let Some(to) = ctx.fact(*id).rounded {
            *id = ctx.rounded(node, *id, to);
        }
        let mut after = kept(ctx, *id)?;
        if let Some(before) = carried.get(i - 1).and_then(|c| c.before.as_ref()) {
            // One element, of shape [] here and [1] there: as at first.
            if let (true, Some(rank)) =
                (control::is_single(&after) && control::is_single(before), before.rank())
                && after.rank() != Some(rank)
            {
                *id = ctx.reshape(node, *id, &vec![1; rank]);
                after = kept(ctx, *id)?;
            }
            same(before, &after)?;
        }
        facts.push(after);
    }
    let always = ctx.truth_of(outputs[0]);
    let mut block = ctx.blocks.pop().unwrap_or_default();
    block.outputs = outputs;
    ctx.forget_inner(mark);

    let room = most.filter(|_| ctx.most_turns.is_none()).and_then(|most| usize::try_from(most).ok());
    let partly = of_a_run || always != Some(true) || begun != Some(true) || ctx.most_turns.is_some();
    let places: Vec<usize> = carried.iter().map(|c| c.place).chain(count..count + collected).collect();
    let mut made: Vec<Option<ValueId>> = Vec::with_capacity(places.len() + 1);
    for (place, fact) in places.iter().zip(facts) {
        let fact = match *place < count {
            true => fact,
            false => Fact::new(fact.dtype, fact.dims.map(|dims| std::iter::once(room).chain(dims).collect())),
        };
        made.push(node.output(*place).map(|name| ctx.value(name, fact)));
    }
    let turns = ctx.value(&format!("{}/turns", node.name), Fact::new(Some(DType::I64), Some(Vec::new())));
    let named = made.clone();
    made.push(Some(turns));
    let op = Op::Loop { body: block, carried: carried.len(), most: ctx.most_turns.filter(|_| listed) };
    ctx.push(node, op, operands, made);
    for (place, id) in places.into_iter().zip(named) {
        let Some(id) = id else { continue };
        if place >= count && partly {
            ctx.mark_part(id, 0, turns);
        }
        results(ctx, node, place, &[id])?;
    }
    for place in (0..count).filter(|place| !carried.iter().any(|c| c.place == *place)) {
        if let Some(name) = node.output(place) {
            ctx.bind(name, inner[2 + place], &node.name)?;
        }
    }
    Ok(())
}

/// What a scan goes along: the operand, its axis, whether from its end.
pub(super) struct Scanned {
    pub value: ValueId,
    pub axis: usize,
    pub backwards: bool,
}

/// A scan along a size that is not known before the plan is: what is carried at the end, and what was collected, `[turns, ...]` in the
/// order of the turns.
pub(super) fn scan<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    carried: &[ValueId],
    scanned: &[Scanned],
) -> Result<(Vec<ValueId>, Vec<ValueId>), OpError> {
    let body = node.graph("body")?;
    let Some(first) = scanned.first() else { return malformed("a scan along nothing") };
    let mark = ctx.mark();
    let mut f = ctx.formula(node);
    let (count, going) = (f.size(first.value, first.axis), f.truth(true));
    let last = f.integer(1);
    let last = f.sub(count, last);
    let number = ctx.value("turn", Fact::new(Some(DType::I64), Some(Vec::new())));
    let (mut state, mut facts) = (vec![number], Vec::with_capacity(carried.len()));
    for id in carried {
        let fact = kept(ctx, *id)?;
        state.push(ctx.value("carried", fact.clone()));
        facts.push(fact);
    }
    ctx.blocks.push(Block::default());
    ctx.push(node, Op::Turn, Vec::new(), state.iter().copied().map(Some).collect());
    let mut inner: Vec<Binding> = state[1..].iter().copied().map(Binding::Value).collect();
    for Scanned { value, axis, backwards } in scanned {
        let mut f = ctx.formula(node);
        let at = if *backwards { f.sub(last, number) } else { number };
        inner.push(Binding::Value(f.op(Op::Gather { axis: *axis as i32 }, &[*value, at])));
    }
    let given = ctx.inline_body(body, node, &inner)?;
    if ctx.refused.len() > mark.refused() {
        return unsupported("a scan with what is refused in its body is not implemented");
    }
    let given = values(ctx, node, &given)?;
    let mut made = Vec::with_capacity(given.len());
    for (i, id) in given.iter().enumerate() {
        let after = kept(ctx, *id)?;
        match facts.get(i) {
            Some(before) => {
                same(before, &after)?;
                made.push(after);
            }
            None => made
                .push(Fact::new(after.dtype, after.dims.map(|d| std::iter::once(None).chain(d).collect()))),
        }
    }
    let mut block = ctx.blocks.pop().unwrap_or_default();
    block.outputs = std::iter::once(going).chain(given).collect();
    ctx.forget_inner(&mark);
    let ids: Vec<ValueId> =
        made.into_iter().map(|fact| ctx.value(&format!("{}/scan", node.name), fact)).collect();
    let turns = ctx.value(&format!("{}/turns", node.name), Fact::new(Some(DType::I64), Some(Vec::new())));
    let operands = [Some(count), None].into_iter().chain(carried.iter().copied().map(Some)).collect();
    let results = ids.iter().copied().chain([turns]).map(Some).collect();
    ctx.push(node, Op::Loop { body: block, carried: carried.len(), most: None }, operands, results);
    let lists = ids[carried.len()..].to_vec();
    Ok((ids[..carried.len()].to_vec(), lists))
}

/// Whether a graph reads a value, or one inside it does, or gives it.
fn reads(graph: &GraphProto, name: &str) -> bool {
    let inside = |node: &NodeProto| node.attribute.iter().flat_map(|a| &a.g).any(|g| reads(g, name));
    let reading = |node: &NodeProto| node.input.iter().any(|input| input == name) || inside(node);
    graph.output.iter().any(|output| output.name == name) || graph.node.iter().any(reading)
}

/// The greatest number of turns, when the file tells it, and whether only a run can tell.
fn turns(ctx: &Ctx<'_>, most: Option<ValueId>) -> (Option<i64>, bool) {
    let Some(most) = most else { return (None, true) };
    match ctx.fact(most).known().as_deref() {
        Some([value]) => (Some((*value).max(0)), false),
        // A number that is there when the plan is made, as a size is.
        _ => (None, ctx.is_of_a_run(most)),
    }
}

/// What holds of a value in every turn: its shape and its type.
fn kept(ctx: &Ctx<'_>, id: ValueId) -> Result<Fact, OpError> {
    let fact = ctx.fact(id);
    if fact.extent != Extent::Whole {
        return unsupported("a loop over a value whose filled size depends on the data is not implemented");
    }
    if fact.four_bits {
        return unsupported("a loop over integers of 4 bits is not implemented");
    }
    Ok(Fact { tainted: fact.tainted, ..Fact::new(fact.dtype, fact.dims.clone()) })
}

/// Refuses a value that is another one after a turn than before it.
fn same(before: &Fact, after: &Fact) -> Result<(), OpError> {
    let sizes = match (&before.dims, &after.dims) {
        (Some(a), Some(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_none() || b.is_none() || a == b)
        }
        _ => true,
    };
    let types = before.dtype.is_none() || after.dtype.is_none() || before.dtype == after.dtype;
    if sizes && types {
        return Ok(());
    }
    unsupported(format!(
        "a loop whose number of turns only a run knows, and which carries {before} into a turn and {after} out of it, is not implemented"
    ))
}
