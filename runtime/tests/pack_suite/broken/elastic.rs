//! Elastic graphs and tables of subnets that do not hold together.

use super::edit;
use edge_runtime::graph::{Change, Count, Effect, Elastic, Feature, Layer, Mixed, Mixture, Source, Variable};
use edge_runtime::pack::{Candidates, PackError};

#[test]
fn a_table_of_subnets_that_is_none() {
    let table = |graph: u32, count: u32, blob: u32, spread: f32| {
        edit(|h| {
            h.candidates =
                Some(Candidates { graph, count, metric: "sqnr_db".into(), spread, blob, device: None });
        })
    };
    refused!(table(9, 0, 0, 0.0), PackError::OutOfRange { .. }, "the table of subnets", "graph 9");
    refused!(table(0, 0, 9999, 0.0), PackError::OutOfRange { .. }, "the table of subnets", "blob 9999");
    refused!(table(0, 70_000, 0, 0.0), PackError::TooMany { .. }, "the table of subnets", "70000");
    refused!(table(0, 1000, 0, 0.0), PackError::Mismatch { .. }, "the table of subnets", "16000");
    let nothing = edit(|h| {
        let variables = vec![Variable { name: "depth".into(), options: vec![] }];
        h.graphs[0].elastic = Some(Box::new(Elastic { variables, ..Elastic::default() }));
    });
    refused!(nothing, PackError::Number { .. }, "`depth`", "must have an option");
}

#[test]
fn elastic_parts_that_do_not_hold_together() {
    let with = |change: &dyn Fn(&mut Elastic)| {
        edit(|h| {
            let variable = |name: &str, n: u32| Variable {
                name: name.into(),
                options: (0..n).map(|option| option.to_string()).collect(),
            };
            let feature = Feature {
                of: vec![0, 1],
                values: vec![vec![0.5, 1.0], vec![1.0, 2.0, 3.0]],
                first: Some(Count { variable: 0, counts: vec![1, 2] }),
            };
            let mixture = Mixture {
                features: vec![feature],
                layers: vec![Layer { weight: 0, bias: None, relu: false }],
                values: vec![Mixed { value: 0, experts: vec![Source::Weight(0), Source::Constant(0)] }],
            };
            let sources = vec![None, None, None, Some(Source::Constant(0)), None, None];
            let effect = Effect { variable: 0, with: vec![1], change: Change::Source { value: 0, sources } };
            let mut elastic = Elastic {
                variables: vec![variable("depth", 2), variable("width", 3)],
                effects: vec![effect],
                mixtures: vec![mixture],
                ..Elastic::default()
            };
            change(&mut elastic);
            h.graphs[0].elastic = Some(Box::new(elastic));
        })
    };
    assert!(with(&|_| {}).is_ok());
    refused!(
        with(&|e| e.effects[0].with.clear()),
        PackError::Mismatch { .. },
        "`depth`, an effect",
        "2",
        "6"
    );
    refused!(with(&|e| e.effects[0].with[0] = 7), PackError::OutOfRange { .. }, "variable 7");
    refused!(
        with(&|e| e.effects[0].with = vec![0; 1100]),
        PackError::TooMany { .. },
        "variables of an effect"
    );
    // As many combinations as a number counts, and none of them there.
    refused!(with(&|e| e.effects[0].with = vec![1; 900]), PackError::Mismatch { .. }, "number of entries");
    let mixture = |change: &dyn Fn(&mut Mixture)| with(&|e| change(&mut e.mixtures[0]));
    refused!(mixture(&|m| m.features[0].of[1] = 3), PackError::OutOfRange { .. }, "a mixture", "variable 3");
    refused!(
        mixture(&|m| m.features[0].values.truncate(1)),
        PackError::Mismatch { .. },
        "a mixture",
        "lists"
    );
    refused!(mixture(&|m| m.features[0].values[1].clear()), PackError::Mismatch { .. }, "entries", "3");
    refused!(
        mixture(&|m| m.features[0].first = Some(Count { variable: 0, counts: vec![] })),
        PackError::Mismatch { .. },
        "entries",
        "2"
    );
    refused!(mixture(&|m| m.layers[0].weight = 9999), PackError::OutOfRange { .. }, "constant 9999");
    refused!(mixture(&|m| m.layers[0].bias = Some(9999)), PackError::OutOfRange { .. }, "constant 9999");
    refused!(mixture(&|m| m.values[0].value = 9999), PackError::OutOfRange { .. }, "value 9999");
    refused!(
        mixture(&|m| m.values[0].experts[0] = Source::Weight(9999)),
        PackError::OutOfRange { .. },
        "tensor 9999"
    );
    let computed = mixture(&|m| m.values[0].experts[0] = Source::Computed);
    refused!(computed, PackError::HeaderJson(_), "header");
}
