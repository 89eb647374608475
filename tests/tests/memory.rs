//! The budget holds for the whole process: measured peak <= planned peak <= budget.

use edge_tests::{Sample, cached_model, edge_run, models};

/// Runs every rung under a generous budget, then the best under budgets around its plan.
fn holds(name: &str, s: &Sample, headroom: &[u64]) {
    let check = |args: &str, mem: u64| {
        let ended = edge_run()
            .arg(&s.pack)
            .arg("--input")
            .arg(&s.input)
            .args(&format!("--json --threads 2 --mem {mem} {args}"))
            .run();
        let json = ended.expect(0).json();
        let planned = json["selection"]["plan"]["total"].as_u64().unwrap();
        let (rung, said) = (json["rung"].to_string(), json["peak_rss"].as_u64().unwrap());
        let ratio = ended.peak as f64 / planned as f64;
        eprintln!(
            "{name} {rung}: measured {} ({said} by itself), planned {planned}: {ratio:.3}; budget {mem}",
            ended.peak
        );
        assert!(said <= planned && ended.peak <= planned && planned <= mem, "{name} {rung}: {ended:#?}");
        planned
    };
    let listed = edge_run().arg("plan").arg(&s.pack).args("--all --mem 1GB --threads 2 --json").run();
    let candidates = listed.expect(0).json()["candidates"].as_array().unwrap().clone();
    let some = candidates.len().div_ceil(4);
    for candidate in candidates.iter().step_by(some) {
        check(&format!("--rung {}", candidate["rung"].as_str().unwrap()), 1_000_000_000);
    }
    let best = check("", 1_000_000_000);
    for extra in headroom {
        check("", best + extra);
    }
}

#[test]
fn tiny_models_keep_their_budget() {
    for (name, onnx) in [("classifier", models::classifier()), ("mlp", models::mlp())] {
        holds(name, &Sample::new(&onnx, ""), &[1 << 19, 4 << 20]);
    }
}

#[test]
fn a_budget_below_the_plan_takes_a_smaller_rung_or_refuses() {
    let s = Sample::new(&models::deep(3, 512), "");
    let plan = |mem: u64| {
        edge_run().arg("plan").arg(&s.pack).args(&format!("--all --threads 1 --json --mem {mem}")).run()
    };
    let all = plan(1_000_000_000).json();
    let totals: Vec<u64> =
        all["candidates"].as_array().unwrap().iter().map(|c| c["total"].as_u64().unwrap()).collect();
    let (least, most) = (*totals.iter().min().unwrap(), *totals.iter().max().unwrap());
    let between = plan((least + most) / 2);
    let chosen = between.expect(0).json()["plan"]["total"].as_u64().unwrap();
    assert!(chosen <= (least + most) / 2, "{between:#?}");
    // What the next better rung would need is more than there is, and enough for it.
    let next = &between.json()["next"];
    let quality = |rung: &serde_json::Value| rung["quality"].as_f64().unwrap();
    assert_eq!(next["fits"], false, "{next:#}");
    let risen = plan(next["budget"].as_u64().unwrap()).json();
    let value = |plan: &serde_json::Value| plan["quality"]["value"].as_f64().unwrap();
    assert!(
        value(&between.json()) < quality(next) && quality(next) <= value(&risen),
        "{between:#?} {risen:#}"
    );
    assert!(all["next"].is_null(), "{all:#}");

    // A rung that was asked for has a better one above it too.
    let last = all["candidates"]
        .as_array()
        .unwrap()
        .iter()
        .min_by(|a, b| quality(a).total_cmp(&quality(b)))
        .unwrap();
    let forced = edge_run()
        .arg("plan")
        .arg(&s.pack)
        .args("--json --mem 1GB --rung")
        .arg(last["rung"].as_str().unwrap())
        .run();
    let above = &forced.expect(0).json()["next"];
    assert!(quality(above) > quality(last) && above["fits"] == true, "{forced:#?}");

    // What a refusal names is enough, at every start.
    let refused = plan(1_000_000);
    refused.expect_saying(5, &["the least that would do is"]);
    let least = refused.bytes_named();
    for _ in 0..10 {
        plan(least).expect(0);
    }
    plan(least - (1 << 20)).expect(5);
}

#[test]
fn efficientnet_lite0_keeps_its_budget() {
    let Some(onnx) = cached_model("efficientnet-lite0/efficientnet-lite0.onnx") else { return };
    let s = Sample::new(&std::fs::read(onnx).unwrap(), "");
    holds("efficientnet-lite0", &s, &[1 << 20]);
}
