//! The graph of a subnet.

use super::choice::{BlockSizes, Sizes};
use super::layers::{Layer, Layers};
use super::slice::Slices;
use super::{Choices, Family, Shortcut, Supernet, SupernetError, divisible};
use crate::import::checkpoint::Checkpoint;
use crate::model::Model;
use edge_runtime::graph::{Act, DType, Dim, Op, Port, Source, ValueId};

impl Supernet {
    /// The graph of a subnet with its weights, as an imported model: input `input` `[batch, 3, height, width]`, output `logits`
    /// `[batch, classes]`. `checkpoint` is the one that the network was found in.
    ///
    /// # Errors
    /// With every choice that the network does not have, or when a tensor's bytes are damaged.
    pub fn model(&self, checkpoint: &Checkpoint, choices: &Choices) -> Result<Model, SupernetError> {
        let sizes = self.sizes(choices)?;
        let name =
            checkpoint.path().file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let mut model = Model { name, ..Model::default() };
        let input = model.graph.add_value("input", Source::Computed);
        let named = |name: &str| Dim::Named(name.to_string());
        let dims = vec![named("batch"), Dim::Fixed(3), named("height"), named("width")];
        let port = Port { value: input, dtype: DType::F32, dims: Some(dims), plan_time: false };
        model.graph.inputs.push(port);
        let mut layers = Layers { model, slices: Slices { checkpoint, epsilon: self.epsilon } };
        let x = layers.op("input/channels_last", Op::Transpose { perm: vec![0, 2, 3, 1] }, &[Some(input)]);
        let logits = match self.family {
            Family::ResNet50 => self.residual(&mut layers, x, &sizes)?,
            _ => self.inverted(&mut layers, x, &sizes)?,
        };
        let mut model = layers.model;
        model.graph.values[logits as usize].name = "logits".to_string();
        let dims = vec![named("batch"), Dim::Fixed(self.classes)];
        model.graph.outputs.push(Port {
            value: logits,
            dtype: DType::F32,
            dims: Some(dims),
            plan_time: false,
        });
        Ok(model)
    }

    fn inverted(&self, layers: &mut Layers, x: ValueId, sizes: &Sizes) -> Result<ValueId, SupernetError> {
        let act = self.family.outer_act();
        let stem = sizes.stem[1];
        let first = Layer { name: "first_conv", kernel: 3, stride: 2, channels: 3, out: stem, act };
        let mut x = layers.conv(x, &first, None)?;
        let mut channels = stem;
        for block in &sizes.blocks {
            x = self.inverted_block(layers, x, block)?;
            channels = block.channels[2];
        }
        let last =
            if self.family == Family::MobileNetV3 { "final_expand_layer" } else { "feature_mix_layer" };
        let out = self.width(layers, last)?;
        let layer = Layer { name: last, kernel: 1, stride: 1, channels, out, act };
        x = layers.conv(x, &layer, None)?;
        x = layers.mean(x, "global_avg_pool", false);
        channels = out;
        if self.family == Family::MobileNetV3 {
            let mix = self.width(layers, "feature_mix_layer")?;
            x = layers.pointwise(x, "feature_mix_layer.conv", [channels, mix], (act, false))?;
            channels = mix;
        }
        layers.pointwise(x, "classifier.linear", [channels, self.classes], (Act::None, true))
    }

    /// How many channels a layer of one size gives.
    fn width(&self, layers: &Layers, layer: &str) -> Result<usize, SupernetError> {
        let checkpoint = layers.slices.checkpoint;
        let name = format!("{layer}.conv.weight");
        match super::names::find(checkpoint, &name).and_then(|info| info.dims.first()) {
            Some(out) => Ok(*out),
            None => Err(checkpoint.wrong(&name, "it is missing").into()),
        }
    }

    fn inverted_block(
        &self,
        layers: &mut Layers,
        x: ValueId,
        sizes: &BlockSizes,
    ) -> Result<ValueId, SupernetError> {
        let block = &self.blocks[sizes.block];
        let [channels, middle, out] = sizes.channels;
        let prefix = &block.prefix;
        let mut y = x;
        if block.expands {
            let name = &format!("{prefix}inverted_bottleneck");
            let layer = Layer { name, kernel: 1, stride: 1, channels, out: middle, act: block.act };
            y = layers.conv(y, &layer, None)?;
        }
        let name = &format!("{prefix}depth_conv");
        let largest = block.kernels.last().copied().unwrap_or(sizes.kernel);
        let kernels = layers.slices.kernels(prefix, largest, sizes.kernel, middle)?;
        let (kernel, stride, act) = (sizes.kernel, block.stride, block.act);
        let layer = Layer { name, kernel, stride, channels: middle, out: middle, act };
        y = layers.depthwise(y, &layer, kernels)?;
        if block.squeezes {
            let few = divisible((middle / 4) as f64);
            y = layers.squeeze(y, &format!("{prefix}depth_conv.se.fc"), [middle, few])?;
        }
        let name = &format!("{prefix}point_linear");
        let layer = Layer { name, kernel: 1, stride: 1, channels: middle, out, act: Act::None };
        layers.conv(y, &layer, (block.shortcut == Shortcut::Identity).then_some(x))
    }

    fn residual(&self, layers: &mut Layers, x: ValueId, sizes: &Sizes) -> Result<ValueId, SupernetError> {
        let [half, stem] = sizes.stem;
        let act = Act::Relu;
        let layer = Layer { name: "input_stem.0", kernel: 3, stride: 2, channels: 3, out: half, act };
        let mut x = layers.conv(x, &layer, None)?;
        if sizes.stem_whole {
            let name = "input_stem.1.conv";
            let layer = Layer { name, kernel: 3, stride: 1, channels: half, out: half, act };
            // The function comes before the sum here.
            let y = layers.conv(x, &layer, None)?;
            let sum = Op::Binary(edge_runtime::graph::BinaryOp::Add);
            x = layers.op("input_stem.1/sum", sum, &[Some(y), Some(x)]);
        }
        let layer = Layer { name: "input_stem.2", kernel: 3, stride: 1, channels: half, out: stem, act };
        x = layers.conv(x, &layer, None)?;
        x = layers.max_pool(x);
        let mut last = stem;
        for block in &sizes.blocks {
            x = self.residual_block(layers, x, block)?;
            last = block.channels[2];
        }
        x = layers.mean(x, "global_avg_pool", false);
        layers.pointwise(x, "classifier.linear", [last, self.classes], (Act::None, true))
    }

    fn residual_block(
        &self,
        layers: &mut Layers,
        x: ValueId,
        sizes: &BlockSizes,
    ) -> Result<ValueId, SupernetError> {
        let block = &self.blocks[sizes.block];
        let [channels, middle, out] = sizes.channels;
        let (prefix, stride, act) = (&block.prefix, block.stride, block.act);
        let shortcut = match block.shortcut {
            Shortcut::Projected => {
                let name = &format!("{prefix}downsample");
                let pooled = layers.average_pool(x, &format!("{name}.avg_pool"), stride);
                let layer = Layer { name, kernel: 1, stride: 1, channels, out, act: Act::None };
                layers.conv(pooled, &layer, None)?
            }
            _ => x,
        };
        let mut y = x;
        for (name, kernel, stride, [channels, out], act, residual) in [
            ("conv1", 1, 1, [channels, middle], act, None),
            ("conv2", 3, stride, [middle, middle], act, None),
            ("conv3", 1, 1, [middle, out], act, Some(shortcut)),
        ] {
            let name = &format!("{prefix}{name}");
            y = layers.conv(y, &Layer { name, kernel, stride, channels, out, act }, residual)?;
        }
        Ok(y)
    }
}
