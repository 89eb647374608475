//! A draft as it stands, to be run or to be known by what it is.

use crate::draft::Draft;
use crate::journal::{Key, Mix};
use edge_runtime::Model;
use edge_runtime::pack::Rung;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
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
    /// As the runtime sees it.
    pub fn model(&self) -> &Arc<Model> {
        self.model.get_or_init(|| self.draft.open())
    }

    /// All that a run of the rung follows from but its inputs: the graph with its ranges, constants, weight expressions, blobs by
    /// their content, how activations are held and what is taken.
    pub fn key(&self, rung: &Rung) -> Key {
        let header = &self.draft.header;
        let content = self.content.get_or_init(|| {
            let mix = Mix::of("content").bytes(self.draft.hashes().as_flattened());
            mix.debug(&header.constants).debug(&header.tensors).done()
        });
        let graph = || Mix::of("graph").debug(&header.graphs.get(rung.graph as usize)).done();
        let graph = *self.graphs.borrow_mut().entry(rung.graph).or_insert_with(graph);
        Mix::of("candidate").key(content).key(&graph).debug(&(rung.acts, &rung.takes)).done()
    }
}
