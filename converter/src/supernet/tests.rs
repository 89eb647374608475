//! Subnets cut from one store, against what the authors' package computes of the same choices (`tests/reference/ofa`).

use super::making::Making;
use super::source::Saved;
use super::store::{self, Precision};
use crate::convert::Options;
use crate::draft::plain_rung;
use crate::import::ofa::tests::{apart, logits_of, sampled};
use crate::measure::Evaluator;
use edge_runtime::device::Device;
use edge_runtime::pack::{Acts, Choice, Take};
use std::sync::atomic::AtomicBool;

fn matches(net: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (path, subnets) = sampled(net, dir.path());
    let stop = AtomicBool::new(false);
    let evaluator = Evaluator::new(&stop).unwrap();
    let saved = Saved::open(&path, &Options::default()).unwrap();
    let family = Making { supernet: &saved, evaluator: &evaluator, keep_ones: false }.family().unwrap();
    let mut draft = store::draft(&family, Precision::Exact).unwrap();
    let mut rung = plain_rung("exact", 0, Acts::F32);
    rung.takes = vec![Some(Take(0, 0)); draft.header.tensors.len()];
    draft.header.rungs.push(rung.clone());
    let (model, device) = (draft.open(), Device::builder().budget(Some(u64::MAX / 2)).build().unwrap());
    let mut worst = 0f32;
    for (i, (resolution, config, want)) in subnets.iter().enumerate() {
        let choice = Choice::new(&saved.options(config)).unwrap();
        let cut = model.subnet(0, &choice, Some(&rung)).unwrap();
        let error = apart(&logits_of(&device, &model, &cut.rungs[0], *resolution), want);
        // As of the subnet that is imported alone (import/ofa/tests.rs).
        assert!(error <= 1e-4, "{net} {i}: {error} of the range");
        worst = worst.max(error);
    }
    println!("{net}: {} subnets of one store, at most {worst:e} of the range apart", subnets.len());
}

#[test]
fn subnets_of_mobilenet_v3_are_cut_from_one_store() {
    matches("mobilenet-v3");
}

#[test]
fn subnets_of_proxyless_nas_are_cut_from_one_store() {
    matches("proxyless");
}

#[test]
fn subnets_of_resnet50_are_cut_from_one_store() {
    matches("resnet50");
}
