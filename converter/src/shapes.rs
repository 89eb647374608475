//! Shapes of inputs whose dimensions are free, where nobody says them all.
//!
//! A dimension has one size wherever its name stands: the one that a given shape says, else 1 for what is first in any input (samples), 64 for
//! the sides of pictures, 16 for all others (steps of a sequence). Where a model cannot be planned with these, as one that cuts sound into
//! windows of 512, they grow; and since a state's second dimension may be samples too, some of them are 1.

use crate::samples::noise_sample;
use edge_runtime::Model;
use edge_runtime::graph::{Dim, Graph, Port};
use edge_runtime::pack::Rung;
use edge_runtime::plan::{Plan, PlanError, PlanOptions};
use std::collections::HashMap;
use std::sync::Arc;

/// The side of a picture.
const SIDE: usize = 64;
/// The length of a sequence.
const STEPS: usize = 16;
/// How often sizes double: to pictures of 1024, and two seconds of sound.
const DOUBLINGS: [u32; 2] = [4, 11];
/// Dimensions of which some are tried as 1.
const MOST_SINGLE: usize = 4;

/// Sizes of free dimensions by name.
pub struct Sizes<'a>(HashMap<&'a str, usize>);

/// A free dimension that no given shape tells.
struct Free<'a> {
    name: &'a str,
    /// Its size, and how often that may double.
    size: usize,
    doublings: u32,
}

impl<'a> Sizes<'a> {
    /// Those that shapes of some inputs say, and the usual ones for all others.
    pub fn of(graph: &'a Graph, given: &[(String, Vec<usize>)]) -> Sizes<'a> {
        let mut sizes = Sizes::said(graph, given);
        sizes.0.extend(free(graph, &sizes).iter().map(|free| (free.name, free.size)));
        sizes
    }

    /// As [`Sizes::of`], but sizes with which the rung can be planned. Where nothing is free, nothing is tried.
    ///
    /// # Errors
    /// Why there is no plan with the usual sizes, when there is none with others either.
    pub fn planned(
        model: &'a Arc<Model>,
        rung: &Rung,
        given: &[(String, Vec<usize>)],
    ) -> Result<Sizes<'a>, PlanError> {
        let graph = model.graph(rung);
        let usual = Sizes::of(graph, given);
        let free: Vec<Free<'_>> =
            free(graph, &Sizes::said(graph, given)).into_iter().filter(|free| free.size > 1).collect();
        let plan = |sizes: &Sizes<'_>| {
            let sample = noise_sample(graph, sizes, given, 0)?;
            Some(Plan::new(model, rung, &sample.specs(), &PlanOptions::default()))
        };
        if free.is_empty() {
            return Ok(usual);
        }
        let why = match plan(&usual) {
            Some(Err(why)) => why,
            Some(Ok(_)) | None => return Ok(usual),
        };
        let mut singles: Vec<u32> = (0..1 << free.len().min(MOST_SINGLE)).collect();
        singles.sort_by_key(|single| single.count_ones());
        for doubled in 0..=DOUBLINGS[1] {
            for single in &singles {
                let mut sizes = Sizes(usual.0.clone());
                for (i, free) in free.iter().enumerate() {
                    let one = i < MOST_SINGLE && single >> i & 1 == 1;
                    let size = if one { 1 } else { free.size << doubled.min(free.doublings) };
                    sizes.0.insert(free.name, size);
                }
                if plan(&sizes).is_some_and(|plan| plan.is_ok()) {
                    return Ok(sizes);
                }
            }
        }
        Err(why)
    }

    fn said(graph: &'a Graph, given: &[(String, Vec<usize>)]) -> Sizes<'a> {
        let mut sizes = HashMap::new();
        for port in &graph.inputs {
            let said = given.iter().find(|(name, _)| name == graph.name(port.value));
            let (Some(declared), Some((_, said))) = (&port.dims, said) else { continue };
            for (declared, said) in declared.iter().zip(said) {
                if let Dim::Named(name) = declared {
                    sizes.insert(name.as_str(), *said);
                }
            }
        }
        Sizes(sizes)
    }

    /// The shape of an input.
    pub fn dims(&self, port: &Port) -> Vec<usize> {
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => *size,
            Dim::Named(name) => self.0.get(name.as_str()).copied().unwrap_or(1),
        };
        port.dims.iter().flatten().map(size).collect()
    }
}

/// The free dimensions whose sizes are not known, in the order of the inputs.
fn free<'a>(graph: &'a Graph, known: &Sizes<'a>) -> Vec<Free<'a>> {
    let mut all: Vec<Free<'a>> = Vec::new();
    for port in &graph.inputs {
        let dims = port.dims.as_deref().unwrap_or_default();
        for (axis, dim) in dims.iter().enumerate() {
            let Dim::Named(name) = dim else { continue };
            if known.0.contains_key(name.as_str()) {
                continue;
            }
            let (size, doublings) = match (axis, dims.len()) {
                (0, _) => (1, 0),
                (_, 4) => (SIDE, DOUBLINGS[0]),
                _ => (STEPS, DOUBLINGS[1]),
            };
            match all.iter_mut().find(|free| free.name == name) {
                // First anywhere is first everywhere.
                Some(free) if size < free.size => (free.size, free.doublings) = (size, doublings),
                Some(_) => {}
                None => all.push(Free { name, size, doublings }),
            }
        }
    }
    all
}
