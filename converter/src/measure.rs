//! Running candidates in the real runtime and comparing what they answer.

use crate::board::Board;
use crate::draft::to_f32;
use crate::error::ConvertError;
use crate::journal::Journal;
use crate::samples::Sample;
use edge_runtime::device::Device;
use edge_runtime::graph::{DType, ValueId};
use edge_runtime::pack::Rung;
use edge_runtime::plan::{Plan, PlanOptions};
use edge_runtime::{Model, Session};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Runs that a latency is the median of.
pub const RUNS: usize = 7;

/// The outputs of one run, as floats, in the graph's order.
pub type Outputs = Vec<Vec<f32>>;

/// How a rung holds a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Held {
    /// As floats.
    F32,
    /// As codes of 8 bits.
    I8,
}

/// Runs rungs on samples.
///
/// What it measures it keeps in its journal, and what is there it does not measure again.
pub struct Evaluator<'a> {
    device: Arc<Device>,
    stop: &'a AtomicBool,
    journal: Journal,
    board: Option<Arc<Board>>,
}

impl<'a> Evaluator<'a> {
    /// An evaluator on this machine, until `stop` is set. Conversion is not bound by a budget.
    ///
    /// # Errors
    /// When the machine refuses threads.
    pub fn new(stop: &'a AtomicBool) -> Result<Evaluator<'a>, ConvertError> {
        let device = Device::builder().budget(Some(u64::MAX / 2)).build()?;
        Ok(Evaluator { device, stop, journal: Journal::default(), board: None })
    }

    /// With another journal than one in memory.
    pub fn keeping(self, journal: Journal) -> Evaluator<'a> {
        Evaluator { journal, ..self }
    }

    /// With times of another device, where there is a profile of it.
    pub fn timed_on(self, board: Option<Arc<Board>>) -> Evaluator<'a> {
        Evaluator { board, ..self }
    }

    /// The device that times are of, where it is not this one.
    pub fn board(&self) -> Option<&Board> {
        self.board.as_deref()
    }

    /// What was measured so far.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The machine as this evaluator uses it.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Where every run begins, so that an interrupt waits for one run at most.
    pub(crate) fn go_on(&self) -> Result<(), ConvertError> {
        if self.stop.load(Ordering::Relaxed) { Err(ConvertError::Interrupted) } else { Ok(()) }
    }

    /// The outputs of a rung for each sample.
    ///
    /// # Errors
    /// When a sample does not suit the model, or `stop` is set.
    pub fn run(
        &self,
        model: &Arc<Model>,
        rung: &Rung,
        samples: &[Sample],
    ) -> Result<Vec<Outputs>, ConvertError> {
        let mut session: Option<(Vec<Vec<usize>>, Session)> = None;
        let mut all = Vec::with_capacity(samples.len());
        for sample in samples {
            self.go_on()?;
            let dims: Vec<Vec<usize>> = sample.inputs.iter().map(|a| a.dims.clone()).collect();
            let plan_time = model.graph(rung).inputs.iter().any(|p| p.plan_time);
            if plan_time || session.as_ref().is_none_or(|(planned, _)| *planned != dims) {
                session = Some((dims, Session::new(&self.device, model, rung, &sample.specs())?));
            }
            let Some((_, session)) = &mut session else { continue };
            for (i, input) in sample.inputs.iter().enumerate() {
                session.set_input(i, &input.data)?;
            }
            session.run()?;
            all.push(
                (0..session.plan().outputs.len())
                    .map(|i| {
                        let (operand, bytes) = session.output(i);
                        to_f32(operand.dtype, bytes)
                    })
                    .collect(),
            );
        }
        Ok(all)
    }

    /// Calls `see` with every value that a run of each sample computes as floats.
    ///
    /// # Errors
    /// As [`Evaluator::run`].
    pub fn observe(
        &self,
        model: &Arc<Model>,
        rung: &Rung,
        samples: &[Sample],
        mut see: impl FnMut(ValueId, &[f32]),
    ) -> Result<(), ConvertError> {
        self.observe_all(model, rung, samples, |value, held, x| {
            if held == Held::F32 {
                see(value, x);
            }
        })
    }

    /// As [`Evaluator::observe`], values that are held as integer codes too.
    ///
    /// # Errors
    /// As [`Evaluator::run`].
    pub fn observe_all(
        &self,
        model: &Arc<Model>,
        rung: &Rung,
        samples: &[Sample],
        mut see: impl FnMut(ValueId, Held, &[f32]),
    ) -> Result<(), ConvertError> {
        for sample in samples {
            self.keep(model, rung, sample, |session| {
                for (value, operand, bytes) in session.values() {
                    match (operand.dtype, operand.quant) {
                        (DType::F32, _) => see(value, Held::F32, &to_f32(operand.dtype, bytes)),
                        (DType::I8, Some(quant)) => {
                            let real = |code: f32| (code - quant.zero_point as f32) * quant.scale;
                            let reals: Vec<f32> = to_f32(DType::I8, bytes).into_iter().map(real).collect();
                            see(value, Held::I8, &reals);
                        }
                        _ => {}
                    }
                }
            })?;
        }
        Ok(())
    }

    /// Runs a sample and calls `see` with the session, which holds every value.
    ///
    /// # Errors
    /// As [`Evaluator::run`].
    pub fn keep(
        &self,
        model: &Arc<Model>,
        rung: &Rung,
        sample: &Sample,
        see: impl FnOnce(&Session),
    ) -> Result<(), ConvertError> {
        self.go_on()?;
        let threads = self.device.pool().threads();
        let options = PlanOptions { threads, keep_values: true, ..PlanOptions::default() };
        let plan = Plan::new(model, rung, &sample.specs(), &options)?;
        let mut session = Session::with_plan(&self.device, model, rung, plan)?;
        for (i, input) in sample.inputs.iter().enumerate() {
            session.set_input(i, &input.data)?;
        }
        session.run()?;
        see(&session);
        Ok(())
    }

    /// Shapes of the outputs for a sample.
    ///
    /// # Errors
    /// When the sample does not suit the model.
    pub fn output_dims(
        &self,
        model: &Arc<Model>,
        rung: &Rung,
        sample: &Sample,
    ) -> Result<Vec<Vec<usize>>, ConvertError> {
        let plan = Plan::new(model, rung, &sample.specs(), &PlanOptions::default())?;
        Ok(plan.outputs.iter().map(|output| output.dims.clone()).collect())
    }

    /// The median time of some runs of a sample; of another device, what is expected of it.
    ///
    /// # Errors
    /// As [`Evaluator::run`].
    pub fn latency(
        &self,
        model: &Arc<Model>,
        rung: &Rung,
        sample: &Sample,
    ) -> Result<Duration, ConvertError> {
        if let Some(board) = &self.board {
            self.go_on()?;
            return Ok(board.time(&Plan::new(model, rung, &sample.specs(), &board.options())?));
        }
        let mut session = Session::new(&self.device, model, rung, &sample.specs())?;
        let mut times = Vec::with_capacity(RUNS);
        for _ in 0..=RUNS {
            self.go_on()?;
            for (i, input) in sample.inputs.iter().enumerate() {
                session.set_input(i, &input.data)?;
            }
            let start = Instant::now();
            session.run()?;
            times.push(start.elapsed());
        }
        // The first one brings code and weights.
        times.remove(0);
        times.sort_unstable();
        Ok(times[RUNS / 2])
    }

    /// Bytes of the arena that a rung needs for a sample with one thread.
    ///
    /// # Errors
    /// When the sample does not suit the model.
    pub fn arena(&self, model: &Arc<Model>, rung: &Rung, sample: &Sample) -> Result<u64, ConvertError> {
        let plan = Plan::new(model, rung, &sample.specs(), &PlanOptions::default())?;
        Ok(plan.memory() as u64)
    }
}

/// Noise power over signal power of each output over all samples together, averaged over outputs; 0 is perfect, 1
/// is no information.
///
/// The signal of an output is taken about its mean, so that a large constant does not hide the error; over all
/// samples, so that an output of one element has a signal at all.
pub fn distortion(want: &[Outputs], got: &[Outputs]) -> f64 {
    let outputs = want.iter().map(Vec::len).max().unwrap_or(0);
    let (mut total, mut count) = (0.0, 0usize);
    for i in 0..outputs {
        let pairs = || want.iter().zip(got).filter_map(move |(w, g)| Some((w.get(i)?, g.get(i)?)));
        let n: usize = pairs().map(|(w, _)| w.len()).sum();
        if n == 0 {
            continue;
        }
        let mean = pairs().flat_map(|(w, _)| w).map(|x| f64::from(*x)).sum::<f64>() / n as f64;
        let signal: f64 = pairs().flat_map(|(w, _)| w).map(|x| (f64::from(*x) - mean).powi(2)).sum();
        let errors = pairs().flat_map(|(w, g)| w.iter().zip(g));
        let noise: f64 = errors.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
        total += noise_ratio(noise, signal, n);
        count += 1;
    }
    if count == 0 { 0.0 } else { total / count as f64 }
}

/// Noise power over signal power of `n` elements, both summed; a million where a result is not finite.
pub fn noise_ratio(noise: f64, signal: f64, n: usize) -> f64 {
    let ratio = noise / signal.max(1e-12 * n as f64);
    if ratio.is_finite() { ratio } else { 1e6 }
}

/// Squared error of a sample's outputs, summed.
pub fn noise(want: &Outputs, got: &Outputs) -> f64 {
    let errors = want.iter().zip(got).flat_map(|(w, g)| w.iter().zip(g));
    errors.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// Mean divergence of the distributions that logits stand for, `width` of them each, from those of `want`: `sum p (ln p - ln q)`, in nats
/// (Kullback and Leibler, 1951). A million where a logit is not finite.
pub fn divergence(want: &[Outputs], got: &[Outputs], width: usize) -> f64 {
    let rows: Vec<(&[f32], &[f32])> = want
        .iter()
        .zip(got)
        .filter_map(|(want, got)| want.first().zip(got.first()))
        .flat_map(|(want, got)| want.chunks_exact(width.max(1)).zip(got.chunks_exact(width.max(1))))
        .collect();
    let of = |&(want, got): &(&[f32], &[f32])| {
        let (top, sum) = softmax(want);
        let (other_top, other_sum) = softmax(got);
        let apart = (f64::from(other_top) + other_sum.ln()) - (f64::from(top) + sum.ln());
        let each = |(a, b): (&f32, &f32)| f64::from((a - top).exp()) * f64::from(a - b);
        want.iter().zip(got).map(each).sum::<f64>() / sum + apart
    };
    let total: f64 = over_threads(&rows, of).into_iter().sum();
    let mean = total / rows.len().max(1) as f64;
    if mean.is_finite() { mean.max(0.0) } else { 1e6 }
}

/// Negative log-likelihoods of tokens by the softmax of the logits before each, `width` of them, in nats.
pub fn likelihoods(logits: &[f32], width: usize, tokens: &[u32]) -> Vec<f64> {
    let rows: Vec<(&[f32], u32)> = logits.chunks_exact(width.max(1)).zip(tokens.iter().copied()).collect();
    over_threads(&rows, |&(logits, token)| {
        let (top, sum) = softmax(logits);
        sum.ln() - f64::from(logits.get(token as usize).copied().unwrap_or(f32::NAN) - top)
    })
}

/// The largest of some logits, and the sum of the exponentials of all above it.
fn softmax(logits: &[f32]) -> (f32, f64) {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (top, logits.iter().map(|logit| f64::from((logit - top).exp())).sum())
}

/// A number of each item, in order, made by all threads that there are.
fn over_threads<T: Sync>(items: &[T], of: impl Fn(&T) -> f64 + Sync) -> Vec<f64> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut made = vec![0.0; items.len()];
    let size = items.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        for (items, made) in items.chunks(size).zip(made.chunks_mut(size)) {
            let of = &of;
            scope.spawn(move || items.iter().zip(made).for_each(|(item, made)| *made = of(item)));
        }
    });
    made
}

/// The share of samples whose greatest element of the first output is the labelled one, in percent.
pub fn top1(got: &[Outputs], labels: &[usize]) -> f64 {
    let right = got.iter().zip(labels).filter(|(outputs, label)| {
        let Some(first) = outputs.first() else { return false };
        let greatest = (0..first.len()).max_by(|a, b| first[*a].total_cmp(&first[*b]));
        greatest == Some(**label)
    });
    100.0 * right.count() as f64 / labels.len().max(1) as f64
}

/// How well samples are labelled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Labelled {
    /// See [`top1`].
    pub top1: f64,
    /// See [`likelihood`].
    pub likelihood: f64,
}

/// The least logarithm of a likelihood that counts: one sample that is wrong beyond doubt does not outweigh all others.
const SURELY_WRONG: f64 = -10.0;

/// The logarithm of what the softmax of some logits gives one of them; minus infinity where there is none of that index.
pub fn log_softmax(logits: &[f32], index: usize) -> f64 {
    let most = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|v| f64::from(v - most).exp()).sum();
    logits.get(index).map_or(f64::NEG_INFINITY, |v| f64::from(v - most) - sum.ln())
}

/// The mean logarithm of the likelihood that the first output gives the labels: its softmax, or itself where its elements are likelihoods.
pub fn likelihood(got: &[Outputs], labels: &[usize]) -> f64 {
    let of = |(outputs, label): (&Outputs, &usize)| {
        let Some(first) = outputs.first() else { return SURELY_WRONG };
        let Some(own) = first.get(*label).map(|v| f64::from(*v)) else { return SURELY_WRONG };
        let sum: f64 = first.iter().map(|v| f64::from(*v)).sum();
        let log = if first.iter().all(|v| *v >= 0.0) && (sum - 1.0).abs() < 1e-3 {
            own.ln()
        } else {
            log_softmax(first, *label)
        };
        if log.is_finite() { log.max(SURELY_WRONG) } else { SURELY_WRONG }
    };
    got.iter().zip(labels).map(of).sum::<f64>() / labels.len().max(1) as f64
}

/// Shares of right labels of several measurements on the same samples, smoothed: who finds the labels likelier is not called worse for some samples
/// more that fell on the wrong side. Isotonic regression on the likelihood (pool adjacent violators; Barlow et al. 1972), and between equal ones a
/// thousandth of a point a rank.
pub fn smoothed(measured: &[Labelled]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..measured.len()).collect();
    order.sort_by(|a, b| measured[*a].likelihood.total_cmp(&measured[*b].likelihood));
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for &i in &order {
        let mut pool = (measured[i].top1, 1);
        while let Some((sum, count)) = pools.last().copied()
            && sum / count as f64 >= pool.0 / pool.1 as f64
        {
            pools.pop();
            pool = (pool.0 + sum, pool.1 + count);
        }
        pools.push(pool);
    }
    let mut values = vec![0.0; measured.len()];
    let means = pools.iter().flat_map(|(sum, count)| std::iter::repeat_n(sum / *count as f64, *count));
    for (rank, (i, mean)) in order.into_iter().zip(means).enumerate() {
        let likelier = rank as f64 - (measured.len() as f64 - 1.0) / 2.0;
        values[i] = (mean + 1e-3 * likelier).clamp(0.0, 100.0);
    }
    values
}

/// A distortion as a signal-to-quantization-noise ratio in dB, at most 200.
pub fn sqnr_db(distortion: f64) -> f64 {
    (-10.0 * distortion.max(1e-20).log10()).min(200.0)
}

#[cfg(test)]
mod tests {
    use super::{Labelled, distortion, divergence, likelihood, likelihoods, smoothed, sqnr_db, top1};

    #[test]
    fn labels_that_are_likelier_are_not_called_worse() {
        let of = |top1: f64, likelihood: f64| Labelled { top1, likelihood };
        // The last but one had luck; the two in the middle pool with it.
        let found = smoothed(&[of(93.0, -0.20), of(93.5, -0.35), of(92.5, -0.30), of(80.0, -0.9)]);
        for (got, want) in found.iter().zip([93.0, 93.0, 93.0, 80.0]) {
            assert!((got - want).abs() < 0.01, "{found:?}");
        }
        assert!(found[0] > found[2] && found[2] > found[1] && found[1] > found[3], "{found:?}");
        let apart = smoothed(&[of(90.0, -0.4), of(95.0, -0.2)]);
        assert!((apart[0] - 90.0).abs() < 0.01 && (apart[1] - 95.0).abs() < 0.01, "{apart:?}");
        assert!(smoothed(&[]).is_empty());
    }

    #[test]
    fn a_likelihood_is_that_of_the_softmax() {
        let logits = [vec![vec![1.0f32.ln(), 3.0f32.ln()]], vec![vec![5.0 + 1.0f32.ln(), 5.0 + 1.0f32.ln()]]];
        let want = (0.75f64.ln() + 0.5f64.ln()) / 2.0;
        assert!((likelihood(&logits, &[1, 0]) - want).abs() < 1e-6);
        let shares = [vec![vec![0.25f32, 0.75]], vec![vec![0.5, 0.5]]];
        assert!((likelihood(&shares, &[1, 0]) - want).abs() < 1e-6);
        assert_eq!(top1(&shares, &[1, 0]), 50.0);
        // No number, no label of that index, surely wrong: each counts ten.
        let odd = [vec![vec![f32::NAN, 0.0]], vec![vec![0.0]], vec![vec![0.0, 1e6]]];
        assert_eq!(likelihood(&odd, &[0, 3, 0]), -10.0);
    }

    #[test]
    fn divergences_and_likelihoods_are_those_of_the_formula() {
        // Two tokens of three: p = 1/4 1/4 1/2 and 1/3 1/3 1/3, q = 1/2 1/4 1/4 and the same.
        let want: Vec<f32> = [0.25f32, 0.25, 0.5, 1.0, 1.0, 1.0].map(f32::ln).to_vec();
        let got: Vec<f32> = [0.5f32, 0.25, 0.25, 2.0, 2.0, 2.0].map(|q| q.ln() + 5.0).to_vec();
        let nats = (0.25 * 0.5f64.ln() + 0.5 * 2.0f64.ln()) / 2.0;
        let (want, got) = ([vec![want]], [vec![got]]);
        assert!((divergence(&want, &got, 3) - nats).abs() < 1e-6);
        assert!(divergence(&want, &want, 3) < 1e-7);
        assert!(divergence(&want, &[vec![vec![f32::NAN; 6]]], 3) > 1e5);
        let found = likelihoods(&got[0][0], 3, &[2, 0]);
        assert!((found[0] - 4.0f64.ln()).abs() < 1e-6 && (found[1] - 3.0f64.ln()).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn a_tenth_of_the_amplitude_in_noise_is_20_db() {
        let want = vec![vec![vec![1.0, -1.0, 1.0, -1.0]]];
        let got = vec![vec![vec![1.1, -1.1, 0.9, -0.9]]];
        assert!((sqnr_db(distortion(&want, &got)) - 20.0).abs() < 1e-3);
        assert!(sqnr_db(distortion(&want, &want)) >= 199.0);
    }

    #[test]
    fn nan_is_a_large_distortion_not_a_small_one() {
        let want = vec![vec![vec![1.0, -1.0]]];
        assert!(distortion(&want, &[vec![vec![f32::NAN, 0.0]]]) > 1.0);
    }
}
