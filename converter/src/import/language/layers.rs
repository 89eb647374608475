//! What language models are made of, appended to a graph layer by layer. Values between layers are `[1, tokens, columns]`.

use super::file::{ModelFile, Stored};
use super::{LanguageModel, Part, Rows, Weight};
use crate::import::ImportError;
use crate::import::gguf::{Codes, Form};
use crate::model::Array;
use edge_runtime::graph::{
    Act, BinaryOp, Cache, DType, Decoding, Dim, Graph, Node, Op, Port, ReduceOp, Source, ValueId,
};
use std::collections::{BTreeSet, HashMap};

/// Largest number that a key may count: sizes are held against the tensors' shapes, but some are made use of before.
const MAX_COUNT: usize = 1 << 20;

/// The names of the axes of texts, of tokens, and of those whose logits are wanted.
const BATCH: &str = "batch";
const TOKENS: &str = "tokens";
const WANTED: &str = "wanted";

/// A graph that grows.
pub(super) struct Layers<'a> {
    file: &'a dyn ModelFile,
    /// Whether codes are taken for the numbers that they stand for.
    as_floats: bool,
    /// The architecture's name, which its keys begin with.
    family: &'static str,
    graph: Graph,
    constants: Vec<Array>,
    weights: Vec<Weight>,
    /// The values of matrices.
    matrices: HashMap<(String, Part, Rows), ValueId>,
    /// Sums of so many neighbouring columns of values.
    sums: HashMap<(ValueId, usize), ValueId>,
    /// Tensors that have a place in the graph.
    used: BTreeSet<String>,
    /// Keys and values of the layers.
    caches: Vec<Cache>,
}

/// What a run is given.
#[derive(Clone, Copy)]
pub(super) struct Inputs {
    /// Token ids, i64 `[1, tokens]`.
    pub ids: ValueId,
    /// How many tokens were before them, i64 `[1]`.
    pub past: ValueId,
    /// The places of those whose logits are wanted, i64 `[wanted]`.
    wanted: ValueId,
}

/// A product with a matrix of the file, and what follows it.
#[derive(Clone, Copy)]
pub(super) struct Linear<'n> {
    /// The tensors' name without `.weight` and `.bias`; a bias is there or not.
    pub name: &'n str,
    /// The name of those that it is a part of, by `rows`, where it is.
    pub part_of: Option<&'n str>,
    /// Rows: columns of the result.
    pub n: usize,
    /// Columns: those of the operand.
    pub k: usize,
    pub rows: Rows,
    /// Added to the product.
    pub residual: Option<ValueId>,
    /// Applied last.
    pub act: Act,
}

impl<'n> Linear<'n> {
    /// The product alone.
    pub fn plain(name: &'n str, n: usize, k: usize) -> Linear<'n> {
        Linear { name, part_of: None, n, k, rows: Rows::Same, residual: None, act: Act::None }
    }
}

impl<'a> Layers<'a> {
    pub fn new(file: &'a dyn ModelFile, family: &'static str, as_floats: bool) -> Layers<'a> {
        Layers {
            file,
            as_floats,
            family,
            graph: Graph::default(),
            constants: Vec::new(),
            weights: Vec::new(),
            matrices: HashMap::new(),
            sums: HashMap::new(),
            used: BTreeSet::new(),
            caches: Vec::new(),
        }
    }

    /// The model, when every tensor has its place in it.
    pub fn finish(self) -> Result<LanguageModel, ImportError> {
        let left: Vec<String> = self
            .file
            .unused(&self.used)
            .iter()
            .map(|name| format!("tensor `{name}` in architecture `{}`", self.family))
            .take(crate::import::MOST_LISTED)
            .collect();
        if !left.is_empty() {
            return Err(self.unsupported(left));
        }
        Ok(LanguageModel { graph: self.graph, constants: self.constants, weights: self.weights })
    }

    /// What of this file is not implemented.
    pub fn unsupported(&self, what: Vec<String>) -> ImportError {
        self.file.not_implemented(what)
    }

    // ---- keys ------------------------------------------------------------------------------------------------

    /// A number of the architecture, at least 1; `None` when the file does not say it.
    pub fn count(&self, key: &str) -> Result<Option<usize>, ImportError> {
        match self.file.count_of(key)? {
            Some(count) if !(1..=MAX_COUNT).contains(&count) => {
                Err(self.wrong(key, format!("{count}; 1 to {MAX_COUNT} is expected")))
            }
            count => Ok(count),
        }
    }

    /// As [`Layers::count`], of a key that has to be there.
    pub fn needed(&self, key: &str) -> Result<usize, ImportError> {
        self.count(key)?.ok_or_else(|| self.missing(key))
    }

    /// What a key counts, which may be 0; `None` when the file does not say it.
    pub fn number_of(&self, key: &str) -> Result<Option<usize>, ImportError> {
        self.file.count_of(key)
    }

    /// A real number above 0; `None` when the file does not say it.
    pub fn real(&self, key: &str) -> Result<Option<f32>, ImportError> {
        match self.file.real_of(key)? {
            Some(number) if number <= 0.0 => {
                Err(self.wrong(key, format!("{number}; a number above 0 is expected")))
            }
            number => Ok(number),
        }
    }

    /// A text; `None` when the file does not say it.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, ImportError> {
        self.file.text_of(key)
    }

    /// Refuses what a key asks for, unless it is missing or 0.
    pub fn without(&self, key: &str, what: &str) -> Result<(), ImportError> {
        // Which of both it is depends on the key.
        let asked = match self.file.count_of(key) {
            Ok(count) => count.is_some_and(|count| count > 0),
            Err(_) => self.file.real_of(key)?.is_some_and(|number| number != 0.0),
        };
        match asked {
            true => Err(self.unsupported(vec![format!("{what} (key `{}.{key}`)", self.family)])),
            false => Ok(()),
        }
    }

    /// What is wrong with a key.
    pub fn wrong(&self, key: &str, why: String) -> ImportError {
        self.file.wrong_parameter(key, why)
    }

    /// A key that is not there.
    pub fn missing(&self, key: &str) -> ImportError {
        self.wrong(key, "missing".into())
    }

    // ---- tensors ---------------------------------------------------------------------------------------------

    /// Whether the file has a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.file.stored(name).is_some()
    }

    fn tensor(&mut self, name: &str) -> Result<Stored<'a>, ImportError> {
        let Some(stored) = self.file.stored(name) else {
            return Err(self.file.wrong(name, format!("missing in architecture `{}`", self.family)));
        };
        self.used.insert(name.to_string());
        Ok(stored)
    }

    /// What frequencies of rotary positions are divided by, one for each of so many pairs; empty when they are plain.
    pub fn divisors(&mut self, pairs: usize, base: f32) -> Result<Vec<f32>, ImportError> {
        let names = ["rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"];
        self.used.extend(names.map(str::to_string));
        self.file.divisors(pairs, base)
    }

    /// The order of the rows of queries and keys in a family whose authors turn neighbours.
    pub fn rows_of_neighbours(&self, head: usize, turned: usize) -> Rows {
        if self.file.turns_neighbours() { Rows::Pairs { head, turned } } else { Rows::Same }
    }

    /// Whether a layer sees a window of tokens alone, where the file says it.
    pub fn is_local(&self, layer: usize) -> Result<Option<bool>, ImportError> {
        self.file.is_local(layer)
    }

    /// The shape of a matrix.
    pub fn shape(&mut self, name: &str) -> Result<[usize; 2], ImportError> {
        match *self.tensor(name)?.dims {
            [n, k] => Ok([n, k]),
            ref dims => Err(self.file.wrong(name, format!("shape {dims:?}; a matrix is expected"))),
        }
    }

    /// A tensor of one dimension, its floats in f32.
    pub fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, ImportError> {
        let Stored { dims, kind, bytes } = self.tensor(name)?;
        let Form::Floats(dtype) = kind.form else {
            return Err(self.file.wrong(name, format!("{}; F32, F16 or BF16 is expected", kind.name)));
        };
        if dims != [len] {
            let by = self.file.stated_in();
            return Err(self.file.wrong(name, format!("shape {dims:?}; [{len}] is expected by {by}")));
        }
        let mut values = crate::draft::to_f32(dtype, bytes);
        let added = self.file.added_to(name);
        values.iter_mut().for_each(|value| *value += added);
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(self.file.wrong(name, format!("element {at} is {}", values[at]))),
            None => Ok(values),
        }
    }

    /// The value of a part of a tensor.
    fn matrix(
        &mut self,
        part: Part,
        (name, tensor): (&str, &str),
        rows: Rows,
        [n, k]: [usize; 2],
        product: bool,
    ) -> ValueId {
        let key = (tensor.to_string(), part, rows);
        if let Some(value) = self.matrices.get(&key) {
            if let Source::Weight(id) = self.graph.values[*value as usize].source {
                self.weights[id as usize].product |= product;
            }
            return *value;
        }
        let id = self.weights.len() as u32;
        let (name, tensor) = (name.to_string(), tensor.to_string());
        let stands_for = if part == Part::Minima { format!("{name}/minima") } else { name.clone() };
        self.weights.push(Weight { name, tensor, part, n, k, rows, product });
        let value = self.graph.add_value(stands_for, Source::Weight(id));
        self.matrices.insert(key, value);
        value
    }

    /// A matrix `[n, k]`: its floats or codes, and what its groups have for minima.
    fn parts(
        &mut self,
        (name, tensor): (&str, &str),
        rows: Rows,
        [n, k]: [usize; 2],
        product: bool,
    ) -> Result<(ValueId, Option<(ValueId, usize)>), ImportError> {
        let Stored { dims, kind, .. } = self.tensor(tensor)?;
        let all = rows.all(n);
        if dims != [all, k] {
            let by = self.file.stated_in();
            let why = format!("shape {dims:?}; [{all}, {k}] is expected by {by} and other tensors");
            return Err(self.file.wrong(tensor, why));
        }
        match kind.form {
            Form::Codes(Codes { group, minima, .. }) if !self.as_floats => {
                let codes = self.matrix(Part::Codes, (name, tensor), rows, [n, k], product);
                let minima = minima.then(|| {
                    (self.matrix(Part::Minima, (name, tensor), rows, [n, k.div_ceil(group)], product), group)
                });
                Ok((codes, minima))
            }
            _ => Ok((self.matrix(Part::Floats, (name, tensor), rows, [n, k], product), None)),
        }
    }

    // ---- operations ------------------------------------------------------------------------------------------

    /// An operation with one result.
    pub fn op(&mut self, name: &str, op: Op, inputs: &[Option<ValueId>]) -> ValueId {
        let y = self.graph.add_value(name, Source::Computed);
        let node = Node { name: name.to_string(), op, inputs: inputs.to_vec(), outputs: vec![Some(y)] };
        self.graph.body.nodes.push(node);
        y
    }

    /// `a op b`.
    pub fn binary(&mut self, name: &str, op: BinaryOp, a: ValueId, b: ValueId) -> ValueId {
        self.op(name, Op::Binary(op), &[Some(a), Some(b)])
    }

    /// A constant.
    pub fn constant(&mut self, name: &str, array: Array) -> ValueId {
        let id = self.constants.len() as u32;
        self.constants.push(array);
        self.graph.add_value(name, Source::Constant(id))
    }

    /// A vector of integers.
    pub fn integers(&mut self, name: &str, values: &[i64]) -> ValueId {
        self.constant(name, Array::i64(&[values.len()], values))
    }

    /// A scalar.
    pub fn number(&mut self, name: &str, value: f32) -> ValueId {
        self.constant(name, Array::f32(&[], &[value]))
    }

    /// Another shape; 0 keeps a size.
    pub fn reshape(&mut self, name: &str, x: ValueId, shape: &[i64]) -> ValueId {
        let shape = self.integers(&format!("{name}/shape"), shape);
        self.op(name, Op::Reshape { allow_zero: false }, &[Some(x), Some(shape)])
    }

    /// `x / sqrt(mean(x²) + epsilon) * weight` over the last dimension, of `len` elements.
    pub fn rms_norm(
        &mut self,
        x: ValueId,
        name: &str,
        len: usize,
        epsilon: f32,
    ) -> Result<ValueId, ImportError> {
        let tensor = format!("{name}.weight");
        let weight = self.vector(&tensor, len)?;
        let weight = self.constant(&tensor, Array::f32(&[len], &weight));
        Ok(self.op(name, Op::RmsNorm { axis: -1, epsilon }, &[Some(x), Some(weight)]))
    }

    /// `(x - mean) / sqrt(variance + epsilon) * weight + bias` over the last dimension, of `len` elements.
    pub fn layer_norm(
        &mut self,
        x: ValueId,
        name: &str,
        len: usize,
        epsilon: f32,
    ) -> Result<ValueId, ImportError> {
        let [weight, bias] = ["weight", "bias"].map(|part| format!("{name}.{part}"));
        let scale = self.vector(&weight, len)?;
        let scale = self.constant(&weight, Array::f32(&[len], &scale));
        let shift = self.vector(&bias, len)?;
        let shift = self.constant(&bias, Array::f32(&[len], &shift));
        Ok(self.op(name, Op::LayerNorm { axis: -1, epsilon }, &[Some(x), Some(scale), Some(shift)]))
    }

    /// `act(x wᵀ + bias + residual)`.
    ///
    /// Where groups of columns have minima, `w = codes + minima`, the minima alike in a group: their product is that of the sums of
    /// `x` over each group.
    pub fn linear(&mut self, x: ValueId, of: &Linear<'_>) -> Result<ValueId, ImportError> {
        let &Linear { name, part_of, n, k, rows, residual, act } = of;
        let tensors = part_of.unwrap_or(name);
        let (weight, tensor) = (format!("{name}.weight"), format!("{tensors}.weight"));
        let (codes, minima) = self.parts((&weight, &tensor), rows, [n, k], true)?;
        let bias = format!("{tensors}.bias");
        let bias = match self.has(&bias) {
            true => {
                let values = self.vector(&bias, rows.all(n))?;
                let values: Vec<f32> = (0..n).map(|r| values[rows.of(r)]).collect();
                Some(self.constant(&format!("{name}.bias"), Array::f32(&[n], &values)))
            }
            false => None,
        };
        let product = |act| Op::Linear { out_features: n, act, act_after_residual: true };
        let Some((minima, group)) = minima else {
            return Ok(self.op(name, product(act), &[Some(x), Some(codes), None, bias, residual]));
        };
        let sums = self.sums(x, k, group);
        let of_codes = format!("{name}/codes");
        let y = self.op(&of_codes, product(Act::None), &[Some(x), Some(codes), None, bias, residual]);
        Ok(self.op(name, product(act), &[Some(sums), Some(minima), None, None, Some(y)]))
    }

    /// `[1, tokens, k / group]`: the sum of each group of columns.
    fn sums(&mut self, x: ValueId, k: usize, group: usize) -> ValueId {
        if let Some(sums) = self.sums.get(&(x, group)) {
            return *sums;
        }
        let name = format!("{}/sums", self.graph.name(x));
        let by_groups = self.reshape(&format!("{name}/groups"), x, &[0, 0, (k / group) as i64, group as i64]);
        let op = Op::Reduce { kind: ReduceOp::Sum, axes: vec![-1], keep_dims: false };
        let sums = self.op(&name, op, &[Some(by_groups)]);
        self.sums.insert((x, group), sums);
        sums
    }

    /// Rows of a matrix: `k` columns behind the dimensions of `ids`, which are two.
    pub fn look_up(
        &mut self,
        name: &str,
        ids: ValueId,
        tensor: &str,
        [n, k]: [usize; 2],
    ) -> Result<ValueId, ImportError> {
        let (codes, minima) = self.parts((tensor, tensor), Rows::Same, [n, k], false)?;
        let gather = Op::Gather { axis: 0 };
        let rows = self.op(name, gather.clone(), &[Some(codes), Some(ids)]);
        let Some((minima, group)) = minima else { return Ok(rows) };
        let part = |part: &str| format!("{name}/{part}");
        let minima = self.op(&part("minima"), gather, &[Some(minima), Some(ids)]);
        let groups = (k / group) as i64;
        let rows = self.reshape(&part("groups"), rows, &[0, 0, groups, group as i64]);
        let minima = self.reshape(&part("minima/groups"), minima, &[0, 0, groups, 1]);
        let whole = self.binary(&part("sum"), BinaryOp::Add, rows, minima);
        Ok(self.reshape(&part("whole"), whole, &[0, 0, k as i64]))
    }

    // ---- ports -----------------------------------------------------------------------------------------------

    /// What a run of a decoder is given.
    pub fn inputs(&mut self) -> Inputs {
        let named = |name: &str| Dim::Named(name.into());
        let ids = self.input("input_ids", vec![Dim::Fixed(1), named(TOKENS)]);
        let past = self.input("past", vec![Dim::Fixed(1)]);
        let wanted = self.input("wanted", vec![named(WANTED)]);
        Inputs { ids, past, wanted }
    }

    /// An input of integers, `[batch, tokens]`.
    pub fn texts(&mut self, name: &str) -> ValueId {
        self.input(name, vec![Dim::Named(BATCH.into()), Dim::Named(TOKENS.into())])
    }

    fn input(&mut self, name: &str, dims: Vec<Dim>) -> ValueId {
        let value = self.graph.add_value(name, Source::Computed);
        self.graph.inputs.push(Port { value, dtype: DType::I64, dims: Some(dims), plan_time: false });
        value
    }

    /// A result `[batch, columns]`, or `[batch, tokens, columns]` where it has `by_tokens`.
    pub fn result(&mut self, name: &str, value: ValueId, by_tokens: bool, columns: usize) {
        self.graph.values[value as usize].name = name.into();
        let mut dims = vec![Dim::Named(BATCH.into()), Dim::Fixed(columns)];
        if by_tokens {
            dims.insert(1, Dim::Named(TOKENS.into()));
        }
        self.graph.outputs.push(Port { value, dtype: DType::F32, dims: Some(dims), plan_time: false });
    }

    /// Keys or values that are kept of each token: `heads` times `depth` numbers.
    pub fn cache(&mut self, name: &str, heads: usize, depth: usize) -> ValueId {
        let value = self.graph.add_value(name, Source::Computed);
        self.caches.push(Cache { value, heads, depth });
        value
    }

    /// Of `[1, tokens, columns]` what belongs to the tokens whose logits are wanted.
    pub fn wanted(&mut self, x: ValueId, inputs: Inputs) -> ValueId {
        self.op("wanted/rows", Op::Gather { axis: 1 }, &[Some(x), Some(inputs.wanted)])
    }

    /// The logits: `[1, wanted, vocabulary]`.
    ///
    /// # Errors
    /// When the file does not say how many tokens the model was made for.
    pub fn output(&mut self, logits: ValueId, vocabulary: usize) -> Result<(), ImportError> {
        self.graph.values[logits as usize].name = "logits".into();
        let dims = Some(vec![Dim::Fixed(1), Dim::Named(WANTED.into()), Dim::Fixed(vocabulary)]);
        self.graph.outputs.push(Port { value: logits, dtype: DType::F32, dims, plan_time: false });
        let longest = self.needed("context_length")?;
        let caches = std::mem::take(&mut self.caches);
        // The order of `Layers::inputs`.
        let decoding = Decoding { ids: 0, past: 1, wanted: 2, logits: 0, longest, caches };
        self.graph.decoding = Some(Box::new(decoding));
        Ok(())
    }
}
