//! From a path and a budget to a chosen rung.

use crate::args::Target;
use crate::exit::Failure;
use crate::{inputs, subnet};
use edge_runtime::device::{ByteSize, Device};
use edge_runtime::inputs::NamedArray;
use edge_runtime::pack::{PackFile, Rung};
use edge_runtime::plan::InputSpec;
use edge_runtime::select::{self, Access, Candidate, Reader, Request, Selection};
use edge_runtime::subnet::Cut;
use edge_runtime::weights::Registry;
use edge_runtime::{Model, Session};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// An opened pack and the device it is to run on.
pub struct Opened {
    pub device: Arc<Device>,
    pub pack: Arc<PackFile>,
    /// Over a mapping of the whole file, for planning; no weight is read through it.
    pub model: Model,
    /// The subnet that was asked for, whose rungs are chosen among.
    pub cut: Option<Cut>,
    /// The quality that is expected of it, where it was chosen by that.
    pub expected: Option<f32>,
}

/// The device, within the budget asked for.
pub fn device(target: &Target) -> Result<Arc<Device>, Failure> {
    crate::logging::start(target.verbose);
    let budget = target.mem.map(|ByteSize(bytes)| bytes);
    if let Some(bytes) = budget {
        log::info!("budget {}", ByteSize(bytes));
    }
    Ok(Device::builder()
        .threads(target.threads)
        .budget(budget)
        .bf16(target.bf16)
        .bake(target.bake)
        .pin(!target.no_pin)
        .build()?)
}

/// Opens the pack and probes the device.
pub fn open(path: &Path, target: &Target) -> Result<Opened, Failure> {
    let device = device(target)?;
    let pack = PackFile::open_within(path, device.ledger().budget())?;
    if pack.missing_bytes() > 0 {
        let missing = ByteSize(pack.missing_bytes());
        let (whole, all) = (pack.available().len(), pack.header().rungs.len());
        if target.strict {
            return Err(Failure::Pack(pack.cut_error()));
        }
        eprintln!(
            "edge-run: {}: {missing} are missing at the end; {whole} of {all} rungs are whole",
            path.display()
        );
    }
    let model = Model::new(
        pack.shared_header(),
        Arc::new(pack.map(pack.file_len())?),
        Arc::new(Registry::standard()),
    );
    let (model, cut) = match &target.subnet {
        Some(text) if text == subnet::ANY => {
            subnet::has_table(&model, target.rung.as_deref())?;
            (model, None)
        }
        Some(text) => {
            let (model, cut) = subnet::of(&model, text, target.rung.as_deref())?;
            subnet::warn(model.header(), &cut);
            (model, Some(cut))
        }
        None => (model, None),
    };
    Ok(Opened { device, pack: Arc::new(pack), model, cut, expected: None })
}

impl Opened {
    /// A rung by its index.
    pub fn rung(&self, rung: usize) -> &Rung {
        &self.model.rungs()[rung]
    }

    /// What a command that copies the outputs chooses among.
    pub fn request<'a>(&'a self, target: &'a Target) -> Request<'a> {
        Request {
            // All rungs of a subnet are there, and of the precision that was asked for.
            available: if self.cut.is_some() { &[] } else { self.pack.available() },
            forced: target.rung.as_deref().filter(|_| self.cut.is_none()),
            extra: 0,
            copies_outputs: true,
        }
    }

    /// What gets the bytes of rungs.
    pub fn reader(&self, access: Access) -> Reader {
        let reader = Reader::new(self.pack.clone(), access);
        if self.cut.is_some() { reader.among(&self.model) } else { reader }
    }

    /// Picks the rung.
    pub fn select(&self, request: &Request<'_>, inputs: &[InputSpec]) -> Result<Selection, Failure> {
        Ok(select::select(&self.device, &self.model, inputs, request)?)
    }

    /// Picks the rung and gets at its weights; says so on stderr when those of better ones are damaged.
    pub fn select_read(
        &self,
        request: &Request<'_>,
        inputs: &[InputSpec],
        reader: &mut Reader,
    ) -> Result<(Selection, Model), Failure> {
        let (selection, source) = select::select_read(&self.device, &self.model, inputs, request, reader)?;
        Ok((selection, self.model.with_source(source)))
    }

    /// Restricts a request to the best rung that fits and runs within `latency` on these inputs.
    pub fn within<'a>(
        &'a self,
        request: Request<'a>,
        arrays: &[NamedArray],
        reader: &mut Reader,
        latency: Option<Duration>,
    ) -> Result<Request<'a>, Failure> {
        let Some(latency) = latency else { return Ok(request) };
        let specs = inputs::specs(arrays);
        let set = |session: &mut Session| {
            arrays.iter().enumerate().try_for_each(|(i, array)| session.set_input(i, &array.data))
        };
        let paced = select::select_within(&self.device, &self.model, &specs, &request, reader, latency, set)?;
        Ok(Request { forced: Some(&self.rung(paced.rung).id), ..request })
    }

    /// The better rung that would take least more.
    pub fn next_better(
        &self,
        request: &Request<'_>,
        inputs: &[InputSpec],
        chosen: &Selection,
    ) -> Result<Option<Candidate>, Failure> {
        Ok(select::next_better(&self.device, &self.model, inputs, request, chosen)?)
    }

    /// What every rung would take.
    pub fn candidates(
        &self,
        request: &Request<'_>,
        inputs: &[InputSpec],
        chosen: &Selection,
    ) -> Result<Vec<Candidate>, Failure> {
        Ok(select::candidates(&self.device, &self.model, inputs, request, chosen)?)
    }
}
