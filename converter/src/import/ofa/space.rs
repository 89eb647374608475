//! What can be chosen, as a list of variables with options, smallest first.
//!
//! A size may follow from two of them: the channels between a bottleneck's layers are a part of those of its stage ([`Family::ResNet50`]).

use super::{Choices, Family, Supernet, middle};
use edge_runtime::graph::Variable;

/// All subnets of a network.
#[derive(Clone, Debug)]
pub struct Space {
    largest: Choices,
    variables: Vec<Variable>,
    /// By variable.
    values: Vec<Values>,
}

/// What the options of a variable are.
#[derive(Clone, Debug)]
enum Values {
    /// Entries of `d`, at a position.
    Depth(usize, Vec<usize>),
    /// Entries of `e`.
    Expand(usize, Vec<f64>),
    /// Entries of `ks`.
    Kernel(usize, Vec<usize>),
    /// Entries of `w`.
    Width(usize, Vec<usize>),
}

impl Supernet {
    /// What can be chosen. What has one option alone is no variable.
    pub fn space(&self) -> Space {
        let mut space = Space { largest: self.largest(), variables: Vec::new(), values: Vec::new() };
        match self.family {
            Family::ResNet50 => self.bottlenecks(&mut space),
            _ => self.inverted_bottlenecks(&mut space),
        }
        space
    }

    fn inverted_bottlenecks(&self, space: &mut Space) {
        let first = self.stages.first().map_or(0, |stage| stage.blocks.start);
        for (i, stage) in self.stages.iter().enumerate() {
            let name = format!("stage{}", i + 1);
            space.add(format!("{name}.depth"), &stage.depths, Values::Depth(i, stage.depths.clone()));
            for (b, place) in stage.blocks.clone().enumerate() {
                let (block, at) = (&self.blocks[place], place - first);
                let name = format!("{name}.block{}", b + 1);
                let [channels, most, _] = block.channels;
                let fits = |e: &f64| middle(channels, *e) <= most;
                let mut expands: Vec<f64> = self.expands.iter().copied().filter(fits).collect();
                if expands.is_empty() {
                    // Narrower than any ratio that is elastic.
                    expands.push(most as f64 / channels as f64);
                }
                if let (Some(e), Some(last)) = (space.largest.e.get_mut(at), expands.last()) {
                    *e = *last;
                }
                space.add(format!("{name}.expand"), &expands, Values::Expand(at, expands.clone()));
                let kernels = &block.kernels;
                space.add(format!("{name}.kernel"), kernels, Values::Kernel(at, kernels.clone()));
            }
        }
    }

    fn bottlenecks(&self, space: &mut Space) {
        let widths: Vec<usize> = (0..self.widths.len()).collect();
        // 2 keeps the stem's second layer.
        space.add("stem.depth".into(), &[0, 2], Values::Depth(0, vec![0, 2]));
        for (at, name) in ["stem.inner_width", "stem.width"].into_iter().enumerate() {
            space.add(name.into(), &self.widths, Values::Width(at, widths.clone()));
        }
        let first = self.stages.first().map_or(0, |stage| stage.blocks.start);
        for (i, stage) in self.stages.iter().enumerate() {
            let name = format!("stage{}", i + 1);
            let len = stage.blocks.len();
            let kept = stage.depths.iter().map(|depth| (depth + 2).saturating_sub(len)).collect();
            space.add(format!("{name}.depth"), &stage.depths, Values::Depth(i + 1, kept));
            space.add(format!("{name}.width"), &self.widths, Values::Width(i + 2, widths.clone()));
            for (b, place) in stage.blocks.clone().enumerate() {
                let expands = Values::Expand(place - first, self.expands.clone());
                space.add(format!("{name}.block{}.expand", b + 1), &self.expands, expands);
            }
        }
    }
}

impl Space {
    fn add(&mut self, name: String, options: &[impl ToString], values: Values) {
        if options.len() > 1 {
            let options = options.iter().map(ToString::to_string).collect();
            self.variables.push(Variable { name, options });
            self.values.push(values);
        }
    }

    /// What can be chosen; the last options together are the largest subnet.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// The choices of a subnet, given as one option of each variable; options that are not named or not there are the largest's.
    pub fn choices(&self, options: &[usize]) -> Choices {
        let mut choices = self.largest.clone();
        for (values, option) in self.values.iter().zip(options) {
            fn set<T: Copy>(list: &mut [T], at: usize, value: Option<&T>) {
                if let (Some(entry), Some(value)) = (list.get_mut(at), value) {
                    *entry = *value;
                }
            }
            match values {
                Values::Depth(at, of) => set(&mut choices.d, *at, of.get(*option)),
                Values::Expand(at, of) => set(&mut choices.e, *at, of.get(*option)),
                Values::Kernel(at, of) => set(&mut choices.ks, *at, of.get(*option)),
                Values::Width(at, of) => set(&mut choices.w, *at, of.get(*option)),
            }
        }
        choices
    }
}
