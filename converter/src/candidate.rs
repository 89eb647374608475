//! A draft as it stands, to be run or to be known by what it is.

use crate::draft::Draft;
use crate::journal::{Key, Mix};
use edge_runtime::Model;
use edge_runtime::graph::Graph;
use edge_runtime::pack::{Constant, Rung, Tensor};
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

/// A draft that measurements are made of. It is opened when one has to be made, and hashed when one is asked for: once for all rungs.
pub struct Candidate<'a> {
    draft: &'a Draft,
    model: OnceCell<Arc<Model>>,
    content: OnceCell<Key>,
    graphs: RefCell<HashMap<u32, Key>>,
}

impl Draft {
    /// The draft as it stands.
    pub fn candidate(&self) -> Candidate<'_> {
        Candidate {
            draft: self,
            model: OnceCell::new(),
            content: OnceCell::new(),
            graphs: RefCell::default(),
        }
    }
}

impl Candidate<'_> {
    /// What it is of.
    pub fn draft(&self) -> &Draft {
        self.draft
    }

    /// As the runtime sees it.
    pub fn model(&self) -> &Arc<Model> {
        self.model.get_or_init(|| self.draft.open())
    }

    /// All that a run of the rung follows from but its inputs: the graph with its ranges, constants, weight expressions, blobs by
    /// their content, how activations are held, which of them stay floats and what is taken.
    pub fn key(&self, rung: &Rung) -> Key {
        let header = &self.draft.header;
        let mut hashed = self.draft.hashed.borrow_mut();
        let content = self.content.get_or_init(|| {
            let mix = Mix::of("content").bytes(self.draft.hashes().as_flattened());
            let mix = mix.key(&hashed.constants.key(&header.constants));
            hashed.tensors.resize_with(header.tensors.len(), Last::default);
            let tensors = header.tensors.iter().zip(&mut hashed.tensors);
            tensors.fold(mix, |mix, (tensor, last)| mix.key(&last.key(tensor))).done()
        });
        let mut graphs = self.graphs.borrow_mut();
        let graph = graphs.entry(rung.graph).or_insert_with(|| {
            let graph = &header.graphs[rung.graph as usize];
            hashed.graphs.entry(rung.graph).or_default().key_of_graph(graph)
        });
        let takes = rung.takes.iter().flat_map(|take| {
            let bytes = |number: u32| number.to_le_bytes();
            take.map_or([[0xff; 4]; 2], |take| [bytes(take.0), bytes(take.1)])
        });
        let mix = Mix::of("candidate").key(content).key(graph).debug(&rung.acts).debug(&rung.floats);
        mix.bytes(takes.collect::<Vec<_>>().as_flattened()).done()
    }
}

/// The parts of a draft as they were hashed last. A search changes a few of hundreds between two measurements, and to compare the others
/// takes a fraction of the time.
#[derive(Default)]
pub(crate) struct Hashed {
    constants: Last<Vec<Constant>>,
    tensors: Vec<Last<Tensor>>,
    graphs: HashMap<u32, Last<Graph>>,
}

/// A part and its hash.
struct Last<T>(Option<(T, Key)>);

impl<T> Default for Last<T> {
    fn default() -> Last<T> {
        Last(None)
    }
}

impl<T: Clone + Debug + PartialEq> Last<T> {
    fn key(&mut self, part: &T) -> Key {
        self.key_where(|last| last == part, || part.clone())
    }

    /// The hash there is when `same` says so of its part, else that of the part that is made.
    fn key_where(&mut self, same: impl FnOnce(&T) -> bool, part: impl FnOnce() -> T) -> Key {
        match &self.0 {
            Some((last, key)) if same(last) => *key,
            _ => {
                let part = part();
                let key = Mix::of("part").debug(&part).done();
                self.0 = Some((part, key));
                key
            }
        }
    }
}

impl Last<Graph> {
    /// Ranges are what changes in a graph: they are hashed by themselves.
    fn key_of_graph(&mut self, graph: &Graph) -> Key {
        let same = |last: &Graph| {
            let values = || last.values.iter().zip(&graph.values);
            (&last.inputs, &last.outputs, &last.states, &last.body)
                == (&graph.inputs, &graph.outputs, &graph.states, &graph.body)
                && last.values.len() == graph.values.len()
                && values().all(|(a, b)| a.source == b.source && a.name == b.name)
        };
        let key = self.key_where(same, || {
            let mut graph = graph.clone();
            graph.values.iter_mut().for_each(|value| value.range = None);
            graph
        });
        // No range is one of NaN.
        let ends = |range: Option<(f32, f32)>| range.map_or([f32::NAN; 2], |(lo, hi)| [lo, hi]);
        let ranges: Vec<[f32; 2]> = graph.values.iter().map(|value| ends(value.range)).collect();
        Mix::of("graph").key(&key).floats(ranges.as_flattened()).done()
    }
}

#[cfg(test)]
mod tests {
    use crate::draft::{Draft, plain_rung};
    use crate::journal::Key;
    use crate::model::Array;
    use edge_runtime::graph::{Act, Graph, Node, Op, Source, UnaryOp};
    use edge_runtime::pack::{Acts, Expr, Rung, Take, Tensor};

    /// A draft and a rung of it that take a part of everything.
    fn draft() -> (Draft, Rung) {
        let mut draft = Draft::default();
        let blob = draft.blob(vec![1; 100]);
        let expr = Expr {
            kind: "dense".into(),
            params: serde_json::Map::new(),
            args: Vec::new(),
            blobs: vec![blob],
        };
        let tensor = draft.tensor(Tensor { name: "w".into(), n: 5, k: 5, roots: vec![expr] });
        let constant = draft.constant(&Array::f32(&[1], &[1.0]));
        let mut graph = Graph::default();
        let x = graph.add_value("x", Source::Computed);
        graph.add_value("w", Source::Weight(tensor));
        graph.add_value("c", Source::Constant(constant));
        graph.values[0].range = Some((-1.0, 1.0));
        graph.body.nodes.push(Node {
            name: "n".into(),
            op: Op::Unary(UnaryOp::Act(Act::Clip { lo: 0.0, hi: f32::INFINITY })),
            inputs: vec![Some(x)],
            outputs: vec![Some(x)],
        });
        let graph = draft.graph(graph);
        let mut rung = plain_rung("r", graph, Acts::F32);
        rung.takes = vec![Some(Take(0, 1))];
        (draft, rung)
    }

    fn key(change: impl FnOnce(&mut Draft, &mut Rung)) -> Key {
        let (mut draft, mut rung) = draft();
        change(&mut draft, &mut rung);
        draft.candidate().key(&rung)
    }

    #[test]
    fn whatever_a_run_follows_from_makes_another_key() {
        let mut all = vec![
            key(|_, _| ()),
            key(|_, rung| rung.acts = Acts::I8),
            key(|_, rung| rung.floats = vec![0]),
            key(|_, rung| rung.takes[0] = Some(Take(0, 2))),
            key(|_, rung| rung.takes[0] = Some(Take(1, 1))),
            key(|_, rung| rung.takes[0] = None),
            key(|draft, _| draft.header.graphs[0].values[0].range = None),
            key(|draft, _| draft.header.graphs[0].values[0].range = Some((-1.0, 1.0f32.next_up()))),
            key(|draft, _| draft.header.graphs[0].values[0].range = Some((-1.0f32.next_up(), 1.0))),
            key(|draft, _| draft.header.tensors[0].k = 6),
            key(|draft, _| draft.header.tensors[0].roots[0].kind = "planes".into()),
            key(|draft, _| {
                draft.header.tensors[0].roots[0].params.insert("bits".into(), 8.into());
            }),
            key(|draft, _| draft.header.constants[0].dims = vec![1, 1]),
            key(|draft, _| {
                draft.constant(&Array::f32(&[1], &[2.0]));
            }),
            key(|draft, _| {
                draft.blob(vec![2; 100]);
            }),
        ];
        for act in [Act::Clip { lo: 0.0, hi: f32::NEG_INFINITY }, Act::Clip { lo: -0.0, hi: f32::INFINITY }] {
            all.push(key(|draft, _| draft.header.graphs[0].body.nodes[0].op = Op::Unary(UnaryOp::Act(act))));
        }
        let other_bytes = {
            let mut other = Draft::default();
            other.blob([vec![1; 99], vec![2]].concat());
            let (draft, rung) = draft();
            other.header = draft.header;
            other.candidate().key(&rung)
        };
        all.push(other_bytes);
        for (i, key) in all.iter().enumerate() {
            assert!(!all[..i].contains(key), "{i}");
        }
    }

    #[test]
    fn names_of_packs_and_rungs_and_other_graphs_make_none() {
        let plain = key(|_, _| ());
        assert_eq!(key(|_, rung| rung.id = "other".into()), plain);
        assert_eq!(key(|draft, _| draft.header.card.name = "other".into()), plain);
        let more = key(|draft, _| {
            draft.graph(Graph::default());
        });
        assert_eq!(more, plain);
        let (draft, rung) = draft();
        let candidate = draft.candidate();
        assert_eq!([candidate.key(&rung), candidate.key(&rung)], [plain; 2]);
    }

    #[test]
    fn a_draft_that_changes_has_the_keys_of_one_that_was_made_so() {
        let (mut draft, mut rung) = draft();
        type Change = fn(&mut Draft, &mut Rung);
        let changes: [Change; 7] = [
            |draft, _| draft.header.graphs[0].values[0].range = None,
            |draft, _| draft.header.graphs[0].values[0].range = Some((-2.0, 1.0)),
            |draft, _| draft.header.graphs[0].values[0].name = "other".into(),
            |draft, _| draft.header.graphs[0].body.nodes.clear(),
            |draft, _| draft.header.tensors[0].roots[0].kind = "planes".into(),
            |draft, _| draft.header.constants.clear(),
            |_, rung| rung.takes.clear(),
        ];
        let mut seen = vec![draft.candidate().key(&rung)];
        for (i, change) in changes.iter().enumerate() {
            change(&mut draft, &mut rung);
            let now = draft.candidate().key(&rung);
            let made = key(|draft, rung| changes[..=i].iter().for_each(|change| change(draft, rung)));
            assert!(now == made && !seen.contains(&now), "change {i}");
            seen.push(now);
        }
        // And back again.
        draft.header.graphs[0].values[0].range = None;
        let made = key(|draft, rung| {
            changes.iter().for_each(|change| change(draft, rung));
            draft.header.graphs[0].values[0].range = None;
        });
        assert_eq!(draft.candidate().key(&rung), made);
    }
}
