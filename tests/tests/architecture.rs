//! Arrows between crates point from the converter and the programs to the runtime, and from there to the kernels.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What cargo knows of the workspace as it is built by default, for the platform that the tests run on: its packages are
/// there already, so that nothing is fetched.
fn metadata() -> Value {
    let rustc = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(rustc.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline", "--filter-platform", host])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Normal and build dependencies of every package: id -> ids.
fn arrows(metadata: &Value) -> BTreeMap<&str, Vec<&str>> {
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let needed = |dep: &&Value| dep["dep_kinds"].as_array().unwrap().iter().any(|k| k["kind"] != "dev");
    let arrows = nodes.iter().map(|node| {
        let deps = node["deps"].as_array().unwrap().iter().filter(needed);
        (node["id"].as_str().unwrap(), deps.map(|d| d["pkg"].as_str().unwrap()).collect())
    });
    arrows.collect()
}

#[test]
fn no_arrow_points_the_wrong_way() {
    let metadata = metadata();
    let arrows = arrows(&metadata);
    let packages = metadata["packages"].as_array().unwrap();
    let name_of: BTreeMap<&str, &str> =
        packages.iter().map(|p| (p["id"].as_str().unwrap(), p["name"].as_str().unwrap())).collect();
    let members: BTreeSet<&str> = metadata["workspace_members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| name_of[id.as_str().unwrap()])
        .collect();
    let id_of =
        |name: &str| *name_of.iter().find(|(_, n)| **n == name).unwrap_or_else(|| panic!("no {name}")).0;

    let allowed: [(&str, &[&str]); 7] = [
        ("edge-kernels", &[]),
        ("edge-runtime", &["edge-kernels"]),
        ("edge-converter", &["edge-runtime"]),
        ("edge-commands", &["edge-runtime"]),
        ("edge-cli", &["edge-commands"]),
        ("edge-example-ocr", &["edge-runtime"]),
        ("edge-benches", &["edge-kernels", "edge-runtime"]),
    ];
    for (name, may) in allowed {
        let uses: Vec<&str> =
            arrows[id_of(name)].iter().map(|id| name_of[id]).filter(|n| members.contains(n)).collect();
        assert_eq!(uses, may, "workspace crates that {name} depends on");
    }

    for root in ["edge-kernels", "edge-runtime", "edge-cli", "edge-example-ocr"] {
        let mut seen = BTreeSet::new();
        let mut open = vec![id_of(root)];
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(&arrows[id]);
            }
        }
        for id in seen {
            let name = name_of[id];
            let foreign =
                name.starts_with("tract") || name.starts_with("prost") || name.starts_with("protobuf");
            assert!(!foreign && name != "edge-converter", "{root} depends on {name}");
        }
    }
}

#[test]
fn nothing_waits_for_the_witness_that_did_not_ask_for_it() {
    let metadata = metadata();
    for id in arrows(&metadata).keys() {
        assert!(!id.contains("tract"), "the default build needs {id}");
    }
}
