//! Values whose codes the source model itself gives.

use edge_runtime::graph::{Graph, Node, Op, Source, UnaryOp, ValueId};

/// Gives values the codes that the model rounds them to, and those alone: in a model that says where its values are codes, all others
/// are floats. Gives how many values have codes; with none, ranges stay as they are.
///
/// The operand of a rounding whose result nothing else reads is made as codes at once.
pub fn as_given(graph: &mut Graph) -> usize {
    let mut found: Vec<(ValueId, ValueId, (f32, i32))> = Vec::new();
    let mut uses = vec![0u32; graph.values.len()];
    let mut count = |node: &Node| {
        node.inputs.iter().flatten().for_each(|id| uses[*id as usize] += 1);
        node.op.blocks().flat_map(|block| &block.outputs).for_each(|id| uses[*id as usize] += 1);
        if let (Op::Unary(UnaryOp::FakeQuant { scale, zero_point }), [Some(x), ..], [Some(y), ..]) =
            (&node.op, &node.inputs[..], &node.outputs[..])
        {
            found.push((*x, *y, (*scale, *zero_point)));
        }
    };
    graph.body.for_each(&mut count);
    graph.outputs.iter().for_each(|port| uses[port.value as usize] += 1);
    if found.is_empty() {
        return 0;
    }
    graph.values.iter_mut().for_each(|value| value.range = None);
    let given = |graph: &mut Graph, id: ValueId, (scale, zero_point): (f32, i32)| {
        let value = &mut graph.values[id as usize];
        let end = |code: i32| (code - zero_point) as f32 * scale;
        (value.codes, value.range) = (Some((scale, zero_point)), Some((end(-128), end(127))));
    };
    let inputs: Vec<ValueId> = graph.inputs.iter().map(|port| port.value).collect();
    for (x, y, codes) in &found {
        given(graph, *y, *codes);
        let made = graph.values[*x as usize].source == Source::Computed && !inputs.contains(x);
        if uses[*x as usize] == 1 && made && graph.values[*x as usize].codes.is_none() {
            given(graph, *x, *codes);
        }
    }
    found.len()
}

#[cfg(test)]
mod tests {
    use super::as_given;
    use edge_runtime::graph::{Act, Graph, Node, Op, Source, UnaryOp};

    #[test]
    fn roundings_and_what_they_alone_read_have_codes() {
        let mut graph = Graph::default();
        let ids: Vec<u32> = (0..5).map(|i| graph.add_value(format!("v{i}"), Source::Computed)).collect();
        let mut node = |op, x: usize, y: usize| {
            graph.body.nodes.push(Node {
                name: String::new(),
                op: Op::Unary(op),
                inputs: vec![Some(ids[x])],
                outputs: vec![Some(ids[y])],
            });
        };
        let fake = UnaryOp::FakeQuant { scale: 0.5, zero_point: -128 };
        node(UnaryOp::Act(Act::Relu), 0, 1);
        node(fake, 1, 2);
        node(UnaryOp::Exp, 2, 3);
        node(fake, 3, 4);
        node(UnaryOp::Sqrt, 3, 0);
        graph.values.iter_mut().for_each(|value| value.range = Some((-1.0, 1.0)));
        assert_eq!(as_given(&mut graph), 2);
        let codes: Vec<bool> = graph.values.iter().map(|value| value.codes.is_some()).collect();
        assert_eq!(codes, [false, true, true, false, true]);
        assert_eq!(graph.values[1].range, Some((0.0, 127.5)));
        assert_eq!(graph.values[3].range, None);
        // Nothing is said: nothing changes.
        let mut plain = Graph::default();
        plain.add_value("x", Source::Computed);
        plain.values[0].range = Some((-1.0, 1.0));
        assert_eq!((as_given(&mut plain), plain.values[0].range), (0, Some((-1.0, 1.0))));
    }
}
