//! Converted models to move along their ladders, in a process whose memory is measured.

use crate::onnx::Attr::Int;
use crate::onnx::Builder;
use crate::onnx::Dim::N;
use crate::{Folder, convert_in_process, inputs_of, models, open};
use edge_runtime::device::{Device, current_rss};
use edge_runtime::pack::PackFile;
use edge_runtime::plan::InputSpec;
use edge_runtime::select::{Access, SelectError};
use edge_runtime::weights::Registry;
use edge_runtime::{Model, MoveError, Session};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// 10^6 bytes.
pub const MB: u64 = 1_000_000;

/// What a process holds is measured, so nothing else may run in it.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A converted model, and the device to run it on.
pub struct Case {
    /// Where it lies, `m.pack`.
    pub folder: Folder,
    /// The pack.
    pub pack: Arc<PackFile>,
    /// With 64 MB beside what the process holds.
    pub device: Arc<Device>,
    /// For fresh starts at a rung.
    pub model: Arc<Model>,
    /// Seeded noise.
    pub inputs: Vec<(InputSpec, Vec<u8>)>,
}

impl Case {
    /// Converts a model, with exact weights as its last rung.
    pub fn new(label: &str, onnx: &[u8], states: &[(&str, &str)]) -> Case {
        let folder = Folder::new(label);
        let path = folder.file("m.pack");
        convert_in_process(&folder.write("m.onnx", onnx), &path, states);
        let pack = Arc::new(PackFile::open(&path).unwrap());
        let model = open(&path, Registry::standard());
        let inputs = inputs_of(&model, &model.header().rungs[0], 1, 7);
        let device = Device::builder()
            .threads(Some(1))
            .budget(Some(current_rss().unwrap() + 64 * MB))
            .build()
            .unwrap();
        Case { folder, pack, device, model, inputs }
    }

    /// Names and shapes of the inputs.
    pub fn specs(&self) -> Vec<InputSpec> {
        self.inputs.iter().map(|(spec, _)| spec.clone()).collect()
    }

    /// A session at the best rung, mapped.
    pub fn open(&self) -> Session {
        Session::open(&self.device, &self.pack, &self.specs()).unwrap()
    }

    /// Moves a session down, 250 kB at a time, until its rung has at most so many bytes of weights; gives the budget.
    pub fn lower(&self, session: &mut Session, bytes: u64) -> u64 {
        let mut budget = self.device.ledger().budget();
        while self.bytes(session.rung()) > bytes {
            budget -= MB / 4;
            session.resize(budget).unwrap();
        }
        budget
    }

    /// A session at a rung of at most so many bytes of weights, opened with a budget that allows no more.
    pub fn open_below(&self, pack: &Arc<PackFile>, access: Access, bytes: u64) -> Session {
        loop {
            match Session::open_by(&self.device, pack, &self.specs(), access) {
                Ok(session) if self.bytes(session.rung()) <= bytes => return session,
                // The process holds less once a session is gone, and then more again.
                Err(MoveError::Select(SelectError::DoesNotFit { least, .. })) => {
                    self.device.ledger().set_budget(least).unwrap();
                }
                opened => {
                    drop(opened.unwrap());
                    self.device.ledger().set_budget(self.device.ledger().budget() - MB / 4).unwrap();
                }
            }
        }
    }

    /// Bytes of a rung's weights.
    pub fn bytes(&self, rung: &str) -> u64 {
        self.model.header().rungs.iter().find(|r| r.id == rung).unwrap().bytes
    }

    /// The first output of a fresh session at a rung, on another device: its account is its own.
    pub fn fresh(&self, rung: &str, inputs: &[Vec<u8>]) -> Vec<u8> {
        let device = Device::builder().threads(Some(1)).budget(Some(1 << 40)).build().unwrap();
        let rung = self.model.header().rungs.iter().find(|r| r.id == rung).unwrap();
        let mut session = Session::new(&device, &self.model, rung, &self.specs()).unwrap();
        answer(&mut session, inputs)
    }

    /// The inputs' bytes.
    pub fn data(&self) -> Vec<Vec<u8>> {
        self.inputs.iter().map(|(_, data)| data.clone()).collect()
    }
}

/// Sets the inputs, runs, and gives the first output.
pub fn answer(session: &mut Session, inputs: &[Vec<u8>]) -> Vec<u8> {
    for (i, data) in inputs.iter().enumerate() {
        session.set_input(i, data).unwrap();
    }
    session.run().unwrap();
    session.output(0).1.to_vec()
}

/// Its rungs take 0.6 to 8.4 MB.
pub fn wide() -> Case {
    Case::new("resize-wide", &models::deep(8, 512), &[])
}

/// An LSTM of 1.2 million weights whose state stays in the session.
pub fn remembering() -> Case {
    let mut b = Builder::new();
    b.input("x", &[N(1), N(1), N(64)]).input("h", &[N(1), N(1), N(512)]).input("c", &[N(1), N(1), N(512)]);
    b.output("y").output("hn").output("cn");
    b.weight("w", &[1, 2048, 64], 0.1).weight("r", &[1, 2048, 512], 0.04);
    b.node("LSTM", "x w r - - h c", "y hn cn", &[("hidden_size", Int(512))]);
    Case::new("resize-lstm", &b.finish("lstm"), &[("hn", "h"), ("cn", "c")])
}
