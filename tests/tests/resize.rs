//! Moving along the ladder while running: the answers of a fresh start, memory that really goes, states that stay.

use edge_runtime::device::{Device, current_rss, peak_rss};
use edge_runtime::random::{philox, uniform};
use edge_runtime::select::Access;
use edge_runtime::{MoveError, Pressure, Session};
use edge_tests::models;
use edge_tests::moving::{Case, MB, alone, answer, remembering, wide};
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn each_budget_has_the_answer_of_a_fresh_start() {
    let _alone = alone();
    let case = wide();
    let mut session = case.open();
    assert_eq!(session.rung(), "float");
    let top = case.device.ledger().budget();
    // What the process holds beside the session is its own affair: the budgets of three steps down are found.
    let mut steps = vec![top];
    for _ in 0..3 {
        let less = case.bytes(session.rung()) - 1;
        steps.push(case.lower(&mut session, less));
    }
    session.resize(top).unwrap();
    let mut seen = Vec::new();
    // Down, up again, and to the same once more.
    for budget in [0, 1, 2, 3, 2, 1, 0, 0].map(|step| steps[step]) {
        let from = session.rung().to_string();
        let moved = session.resize(budget).unwrap();
        assert_eq!((moved.from, moved.to.as_str()), (from, session.rung()));
        assert_eq!(case.device.ledger().budget(), budget);
        assert!(case.device.ledger().used() <= budget);
        assert_eq!(
            answer(&mut session, &case.data()),
            case.fresh(session.rung(), &case.data()),
            "{}",
            session.rung()
        );
        seen.push(session.rung().to_string());
    }
    let mut rungs = seen.clone();
    rungs.sort();
    rungs.dedup();
    assert!(rungs.len() >= 3, "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some("float"), "{seen:?}");
}

#[test]
fn what_a_smaller_rung_does_not_need_is_gone() {
    let _alone = alone();
    let case = wide();
    let mut session = case.open();
    let (data, top) = (case.data(), case.device.ledger().budget());
    answer(&mut session, &data);
    let large = current_rss().unwrap();
    let budget = top - 60 * MB;
    session.resize(budget).unwrap();
    // The kernel's high-water mark from here on.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    answer(&mut session, &data);
    let (small, peak) = (current_rss().unwrap(), peak_rss().unwrap());
    assert!(large - small > 5 * MB, "{large} to {small} with rung {}", session.rung());
    assert!(peak <= budget, "{peak} of {budget}");
    // And back, as far as it was.
    session.resize(top).unwrap();
    answer(&mut session, &data);
    assert!(current_rss().unwrap() <= large + MB, "{large} to {}", current_rss().unwrap());
}

#[test]
fn states_go_along() {
    let _alone = alone();
    let case = remembering();
    let mut session = case.open();
    let step = |i: u64| -> Vec<u8> { (0..64).flat_map(|j| uniform(9 + i, j).to_le_bytes()).collect() };
    let top = case.device.ledger().budget();
    // The largest budget with another rung: what the process holds beside the session is its own affair.
    let lower = case.lower(&mut session, case.bytes("float") - 1);
    session.resize(top).unwrap();
    let (mut rungs, mut state) = (Vec::new(), vec![vec![0; 2048]; 2]);
    for (i, budget) in [top, lower, top].into_iter().enumerate() {
        assert!(session.resize(budget).unwrap().state_kept);
        let x = step(i as u64);
        session.set_input(0, &x).unwrap();
        session.run().unwrap();
        let want = case.fresh(session.rung(), &[x, state[0].clone(), state[1].clone()]);
        assert_eq!(session.output(0).1, want, "step {i} at {}", session.rung());
        state = (1..3).map(|output| session.output(output).1.to_vec()).collect();
        rungs.push(session.rung().to_string());
    }
    assert_ne!(rungs[0], rungs[1], "{rungs:?}");
    assert_eq!(rungs[0], rungs[2], "{rungs:?}");
}

#[test]
fn a_wish_from_another_thread_is_followed_before_the_next_inputs() {
    let _alone = alone();
    let case = wide();
    let mut session = case.open();
    let (data, top) = (case.data(), case.device.ledger().budget());
    let (mover, done) = (session.mover().unwrap(), AtomicBool::new(false));
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut i = 0;
            while !done.load(Ordering::Relaxed) {
                match i % 4 {
                    0 => mover.resize(top - 60 * MB),
                    1 => mover.resize(top),
                    2 => mover.on_memory_pressure(Pressure::Low),
                    _ => mover.on_memory_pressure(Pressure::Critical),
                }
                i += 1;
                std::thread::sleep(std::time::Duration::from_micros(300));
            }
        });
        for _ in 0..200 {
            let y = answer(&mut session, &data);
            let rung = session.rung().to_string();
            match seen.iter().find(|(known, _)| *known == rung) {
                Some((_, want)) => assert_eq!(*want, y, "{rung}"),
                None => seen.push((rung, y)),
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(seen.len() > 1, "it never moved");
    for (rung, y) in &seen {
        assert_eq!(case.fresh(rung, &data), *y, "{rung}");
    }
    // A wish waits for inputs that are set to have their run.
    mover.resize(top);
    answer(&mut session, &data);
    assert_eq!(session.rung(), "float");
    session.set_input(0, &data[0]).unwrap();
    mover.on_memory_pressure(Pressure::Critical);
    session.run().unwrap();
    assert_eq!(session.rung(), "float");
    assert_eq!(session.output(0).1, case.fresh("float", &data));
    session.run().unwrap();
    assert_ne!(session.rung(), "float");
}

#[test]
fn pressure_gives_back_more_the_higher_it_is() {
    let _alone = alone();
    let case = wide();
    let top = case.device.ledger().budget();
    let mut left = Vec::new();
    for level in [Pressure::Moderate, Pressure::Low, Pressure::Critical] {
        let mut session = case.open();
        session.resize(top).unwrap();
        session.on_memory_pressure(level).unwrap();
        assert_eq!(answer(&mut session, &case.data()), case.fresh(session.rung(), &case.data()), "{level:?}");
        left.push(case.device.ledger().used());
        session.resize(top).unwrap();
        assert_eq!(session.rung(), "float");
    }
    assert!(left[0] > left[1] && left[1] > left[2], "{left:?}");
}

#[test]
fn what_cannot_be_says_why_and_leaves_the_session_as_it_was() {
    let _alone = alone();
    let case = wide();
    let mut session = case.open();
    let (data, top) = (case.data(), case.device.ledger().budget());
    let before = answer(&mut session, &data);
    let error = session.resize(MB).unwrap_err();
    let MoveError::Select(_) = &error else { panic!("{error}") };
    assert!(error.to_string().contains("nothing fits") && error.to_string().contains("the least"), "{error}");
    assert_eq!((session.rung(), case.device.ledger().budget()), ("float", top));
    assert_eq!(answer(&mut session, &data), before);
    // Another user of the same account is in the way.
    let other = case.device.ledger().reserve("a cache", case.device.ledger().free()).unwrap();
    assert!(session.resize(top - 60 * MB).is_err());
    drop(other);
    session.resize(top - 60 * MB).unwrap();
    session.resize(top).unwrap();
    // A session of one rung does not move.
    let rung = &case.model.header().rungs[0];
    let mut fixed = Session::new(&case.device, &case.model, rung, &case.specs()).unwrap();
    assert!(fixed.resize(top).unwrap_err().to_string().contains("Session::open"));
    assert!(fixed.mover().is_err());
}

#[test]
fn a_session_of_other_shapes_moves_in_those() {
    let _alone = alone();
    let case = Case::new("resize-shapes", &models::mlp(), &[]);
    let mut session = case.open();
    let mut specs = case.specs();
    specs[0].dims[0] = 3;
    session.reshape(&specs).unwrap();
    session.resize(case.device.ledger().budget()).unwrap();
    let rows: Vec<u8> = (0..96).flat_map(|i| uniform(5, i).to_le_bytes()).collect();
    let y = answer(&mut session, std::slice::from_ref(&rows));
    assert_eq!(y.len(), 3 * 10 * 4);
    for (row, y) in rows.chunks(32 * 4).zip(y.chunks(10 * 4)) {
        assert_eq!(y, case.fresh(session.rung(), &[row.to_vec()]));
    }
}

/// What one step of the LSTM was given and gave.
struct Step {
    rung: String,
    inputs: [Vec<u8>; 3],
    outputs: [Vec<u8>; 3],
}

/// What a fresh session at a rung gives for the step.
fn again(case: &Case, step: &Step) -> [Vec<u8>; 3] {
    let device = Device::builder().threads(Some(1)).budget(Some(1 << 40)).build().unwrap();
    let rung = case.model.header().rungs.iter().find(|r| r.id == step.rung).unwrap();
    let mut session = Session::new(&device, &case.model, rung, &case.specs()).unwrap();
    answer(&mut session, &step.inputs);
    [0, 1, 2].map(|output| session.output(output).1.to_vec())
}

#[test]
fn two_hundred_wishes_in_the_midst_of_a_stream() {
    let _alone = alone();
    let case = remembering();
    for access in [Access::Mapped, Access::Loaded] {
        let mut session = Session::open_by(&case.device, &case.pack, &case.specs(), access).unwrap();
        let top = case.device.ledger().budget();
        let low = case.lower(&mut session, case.bytes("float") / 4);
        session.resize(top).unwrap();
        let (mover, done) = (session.mover().unwrap(), AtomicBool::new(false));
        let mut steps: Vec<Step> = Vec::new();
        let mut state = [vec![0; 2048], vec![0; 2048]];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for i in 0..200u64 {
                    // Some ask for less than there can be.
                    match i % 5 {
                        0 => mover.resize(low),
                        1 => mover.resize(top),
                        2 => mover.on_memory_pressure(Pressure::Moderate),
                        3 => mover.resize(low + (top - low) * philox(3, i)[0] as u64 % 1000 / 1000),
                        _ => mover.resize(MB),
                    }
                    std::thread::sleep(std::time::Duration::from_micros(500));
                }
                mover.resize(top);
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                let i = steps.len() as u64;
                let x: Vec<u8> = (0..64).flat_map(|j| uniform(90 + i, j).to_le_bytes()).collect();
                session.set_input(0, &x).unwrap();
                session.run().unwrap();
                let outputs = [0, 1, 2].map(|output| session.output(output).1.to_vec());
                let inputs = [x, state[0].clone(), state[1].clone()];
                state = [outputs[1].clone(), outputs[2].clone()];
                steps.push(Step { rung: session.rung().to_string(), inputs, outputs });
            }
        });
        // Each step is a rung's own answer to what the step before left, whichever rung that was.
        let moves = steps.windows(2).filter(|pair| pair[0].rung != pair[1].rung).count();
        assert!(moves >= 10, "{access:?}: {moves} moves in {} steps", steps.len());
        for (i, step) in steps.iter().enumerate().step_by(1 + steps.len() / 400) {
            assert!(again(&case, step) == step.outputs, "{access:?}: step {i} at {}", step.rung);
        }
        // The account says what the session takes, and no page is held that it does not need.
        session.resize(top).unwrap();
        assert_eq!((session.rung(), case.device.ledger().budget()), ("float", top));
        let used = case.device.ledger().used();
        answer(&mut session, &case.data());
        let large = current_rss().unwrap();
        session.resize(low).unwrap();
        assert!(case.device.ledger().used() < used - MB);
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        answer(&mut session, &case.data());
        let gone = case.bytes("float") - case.bytes(session.rung());
        let (small, peak) = (current_rss().unwrap(), peak_rss().unwrap());
        assert!(large.saturating_sub(small) > gone / 2, "{access:?}: {large} to {small}, {gone} fewer");
        assert!(peak <= low, "{access:?}: {peak} of {low}");
        session.resize(top).unwrap();
        // What the process holds beside it is in the account and measured at each move.
        let again = case.device.ledger().used();
        assert!(again.abs_diff(used) < 2 * MB, "{access:?}: {used} and {again}");
        drop(session);
        assert_eq!(case.device.ledger().used(), 0);
    }
}
