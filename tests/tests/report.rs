//! `edge-convert report`: the page as a user gets it, and what the program refuses.

use edge_runtime::pack::PackFile;
use edge_tests::{Sample, edge_convert, models};
use std::path::Path;

fn report(pack: &Path, page: &Path, args: &str) -> edge_tests::Ended {
    edge_convert().arg("report").arg(pack).arg("-o").arg(page).args(args).run()
}

#[test]
fn a_page_has_every_rung_and_needs_nothing_else() {
    let s = Sample::new(&models::classifier(), "");
    let page = s.folder.file("r.html");
    let ended = report(&s.pack, &page, "");
    ended.expect(0);
    assert!(ended.stdout.contains("r.html") && ended.stderr.is_empty(), "{ended:#?}");
    let html = std::fs::read_to_string(&page).unwrap();
    let pack = PackFile::open(&s.pack).unwrap();
    for name in pack.header().rungs.iter().map(|r| &r.id).chain(pack.header().tensors.iter().map(|t| &t.name))
    {
        assert!(html.contains(name.as_str()), "no {name}");
    }
    for outside in ["http:", "https:", "src=", "url(", "@import"] {
        assert!(!html.contains(outside), "{outside} in the page");
    }
    assert!(s.folder.names().iter().all(|name| !name.contains("tmp")), "{:?}", s.folder.names());
}

#[test]
fn what_tensors_cost_is_in_the_pack_and_on_the_page() {
    let s = Sample::new(&models::classifier(), "");
    let pack = PackFile::open(&s.pack).unwrap();
    let (costs, tensors) = (&pack.header().costs, &pack.header().tensors);
    assert_eq!(costs.len(), tensors.len());
    assert!(costs.iter().all(|c| !c.db.is_empty() && c.db.len() <= 16), "{costs:?}");
    let page = s.folder.file("r.html");
    let json = report(&s.pack, &page, "--json --no-latency").expect(0).json();
    let rungs = json["rungs"].as_array().unwrap();
    assert_eq!(rungs.len(), pack.header().rungs.len());
    for (rung, stored) in rungs.iter().zip(&pack.header().rungs) {
        assert_eq!(rung["bytes"], stored.bytes);
        assert!(rung["latency_ms"].is_null() && rung["planned"]["arena"].as_u64().unwrap() > 0, "{rung}");
    }
    // The smallest rung takes the first plane of each: what was measured of it.
    for (layer, cost) in rungs[0]["layers"].as_array().unwrap().iter().zip(costs) {
        let db = layer["cost"]["db"].as_f64().unwrap();
        assert!((db - f64::from(cost.db[0])).abs() < 1e-4, "{layer}");
    }
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.contains("Latency was not measured") && html.contains("--no-latency"));
}

#[test]
fn packs_samples_and_places_that_are_wrong_are_named() {
    let s = Sample::new(&models::mlp(), "");
    let page = s.folder.file("r.html");
    report(&s.folder.file("none.pack"), &page, "").expect_saying(4, &["none.pack"]);
    let broken = s.folder.write("broken.pack", b"no pack at all");
    report(&broken, &page, "").expect_saying(4, &["broken.pack"]);
    report(&s.pack, &page, "--input none.npz").expect_saying(4, &["none.npz"]);
    report(&s.pack, &page, "--shape x=1,7").expect_saying(3, &["`x`"]);
    assert!(!page.exists());
    report(&s.pack, s.folder.path(), "").expect_saying(2, &["is a directory"]);
    report(&s.pack, &s.pack, "").expect_saying(2, &["the pack itself"]);
    report(&s.pack, &s.folder.path().join("no").join("r.html"), "").expect_saying(6, &["r.html"]);
    edge_convert().arg("report").arg(&s.pack).run().expect(2);
    PackFile::open(&s.pack).unwrap();
}
