//! What a checkpoint's names and shapes say of the network.

use super::names::Names;
use super::{Block, Family, Shortcut, Stage, Supernet, SupernetError, divisible};
use crate::import::checkpoint::Checkpoint;
use edge_runtime::graph::Act;

const RELU6: Act = Act::Clip { lo: 0.0, hi: 6.0 };

/// What a family has that no state dict holds.
struct Known {
    name: &'static str,
    /// Of the stages' first blocks.
    strides: &'static [usize],
    epsilon: f64,
    expands: &'static [f64],
    widths: &'static [f64],
}

impl Family {
    fn known(self) -> Known {
        match self {
            Family::MobileNetV3 => Known {
                name: "a MobileNetV3-like supernet",
                strides: &[2, 2, 2, 1, 2],
                epsilon: 1e-5,
                expands: &[3.0, 4.0, 6.0],
                widths: &[1.0],
            },
            Family::ProxylessNas => Known {
                name: "a ProxylessNAS-like supernet",
                strides: &[2, 2, 2, 1, 2, 1],
                epsilon: 1e-3,
                expands: &[3.0, 4.0, 6.0],
                widths: &[1.0],
            },
            Family::ResNet50 => Known {
                name: "a ResNet50-like supernet",
                strides: &[1, 2, 2, 2],
                epsilon: 1e-5,
                expands: &[0.2, 0.25, 0.35],
                widths: &[0.65, 0.8, 1.0],
            },
        }
    }

    /// The activation function of a stage's blocks; `None` is what comes before the first.
    fn act(self, stage: Option<usize>) -> Act {
        match (self, stage) {
            (Family::MobileNetV3, Some(2..)) => Act::HardSwish,
            (Family::MobileNetV3 | Family::ResNet50, _) => Act::Relu,
            (Family::ProxylessNas, _) => RELU6,
        }
    }

    /// The activation function of the layers around the blocks.
    pub(super) fn outer_act(self) -> Act {
        match self {
            Family::MobileNetV3 => Act::HardSwish,
            Family::ProxylessNas => RELU6,
            Family::ResNet50 => Act::Relu,
        }
    }
}

impl Supernet {
    /// The network that a checkpoint holds.
    ///
    /// # Errors
    /// With every tensor that is missing, of another shape, or of no layer, all at once.
    pub fn of(checkpoint: &Checkpoint) -> Result<Supernet, SupernetError> {
        let mut names = Names::of(checkpoint);
        let family =
            match (names.any("input_stem.0."), names.any("first_conv."), names.any("final_expand_layer.")) {
                (true, false, _) => Family::ResNet50,
                (false, true, true) => Family::MobileNetV3,
                (false, true, false) => Family::ProxylessNas,
                _ => return Err(SupernetError::Kind { path: checkpoint.path().into() }),
            };
        if !names.any("blocks.0.") {
            return Err(SupernetError::Kind { path: checkpoint.path().into() });
        }
        let known = family.known();
        let found = match family {
            Family::ResNet50 => residual(&mut names, &known),
            _ => inverted(&mut names, family, &known),
        };
        let problems = names.finish();
        match problems.is_empty() {
            true => Ok(found),
            false => {
                Err(SupernetError::Tensors { path: checkpoint.path().into(), family: known.name, problems })
            }
        }
    }
}

/// The layers of both families of inverted bottlenecks.
fn inverted(names: &mut Names, family: Family, known: &Known) -> Supernet {
    let stem = names.shape::<4>("first_conv.conv.weight").map_or(0, |[out, ..]| out);
    names.expect("first_conv.conv.weight", [stem, 3, 3, 3]);
    names.expect_norm("first_conv.bn", stem);
    let mut blocks = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    let mut channels = stem;
    for i in 0..names.count("blocks.") {
        let old = format!("blocks.{i}.mobile_inverted_conv.");
        let prefix = if names.any(&old) { old } else { format!("blocks.{i}.conv.") };
        let Some([out, _, _, _]) = names.shape::<4>(&format!("{prefix}point_linear.conv.weight")) else {
            continue;
        };
        // A stage begins where the number of channels changes; before the first stage stands one block.
        let begins = i > 0 && (stages.is_empty() || out != channels);
        if begins {
            stages.push(Stage { blocks: i..i + 1, depths: Vec::new() });
        } else if let Some(stage) = stages.last_mut() {
            stage.blocks.end = i + 1;
        }
        let stage = stages.len().checked_sub(1);
        let stride = match stage {
            Some(stage) if begins => *known.strides.get(stage).unwrap_or(&0),
            _ => 1,
        };
        let residual = stride == 1 && channels == out && (i > 0 || family == Family::MobileNetV3);
        let shortcut = if residual { Shortcut::Identity } else { Shortcut::None };
        let block = inverted_block(names, prefix, [channels, out], stride, family.act(stage), shortcut);
        blocks.extend(block);
        channels = out;
    }
    for stage in &mut stages {
        stage.depths = (2.min(stage.blocks.len())..=stage.blocks.len()).collect();
    }
    check_stages(names, &stages, known);
    let mut last = channels;
    if family == Family::MobileNetV3 {
        let [out, ..] = names.shape::<4>("final_expand_layer.conv.weight").unwrap_or_default();
        names.expect("final_expand_layer.conv.weight", [out, last, 1, 1]);
        names.expect_norm("final_expand_layer.bn", out);
        last = out;
    }
    let [mix, ..] = names.shape::<4>("feature_mix_layer.conv.weight").unwrap_or_default();
    names.expect("feature_mix_layer.conv.weight", [mix, last, 1, 1]);
    if family == Family::ProxylessNas {
        names.expect_norm("feature_mix_layer.bn", mix);
    }
    let classes = classifier(names, mix);
    // What is trained beyond the largest ratio cannot be chosen.
    let widest =
        blocks.iter().skip(1).map(|b| b.channels[1] as f64 / b.channels[0] as f64).fold(0.0, f64::max);
    let expands = known.expands.iter().copied().filter(|e| *e <= widest.ceil()).collect();
    Supernet {
        family,
        blocks,
        stages,
        expands,
        widths: known.widths.to_vec(),
        classes,
        epsilon: known.epsilon,
        stem: [stem, stem],
    }
}

fn inverted_block(
    names: &mut Names,
    prefix: String,
    [channels, out]: [usize; 2],
    stride: usize,
    act: Act,
    shortcut: Shortcut,
) -> Option<Block> {
    let [middle, _, kernel, _] = names.shape::<4>(&format!("{prefix}depth_conv.conv.weight"))?;
    names.expect(&format!("{prefix}depth_conv.conv.weight"), [middle, 1, kernel, kernel]);
    names.expect_norm(&format!("{prefix}depth_conv.bn"), middle);
    if kernel % 2 == 0 {
        names
            .problems
            .push(format!("`{prefix}depth_conv.conv.weight` has a kernel of {kernel}, expected an odd size"));
    }
    let expands = names.any(&format!("{prefix}inverted_bottleneck."));
    if expands {
        names.expect(&format!("{prefix}inverted_bottleneck.conv.weight"), [middle, channels, 1, 1]);
        names.expect_norm(&format!("{prefix}inverted_bottleneck.bn"), middle);
    } else if middle != channels {
        names.problems.push(format!("`{prefix}inverted_bottleneck.conv.weight` is missing"));
    }
    let mut kernels = vec![kernel];
    while let [large, ..] = kernels[..]
        && large > 2
        && let Some(dims) = names.optional::<2>(&transform(&prefix, large))
    {
        let small = large - 2;
        if dims != [small * small; 2] {
            let name = transform(&prefix, large);
            names.problems.push(format!("`{name}` has shape {dims:?}, expected {:?}", [small * small; 2]));
        }
        kernels.insert(0, small);
    }
    let squeezes = names.any(&format!("{prefix}depth_conv.se."));
    if squeezes {
        let few = divisible((middle / 4) as f64);
        let fc = format!("{prefix}depth_conv.se.fc");
        names.expect(&format!("{fc}.reduce.weight"), [few, middle, 1, 1]);
        names.expect(&format!("{fc}.reduce.bias"), [few]);
        names.expect(&format!("{fc}.expand.weight"), [middle, few, 1, 1]);
        names.expect(&format!("{fc}.expand.bias"), [middle]);
    }
    names.expect(&format!("{prefix}point_linear.conv.weight"), [out, middle, 1, 1]);
    names.expect_norm(&format!("{prefix}point_linear.bn"), out);
    Some(Block {
        prefix,
        channels: [channels, middle, out],
        stride,
        kernels,
        act,
        expands,
        squeezes,
        shortcut,
    })
}

/// The matrix that leads from a kernel to the next smaller one.
pub(super) fn transform(prefix: &str, large: usize) -> String {
    format!("{prefix}depth_conv.conv.{large}to{}_matrix", large - 2)
}

/// The layers of a network of bottlenecks.
fn residual(names: &mut Names, known: &Known) -> Supernet {
    let [half, ..] = names.shape::<4>("input_stem.0.conv.weight").unwrap_or_default();
    let [stem, ..] = names.shape::<4>("input_stem.2.conv.weight").unwrap_or_default();
    for (layer, [out, channels]) in
        [("input_stem.0", [half, 3]), ("input_stem.1.conv", [half, half]), ("input_stem.2", [stem, half])]
    {
        names.expect(&format!("{layer}.conv.weight"), [out, channels, 3, 3]);
        names.expect_norm(&format!("{layer}.bn"), out);
    }
    let mut blocks = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    let mut channels = stem;
    for i in 0..names.count("blocks.") {
        let prefix = format!("blocks.{i}.");
        let Some([out, middle, _, _]) = names.shape::<4>(&format!("{prefix}conv3.conv.weight")) else {
            continue;
        };
        let begins = stages.is_empty() || names.any(&format!("{prefix}downsample."));
        if begins {
            stages.push(Stage { blocks: i..i + 1, depths: Vec::new() });
        } else if let Some(stage) = stages.last_mut() {
            stage.blocks.end = i + 1;
        }
        let stride = if begins { *known.strides.get(stages.len() - 1).unwrap_or(&0) } else { 1 };
        for (layer, dims) in [
            ("conv1", [middle, channels, 1, 1]),
            ("conv2", [middle, middle, 3, 3]),
            ("conv3", [out, middle, 1, 1]),
        ] {
            names.expect(&format!("{prefix}{layer}.conv.weight"), dims);
            names.expect_norm(&format!("{prefix}{layer}.bn"), dims[0]);
        }
        if begins {
            names.expect(&format!("{prefix}downsample.conv.weight"), [out, channels, 1, 1]);
            names.expect_norm(&format!("{prefix}downsample.bn"), out);
        }
        blocks.push(Block {
            prefix,
            channels: [channels, middle, out],
            stride,
            kernels: vec![3],
            act: Act::Relu,
            expands: true,
            squeezes: false,
            shortcut: if begins { Shortcut::Projected } else { Shortcut::Identity },
        });
        channels = out;
    }
    for stage in &mut stages {
        // The largest two blocks of each stage may go.
        let len = stage.blocks.len();
        stage.depths = (len.saturating_sub(2).max(1)..=len).collect();
    }
    check_stages(names, &stages, known);
    let classes = classifier(names, channels);
    let widest = blocks.iter().map(|b| b.channels[1] as f64 / b.channels[2] as f64).fold(0.0, f64::max);
    Supernet {
        family: Family::ResNet50,
        blocks,
        stages,
        // Channels between layers are rounded to eights: the ratio of the narrowest block is up to 4 / 256 larger.
        expands: known.expands.iter().copied().filter(|e| *e <= widest + 0.02).collect(),
        widths: known.widths.to_vec(),
        classes,
        epsilon: known.epsilon,
        stem: [half, stem],
    }
}

/// There are as many stages as the family has strides for.
fn check_stages(names: &mut Names, stages: &[Stage], known: &Known) {
    if stages.len() != known.strides.len() {
        names.problems.push(format!(
            "`blocks.*` make {} stages (a stage begins where the number of channels changes), expected {}",
            stages.len(),
            known.strides.len()
        ));
    }
}

/// The classifier's classes.
fn classifier(names: &mut Names, features: usize) -> usize {
    let [classes, _] = names.shape::<2>("classifier.linear.weight").unwrap_or_default();
    names.expect("classifier.linear.weight", [classes, features]);
    names.expect("classifier.linear.bias", [classes]);
    classes
}
