//! Each pass on small graphs: what is left of the graph, and that it computes the same.

mod activations;
mod attentions;
mod layouts;
mod matrices;
mod norms;
mod real;
pub(crate) mod reference;
mod tidying;

use super::{Options, simplify};
use crate::model::{Array, Model};
use edge_runtime::graph::{
    Act, BinaryOp, DType, Dim, Node, Op, Pads, Port, Source, UnaryOp, ValueId, Window,
};
use reference::{Tensor, run};

/// A graph under construction.
#[derive(Default)]
pub(crate) struct Net {
    pub(crate) model: Model,
    seed: u64,
}

impl Net {
    /// An input; a dimension of 0 is free, named by its position.
    pub(crate) fn input(&mut self, name: &str, dims: &[usize]) -> ValueId {
        let value = self.model.graph.add_value(name, Source::Computed);
        let dims = dims.iter().enumerate();
        let dims =
            dims.map(|(i, d)| if *d == 0 { Dim::Named(format!("d{i}")) } else { Dim::Fixed(*d) }).collect();
        self.model.graph.inputs.push(Port { value, dtype: DType::F32, dims: Some(dims), plan_time: false });
        value
    }

    fn floats(&mut self, dims: &[usize], values: &[f32]) -> ValueId {
        let name = format!("c{}", self.model.graph.values.len());
        self.model.add_constant(name, Array::f32(dims, values))
    }

    pub(crate) fn scalar(&mut self, value: f32) -> ValueId {
        self.floats(&[], &[value])
    }

    fn ints(&mut self, values: &[i64]) -> ValueId {
        let name = format!("c{}", self.model.graph.values.len());
        self.model.add_constant(name, Array::i64(&[values.len()], values))
    }

    /// Seeded numbers between -1 and 1, none near 0.
    pub(crate) fn random(&mut self, dims: &[usize]) -> ValueId {
        let values: Vec<f32> =
            noise(&mut self.seed, dims.iter().product()).iter().map(|v| *v as f32).collect();
        self.floats(dims, &values)
    }

    pub(crate) fn node(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        self.nodes(op, inputs, 1)[0]
    }

    fn nodes(&mut self, op: Op, inputs: &[ValueId], outputs: usize) -> Vec<ValueId> {
        let index = self.model.graph.body.nodes.len();
        let results: Vec<ValueId> = (0..outputs)
            .map(|i| self.model.graph.add_value(format!("v{index}.{i}"), Source::Computed))
            .collect();
        self.model.graph.body.nodes.push(Node {
            name: format!("n{index}"),
            op,
            inputs: inputs.iter().map(|v| Some(*v)).collect(),
            outputs: results.iter().map(|v| Some(*v)).collect(),
        });
        results
    }

    pub(crate) fn binary(&mut self, op: BinaryOp, a: ValueId, b: ValueId) -> ValueId {
        self.node(Op::Binary(op), &[a, b])
    }

    pub(crate) fn unary(&mut self, op: UnaryOp, x: ValueId) -> ValueId {
        self.node(Op::Unary(op), &[x])
    }

    fn transpose(&mut self, x: ValueId, perm: &[usize]) -> ValueId {
        self.node(Op::Transpose { perm: perm.to_vec() }, &[x])
    }

    /// A convolution as the importer writes it: on `[N, C, H, W]`, between transposes.
    fn conv(&mut self, x: ValueId, channels: [usize; 2], kernel: usize, stride: usize) -> ValueId {
        let w = self.random(&[channels[1], kernel * kernel * channels[0]]);
        let last = self.transpose(x, &[0, 2, 3, 1]);
        let y = self.node(conv_op(channels[1], kernel, stride, 1), &[last, w]);
        self.transpose(y, &[0, 3, 1, 2])
    }

    pub(crate) fn output(&mut self, value: ValueId) {
        self.model.graph.outputs.push(Port { value, dtype: DType::F32, dims: None, plan_time: false });
    }

    /// Simplifies and checks that outputs stay: their names, and their values on seeded inputs with free dimensions 4.
    fn check(&self) -> Model {
        self.check_with(&Options::default())
    }

    fn check_with(&self, options: &Options) -> Model {
        let simple = simplify(self.model.clone(), options);
        let names =
            |m: &Model| m.graph.outputs.iter().map(|p| m.graph.name(p.value).to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&self.model), names(&simple));
        let mut seed = 7;
        let inputs: Vec<Tensor> = self
            .model
            .graph
            .inputs
            .iter()
            .map(|port| {
                let dims = port.dims.as_ref().expect("the tests declare shapes");
                let dims: Vec<usize> =
                    dims.iter().map(|d| if let Dim::Fixed(n) = d { *n } else { 4 }).collect();
                let data = noise(&mut seed, dims.iter().product()).iter().map(|v| v * 4.0).collect();
                Tensor { dims, data }
            })
            .collect();
        for (want, got) in run(&self.model, &inputs).iter().zip(run(&simple, &inputs)) {
            assert_eq!(want.dims, got.dims);
            for (i, (w, g)) in want.data.iter().zip(&got.data).enumerate() {
                let bound = 2e-6 * (1.0 + w.abs());
                assert!(
                    (w - g).abs() <= bound,
                    "element {i}: {g} for {w}, bound {bound}\n{:#?}",
                    simple.graph.body
                );
            }
        }
        simple
    }
}

pub(crate) fn noise(seed: &mut u64, count: usize) -> Vec<f64> {
    (0..count)
        .map(|_| {
            *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let unit = (*seed >> 11) as f64 / (1u64 << 53) as f64;
            // An odd multiple of 1/1024 is exact in f32 and not zero.
            ((unit * 1024.0).floor() * 2.0 + 1.0 - 1024.0) / 1024.0
        })
        .collect()
}

pub(crate) fn conv_op(channels: usize, kernel: usize, stride: usize, groups: usize) -> Op {
    let pad = (kernel - 1) / 2;
    let window =
        Window { kernel: [kernel; 2], stride: [stride; 2], dilation: [1; 2], pads: Pads::Explicit([pad; 4]) };
    Op::Conv { window, groups, out_channels: channels, act: Act::None, act_after_residual: false }
}

pub(crate) fn linear_op(features: usize) -> Op {
    Op::Linear { out_features: features, act: Act::None, act_after_residual: false }
}

/// The operations' names in order, as `Debug` begins.
fn ops(model: &Model) -> Vec<String> {
    let mut all = Vec::new();
    model.graph.body.for_each(&mut |node| {
        let text = format!("{:?}", node.op);
        let name = match &node.op {
            Op::Unary(_) | Op::Binary(_) => text.split([' ', '{']).next().unwrap_or_default().to_owned(),
            _ => text.split([' ', '(', '{']).next().unwrap_or_default().to_owned(),
        };
        all.push(name);
    });
    all
}
