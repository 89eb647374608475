//! A converted tiny model with an input for it, in a folder of its own.

use crate::{Folder, Program, edge_convert, edge_run, inputs_of, open};
use edge_runtime::inputs::{NamedArray, write_npy};
use edge_runtime::pack::{Acts, PackFile};
use edge_runtime::weights::Registry;
use std::path::PathBuf;

/// A pack made by `edge-convert`, and an input.
pub struct Sample {
    /// Where everything lies.
    pub folder: Folder,
    /// The pack, `m.pack`.
    pub pack: PathBuf,
    /// Seeded noise for the first input, `x.npy`.
    pub input: PathBuf,
}

impl Sample {
    /// Converts a model with `--keep-float` and further arguments between spaces.
    pub fn new(onnx: &[u8], args: &str) -> Sample {
        let folder = Folder::new("sample");
        let (source, pack) = (folder.write("m.onnx", onnx), folder.file("m.pack"));
        edge_convert().arg(source).arg("-o").arg(&pack).arg("--keep-float").args(args).run().expect(0);
        let model = open(&pack, Registry::standard());
        let (spec, data) = inputs_of(&model, &model.header().rungs[0], 4, 1).swap_remove(0);
        let input = folder.file("x.npy");
        let array = NamedArray { name: spec.name, dtype: spec.dtype, dims: spec.dims, data };
        write_npy(&input, &array).unwrap();
        Sample { folder, pack, input }
    }

    /// `edge-run` of the pack on the input with one thread and a generous budget.
    pub fn run(&self) -> Program {
        edge_run().arg(&self.pack).arg("--input").arg(&self.input).args("--mem 256MB --threads 1")
    }

    /// Ids of the rungs that hold activations so, smallest first.
    pub fn rungs(&self, acts: Acts) -> Vec<String> {
        let pack = PackFile::open(&self.pack).unwrap();
        pack.header().rungs.iter().filter(|r| r.acts == acts).map(|r| r.id.clone()).collect()
    }
}
