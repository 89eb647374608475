//! The operations that layers become, in the order in which they run. Pictures are channels-last.

use super::SupernetError;
use super::slice::Slices;
use crate::model::{Array, Model};
use edge_runtime::graph::{Act, BinaryOp, Node, Op, Pads, PoolKind, ReduceOp, Source, ValueId, Window};

/// A graph that grows layer by layer.
pub(super) struct Layers<'a> {
    pub model: Model,
    pub slices: Slices<'a>,
}

/// A convolution with its norm, or its bias.
pub(super) struct Layer<'n> {
    /// What its tensors' names begin with: `blocks.3.conv1` has `blocks.3.conv1.conv.weight` and `blocks.3.conv1.bn.weight`.
    pub name: &'n str,
    pub kernel: usize,
    pub stride: usize,
    pub channels: usize,
    pub out: usize,
    pub act: Act,
}

impl Layers<'_> {
    /// An operation with one result.
    pub fn op(&mut self, name: &str, op: Op, inputs: &[Option<ValueId>]) -> ValueId {
        let y = self.model.graph.add_value(name, Source::Computed);
        let node = Node { name: name.to_string(), op, inputs: inputs.to_vec(), outputs: vec![Some(y)] };
        self.model.graph.body.nodes.push(node);
        y
    }

    fn constant(&mut self, name: String, array: Array) -> Option<ValueId> {
        Some(self.model.add_constant(name, array))
    }

    /// `act(norm(conv(x)) + residual)`.
    pub fn conv(
        &mut self,
        x: ValueId,
        layer: &Layer,
        residual: Option<ValueId>,
    ) -> Result<ValueId, SupernetError> {
        let Layer { name, kernel, stride, channels, out, act } = *layer;
        let w = self.slices.rows(&format!("{name}.conv.weight"), out, channels)?;
        self.normed(x, (name, w), (window(kernel, stride), 1), (out, act), residual)
    }

    /// `act(norm(conv(x)))` of each channel by itself; `w` is `[channels, kernel * kernel]`.
    pub fn depthwise(&mut self, x: ValueId, layer: &Layer, w: Array) -> Result<ValueId, SupernetError> {
        let Layer { name, kernel, stride, channels, act, .. } = *layer;
        self.normed(x, (name, w), (window(kernel, stride), channels), (channels, act), None)
    }

    fn normed(
        &mut self,
        x: ValueId,
        (name, w): (&str, Array),
        (window, groups): (Window, usize),
        (out, act): (usize, Act),
        residual: Option<ValueId>,
    ) -> Result<ValueId, SupernetError> {
        let [scale, bias] = self.slices.norm(&format!("{name}.bn"), out)?;
        let w = self.constant(format!("{name}.conv.weight"), w);
        let scale = self.constant(format!("{name}.bn/scale"), scale);
        let bias = self.constant(format!("{name}.bn/bias"), bias);
        let op = Op::Conv { window, groups, out_channels: out, act, act_after_residual: residual.is_some() };
        let mut inputs = vec![Some(x), w, scale, bias];
        inputs.extend(residual.map(Some));
        Ok(self.op(name, op, &inputs))
    }

    /// A convolution of one tap, without a norm; its bias where it has one.
    pub fn pointwise(
        &mut self,
        x: ValueId,
        layer: &str,
        [channels, out]: [usize; 2],
        (act, has_bias): (Act, bool),
    ) -> Result<ValueId, SupernetError> {
        let w = self.slices.rows(&format!("{layer}.weight"), out, channels)?;
        let w = self.constant(format!("{layer}.weight"), w);
        let bias = match has_bias {
            true => {
                let values = self.slices.vector(&format!("{layer}.bias"), out)?;
                self.constant(format!("{layer}.bias"), Array::f32(&[out], &values))
            }
            false => None,
        };
        let op = Op::Linear { out_features: out, act, act_after_residual: false };
        Ok(self.op(layer, op, &[Some(x), w, None, bias]))
    }

    /// `x` times what its mean over the picture is worth: squeeze-and-excitation.
    pub fn squeeze(
        &mut self,
        x: ValueId,
        fc: &str,
        [middle, few]: [usize; 2],
    ) -> Result<ValueId, SupernetError> {
        const GATE: Act = Act::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 };
        let mean = self.mean(x, &format!("{fc}/mean"), true);
        let y = self.pointwise(mean, &format!("{fc}.reduce"), [middle, few], (Act::Relu, true))?;
        let y = self.pointwise(y, &format!("{fc}.expand"), [few, middle], (GATE, true))?;
        Ok(self.op(&format!("{fc}/product"), Op::Binary(BinaryOp::Mul), &[Some(x), Some(y)]))
    }

    /// The mean over a picture.
    pub fn mean(&mut self, x: ValueId, name: &str, keep_dims: bool) -> ValueId {
        let op = Op::Reduce { kind: ReduceOp::Mean, axes: vec![1, 2], keep_dims };
        self.op(name, op, &[Some(x)])
    }

    /// The greatest of each 3 x 3, every second.
    pub fn max_pool(&mut self, x: ValueId) -> ValueId {
        let op = Op::Pool { kind: PoolKind::Max, window: window(3, 2), ceil_mode: false };
        self.op("max_pooling", op, &[Some(x)])
    }

    /// The mean of squares beside one another; those at the edge are of what there is.
    pub fn average_pool(&mut self, x: ValueId, name: &str, size: usize) -> ValueId {
        if size == 1 {
            return x;
        }
        let window =
            Window { kernel: [size; 2], stride: [size; 2], dilation: [1; 2], pads: Pads::Explicit([0; 4]) };
        let kind = PoolKind::Average { include_pad: false };
        self.op(name, Op::Pool { kind, window, ceil_mode: true }, &[Some(x)])
    }
}

/// A window around each element.
fn window(kernel: usize, stride: usize) -> Window {
    let pads = Pads::Explicit([kernel / 2; 4]);
    Window { kernel: [kernel; 2], stride: [stride; 2], dilation: [1; 2], pads }
}
