//! Several models in one process: one account, sessions that take other shapes, bytes that come back.

use edge_runtime::device::Device;
use edge_runtime::pack::PackFile;
use edge_runtime::plan::InputSpec;
use edge_runtime::select::{Member, Request, START_SPREAD, TogetherError, Weighing, choose_together};
use edge_runtime::weights::Registry;
use edge_runtime::{Model, Session, SessionError};
use edge_tests::{Folder, convert_in_process, inputs_of, models, open};
use std::sync::Arc;

/// A stand-in for what the process has, so that the numbers do not depend on the test's own.
const PROCESS: u64 = 1_000_000;

fn device(budget: u64) -> Arc<Device> {
    let device = Device::builder().threads(Some(1)).budget(Some(budget)).build().unwrap();
    device.hold_process(PROCESS.min(budget)).unwrap();
    device
}

struct Packed {
    name: &'static str,
    pack: PackFile,
    model: Arc<Model>,
    inputs: Vec<InputSpec>,
}

impl Packed {
    fn new(folder: &Folder, name: &'static str, onnx: &[u8], batch: usize) -> Packed {
        let path = folder.file(&format!("{name}.pack"));
        convert_in_process(&folder.write(&format!("{name}.onnx"), onnx), &path, &[]);
        let model = open(&path, Registry::standard());
        let inputs = specs(&model, batch);
        Packed { name, pack: PackFile::open(&path).unwrap(), model, inputs }
    }

    fn member(&self) -> Member<'_> {
        Member { name: self.name, model: &self.model, inputs: &self.inputs, request: Request::default() }
    }
}

fn specs(model: &Model, batch: usize) -> Vec<InputSpec> {
    inputs_of(model, &model.header().rungs[0], batch, 1).into_iter().map(|(spec, _)| spec).collect()
}

fn pair(folder: &Folder) -> [Packed; 2] {
    [Packed::new(folder, "small", &models::mlp(), 4), Packed::new(folder, "large", &models::deep(3, 256), 1)]
}

#[test]
fn all_sessions_together_stay_within_the_budget() {
    let folder = Folder::new("together");
    let packs = pair(&folder);
    let members = packs.each_ref().map(Packed::member);
    let all = choose_together(&device(1 << 30), &members).unwrap();
    let most = PROCESS + all.iter().map(|s| s.need.total()).sum::<u64>();
    let best: Vec<usize> = packs.iter().map(|p| p.model.header().rungs.len() - 1).collect();
    assert_eq!(all.iter().map(|s| s.rung).collect::<Vec<_>>(), best, "with room for all, the exact rungs");

    let (mut fitted, mut refused) = (0, 0);
    for budget in (0..12).map(|i| most - i * (most - PROCESS) / 11) {
        let device = device(budget);
        let ledger = device.ledger();
        let shares = match choose_together(&device, &members) {
            Ok(shares) => shares,
            Err(TogetherError::DoesNotFit { name, least, .. }) => {
                assert!(name == "large" && least > budget, "{name} {least} {budget}");
                // What it names is enough at any start, and for this one nothing less is.
                let least = least - START_SPREAD;
                choose_together(&self::device(least), &members).unwrap();
                choose_together(&self::device(least - 1), &members).unwrap_err();
                refused += 1;
                continue;
            }
            Err(other) => panic!("{other}"),
        };
        let needs: u64 = shares.iter().map(|s| s.need.total()).sum();
        let mut sessions = Vec::new();
        for (share, p) in shares.into_iter().zip(&packs) {
            sessions.push(share.session(&device, &p.model, &p.pack).unwrap());
        }
        assert!(ledger.used() <= PROCESS + needs && PROCESS + needs <= budget, "{:?}", ledger.holdings());
        for (session, p) in sessions.iter_mut().zip(&packs) {
            let (_, data) = inputs_of(&p.model, &p.model.header().rungs[0], p.inputs[0].dims[0], 9).remove(0);
            session.set_input(0, &data).unwrap();
            session.run().unwrap();
        }
        let names: Vec<String> = ledger.holdings().iter().map(|h| h.what.to_string()).collect();
        for want in
            ["weights of small", "arena and plan of small", "weights of large", "arena and plan of large"]
        {
            assert!(names.iter().any(|n| n == want), "{want} is not in {names:?}");
        }
        drop(sessions.remove(0));
        assert!(ledger.holdings().iter().all(|h| !h.what.ends_with("small")), "{:?}", ledger.holdings());
        drop(sessions);
        assert_eq!(ledger.used(), PROCESS);
        fitted += 1;
    }
    assert!(fitted >= 3 && refused >= 1, "{fitted} budgets fitted, {refused} were refused");
}

#[test]
fn a_further_model_gets_what_is_left() {
    let folder = Folder::new("further");
    let [small, large] = pair(&folder);
    let whole = choose_together(&device(1 << 30), &[large.member()]).unwrap();
    let [share] = &whole[..] else { panic!("one member, one share") };
    let device = device(PROCESS + share.need.total() + 200_000);
    let first = choose_together(&device, &[large.member()]).unwrap().remove(0);
    assert_eq!(first.rung, share.rung);
    let first = first.session(&device, &large.model, &large.pack).unwrap();
    // Alone in the budget the small one would have its exact rung as well.
    let second = choose_together(&device, &[small.member()]).unwrap().remove(0);
    let second = second.session(&device, &small.model, &small.pack).unwrap();
    assert!(device.ledger().free() < 200_000, "{:?}", device.ledger().holdings());
    let error = choose_together(&device, &[large.member()]).unwrap_err();
    let left = device.ledger().free();
    assert!(
        matches!(&error, TogetherError::DoesNotFit { left: l, others, .. } if *l == left && others.is_empty())
    );
    assert!(error.to_string().starts_with("large does not fit: of "), "{error}");
    drop((first, second));
    choose_together(&device, &[large.member()]).unwrap();
}

#[test]
fn what_cannot_stay_is_streamed_and_answers_the_same() {
    let folder = Folder::new("streamed");
    let [small, large] = pair(&folder);
    let exact = large.model.header().rungs.last().unwrap().id.clone();
    let only = Request { forced: Some(&exact), ..Request::default() };
    let members = [small.member(), Member { request: only, ..large.member() }];
    let least = |shares: &[edge_runtime::select::Share]| shares[1].need.weights;
    let resident = choose_together(&device(1 << 30), &members).unwrap();
    assert!(resident.iter().all(|s| s.weighing == Weighing::Resident));
    // Room for the least rung of the small model and two thirds of the large one's weights.
    let arena = resident[1].need.total() - least(&resident);
    let device = device(PROCESS + resident[0].need.total() + arena + least(&resident) * 2 / 3);
    let tight = choose_together(&device, &members).unwrap();
    let ways: Vec<Weighing> = tight.iter().map(|s| s.weighing).collect();
    assert_eq!(ways, [Weighing::Resident, Weighing::Streamed], "as few are streamed as will do");
    let run = |share: edge_runtime::select::Share, device: &Arc<Device>| {
        let mut session = share.session(device, &large.model, &large.pack).unwrap();
        let (_, data) = inputs_of(&large.model, &large.model.header().rungs[0], 1, 3).remove(0);
        session.set_input(0, &data).unwrap();
        session.run().unwrap();
        session.output(0).1.to_vec()
    };
    let mut resident = resident;
    let mut tight = tight;
    let plenty = self::device(1 << 30);
    assert_eq!(run(resident.remove(1), &plenty), run(tight.remove(1), &device));
}

fn answer(session: &mut Session, model: &Model, batch: usize) -> Vec<u8> {
    let rung = &model.header().rungs[0];
    let (_, data) = inputs_of(model, rung, batch, 5).remove(0);
    session.write_input(0, |bytes| bytes.copy_from_slice(&data)).unwrap();
    session.run().unwrap();
    session.output(0).1.to_vec()
}

#[test]
fn a_session_takes_other_shapes_out_of_one_reservation() {
    let folder = Folder::new("reshape");
    let packed = Packed::new(&folder, "mlp", &models::mlp(), 8);
    let model = &packed.model;
    let rungs = &model.header().rungs;
    for rung in [&rungs[0], &rungs[rungs.len() - 1]] {
        let device = device(4 << 20);
        let ledger = device.ledger();
        let mut session = Session::new(&device, model, rung, &specs(model, 8)).unwrap();
        let fresh = |batch: usize| {
            let plenty = self::device(1 << 30);
            let mut fresh = Session::new(&plenty, model, rung, &specs(model, batch)).unwrap();
            (answer(&mut fresh, model, batch), fresh.reserved())
        };
        let first = ledger.used();
        assert_eq!(first, PROCESS + session.reserved());
        // Smaller shapes stay inside; the answer is that of a session made for them.
        for batch in [2, 5, 8, 1] {
            session.reshape(&specs(model, batch)).unwrap();
            assert_eq!(answer(&mut session, model, batch), fresh(batch).0, "batch {batch} of {}", rung.id);
            assert_eq!(ledger.used(), first);
        }
        // A larger one is asked for first, kept, and given back by name.
        session.reshape(&specs(model, 100)).unwrap();
        assert_eq!(answer(&mut session, model, 100), fresh(100).0);
        assert_eq!(session.reserved(), fresh(100).1);
        session.reshape(&specs(model, 8)).unwrap();
        assert_eq!(session.reserved(), fresh(100).1);
        session.shrink().unwrap();
        assert_eq!((ledger.used(), session.reserved()), (PROCESS + fresh(8).1, fresh(8).1));
        assert_eq!(answer(&mut session, model, 8), fresh(8).0);
        // What does not fit changes nothing, and says whose it is.
        let error = session.reshape(&specs(model, 1 << 17)).unwrap_err();
        let SessionError::Budget(error) = error else { panic!("{error}") };
        assert!(error.to_string().starts_with("arena and plan of mlp asks for "), "{error}");
        assert!(session.reshape(&[]).is_err());
        assert_eq!((answer(&mut session, model, 8), ledger.used()), (fresh(8).0, PROCESS + fresh(8).1));
        drop(session);
        assert_eq!(ledger.used(), PROCESS);
    }
}

#[test]
fn an_input_that_is_written_in_place_is_checked() {
    let folder = Folder::new("in-place");
    let packed = Packed::new(&folder, "mlp", &models::mlp(), 1);
    let rungs = &packed.model.header().rungs;
    let integer = rungs.iter().find(|r| r.acts == edge_runtime::pack::Acts::I8).expect("an integer rung");
    let device = device(4 << 20);
    let mut session = Session::new(&device, &packed.model, integer, &packed.inputs).unwrap();
    let error =
        session.write_input(0, |bytes| bytes[4..8].copy_from_slice(&f32::NAN.to_le_bytes())).unwrap_err();
    assert!(error.to_string().contains("NaN"), "{error}");
    session.write_input(0, |bytes| bytes.fill(0)).unwrap();
    session.run().unwrap();
}
