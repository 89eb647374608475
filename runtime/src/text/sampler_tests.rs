//! What needs no reference. Against llama.cpp's own samplers: `tests/tests/sampling.rs`.

use super::*;

fn plain() -> Sampling {
    Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..Sampling::default() }
}

#[test]
fn the_greatest_is_taken_at_temperature_0() {
    let mut sampler = Sampler::new(Sampling { temperature: 0.0, ..plain() }, 4).unwrap();
    assert_eq!(sampler.sample(&[0.0, 2.0, 2.0, f32::NEG_INFINITY]), Ok(1));
    assert_eq!(sampler.sample(&[f32::NEG_INFINITY; 4]), Err(SampleError::Nothing));
    assert_eq!(sampler.sample(&[]), Err(SampleError::Nothing));
    let nan = sampler.sample(&[0.0, f32::NAN]);
    assert!(matches!(nan, Err(SampleError::NotFinite { id: 1, .. })), "{nan:?}");
    assert!(sampler.sample(&[f32::INFINITY]).is_err());
}

#[test]
fn draws_follow_the_softmax() {
    let mut sampler = Sampler::new(Sampling { seed: 5, ..plain() }, 4).unwrap();
    let logits = [0.0f32, 1.0, f32::NEG_INFINITY, 2.0];
    let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
    let draws = 40_000;
    let mut counts = [0u32; 4];
    (0..draws).for_each(|_| counts[sampler.sample(&logits).unwrap() as usize] += 1);
    for (logit, count) in logits.iter().zip(counts) {
        let want = f64::from(*logit).exp() / total;
        // Five standard deviations of so many draws.
        let bound = 5.0 * (want * (1.0 - want) / f64::from(draws)).sqrt();
        assert!((f64::from(count) / f64::from(draws) - want).abs() <= bound, "{counts:?}");
    }
}

#[test]
fn seeds_decide_and_nothing_else() {
    let run = |seed| {
        let mut sampler = Sampler::new(Sampling { seed, ..plain() }, 100).unwrap();
        let logits: Vec<f32> = (0..100).map(|i| (i % 7) as f32 / 3.0).collect();
        (0..50).map(|_| sampler.sample(&logits).unwrap()).collect::<Vec<u32>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn equal_logits_go_by_id() {
    let mut sampler = Sampler::new(Sampling { top_k: 3, ..plain() }, 50).unwrap();
    let kept: Vec<u32> = sampler.candidates(&[1.0; 50]).unwrap().iter().map(|c| c.id).collect();
    assert_eq!(kept, [0, 1, 2]);
    let mut logits = [1.0; 50];
    logits[49] = 2.0;
    let kept: Vec<u32> = sampler.candidates(&logits).unwrap().iter().map(|c| c.id).collect();
    assert_eq!(kept, [49, 0, 1]);
}

#[test]
fn penalties_reach_back_so_far() {
    let how = Sampling { temperature: 0.0, repeat_penalty: 2.0, repeat_last: 2, ..plain() };
    let mut sampler = Sampler::new(how, 3).unwrap();
    let logits = [4.0, 3.0, -1.0];
    let mut said = Vec::new();
    for _ in 0..5 {
        let id = sampler.sample(&logits).unwrap();
        sampler.accept(id);
        said.push(id);
    }
    // 4; then 2 against 3; twice 2 against 1.5; and 2 against 3 again, once the 1 is long past.
    assert_eq!(said, [0, 1, 0, 0, 1]);
    sampler.accept(2);
    sampler.accept(2);
    assert_eq!(sampler.sample(&logits), Ok(0));
}

#[test]
fn nothing_grows_after_the_start() {
    for how in
        [Sampling::default(), Sampling { repeat_penalty: 1.1, ..plain() }, Sampling { top_k: 7, ..plain() }]
    {
        let mut sampler = Sampler::new(how.clone(), 1000).unwrap();
        let before = [sampler.kept.capacity(), sampler.recent.capacity(), sampler.penalised.capacity()];
        for turn in 0..200u32 {
            let logits: Vec<f32> = (0..1000).map(|i| ((i * 37 + turn * 11) % 101) as f32 / 10.0).collect();
            let id = sampler.sample(&logits).unwrap();
            sampler.accept(id);
        }
        assert_eq!(
            before,
            [sampler.kept.capacity(), sampler.recent.capacity(), sampler.penalised.capacity()]
        );
        assert!(before[0] * size_of::<Candidate>() <= how.bytes(1000) + 64, "{how:?}");
    }
}

#[test]
fn options_out_of_range_are_named() {
    for (how, name) in [
        (Sampling { temperature: -1.0, ..plain() }, "temperature"),
        (Sampling { temperature: f32::NAN, ..plain() }, "temperature"),
        (Sampling { temperature: f32::INFINITY, ..plain() }, "temperature"),
        (Sampling { top_p: 1.5, ..plain() }, "top-p"),
        (Sampling { min_p: -0.1, ..plain() }, "min-p"),
        (Sampling { repeat_penalty: 0.0, ..plain() }, "repeat penalty"),
    ] {
        let error = Sampler::new(how, 10).map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with(name), "{error}");
    }
    // Tiny and huge temperatures divide without overflow.
    for temperature in [1e-38, 1e-45, 1e38] {
        let mut sampler = Sampler::new(Sampling { temperature, ..plain() }, 3).unwrap();
        assert!(sampler.sample(&[1.0, 80.0, -80.0]).is_ok());
    }
}
