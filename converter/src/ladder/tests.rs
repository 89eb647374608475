use super::{
    Choices, FINE, Integer, Kind, Part, Price, Probes, Profile, Rows, Sensitivity, climb, prices, rungs,
    sensitivities,
};
use crate::calibrate::{self, Fold};
use crate::compress::PLANE_BITS;
use crate::convert::{Options, lower};
use crate::draft::{Draft, float_draft, plain_rung};
use crate::error::ConvertError;
use crate::measure::{Evaluator, Outputs};
use crate::model::{Array, Model};
use crate::samples::Sample;
use crate::units::Units;
use edge_runtime::graph::{Act, DType, Dim, Node, Op, Port, Source, ValueId};
use edge_runtime::inputs::NamedArray;
use edge_runtime::pack::{Acts, Rung, Take, Tensor};
use edge_runtime::random::uniform;
use std::sync::atomic::AtomicBool;

/// Sizes of x, h and y.
const SIZES: [usize; 3] = [64, 32, 16];
/// The take of 8 bits.
const INTEGER: usize = 4;
/// What floats cost in place of each tensor's integers.
const PRICES: [Price; 2] = [price(0.4), price(0.1)];
const fn price(floats: f64) -> Price {
    Price { work: 0.0, input: None, rounding: 1.0, floats, column: 0.0, results: 0.0 }
}

/// The value between the two products.
const HIDDEN: ValueId = 3;

/// `y = w1 relu(w0 x)`, with weights by tensor, row and column.
fn model(weight: impl Fn(usize, usize, usize) -> f32) -> Model {
    let mut model = Model::default();
    let x = model.graph.add_value("x", Source::Computed);
    let mut matrix = |which: usize| {
        let (n, k) = (SIZES[which + 1], SIZES[which]);
        let values: Vec<f32> = (0..n * k).map(|i| weight(which, i / k, i % k)).collect();
        model.add_constant(format!("w{which}"), Array::f32(&[n, k], &values))
    };
    let (w0, w1) = (matrix(0), matrix(1));
    let h = model.graph.add_value("h", Source::Computed);
    assert_eq!(h, HIDDEN);
    let y = model.graph.add_value("y", Source::Computed);
    for (x, w, out, act, out_features) in [(x, w0, h, Act::Relu, SIZES[1]), (h, w1, y, Act::None, SIZES[2])] {
        model.graph.body.nodes.push(Node {
            name: model.graph.name(out).to_string(),
            op: Op::Linear { out_features, act, act_after_residual: false },
            inputs: vec![Some(x), Some(w)],
            outputs: vec![Some(out)],
        });
    }
    let port = |value, size| Port {
        value,
        dtype: DType::F32,
        dims: Some(vec![Dim::Fixed(1), Dim::Fixed(size)]),
        plan_time: false,
    };
    model.graph.inputs.push(port(x, SIZES[0]));
    model.graph.outputs.push(port(y, SIZES[2]));
    model
}

fn noise(key: usize, i: usize) -> f32 {
    2.0 * uniform(key as u64, i as u64) - 1.0
}

/// Samples in [0, 1].
fn samples() -> Vec<Sample> {
    let sample = |key: u64| {
        let data = (0..SIZES[0] as u64).flat_map(|i| uniform(100 + key, i).to_le_bytes()).collect();
        let array = NamedArray { name: "x".into(), dtype: DType::F32, dims: vec![1, SIZES[0]], data };
        Sample { inputs: vec![array], label: None }
    };
    (0..6).map(sample).collect()
}

/// The searches here are not stopped.
static NEVER: AtomicBool = AtomicBool::new(false);

/// What a search starts from.
struct Bench {
    evaluator: Evaluator<'static>,
    draft: Draft,
    choices: Choices,
    sensitivity: Sensitivity,
    samples: Vec<Sample>,
    want: Vec<Outputs>,
    elements: Vec<usize>,
    units: Units,
}

impl Bench {
    fn new(model: &Model) -> Bench {
        let evaluator = Evaluator::new(&NEVER).unwrap();
        let samples = samples();
        let float = float_draft(model);
        let (opened, rung) = (float.open(), &float.header.rungs[0]);
        let want = evaluator.run(&opened, rung, &samples).unwrap();
        let ranges = calibrate::ranges(&evaluator, &float, &samples, |_| ()).unwrap();
        let elements = calibrate::elements(&evaluator, &opened, rung, &model.graph, &samples[..1]).unwrap();
        let mut draft = Draft::new(model);
        let (graph, mut choices, _) = lower(&mut draft, model, &Options::default()).unwrap();
        for (value, range) in draft.header.graphs[graph as usize].values.iter_mut().zip(ranges) {
            value.range = range;
        }
        let no_units = Units::default();
        let probes = Probes::new(&samples, &want, &no_units);
        let sensitivity = sensitivities(&evaluator, &draft, graph, &choices, &probes, |_, _| ()).unwrap();
        let units = Units::default();
        choices.add_coded(&mut draft);
        Bench { evaluator, draft, choices, sensitivity, samples, want, elements, units }
    }

    fn integer(&self) -> Integer<'_> {
        let probes = Probes::new(&self.samples, &self.want, &self.units);
        Integer {
            evaluator: &self.evaluator,
            draft: &self.draft,
            graph: 0,
            choices: &self.choices,
            sensitivity: &self.sensitivity,
            probes,
            judges: probes,
            elements: &self.elements,
            prices: &PRICES,
            aim: FINE,
            profile: Profile::integers(&self.choices),
        }
    }
}

/// Row 0 of w0 makes a hidden channel that is always 0; its weights in w1 are 200 times the others of their groups,
/// which leaves those no grid at 8 bits.
fn coarse_tensor() -> Model {
    model(|which, row, col| match (which, row, col) {
        (0, 0, _) => -1.0,
        (1, _, 0) => 100.0,
        _ => 0.5 * noise(which, row * 64 + col),
    })
}

/// Hidden channel 0 is 1000 times the others, and nothing reads it.
fn wide_value() -> Model {
    model(|which, row, col| match (which, row, col) {
        (0, 0, _) => 100.0,
        (1, _, 0) => 0.0,
        _ => 0.5 * noise(which, row * 64 + col),
    })
}

#[test]
fn a_tensor_that_8_bits_cannot_hold_takes_16_and_no_other_does() {
    let bench = Bench::new(&coarse_tensor());
    let mut integer = bench.integer();
    let coarse = integer.cost(Acts::I8).unwrap();
    assert_eq!(integer.worst(|_, _| ()).unwrap().map(|g| g.part), Some(Part::Tensor(1)));
    integer.finer_weights().unwrap();
    assert_eq!(integer.profile.takes, [INTEGER, PLANE_BITS.len()]);
    let fine = integer.cost(Acts::I8).unwrap();
    assert!(fine < coarse / 10.0, "{fine} after {coarse}");
}

#[test]
fn a_value_that_256_levels_cannot_hold_stays_a_float_and_no_other_does() {
    let bench = Bench::new(&wide_value());
    let mut integer = bench.integer();
    // No code is zero: even 8-bit weights of 0 let the wide channel through.
    integer.finer_weights().unwrap();
    let coarse = integer.cost(Acts::I8).unwrap();
    // With the second product on floats, floats into the first one spare the value its i8 form as well.
    assert!(matches!(integer.worst(|_, _| ()).unwrap().map(|g| g.part), Some(Part::Value(_))));
    integer.keep_floats(|_, _| ()).unwrap();
    assert_eq!(integer.profile.floats, [HIDDEN]);
    assert!(integer.cost(Acts::I8).unwrap() < coarse / 10.0);
    assert_eq!(integer.name(Part::Value(HIDDEN)), "h");
}

#[test]
fn refining_takes_what_gains_most_and_leaves_the_rest_as_it_was() {
    let mut bench = Bench::new(&wide_value());
    // Half of this model's elements are beyond the price of refining, so the value is made cheap here.
    bench.elements[HIDDEN as usize] = 0;
    let mut integer = bench.integer();
    let coarse = integer.cost(Acts::I8).unwrap();
    integer.refine(|_, _| ()).unwrap();
    assert_eq!(integer.profile.floats, [HIDDEN]);
    assert!(integer.cost(Acts::I8).unwrap() < coarse / 10.0);
}

#[test]
fn a_good_rung_is_left_alone() {
    let bench = Bench::new(&model(|which, row, col| 0.5 * noise(which, row * 64 + col)));
    let mut integer = bench.integer();
    integer.finer_weights().unwrap();
    assert_eq!(integer.profile.takes, [INTEGER; 2]);
    integer.keep_floats(|_, _| ()).unwrap();
    integer.refine(|_, _| ()).unwrap();
    assert_eq!(integer.profile, Profile::integers(&bench.choices));
}

/// The half of each row of w0 that is 200 times the other makes the same of every hidden channel, which w1 takes away again: what is
/// left is the small half's, and a scale for both leaves that no grid.
fn cancelling() -> Model {
    model(|which, row, col| match (which, col) {
        (0, 32..) => 100.0,
        (0, _) => 0.5 * noise(which, row * 64 + col),
        _ if (col >> (row % 5)) % 2 == 0 => 1.0,
        _ => -1.0,
    })
}

#[test]
fn rows_have_one_scale_where_that_adds_little() {
    let kinds = |draft: &Draft| -> Vec<Vec<String>> {
        let kinds = |tensor: &Tensor| tensor.roots.iter().map(|root| root.kind.clone()).collect();
        draft.header.tensors.iter().map(kinds).collect()
    };
    let mut even = Bench::new(&model(|which, row, col| 0.5 * noise(which, row * 64 + col)));
    let mut search = even.integer();
    assert_eq!(search.one_scale(|_, _| ()).unwrap(), 2);
    let takes = search.rung(Acts::I8).takes;
    assert_eq!(takes, [Some(Take(1, INTEGER as u32)); 2]);
    let all = search.profile;
    let mut uneven = Bench::new(&cancelling());
    // Its 256 levels would lose the small half before the weights do.
    uneven.draft.header.graphs[0].values[HIDDEN as usize].range = None;
    let before = uneven.integer().cost(Acts::I8).unwrap();
    let mut search = uneven.integer();
    assert_eq!(search.one_scale(|_, _| ()).unwrap(), 1);
    assert!(search.cost(Acts::I8).unwrap() <= before);
    let one = search.profile;
    // What all profiles take stands alone, what some take beside the other, what none takes goes.
    let plain = Profile::integers(&even.choices);
    uneven.choices.settle(&mut uneven.draft, std::slice::from_ref(&one));
    assert_eq!(kinds(&uneven.draft), [["planes"], ["row_codes"]]);
    assert_eq!(one.takes(&uneven.draft, &uneven.choices, &[1, 2]), [Some(Take(0, 1)), Some(Take(0, 2))]);
    even.choices.settle(&mut even.draft, &[all.clone(), one, plain]);
    assert_eq!(kinds(&even.draft), [["planes", "row_codes"], ["planes", "row_codes"]]);
    let takes = all.takes(&even.draft, &even.choices, &[1, 2]);
    assert_eq!(takes, [Some(Take(1, 1)), Some(Take(1, 2))]);
    let rung = Rung { takes, floats: vec![HIDDEN], ..plain_rung("r", 0, Acts::I8) };
    let read = Profile::of_rung(&even.choices, &rung);
    assert_eq!(read, Profile { takes: vec![1, 2], floats: vec![HIDDEN], rows: vec![Rows::Any; 2] });
    // Above 8 bits they are floats, or integers made of more bits.
    let mut fine = Profile { takes: vec![INTEGER + 1; 2], ..all };
    fine.rows[0] = Rows::Any;
    let takes = fine.takes(&even.draft, &even.choices, &fine.takes);
    assert_eq!(takes, [Some(Take(1, INTEGER as u32 + 1)), Some(Take(0, INTEGER as u32 + 1))]);
}

#[test]
fn a_model_without_weights_has_no_rows() {
    let mut bench = Bench::new(&model(|which, row, col| 0.5 * noise(which, row * 64 + col)));
    bench.choices.coded = vec![None; 2];
    assert_eq!(bench.integer().one_scale(|_, _| ()).unwrap(), 0);
}

#[test]
fn more_floats_and_more_scales_take_more_time() {
    let bench = Bench::new(&model(|which, row, col| 0.5 * noise(which, row * 64 + col)));
    let prices = prices(&bench.draft, 0, &bench.choices, &bench.elements);
    let plain = Profile::integers(&bench.choices);
    let rows = Profile { rows: vec![Rows::Eight; 2], ..plain.clone() };
    let mut floats = rows.clone();
    floats.hold(HIDDEN, true);
    let fine = Profile { takes: vec![PLANE_BITS.len(), INTEGER], ..rows.clone() };
    let time = |profile: &Profile| profile.time(&bench.choices, &prices);
    assert!((time(&rows) - 1.0).abs() < 1e-9);
    assert!(time(&floats) > 1.0 && time(&fine) > 1.0 && time(&plain) > 1.0);
    // Both products, each of them.
    let sum = time(&floats) + time(&fine);
    assert!((sum - 3.0).abs() < 1e-9, "{sum}");
}

/// By the usual formula: steps `s` add `s^2 / 12` to each element, here of x, which is between its range's ends.
#[test]
fn rounding_a_value_alone_costs_a_twelfth_of_its_step_squared() {
    let mut linear = model(|which, row, col| 0.5 * noise(which, row * 64 + col));
    if let Op::Linear { act, .. } = &mut linear.graph.body.nodes[0].op {
        *act = Act::None;
    }
    let bench = Bench::new(&linear);
    let float = float_draft(&linear);
    let ranges = calibrate::ranges(&bench.evaluator, &float, &bench.samples, |_| ()).unwrap();
    let (lo, hi) = ranges[0].unwrap();
    let probes = Probes::new(&bench.samples, &bench.want, &bench.units);
    let folds = [Fold { probes: (0..bench.samples.len()).collect(), ranges }];
    let cost = calibrate::alone(&bench.evaluator, &float, &[0], &folds, &probes, |_, _| ()).unwrap()[0];
    let weight = |which: usize, row: usize, col: usize| f64::from(0.5 * noise(which, row * 64 + col));
    let product = |n: usize, k: usize| (0..SIZES[1]).map(|h| weight(1, n, h) * weight(0, h, k)).sum::<f64>();
    let gain: f64 = (0..SIZES[2]).flat_map(|n| (0..SIZES[0]).map(move |k| product(n, k).powi(2))).sum();
    let noise = f64::from((hi - lo) / 255.0).powi(2) / 12.0 * gain * bench.samples.len() as f64;
    let outputs: Vec<f64> = bench.want.iter().flat_map(|o| &o[0]).map(|y| f64::from(*y)).collect();
    let mean = outputs.iter().sum::<f64>() / outputs.len() as f64;
    let signal: f64 = outputs.iter().map(|y| (y - mean).powi(2)).sum();
    // Of 96 results' squared errors the mean is within 3 x 14 %.
    let ratio = cost / (noise / signal);
    assert!((0.6..1.6).contains(&ratio), "{ratio}");
}

#[test]
fn the_ladder_passes_through_the_finest_integer_rung_and_nests() {
    let bench = Bench::new(&coarse_tensor());
    let finest = [INTEGER, INTEGER + 1];
    let steps = climb(&bench.draft, &bench.choices, &bench.sensitivity, &[]);
    assert_eq!(steps.last().map(|s| &s.takes[..]), Some(&[PLANE_BITS.len(); 2][..]), "{steps:?}");
    let profile = Profile { takes: finest.to_vec(), ..Profile::integers(&bench.choices) };
    let profiles = [profile];
    let all = rungs(&bench.draft, &bench.choices, &steps, &profiles, false, 0, "");
    let of = |all: &[(Rung, Kind)], acts: Acts| -> Vec<Vec<usize>> {
        let rungs = all.iter().filter(|(rung, _)| rung.acts == acts);
        rungs.map(|(rung, _)| bench.choices.of_rung(rung)).collect()
    };
    let integer = of(&all, Acts::I8);
    assert_eq!(of(&all, Acts::F32).len(), steps.len());
    // Where the model says what its codes are, floats are there only beyond them.
    let given = rungs(&bench.draft, &bench.choices, &steps, &profiles, true, 0, "");
    assert_eq!(of(&given, Acts::I8), integer);
    let beyond = |takes: &Vec<usize>| takes.iter().zip(&finest).any(|(take, most)| take > most);
    assert!(of(&given, Acts::F32).iter().all(beyond));
    assert_eq!(integer.last().map(|takes| &takes[..]), Some(&finest[..]), "{integer:?}");
    assert!(integer.windows(2).all(|pair| pair[0] != pair[1]), "{integer:?}");
    // To sizes: what fits each, and no more.
    let bytes = |takes: &[usize; 2]| bench.choices.bytes(&bench.draft, takes);
    let sizes = [bytes(&[1, 1]) + 100, bytes(&[2, 2]), bytes(&[4, 4])];
    let filled = climb(&bench.draft, &bench.choices, &bench.sensitivity, &sizes);
    for (step, size) in filled[1..].iter().zip(&sizes[1..]) {
        let used = bench.choices.bytes(&bench.draft, &step.takes);
        assert!(used <= *size && used + used / 3 > *size, "{used} of {size}");
    }
    for pair in steps.windows(2).chain(filled.windows(2)) {
        assert!(pair[0].takes.iter().zip(&pair[1].takes).all(|(a, b)| a <= b), "{pair:?}");
    }
}

#[test]
fn an_interrupt_ends_runs_and_observations() {
    static STOPPED: AtomicBool = AtomicBool::new(true);
    let model = wide_value();
    let float = float_draft(&model);
    let (opened, rung) = (float.open(), &float.header.rungs[0]);
    let stopped = Evaluator::new(&STOPPED).unwrap();
    let run = stopped.run(&opened, rung, &samples()).map(drop);
    let ranges = calibrate::ranges(&stopped, &float, &samples(), |_| ()).map(drop);
    for outcome in [run, ranges] {
        assert!(matches!(outcome, Err(ConvertError::Interrupted)), "{outcome:?}");
    }
}
