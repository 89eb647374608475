//! A slow interpreter in f64, to compare a graph with what it is simplified to. Integers are f64 too.

mod spatial;

use crate::model::{Array, Model};
use crate::simplify::sizes::{axes, axis};
use edge_runtime::graph::{Act, BinaryOp, Block, DType, Node, Op, ReduceOp, UnaryOp, ValueId};
use spatial::{conv, conv_transpose, pool};
use std::collections::HashMap;

#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub dims: Vec<usize>,
    pub data: Vec<f64>,
}

impl Tensor {
    fn of(array: &Array) -> Tensor {
        let data = match array.dtype {
            DType::F32 => array.as_f32().unwrap().into_iter().map(f64::from).collect(),
            DType::I8 => array.data.iter().map(|b| f64::from(*b as i8)).collect(),
            DType::Bool => array.data.iter().map(|b| f64::from(*b)).collect(),
            _ => array.as_i64().unwrap().into_iter().map(|v| v as f64).collect(),
        };
        Tensor { dims: array.dims.clone(), data }
    }

    fn from_fn(dims: &[usize], mut f: impl FnMut(&[usize]) -> f64) -> Tensor {
        let mut index = vec![0; dims.len()];
        let count: usize = dims.iter().product();
        let mut data = Vec::with_capacity(count);
        for _ in 0..count {
            data.push(f(&index));
            for i in (0..dims.len()).rev() {
                index[i] += 1;
                if index[i] < dims[i] {
                    break;
                }
                index[i] = 0;
            }
        }
        Tensor { dims: dims.to_vec(), data }
    }

    fn offset(&self, index: &[usize]) -> usize {
        index.iter().zip(&self.dims).fold(0, |o, (i, d)| o * d + i)
    }

    fn at(&self, index: &[usize]) -> f64 {
        self.data[self.offset(index)]
    }

    /// The element that broadcasts to `index`.
    fn broadcast(&self, index: &[usize]) -> f64 {
        let lead = index.len() - self.dims.len();
        let own: Vec<usize> =
            self.dims.iter().zip(&index[lead..]).map(|(d, i)| if *d == 1 { 0 } else { *i }).collect();
        self.at(&own)
    }

    fn ints(&self) -> Vec<i64> {
        self.data.iter().map(|v| *v as i64).collect()
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Tensor {
        Tensor { dims: self.dims.clone(), data: self.data.iter().map(|v| f(*v)).collect() }
    }
}

/// The outputs for these inputs.
pub fn run(model: &Model, inputs: &[Tensor]) -> Vec<Tensor> {
    let values = run_all(model, inputs);
    model.graph.outputs.iter().map(|port| values[&port.value].clone()).collect()
}

/// Every value for these inputs.
pub fn run_all(model: &Model, inputs: &[Tensor]) -> HashMap<ValueId, Tensor> {
    let mut values: HashMap<ValueId, Tensor> = HashMap::new();
    for id in 0..model.graph.values.len() as ValueId {
        if let Some(array) = model.constant(id) {
            values.insert(id, Tensor::of(array));
        }
    }
    for (port, tensor) in model.graph.inputs.iter().zip(inputs) {
        values.insert(port.value, tensor.clone());
    }
    block(&model.graph.body, &mut values);
    values
}

fn block(body: &Block, values: &mut HashMap<ValueId, Tensor>) {
    for node in &body.nodes {
        let inputs: Vec<Option<Tensor>> = node.inputs.iter().map(|v| v.map(|v| values[&v].clone())).collect();
        let outputs = match &node.op {
            Op::If { then_branch, else_branch } => {
                let taken =
                    if inputs[0].as_ref().unwrap().data[0] != 0.0 { then_branch } else { else_branch };
                block(taken, values);
                taken.outputs.iter().map(|v| values[v].clone()).collect()
            }
            _ => evaluate(node, &inputs),
        };
        for (id, tensor) in node.outputs.iter().zip(outputs) {
            if let Some(id) = id {
                values.insert(*id, tensor);
            }
        }
    }
}

fn evaluate(node: &Node, inputs: &[Option<Tensor>]) -> Vec<Tensor> {
    let get = |i: usize| inputs.get(i).and_then(Option::as_ref);
    let x = get(0).unwrap();
    let rank = x.dims.len();
    vec![match &node.op {
        Op::Identity => x.clone(),
        Op::Cast { to } => {
            if to.is_float() {
                x.clone()
            } else {
                x.map(f64::trunc)
            }
        }
        Op::Expand => {
            let shape: Vec<usize> = get(1).unwrap().ints().iter().map(|n| *n as usize).collect();
            Tensor::from_fn(&broadcast(&x.dims, &shape), |i| x.broadcast(i))
        }
        Op::ConstantOfShape { value, .. } => {
            assert!(value.iter().all(|b| *b == 0));
            Tensor::from_fn(&x.ints().iter().map(|n| *n as usize).collect::<Vec<_>>(), |_| 0.0)
        }
        Op::Range => {
            let (limit, delta) = (get(1).unwrap().data[0], get(2).unwrap().data[0]);
            let count = ((limit - x.data[0]) / delta).ceil().max(0.0) as usize;
            Tensor::from_fn(&[count], |i| x.data[0] + i[0] as f64 * delta)
        }
        Op::Unary(f) => x.map(|v| unary(*f, v)),
        Op::Binary(f) => {
            let y = get(1).unwrap();
            Tensor::from_fn(&broadcast(&x.dims, &y.dims), |i| binary(*f, x.broadcast(i), y.broadcast(i)))
        }
        Op::Where => {
            let (a, b) = (get(1).unwrap(), get(2).unwrap());
            let dims = broadcast(&x.dims, &broadcast(&a.dims, &b.dims));
            Tensor::from_fn(&dims, |i| if x.broadcast(i) != 0.0 { a.broadcast(i) } else { b.broadcast(i) })
        }
        Op::Conv { window, groups, out_channels, act, act_after_residual } => {
            let y = conv(x, get(1).unwrap(), window, *groups, *out_channels);
            finish(y, [2, 3, 4, 5].map(get), *act, *act_after_residual)
        }
        Op::ConvTranspose { window, out_channels, act, .. } => {
            let y = conv_transpose(x, get(1).unwrap(), window, *out_channels);
            finish(y, [None, get(2), None, None], *act, false)
        }
        Op::Linear { act, act_after_residual, .. } => {
            let w = get(1).unwrap();
            let (n, k) = (w.dims[0], w.dims[1]);
            let mut dims = x.dims.clone();
            *dims.last_mut().unwrap() = n;
            let y = Tensor::from_fn(&dims, |i| {
                let mut index = i.to_vec();
                (0..k)
                    .map(|c| {
                        index[rank - 1] = c;
                        x.at(&index) * w.at(&[i[rank - 1], c])
                    })
                    .sum()
            });
            finish(y, [2, 3, 4, 5].map(get), *act, *act_after_residual)
        }
        Op::MatMul { trans_a, trans_b, alpha } => {
            let flip = |t: &Tensor, flip: bool| {
                let mut perm: Vec<usize> = (0..t.dims.len()).collect();
                if flip {
                    perm.swap(t.dims.len() - 1, t.dims.len() - 2);
                }
                transpose(t, &perm)
            };
            let (a, b) = (flip(x, *trans_a), flip(get(1).unwrap(), *trans_b));
            let (ra, rb) = (a.dims.len(), b.dims.len());
            let mut dims = broadcast(&a.dims[..ra - 2], &b.dims[..rb - 2]);
            dims.extend([a.dims[ra - 2], b.dims[rb - 1]]);
            let k = a.dims[ra - 1];
            let mut wide = (a, b);
            wide.0.dims.splice(0..0, vec![1; dims.len() - ra]);
            wide.1.dims.splice(0..0, vec![1; dims.len() - rb]);
            Tensor::from_fn(&dims, |i| {
                let lead = &i[..i.len() - 2];
                let row = |c: usize| [lead, &[i[i.len() - 2], c]].concat();
                let column = |c: usize| [lead, &[c, i[i.len() - 1]]].concat();
                (0..k).map(|c| wide.0.broadcast(&row(c)) * wide.1.broadcast(&column(c))).sum::<f64>()
                    * f64::from(*alpha)
            })
        }
        Op::Attention { k_transposed, scale } => {
            let one = |op: Op, inputs: &[Option<&Tensor>]| {
                let node = Node { name: String::new(), op, inputs: Vec::new(), outputs: Vec::new() };
                evaluate(&node, &inputs.iter().map(|t| t.cloned()).collect::<Vec<_>>()).remove(0)
            };
            let product = |trans_b, alpha| Op::MatMul { trans_a: false, trans_b, alpha };
            let mut scores = one(product(!k_transposed, *scale), &[Some(x), get(1)]);
            if let Some(mask) = get(3) {
                scores = one(Op::Binary(BinaryOp::Add), &[Some(&scores), Some(mask)]);
            }
            let weights = one(Op::Softmax { axis: -1, log: false }, &[Some(&scores)]);
            one(product(false, 1.0), &[Some(&weights), get(2)])
        }
        Op::Pool { kind, window, ceil_mode: false } => pool(x, *kind, window),
        Op::Transpose { perm } => transpose(x, perm),
        Op::Reshape { .. } => {
            let shape = get(1).unwrap().ints();
            let mut dims: Vec<usize> = shape
                .iter()
                .enumerate()
                .map(|(i, n)| if *n == 0 { x.dims[i] } else { (*n).max(1) as usize })
                .collect();
            if let Some(free) = shape.iter().position(|n| *n == -1) {
                dims[free] = x.data.len() / dims.iter().product::<usize>();
            }
            assert_eq!(
                dims.iter().product::<usize>(),
                x.data.len(),
                "{}: {:?} to {shape:?}",
                node.name,
                x.dims
            );
            Tensor { dims, data: x.data.clone() }
        }
        Op::Squeeze { axes: list } => {
            let at = axes(list, rank).unwrap();
            at.iter().for_each(|a| assert_eq!(x.dims[*a], 1));
            let dims = (0..rank).filter(|i| !at.contains(i)).map(|i| x.dims[i]).collect();
            Tensor { dims, data: x.data.clone() }
        }
        Op::Unsqueeze { axes: list } => {
            let at = axes(list, rank + list.len()).unwrap();
            let mut rest = x.dims.iter();
            let dims = (0..rank + at.len())
                .map(|i| if at.contains(&i) { 1 } else { *rest.next().unwrap() })
                .collect();
            Tensor { dims, data: x.data.clone() }
        }
        Op::Flatten { axis: a } => {
            let at = axis(*a, rank + 1).unwrap();
            let dims = vec![x.dims[..at].iter().product(), x.dims[at..].iter().product()];
            Tensor { dims, data: x.data.clone() }
        }
        Op::Concat { axis: a } => {
            let at = axis(*a, rank).unwrap();
            let parts: Vec<&Tensor> = inputs.iter().map(|t| t.as_ref().unwrap()).collect();
            let mut dims = x.dims.clone();
            dims[at] = parts.iter().map(|p| p.dims[at]).sum();
            Tensor::from_fn(&dims, |i| {
                let mut index = i.to_vec();
                for part in &parts {
                    if index[at] < part.dims[at] {
                        return part.at(&index);
                    }
                    index[at] -= part.dims[at];
                }
                unreachable!("an index within the sum of the parts")
            })
        }
        Op::Slice { axes: list } => {
            let at = axes(list, rank).unwrap();
            let (starts, ends) = (get(1).unwrap().ints(), get(2).unwrap().ints());
            let mut dims = x.dims.clone();
            let mut from = vec![0; rank];
            for (i, &d) in at.iter().enumerate() {
                let n = x.dims[d] as i64;
                let wrap = |v: i64| (if v < 0 { v + n } else { v }).clamp(0, n) as usize;
                from[d] = wrap(starts[i]);
                dims[d] = wrap(ends[i]) - from[d];
            }
            Tensor::from_fn(&dims, |i| x.at(&i.iter().zip(&from).map(|(i, f)| i + f).collect::<Vec<_>>()))
        }
        Op::Split { axis: a } => {
            let at = axis(*a, rank).unwrap();
            let count = node.outputs.len();
            let sizes = match get(1) {
                Some(t) => t.ints().iter().map(|n| *n as usize).collect(),
                None => vec![x.dims[at] / count; count],
            };
            let mut from = 0;
            return sizes
                .into_iter()
                .map(|size| {
                    let mut dims = x.dims.clone();
                    dims[at] = size;
                    let part = Tensor::from_fn(&dims, |i| {
                        let mut index = i.to_vec();
                        index[at] += from;
                        x.at(&index)
                    });
                    from += size;
                    part
                })
                .collect();
        }
        Op::Pad { axes: list, .. } => {
            let at = axes(list, rank).unwrap();
            let pads = get(1).unwrap().ints();
            let mut dims = x.dims.clone();
            let mut before = vec![0i64; rank];
            for (i, &d) in at.iter().enumerate() {
                before[d] = pads[i];
                dims[d] += (pads[i] + pads[i + at.len()]) as usize;
            }
            Tensor::from_fn(&dims, |i| {
                let index: Vec<i64> = i.iter().zip(&before).map(|(i, b)| *i as i64 - b).collect();
                let inside = index.iter().zip(&x.dims).all(|(i, d)| (0..*d as i64).contains(i));
                if inside { x.at(&index.iter().map(|i| *i as usize).collect::<Vec<_>>()) } else { 0.0 }
            })
        }
        Op::Resize { axes: list, .. } => {
            let at = axes(list, rank).unwrap();
            let scales = &get(1).unwrap().data;
            let mut factor = vec![1; rank];
            at.iter().zip(scales).for_each(|(d, s)| factor[*d] = *s as usize);
            let dims: Vec<usize> = x.dims.iter().zip(&factor).map(|(d, f)| d * f).collect();
            Tensor::from_fn(&dims, |i| x.at(&i.iter().zip(&factor).map(|(i, f)| i / f).collect::<Vec<_>>()))
        }
        Op::Reduce { kind, axes: list, keep_dims } => {
            reduce(x, *kind, &axes(list, rank).unwrap(), *keep_dims)
        }
        Op::Softmax { axis: a, log: false } => {
            let at = [axis(*a, rank).unwrap()];
            let max = reduce(x, ReduceOp::Max, &at, true);
            let e = Tensor::from_fn(&x.dims, |i| (x.at(i) - max.broadcast(i)).exp());
            let sum = reduce(&e, ReduceOp::Sum, &at, true);
            Tensor::from_fn(&x.dims, |i| e.at(i) / sum.broadcast(i))
        }
        Op::LayerNorm { axis: a, epsilon } => {
            let at: Vec<usize> = (axis(*a, rank).unwrap()..rank).collect();
            let mean = reduce(x, ReduceOp::Mean, &at, true);
            let d = Tensor::from_fn(&x.dims, |i| x.at(i) - mean.broadcast(i));
            norm(&d, &at, *epsilon, get(1), get(2))
        }
        Op::RmsNorm { axis: a, epsilon } => {
            norm(x, &(axis(*a, rank).unwrap()..rank).collect::<Vec<_>>(), *epsilon, get(1), None)
        }
        Op::Shape { start: 0, end: None } => {
            Tensor { dims: vec![rank], data: x.dims.iter().map(|d| *d as f64).collect() }
        }
        Op::Gather { axis: a } => {
            let at = axis(*a, rank).unwrap();
            let indices = get(1).unwrap();
            let dims = [&x.dims[..at], &indices.dims[..], &x.dims[at + 1..]].concat();
            let n = indices.dims.len();
            Tensor::from_fn(&dims, |i| {
                let picked = indices.at(&i[at..at + n]) as i64;
                let picked = if picked < 0 { picked + x.dims[at] as i64 } else { picked };
                x.at(&[&i[..at], &[picked as usize], &i[at + n..]].concat())
            })
        }
        other => panic!("the reference does not know {other:?}"),
    }]
}

fn broadcast(a: &[usize], b: &[usize]) -> Vec<usize> {
    crate::simplify::eval::broadcast_dims(a, b)
        .unwrap_or_else(|| panic!("{a:?} does not broadcast with {b:?}"))
}

fn transpose(x: &Tensor, perm: &[usize]) -> Tensor {
    let perm: Vec<usize> = if perm.is_empty() { (0..x.dims.len()).rev().collect() } else { perm.to_vec() };
    let dims: Vec<usize> = perm.iter().map(|p| x.dims[*p]).collect();
    Tensor::from_fn(&dims, |i| {
        let mut index = vec![0; i.len()];
        perm.iter().zip(i).for_each(|(p, i)| index[*p] = *i);
        x.at(&index)
    })
}

fn finish(y: Tensor, [scale, bias, residual, factor]: [Option<&Tensor>; 4], act: Act, after: bool) -> Tensor {
    let f = |v, c: usize| unary(UnaryOp::Act(act), v) * factor.map_or(1.0, |f| f.data[c]);
    Tensor::from_fn(&y.dims, |i| {
        let c = i[i.len() - 1];
        let v = y.at(i) * scale.map_or(1.0, |s| s.data[c]) + bias.map_or(0.0, |b| b.data[c]);
        let r = residual.map_or(0.0, |r| {
            if r.dims.len() == 1 {
                return r.data[c];
            }
            assert_eq!(r.dims, y.dims, "a residual has the result's shape");
            r.at(i)
        });
        if after { f(v + r, c) } else { f(v, c) + r }
    })
}

fn reduce(x: &Tensor, kind: ReduceOp, at: &[usize], keep: bool) -> Tensor {
    let kept: Vec<usize> =
        x.dims.iter().enumerate().map(|(i, d)| if at.contains(&i) { 1 } else { *d }).collect();
    let count = (x.data.len() / kept.iter().product::<usize>()) as f64;
    let start = if kind == ReduceOp::Max { f64::NEG_INFINITY } else { 0.0 };
    let mut y = Tensor::from_fn(&kept, |_| start);
    Tensor::from_fn(&x.dims, |i| {
        let index: Vec<usize> = i.iter().zip(&kept).map(|(i, k)| if *k == 1 { 0 } else { *i }).collect();
        let slot = y.offset(&index);
        y.data[slot] = match kind {
            ReduceOp::Max => y.data[slot].max(x.at(i)),
            ReduceOp::Mean => y.data[slot] + x.at(i) / count,
            ReduceOp::Sum => y.data[slot] + x.at(i),
            other => panic!("the reference does not know {other:?}"),
        };
        0.0
    });
    if !keep {
        y.dims = (0..kept.len()).filter(|i| !at.contains(i)).map(|i| kept[i]).collect();
    }
    y
}

fn norm(d: &Tensor, at: &[usize], epsilon: f32, scale: Option<&Tensor>, bias: Option<&Tensor>) -> Tensor {
    let square = reduce(&d.map(|v| v * v), ReduceOp::Mean, at, true);
    Tensor::from_fn(&d.dims, |i| {
        let y = d.at(i) / (square.broadcast(i) + f64::from(epsilon)).sqrt();
        y * scale.map_or(1.0, |s| s.broadcast(i)) + bias.map_or(0.0, |b| b.broadcast(i))
    })
}

fn binary(f: BinaryOp, x: f64, y: f64) -> f64 {
    match f {
        BinaryOp::Add => x + y,
        BinaryOp::Sub => x - y,
        BinaryOp::Mul => x * y,
        BinaryOp::Div => x / y,
        BinaryOp::Pow => x.powf(y),
        BinaryOp::Max => x.max(y),
        BinaryOp::Min => x.min(y),
        BinaryOp::Equal => f64::from(x == y),
        other => panic!("the reference does not know {other:?}"),
    }
}

fn unary(f: UnaryOp, x: f64) -> f64 {
    match f {
        UnaryOp::Act(act) => match act {
            Act::None => x,
            Act::Relu => x.max(0.0),
            Act::Clip { lo, hi } => x.max(lo.into()).min(hi.into()),
            Act::LeakyRelu { alpha } => {
                if x < 0.0 {
                    f64::from(alpha) * x
                } else {
                    x
                }
            }
            Act::HardSigmoid { alpha, beta } => (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0),
            Act::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Act::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Act::Silu => x / (1.0 + (-x).exp()),
            Act::Tanh => x.tanh(),
            Act::Gelu => x * (1.0 + erf(x / 2f64.sqrt())) / 2.0,
            Act::GeluTanh => {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                x * (1.0 + u.tanh()) / 2.0
            }
        },
        UnaryOp::Neg => -x,
        UnaryOp::Log => x.ln(),
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Exp => x.exp(),
        UnaryOp::Erf => erf(x),
        UnaryOp::Reciprocal => 1.0 / x,
        UnaryOp::Softplus => x.exp().ln_1p(),
        UnaryOp::Mish => x * x.exp().ln_1p().tanh(),
        other => panic!("the reference does not know {other:?}"),
    }
}

/// The error function by its Taylor series, for the small arguments of the tests.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..80 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}
