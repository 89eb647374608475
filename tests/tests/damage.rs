//! A pack with a damaged blob in the midst of its ladder: where hashes are checked, the rungs that do not need the blob run, and what
//! is said names the blob, its place, the rungs that are lost and the one that runs.

use edge_runtime::pack::{BlobId, PackFile};
use edge_runtime::select::Access;
use edge_runtime::weights::Registry;
use edge_runtime::{Model, MoveError, Session};
use edge_tests::moving::{Case, alone, answer, wide};
use edge_tests::onnx::Builder;
use edge_tests::onnx::Dim::N;
use edge_tests::{Sample, edge_run, models, open};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Flips a bit in the middle of a blob of a file.
fn damage(pack: &Path, id: BlobId) {
    let blob = PackFile::open(pack).unwrap().header().blobs[id as usize];
    let mut bytes = std::fs::read(pack).unwrap();
    bytes[(blob.offset + blob.len / 2) as usize] ^= 0x10;
    std::fs::write(pack, bytes).unwrap();
}

/// Blobs that a rung needs and others do not, of some bytes.
fn own_blobs(model: &Model, rung: &str, others: &[&str]) -> Vec<BlobId> {
    let of = |id: &str| model.blobs_of(model.header().rungs.iter().find(|r| r.id == id).unwrap()).unwrap();
    let taken: Vec<BlobId> = others.iter().flat_map(|id| of(id)).collect();
    let own = of(rung).into_iter();
    own.filter(|id| !taken.contains(id) && model.header().blobs[*id as usize].len > 0).collect()
}

/// Ids of the rungs, best first.
fn best_first(model: &Model) -> Vec<&str> {
    let quality = |r: &edge_runtime::pack::Rung| r.quality.as_ref().unwrap().value;
    let mut rungs: Vec<_> = model.header().rungs.iter().collect();
    rungs.sort_by(|a, b| quality(b).total_cmp(&quality(a)));
    rungs.iter().map(|r| r.id.as_str()).collect()
}

#[test]
fn the_program_runs_the_best_rung_that_is_whole() {
    let s = Sample::new(&models::deep(3, 64), "");
    let whole = std::fs::read(&s.pack).unwrap();
    let model = open(&s.pack, Registry::standard());
    let rungs = best_first(&model);
    assert!(rungs.len() >= 4, "{rungs:?}");
    let answers: Vec<String> = rungs.iter().map(|id| s.run().arg("--rung").arg(id).run().stdout).collect();
    let mut passed = 0;
    for (i, rung) in rungs.iter().enumerate() {
        // What every rung from this one up needs, and none below.
        let Some(id) = own_blobs(&model, rung, &rungs[i + 1..]).into_iter().next_back() else { continue };
        std::fs::write(&s.pack, &whole).unwrap();
        damage(&s.pack, id);
        let needs: Vec<bool> = rungs.iter().map(|r| own_blobs(&model, r, &[]).contains(&id)).collect();
        let blob = model.header().blobs[id as usize];
        let owner = PackFile::open(&s.pack).unwrap().owner_of(id);
        let place = format!("bytes {} to {} in section ", blob.offset, blob.offset + blob.len);
        let words = [&format!("blob {id} ({owner})"), place.as_str(), "fetch the file again"];
        for how in ["--verify", "--no-mmap", "--verify --no-mmap"] {
            let ended = s.run().args(how).arg("--explain").run();
            match needs.iter().position(|needed| !needed) {
                // Better ones that were not damaged need not be passed over, and no word is due.
                Some(0) => {
                    ended.expect(0);
                    assert!(!ended.stderr.contains("warn"), "{ended:#?}");
                    assert_eq!(ended.stdout, answers[0], "{how}");
                }
                Some(next) => {
                    passed += 1;
                    ended.expect_saying(0, &words);
                    let used = format!("rung `{}` is used instead of `{}`", rungs[next], rungs[0]);
                    assert!(ended.stderr.contains(&used), "{used}: {ended:#?}");
                    assert_eq!(ended.stdout, answers[next], "{how}: {ended:#?}");
                    // Nor is a damaged one offered as the next.
                    let offered =
                        rungs[..next].iter().find(|r| ended.stderr.contains(&format!("next     {r} ")));
                    assert_eq!(offered, None, "{ended:#?}");
                }
                None => panic!("the exact weights share nothing with codes"),
            }
            // A rung that was asked for runs as it is or not at all.
            for (rung, needed) in rungs.iter().zip(&needs) {
                let ended = s.run().args(how).arg("--rung").arg(rung).run();
                match needed {
                    true => drop(ended.expect_saying(4, &words)),
                    false => drop(ended.expect(0)),
                }
            }
        }
        edge_run().arg("verify").arg(&s.pack).run().expect_saying(4, &words);
        // Mapped and unchecked, anything may be answered.
        for rung in &rungs {
            s.run().arg("--rung").arg(rung).run().expect(0);
        }
    }
    assert!(passed > 0);
    // Nothing is left.
    std::fs::write(&s.pack, &whole).unwrap();
    let (float, codes) =
        (own_blobs(&model, "float", &rungs[1..])[0], own_blobs(&model, rungs[rungs.len() - 1], &[])[0]);
    damage(&s.pack, float);
    damage(&s.pack, codes);
    for how in ["--verify", "--no-mmap"] {
        let ended = s.run().args(how).run();
        ended.expect_saying(4, &[&format!("blob {float} ("), &format!("blob {codes} ("), "in section"]);
        assert!(ended.stdout.is_empty(), "{ended:#?}");
    }
}

#[test]
fn a_damaged_constant_is_every_rungs() {
    let mut b = Builder::new();
    b.input("x", &[N(1), N(64)]).output("y").weight("w", &[64, 2048], 0.3).weight("b", &[2048], 0.3);
    b.node("MatMul", "x w", "p", &[]).node("Relu", "p", "r", &[]).node("Mul", "r b", "y", &[]);
    let s = Sample::new(&b.finish("constant"), "");
    let model = open(&s.pack, Registry::standard());
    let pack = PackFile::open(&s.pack).unwrap();
    let blobs = model.blobs_of(&model.header().rungs[0]).unwrap();
    let constant = blobs.into_iter().find(|id| pack.owner_of(*id).starts_with("constant")).unwrap();
    damage(&s.pack, constant);
    for how in ["--verify", "--no-mmap"] {
        s.run().args(how).run().expect_saying(4, &[&format!("blob {constant} (constant `"), "section"]);
    }
}

/// A copy of the case's pack with a damaged blob.
fn damaged(case: &Case, name: &str, id: BlobId) -> (PathBuf, Arc<PackFile>) {
    let path = case.folder.file(name);
    std::fs::copy(case.folder.file("m.pack"), &path).unwrap();
    damage(&path, id);
    let pack = Arc::new(PackFile::open(&path).unwrap());
    (path, pack)
}

#[test]
fn a_session_opens_below_the_damage_and_stays_there() {
    let _alone = alone();
    let case = wide();
    let rungs = best_first(&case.model);
    let id = own_blobs(&case.model, rungs[0], &rungs[1..])[0];
    let (_, pack) = damaged(&case, "d.pack", id);
    for access in [Access::Checked, Access::Loaded] {
        let mut session = Session::open_by(&case.device, &pack, &case.specs(), access).unwrap();
        assert_eq!(session.rung(), rungs[1], "{access:?}");
        assert_eq!(answer(&mut session, &case.data()), case.fresh(rungs[1], &case.data()));
        // It has learned that, and is not told again.
        let moved = session.resize(case.device.ledger().budget()).unwrap();
        assert_eq!(moved.to, rungs[1]);
    }
    // Nobody looks at a hash.
    assert_eq!(Session::open(&case.device, &pack, &case.specs()).unwrap().rung(), rungs[0]);
    // A blob that all of them need.
    let (_, pack) = damaged(&case, "all.pack", own_blobs(&case.model, rungs[rungs.len() - 1], &["float"])[0]);
    let smaller = |access| Session::open_by(&case.device, &pack, &case.specs(), access);
    assert_eq!(smaller(Access::Checked).unwrap().rung(), "float");
    drop(pack);
    let float = own_blobs(&case.model, "float", &rungs[1..])[0];
    let path = case.folder.file("all.pack");
    damage(&path, float);
    let pack = Arc::new(PackFile::open(&path).unwrap());
    let used = case.device.ledger().used();
    for access in [Access::Checked, Access::Loaded] {
        let error = Session::open_by(&case.device, &pack, &case.specs(), access).map(drop).unwrap_err();
        assert!(error.to_string().contains("in section"), "{error}");
        assert_eq!(case.device.ledger().used(), used);
    }
}

#[test]
fn a_move_into_a_damaged_rung_leaves_the_session_where_it_was() {
    let _alone = alone();
    let case = wide();
    let rungs = best_first(&case.model);
    let top = case.device.ledger().budget();
    let id = own_blobs(&case.model, rungs[0], &rungs[1..])[0];
    let (_, pack) = damaged(&case, "d.pack", id);
    let bytes = case.bytes(rungs[2]);
    for access in [Access::Checked, Access::Loaded] {
        let mut session = case.open_below(&pack, access, bytes);
        let (low, low_budget) = (session.rung().to_string(), case.device.ledger().budget());
        assert!(low != rungs[0] && low != rungs[1], "{low}");
        let (before, used) = (answer(&mut session, &case.data()), case.device.ledger().used());
        let error = session.resize(top).unwrap_err();
        let MoveError::Damaged { stays, .. } = &error else { panic!("{error}") };
        assert_eq!(*stays, low);
        let said = error.to_string();
        for word in [&format!("blob {id} "), &format!("stays at rung `{low}`"), "in section", "tensor `"] {
            assert!(said.contains(word), "no `{word}` in {said}");
        }
        assert_eq!((session.rung(), case.device.ledger().budget()), (low.as_str(), low_budget));
        assert_eq!(case.device.ledger().used(), used);
        assert_eq!(answer(&mut session, &case.data()), before, "{access:?}");
        // Asked again, it goes as far up as it can.
        assert_eq!(session.resize(top).unwrap().to, rungs[1]);
        assert_eq!(answer(&mut session, &case.data()), case.fresh(rungs[1], &case.data()));
        // Asked from elsewhere, no run fails for it.
        drop(session);
        case.device.ledger().set_budget(low_budget).unwrap();
        let mut session = case.open_below(&pack, access, bytes);
        session.mover().unwrap().resize(top);
        assert_eq!(answer(&mut session, &case.data()), case.fresh(rungs[1], &case.data()));
        assert_eq!(session.rung(), rungs[1]);
        drop(session);
        case.device.ledger().set_budget(top).unwrap();
    }
}
