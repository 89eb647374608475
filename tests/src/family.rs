//! A pack of a supernet, whose subnets are compared with networks written down for them.

use crate::{Folder, Quiet, convert_in_process, inputs_of, open};
use edge_converter::{Options, convert_supernet};
use edge_runtime::device::Device;
use edge_runtime::pack::{Acts, Choice, Rung, Take};
use edge_runtime::weights::Registry;
use edge_runtime::{Model, Session};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A converted supernet.
pub struct Family {
    folder: Folder,
    /// The opened pack.
    pub model: Arc<Model>,
}

impl Family {
    /// Converts the largest network, an ONNX file, with the description of what is elastic, without samples.
    pub fn convert(name: &str, largest: &[u8], description: &str) -> Family {
        let folder = Folder::new(name);
        let source = folder.write("largest.onnx", largest);
        let toml = folder.write("supernet.toml", description.as_bytes());
        let (pack, stop) = (folder.file("family.pack"), AtomicBool::new(false));
        convert_supernet(&source, &toml, &pack, &Options::default(), &mut Quiet, &stop).unwrap();
        Family { folder, model: open(&pack, Registry::standard()) }
    }

    /// What the subnet of a choice answers with all planes, which are 16 bits, and how far that is from the ONNX network that is written down for
    /// it, of the largest answer.
    pub fn compare(&self, choice: &[usize], network: &[u8]) -> (Vec<f32>, f32) {
        let plain = self.folder.file("alone.pack");
        convert_in_process(&self.folder.write("alone.onnx", network), &plain, &[]);
        let alone = open(&plain, Registry::standard());
        let float = alone.header().rungs.iter().find(|rung| rung.id == "float").unwrap();
        let want = answer(&alone, float);
        let floats = self.model.header().rungs.iter().filter(|rung| rung.acts == Acts::F32);
        let finest = floats.max_by_key(|rung| rung.bytes).unwrap();
        let cut = self.model.subnet(0, &Choice::new(choice).unwrap(), Some(finest)).unwrap();
        let rung = Rung { takes: vec![Some(Take(0, 0)); finest.takes.len()], ..cut.rungs[0].clone() };
        let got = answer(&self.model, &rung);
        assert_eq!(want.len(), got.len());
        let most = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let apart = want.iter().zip(&got).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / most;
        (got, apart)
    }

    /// Tensors of the pack whose names begin so.
    pub fn tensors(&self, name: &str) -> usize {
        self.model.header().tensors.iter().filter(|tensor| tensor.name.starts_with(name)).count()
    }
}

/// The first output of a rung for three seeded samples.
fn answer(model: &Arc<Model>, rung: &Rung) -> Vec<f32> {
    let inputs = inputs_of(model, rung, 3, 5);
    let specs: Vec<_> = inputs.iter().map(|(spec, _)| spec.clone()).collect();
    let device = Device::builder().threads(Some(1)).budget(Some(1 << 30)).build().unwrap();
    let mut session = Session::new(&device, model, rung, &specs).unwrap();
    session.set_input(0, &inputs[0].1).unwrap();
    session.run().unwrap();
    session.output(0).1.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}
