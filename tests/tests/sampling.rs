//! The sampler against llama.cpp's own chain of samplers (`reference/sampling.py`): the same candidates, in the same order of probability.

use edge_runtime::text::{Sampler, Sampling};
use serde_json::Value;
use std::path::Path;

/// llama.cpp's probabilities are of f32 exponentials of f32 quotients; ours of f64.
const TOLERANCE: f64 = 2e-5;

#[test]
fn candidates_are_those_of_the_reference() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/expected/sampling.json");
    let stored: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let numbers =
        |value: &Value| value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<_>>();
    let cases = stored["cases"].as_array().unwrap();
    assert!(cases.len() >= 36);
    for case in cases {
        let logits = numbers(&stored["logits"][case["logits"].as_u64().unwrap() as usize]);
        let logits: Vec<f32> = logits.into_iter().map(|x| x as f32).collect();
        let real = |name: &str| case[name].as_f64().unwrap() as f32;
        let how = Sampling {
            temperature: real("temperature"),
            top_k: case["top_k"].as_u64().unwrap() as usize,
            top_p: real("top_p"),
            min_p: real("min_p"),
            repeat_penalty: real("repeat_penalty"),
            ..Sampling::default()
        };
        let mut sampler = Sampler::new(how.clone(), logits.len()).unwrap();
        numbers(&case["recent"]).iter().for_each(|id| sampler.accept(*id as u32));
        let mut kept = sampler.candidates(&logits).unwrap().to_vec();
        kept.sort_by(|a, b| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id)));
        let ids: Vec<f64> = kept.iter().map(|c| f64::from(c.id)).collect();
        assert_eq!(ids, numbers(&case["ids"]), "{how:?}");
        let total: f64 = kept.iter().map(|c| f64::from(c.logit).exp()).sum();
        for (candidate, want) in kept.iter().zip(numbers(&case["p"])) {
            let p = f64::from(candidate.logit).exp() / total;
            assert!((p - want).abs() <= TOLERANCE * want + 1e-12, "{how:?}: {p} for {want}");
        }
    }
}
