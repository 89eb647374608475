//! Loops, turn by turn, up to a number of turns that is known. Where a short loop ends on what it computes, all turns are there: what is
//! carried stays as it is from then on, and what is collected is as long as there were turns. Others are repeated by the run
//! (`repeated.rs`).

use super::repeated::Scanned;
use super::{MANY, NOW, Operator, Types, control, op, repeated};
use crate::import::onnx::ctx::{Binding, Ctx, Mark};
use crate::import::onnx::node::{NodeView, OpError, axis, malformed, unknown, unsupported};
use crate::import::onnx::ranks::normalize;
use edge_runtime::graph::{BinaryOp, DType, Op, ReduceOp, ValueId};

const SCAN: &[&str] = &[
    "body",
    "num_scan_inputs",
    "scan_input_axes",
    "scan_input_directions",
    "scan_output_axes",
    "scan_output_directions",
];

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("Loop", (1, NOW), (2, MANY), Types::Any, &["body"], loop_),
    op("Scan", (8, 8), (2, MANY), Types::Any, &["body", "directions", "num_scan_inputs"], scan_8),
    op("Scan", (9, NOW), (1, MANY), Types::Any, SCAN, scan),
];

/// Most turns of a loop: each becomes a copy of its body.
const MAX_TURNS: i64 = 1 << 12;

/// Most turns of a loop that ends on what it computes, when all of them are computed.
const MAX_SELECTED: i64 = 16;

fn too_many<T>(turns: i64) -> Result<T, OpError> {
    unsupported(format!("a loop of {turns} turns is not implemented (at most {MAX_TURNS})"))
}

/// What a body gives, as values.
pub(super) fn values<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    given: &[Binding],
) -> Result<Vec<ValueId>, OpError> {
    let mut values = Vec::with_capacity(given.len());
    for binding in given {
        match ctx.value_of(*binding)? {
            Some(id) => values.push(id),
            None => return malformed(format!("the body of `{}` gives an absent value", node.name)),
        }
    }
    Ok(values)
}

/// Makes values the node's results from `first` on.
pub(super) fn results<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    first: usize,
    ids: &[ValueId],
) -> Result<(), OpError> {
    for (i, id) in ids.iter().enumerate() {
        if let Some(name) = node.output(first + i) {
            ctx.bind(name, Binding::Value(*id), &node.name)?;
        }
    }
    Ok(())
}

/// Operands are the number of turns, whether to begin, and what is carried from turn to turn; the body gives whether to go on, what
/// is carried, and what is collected.
fn loop_<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let most = match given(ctx, node, 0, "the number of turns")? {
        Given::Data => return repeated::repeat(ctx, node),
        Given::Known(most) => Some(most),
        Given::Absent => None,
    };
    let mark = ctx.mark();
    if unrolled(ctx, node, most, Some(&mark))? == Unrolled::Whole {
        return Ok(());
    }
    ctx.rewind(&mark);
    let Err(refusal) = repeated::repeat(ctx, node) else { return Ok(()) };
    if most.is_none_or(|most| most > MAX_TURNS) {
        return Err(refusal);
    }
    // What needs the number of each turn.
    ctx.rewind(&mark);
    unrolled(ctx, node, most, None).map(|_| ())
}

/// What became of a loop, turn by turn.
#[derive(PartialEq)]
enum Unrolled {
    Whole,
    /// It is better repeated.
    Begun,
}

/// All turns, one after the other; when nothing was refused `since`, only as long as that is better than a loop that the run repeats.
fn unrolled<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    most: Option<i64>,
    since: Option<&Mark>,
) -> Result<Unrolled, OpError> {
    let body = node.graph("body")?;
    let mut going = match given(ctx, node, 1, "the condition")? {
        Given::Absent => Going::Known(true),
        Given::Known(value) => Going::Known(value != 0),
        Given::Data => {
            let condition = ctx.operand(node, 1)?;
            Going::Data(ctx.reshape(node, condition, &[]))
        }
    };
    let carried = node.inputs().saturating_sub(2);
    let Some(collected) = body.output.len().checked_sub(1 + carried) else {
        return malformed("the body gives less than is carried");
    };
    let mut state = Vec::with_capacity(carried);
    for i in 0..carried {
        state.push(ctx.operand(node, 2 + i)?);
    }
    let mut lists: Vec<Vec<ValueId>> = vec![Vec::new(); collected];
    // Of each turn, whether it is one of the loop's, where that depends on data.
    let mut taken: Vec<ValueId> = Vec::new();
    let mut turn = 0;
    while going != Going::Known(false) && most.is_none_or(|most| turn < most) {
        let long = match going {
            Going::Data(_) => most.is_none_or(|most| most > MAX_SELECTED),
            Going::Known(_) => turn >= MAX_TURNS || most.is_some_and(|most| most > MAX_TURNS),
        };
        if long && since.is_some_and(|mark| ctx.refused.len() == mark.refused()) {
            return Ok(Unrolled::Begun);
        }
        if turn >= MAX_TURNS {
            return too_many(most.unwrap_or(turn + 1));
        }
        let mut f = ctx.formula(node);
        let count = f.integer(turn);
        let condition = f.truth(true);
        let given: Vec<Binding> =
            [count, condition].iter().chain(&state).map(|id| Binding::Value(*id)).collect();
        let given = ctx.inline_body(body, node, &given)?;
        let given = values(ctx, node, &given)?;
        for (state, new) in state.iter_mut().zip(&given[1..]) {
            *state = match going {
                Going::Known(_) => *new,
                Going::Data(going) => control::selected(ctx, node, going, (*new, *state))?,
            };
        }
        for (list, id) in lists.iter_mut().zip(&given[1 + carried..]) {
            list.push(ctx.formula(node).unsqueeze(*id, &[0]));
        }
        let own = match going {
            Going::Data(going) => going,
            Going::Known(_) => ctx.formula(node).truth(true),
        };
        taken.push(own);
        going = match (ctx.truth_of(given[0]), going) {
            (Some(false), _) => Going::Known(false),
            (Some(true), going) => going,
            (None, _) if ctx.fact(given[0]).tainted => return unknown("the condition"),
            (None, going) => {
                let new = ctx.reshape(node, given[0], &[]);
                Going::Data(match going {
                    Going::Data(before) => ctx.formula(node).binary(BinaryOp::And, before, new),
                    Going::Known(_) => new,
                })
            }
        };
        turn += 1;
    }
    results(ctx, node, 0, &state)?;
    collect(ctx, node, carried, &lists, &vec![0; collected])?;
    let wanted = (carried..carried + collected).any(|i| node.output(i).is_some());
    if wanted && taken.iter().any(|id| ctx.truth_of(*id).is_none()) {
        let mut f = ctx.formula(node);
        let all: Vec<ValueId> = taken.iter().map(|id| f.reshape(*id, &[1])).collect();
        let all = f.concat(0, &all);
        let ones = f.cast(all, DType::I64);
        let turns = f.reduce(ReduceOp::Sum, ones, &[0], false);
        for i in carried..carried + collected {
            if let Some(Binding::Value(list)) = node.output(i).and_then(|name| ctx.find(name)) {
                ctx.mark_part(list, 0, turns);
            }
        }
    }
    Ok(Unrolled::Whole)
}

/// Whether a loop takes its next turn.
#[derive(Clone, Copy, PartialEq)]
enum Going {
    Known(bool),
    /// A truth that a run computes.
    Data(ValueId),
}

/// One of the first two operands.
enum Given {
    Absent,
    Known(i64),
    /// A run computes it.
    Data,
}

fn given<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, i: usize, what: &str) -> Result<Given, OpError> {
    match (node.input(i).is_some(), ctx.known(node, i)?.as_deref()) {
        (false, _) => Ok(Given::Absent),
        (true, Some([value])) => Ok(Given::Known(*value)),
        (true, Some(other)) => malformed(format!("{what} {other:?}")),
        (true, None) => Ok(Given::Data),
    }
}

/// What was collected, joined along an axis each.
fn collect<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    first: usize,
    lists: &[Vec<ValueId>],
    axes: &[i32],
) -> Result<(), OpError> {
    for (i, (list, axis)) in lists.iter().zip(axes).enumerate() {
        if node.output(first + i).is_none() {
            continue;
        }
        if list.is_empty() {
            return unsupported("what a loop without turns collects is not implemented");
        }
        let id = ctx.formula(node).concat(*axis, list);
        results(ctx, node, first + i, &[id])?;
    }
    Ok(())
}

/// One entry for each of `count`, 0 where the attribute leaves them out.
fn list<'m>(node: &NodeView<'m>, name: &str, count: usize) -> Result<Vec<i64>, OpError> {
    match node.ints(name)? {
        None => Ok(vec![0; count]),
        Some(list) if list.len() == count => Ok(list.to_vec()),
        Some(list) => malformed(format!("{name} {list:?} for {count} values")),
    }
}

/// What the attributes of a scan say.
struct Plan {
    /// How many operands are carried; the rest is scanned.
    carried: usize,
    /// For each scanned operand, its axis and whether it is taken from the back.
    inputs: Vec<(i64, bool)>,
    /// The same of what is collected.
    outputs: Vec<(i64, bool)>,
}

fn plan<'m>(node: &NodeView<'m>, operands: usize, directions: &str) -> Result<Plan, OpError> {
    let body = node.graph("body")?;
    let scanned = usize::try_from(node.int("num_scan_inputs", 0)?).unwrap_or(0);
    let (Some(carried), true) = (operands.checked_sub(scanned), scanned > 0) else {
        return malformed(format!("num_scan_inputs {scanned} of {operands} operands"));
    };
    let Some(collected) = body.output.len().checked_sub(carried) else {
        return malformed("the body gives less than is carried");
    };
    let pair = |axes: Vec<i64>, backwards: Vec<i64>| {
        axes.into_iter().zip(backwards.into_iter().map(|b| b != 0)).collect()
    };
    Ok(Plan {
        carried,
        inputs: pair(list(node, "scan_input_axes", scanned)?, list(node, directions, scanned)?),
        outputs: pair(
            list(node, "scan_output_axes", collected)?,
            list(node, "scan_output_directions", collected)?,
        ),
    })
}

/// The axes that operands are scanned along, and how many entries they have there, where that is known.
fn along(ctx: &Ctx<'_>, plan: &Plan, scanned: &[ValueId]) -> Result<(Vec<usize>, Option<usize>), OpError> {
    let (mut axes, mut count) = (Vec::with_capacity(scanned.len()), None);
    for (id, (axis, _)) in scanned.iter().zip(&plan.inputs) {
        let rank = ctx.rank(*id)?;
        let Some(axis) = normalize(*axis, rank) else {
            return malformed(format!("axis {axis} of {rank} dimensions"));
        };
        axes.push(axis);
        match (ctx.fact(*id).size(axis), count) {
            (Some(size), Some(count)) if size != count => {
                return malformed(format!("scanned operands of {count} and {size} elements"));
            }
            (Some(size), _) => count = Some(size),
            (None, _) => {}
        }
    }
    Ok((axes, count))
}

/// Runs a scan: what is carried at the end, and what was collected.
fn turns<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    plan: &Plan,
    operands: &[ValueId],
) -> Result<(Vec<ValueId>, Vec<Vec<ValueId>>), OpError> {
    let body = node.graph("body")?;
    let (carried, scanned) = operands.split_at(plan.carried);
    let (axes, count) = along(ctx, plan, scanned)?;
    let Some(count) = count else { return unknown("the number of turns") };
    if count as i64 > MAX_TURNS {
        return too_many(count as i64);
    }
    let mut state = carried.to_vec();
    let mut lists: Vec<Vec<ValueId>> = vec![Vec::new(); plan.outputs.len()];
    for turn in 0..count {
        let mut given: Vec<Binding> = state.iter().map(|id| Binding::Value(*id)).collect();
        for ((id, axis), (_, backwards)) in scanned.iter().zip(&axes).zip(&plan.inputs) {
            let at = if *backwards { count - 1 - turn } else { turn };
            given.push(Binding::Value(ctx.formula(node).entry(*id, *axis, at as i64)));
        }
        let given = ctx.inline_body(body, node, &given)?;
        let given = values(ctx, node, &given)?;
        state = given[..plan.carried].to_vec();
        for ((list, id), (place, backwards)) in
            lists.iter_mut().zip(&given[plan.carried..]).zip(&plan.outputs)
        {
            let axis = axis(*place)?;
            let one = ctx.formula(node).unsqueeze(*id, &[axis]);
            list.insert(if *backwards { 0 } else { list.len() }, one);
        }
    }
    Ok((state, lists))
}

fn scan<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let plan = plan(node, node.inputs(), "scan_input_directions")?;
    let mut operands = Vec::with_capacity(node.inputs());
    for i in 0..node.inputs() {
        operands.push(ctx.operand(node, i)?);
    }
    let (carried, scanned) = operands.split_at(plan.carried);
    let (axes, count) = along(ctx, &plan, scanned)?;
    if count.is_none_or(|count| count as i64 > MAX_TURNS) {
        let scanned = scanned.iter().zip(axes).zip(&plan.inputs);
        let scanned: Vec<Scanned> = scanned
            .map(|((value, axis), (_, backwards))| Scanned { value: *value, axis, backwards: *backwards })
            .collect();
        return repeated_scan(ctx, node, &plan, carried, &scanned);
    }
    let (state, lists) = turns(ctx, node, &plan, &operands)?;
    results(ctx, node, 0, &state)?;
    let axes: Vec<i32> = plan.outputs.iter().map(|(a, _)| axis(*a)).collect::<Result<_, _>>()?;
    collect(ctx, node, plan.carried, &lists, &axes)
}

/// A scan that the run repeats.
fn repeated_scan<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    plan: &Plan,
    carried: &[ValueId],
    scanned: &[Scanned],
) -> Result<(), OpError> {
    let (state, lists) = repeated::scan(ctx, node, carried, scanned)?;
    results(ctx, node, 0, &state)?;
    for (i, (list, (place, backwards))) in lists.into_iter().zip(&plan.outputs).enumerate() {
        let mut list = list;
        if *backwards {
            let mut f = ctx.formula(node);
            let (count, one) = (f.size(list, 0), f.integer(1));
            let (last, places) = (f.sub(count, one), f.count_up(count));
            let places = f.sub(last, places);
            list = f.op(Op::Gather { axis: 0 }, &[list, places]);
        }
        if *place != 0 {
            let rank = ctx.rank(list)?;
            let Some(place) = normalize(*place, rank) else {
                return malformed(format!("axis {place} of {rank} dimensions"));
            };
            let mut order: Vec<usize> = (1..rank).collect();
            order.insert(place, 0);
            list = ctx.transpose(node, list, &order);
        }
        results(ctx, node, plan.carried + i, &[list])?;
    }
    Ok(())
}

/// Opset 8 scans each entry of a batch on its own.
fn scan_8<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    if node.input(0).is_some() {
        return unsupported("sequence_lens of a scan is not implemented");
    }
    let plan = plan(node, node.inputs() - 1, "directions")?;
    let mut operands = Vec::with_capacity(node.inputs() - 1);
    for i in 1..node.inputs() {
        operands.push(ctx.operand(node, i)?);
    }
    let Some(batch) = operands.iter().find_map(|id| ctx.fact(*id).size(0)) else {
        return unknown("the batch size");
    };
    let steps = operands.last().and_then(|id| ctx.fact(*id).size(1)).unwrap_or(1);
    // Without steps the states of each entry are still made.
    let all = (batch as i64).saturating_mul(steps.max(1) as i64);
    if all > MAX_TURNS || batch == 0 {
        return too_many(all);
    }
    let (mut states, mut collected) = (vec![Vec::new(); plan.carried], vec![Vec::new(); plan.outputs.len()]);
    for entry in 0..batch {
        let one: Vec<ValueId> =
            operands.iter().map(|id| ctx.formula(node).entry(*id, 0, entry as i64)).collect();
        let (state, lists) = turns(ctx, node, &plan, &one)?;
        for (all, id) in states.iter_mut().zip(state) {
            all.push(ctx.formula(node).unsqueeze(id, &[0]));
        }
        for (all, list) in collected.iter_mut().zip(lists) {
            if list.is_empty() {
                return unsupported("what a loop without turns collects is not implemented");
            }
            let mut f = ctx.formula(node);
            let joined = f.concat(0, &list);
            all.push(f.unsqueeze(joined, &[0]));
        }
    }
    for (i, all) in states.iter().chain(&collected).enumerate() {
        if node.output(i).is_some() {
            let id = ctx.formula(node).concat(0, all);
            results(ctx, node, i, &[id])?;
        }
    }
    Ok(())
}
