//! Weights that a router mixes of several experts, knowing the choice (`graph/elastic.rs`): found once, when a subnet is made. A matrix becomes a
//! `combine` of its experts, of which nothing is copied; a constant is summed.

use super::{Cuts, Making, SubnetError};
use crate::graph::{DType, Layer, Mixed, Source, ValueId};
use crate::pack::{Arg, BlobSource, Choice, Constant, ConstantData, Expr, Tensor};
use serde_json::json;

/// Coefficients of all that is mixed in one subnet, and elements of constants, at most: each takes some 40 bytes of the heap.
const MOST: usize = 1 << 19;

/// A layer of a router: `y = W x + b`.
#[derive(Clone, Debug)]
pub struct Dense {
    /// Length of x.
    pub inputs: usize,
    /// W, row-major `[outputs, inputs]`.
    pub weight: Vec<f32>,
    /// b, an element an output, or empty.
    pub bias: Vec<f32>,
    /// Whether what is below 0 becomes 0.
    pub relu: bool,
}

/// What each expert is multiplied by: one number, or one a row.
pub type Coefficients = Vec<Vec<f32>>;

/// What a router makes of its inputs: for each of `experts` one number, or one a row where its last layer has as many outputs for each row. Sums
/// are in f32, in order. `None` when layers do not fit each other.
pub fn route(inputs: &[f32], layers: &[Dense], experts: usize) -> Option<Coefficients> {
    let mut x = inputs.to_vec();
    for Dense { inputs, weight, bias, relu } in layers {
        if x.is_empty() || x.len() != *inputs || !weight.len().is_multiple_of(*inputs) {
            return None;
        }
        let rows = weight.chunks_exact(*inputs);
        if !(bias.is_empty() || bias.len() == rows.len()) {
            return None;
        }
        let y = rows.enumerate().map(|(i, row)| {
            let sum =
                row.iter().zip(&x).map(|(w, x)| w * x).sum::<f32>() + bias.get(i).copied().unwrap_or(0.0);
            if *relu { sum.max(0.0) } else { sum }
        });
        x = y.collect();
    }
    if experts == 0 || x.is_empty() || !x.len().is_multiple_of(experts) {
        return None;
    }
    for row in x.chunks_exact_mut(experts) {
        let most = row.iter().copied().fold(f32::MIN, f32::max);
        row.iter_mut().for_each(|v| *v = (*v - most).exp());
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|v| *v /= sum);
    }
    let of = |expert: usize| x.iter().skip(expert).step_by(experts).copied().collect();
    Some((0..experts).map(of).collect())
}

impl Making<'_> {
    /// Mixes what the subnet reads of what is mixed.
    pub(super) fn mix(
        &mut self,
        choice: &Choice,
        cuts: &Cuts,
        source: &dyn BlobSource,
    ) -> Result<(), SubnetError> {
        let elastic = self.elastic;
        let mut numbers = 0usize;
        for mixture in &elastic.mixtures {
            let is_read = |mixed: &&Mixed| self.graph.values[mixed.value as usize].source != Source::Computed;
            let read: Vec<&Mixed> = mixture.values.iter().filter(is_read).collect();
            let Some(first) = read.first() else { continue };
            let inputs: Vec<f32> =
                mixture.features.iter().map(|feature| feature.value(|v| choice.option(v))).collect();
            let mut layers = Vec::with_capacity(mixture.layers.len());
            for Layer { weight, bias, relu } in &mixture.layers {
                let bias = match bias {
                    Some(bias) => self.floats(first.value, *bias, source)?,
                    None => Vec::new(),
                };
                let inputs = match self.header.constants[*weight as usize].dims[..] {
                    [_, inputs] => inputs,
                    _ => 0,
                };
                let weight = self.floats(first.value, *weight, source)?;
                layers.push(Dense { inputs, weight, bias, relu: *relu });
            }
            for mixed in read {
                let found = route(&inputs, &layers, mixed.experts.len());
                let coefs = found.filter(|all| all.iter().flatten().all(|coef| coef.is_finite()));
                let coefs = coefs.ok_or_else(|| {
                    let why = format!(
                        "a router of {} numbers and {} layers gives no weights for {} experts",
                        inputs.len(),
                        layers.len(),
                        mixed.experts.len()
                    );
                    self.value_error(mixed.value, why)
                })?;
                let elements = |source: &Source| match source {
                    Source::Constant(id) => self.header.constants[*id as usize]
                        .dims
                        .iter()
                        .fold(1usize, |n, d| n.saturating_mul(*d)),
                    _ => 0,
                };
                numbers += coefs.iter().map(Vec::len).sum::<usize>();
                numbers = numbers.saturating_add(mixed.experts.first().map_or(0, elements));
                if numbers > MOST {
                    let why = format!("more than {MOST} coefficients and elements of mixtures");
                    return Err(self.value_error(mixed.value, why));
                }
                self.mix_value(mixed, &coefs, cuts, source)?;
            }
        }
        Ok(())
    }

    fn mix_value(
        &mut self,
        Mixed { value, experts }: &Mixed,
        coefs: &Coefficients,
        cuts: &Cuts,
        source: &dyn BlobSource,
    ) -> Result<(), SubnetError> {
        let each = |rows: usize| coefs.iter().all(|coefs| coefs.len() == 1 || coefs.len() == rows);
        let odd = |making: &Self, rows: usize| {
            let given = coefs.first().map_or(0, Vec::len);
            let why = format!(
                "its experts are no {} alike of {rows} rows, or its router gives {given} each",
                experts.len()
            );
            making.value_error(*value, why)
        };
        let tensors: Option<Vec<u32>> = experts
            .iter()
            .map(|source| if let Source::Weight(id) = source { Some(*id) } else { None })
            .collect();
        if let Some(tensors) = tensors {
            let whole = |id: &u32| &self.header.tensors[*id as usize];
            let Some(first) = tensors.first().map(whole) else { return Err(odd(self, 0)) };
            let (n, k, roots) = (first.n, first.k, first.roots.len());
            let alike = |id: &u32| (whole(id).n, whole(id).k, whole(id).roots.len()) == (n, k, roots);
            if !tensors.iter().all(alike) || !each(n) {
                return Err(odd(self, n));
            }
            let coefs: Vec<serde_json::Value> = coefs
                .iter()
                .map(|coefs| if let [one] = coefs[..] { json!(one) } else { json!(coefs) })
                .collect();
            let sum = |root: usize| {
                let mut params = serde_json::Map::new();
                params.insert("coefs".into(), json!(coefs));
                params.insert("through".into(), json!(true));
                let args = tensors.iter().map(|id| Arg::Shared(*id, root as u32)).collect();
                Expr { kind: "combine".into(), params, args, blobs: Vec::new() }
            };
            let name = format!("{} (mixed)", first.name);
            let roots = (0..roots).map(sum).collect();
            let shown = tensors[0];
            self.graph.values[*value as usize].source =
                Source::Weight(self.tensor(Tensor { name, n, k, roots }, shown));
            return Ok(());
        }
        let mut sum: Vec<f32> = Vec::new();
        let mut dims: Option<Vec<usize>> = None;
        for (coefs, expert) in coefs.iter().zip(experts) {
            let Source::Constant(id) = expert else { return Err(odd(self, 0)) };
            let floats = self.floats(*value, *id, source)?;
            let own = &self.header.constants[*id as usize].dims;
            if !each(floats.len()) || dims.as_ref().is_some_and(|dims| dims != own) {
                return Err(odd(self, floats.len()));
            }
            let product = |i: usize| coefs[if coefs.len() == 1 { 0 } else { i }] * floats[i];
            match dims {
                None => sum = (0..floats.len()).map(product).collect(),
                Some(_) => sum.iter_mut().enumerate().for_each(|(i, sum)| *sum += product(i)),
            }
            dims = Some(own.clone());
        }
        let mut dims = dims.unwrap_or_default();
        if let Some((axis, size)) = cuts.elements.get(value) {
            let fits = dims.iter().take(*axis).all(|d| *d == 1) && dims.get(*axis).is_some_and(|d| size <= d);
            if !fits {
                return Err(self.value_error(
                    *value,
                    format!("{size} elements of axis {axis} are no first part of {dims:?}"),
                ));
            }
            dims[*axis] = *size;
            sum.truncate(dims.iter().product());
        }
        let bytes: Vec<u8> = sum.into_iter().flat_map(f32::to_le_bytes).collect();
        let constant = Constant { dtype: DType::F32, dims, data: ConstantData::hex(&bytes) };
        self.graph.values[*value as usize].source = Source::Constant(self.constant(constant));
        Ok(())
    }

    /// The elements of a constant of the whole.
    fn floats(&self, value: ValueId, id: u32, source: &dyn BlobSource) -> Result<Vec<f32>, SubnetError> {
        let constant = &self.header.constants[id as usize];
        let bytes = constant.bytes(source).filter(|bytes| {
            let want = constant.dims.iter().try_fold(4usize, |n, d| n.checked_mul(*d));
            constant.dtype == DType::F32 && want == Some(bytes.len())
        });
        let bytes = bytes.ok_or_else(|| {
            let (dtype, dims) = (constant.dtype, &constant.dims);
            self.value_error(
                value,
                format!("constant {id}, {dtype}{dims:?}, of its router or experts is no f32 that is loaded"),
            )
        })?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{Dense, route};

    #[test]
    fn a_router_gives_each_expert_its_share() {
        let dense = |inputs: usize, weight: &[f32], bias: &[f32], relu: bool| Dense {
            inputs,
            weight: weight.to_vec(),
            bias: bias.to_vec(),
            relu,
        };
        let last = dense(2, &[1.0, 0.0, 0.0, 1.0], &[], false);
        let even = route(&[0.5, 0.5], std::slice::from_ref(&last), 2).unwrap();
        assert_eq!(even, [[0.5], [0.5]]);
        let first = dense(2, &[2.0, 0.0, 0.0, -2.0], &[0.0, 1.0], true);
        let one = route(&[0.5, 2.0], &[first, last.clone()], 2).unwrap();
        let share = 1.0 / (1.0 + (-1.0f32).exp());
        assert!((one[0][0] - share).abs() < 1e-6 && (one[1][0] - (1.0 - share)).abs() < 1e-6, "{one:?}");
        // Outputs of one row lie side by side.
        let rows = route(&[0.0], &[dense(1, &[0.0; 4], &[0.0, 0.0, 200.0, 0.0], false)], 2).unwrap();
        assert_eq!(rows, [[0.5, 1.0], [0.5, 0.0]]);
        let one = |inputs: &[f32], experts| route(inputs, std::slice::from_ref(&last), experts);
        assert!(
            one(&[1.0, 2.0, 3.0], 2).is_none()
                && one(&[1.0, 2.0], 4).is_none()
                && one(&[1.0, 2.0], 0).is_none()
        );
        assert!(route(&[1.0], &[dense(1, &[1.0, 2.0], &[1.0], false)], 2).is_none());
        assert_eq!(route(&[], &[], 1), None);
    }
}
