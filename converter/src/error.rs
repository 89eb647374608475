//! Why a conversion stops.

use crate::import::ImportError;
use crate::import::gguf::GgufError;
use crate::import::ofa::SupernetError;
use crate::import::pretrained::PretrainedError;
use edge_runtime::inputs::InputError;
use edge_runtime::pack::{PackError, PackTrouble};
use edge_runtime::plan::PlanError;
use edge_runtime::{RunError, SessionError};
use std::path::PathBuf;

/// A conversion that stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum ConvertError {
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("samples {}: {why}", path.display())]
    Samples { path: PathBuf, why: String },
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(
        "{source}; dimensions of its inputs are free and none of the usual sizes suit it: give shapes (--shape) or samples (--calib)"
    )]
    FreeDimensions { source: PlanError },
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Device(#[from] edge_runtime::device::DeviceError),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    Select(#[from] edge_runtime::select::SelectError),
    #[error(
        "output `{}`, element {} is {} for sample {run} of {origin}, in the model's own floats: nothing can be measured against it; \
         give samples that the model is made for (--calib), or look for the number in its weights",
        output.0, output.1, output.2
    )]
    NotFinite { output: (String, usize, f32), run: usize, origin: String },
    #[error("weight `{tensor}`: {why}")]
    Weight { tensor: String, why: String },
    #[error("option {option}: {why}")]
    Option { option: &'static str, why: String },
    #[error("supernet: {why}")]
    Supernet { why: String },
    #[error("not confirmed: {0}")]
    Witness(String),
    #[error("the page's template: {0}")]
    Page(String),
    #[error("interrupted")]
    Interrupted,
}

impl ConvertError {
    /// The process's exit code, as the README lists them.
    pub fn exit_code(&self) -> u8 {
        match self {
            ConvertError::Import(
                ImportError::Unsupported(_)
                | ImportError::Nodes { .. }
                | ImportError::Supernet(SupernetError::Kind { .. })
                | ImportError::Gguf(GgufError::Unsupported { .. })
                | ImportError::Pretrained(PretrainedError::Unsupported { .. }),
            ) => 3,
            ConvertError::Import(
                ImportError::Gguf(GgufError::Read { .. })
                | ImportError::Pretrained(PretrainedError::Read { .. }),
            ) => 6,
            ConvertError::Import(ImportError::Fixed { .. }) => 2,
            ConvertError::Import(_) | ConvertError::Weight { .. } | ConvertError::Supernet { .. } => 4,
            ConvertError::Io { .. } | ConvertError::Device(_) => 6,
            ConvertError::Pack(e) => match e.trouble() {
                PackTrouble::Io => 6,
                PackTrouble::Cancelled => 130,
                PackTrouble::BadFile => 4,
                _ => 1,
            },
            ConvertError::Input(_) => 4,
            ConvertError::Samples { .. } | ConvertError::Option { .. } | ConvertError::NotFinite { .. } => 2,
            // What a sample brings into a run.
            ConvertError::Run(
                RunError::Step { .. }
                | RunError::NotFinite { .. }
                | RunError::TooLarge { .. }
                | RunError::InputBytes { .. },
            ) => 2,
            ConvertError::Plan(e)
            | ConvertError::FreeDimensions { source: e }
            | ConvertError::Session(SessionError::Plan(e))
                if of_inputs(e) =>
            {
                2
            }
            ConvertError::Plan(_)
            | ConvertError::FreeDimensions { .. }
            | ConvertError::Select(_)
            | ConvertError::Session(_) => 3,
            ConvertError::Witness(_) => 7,
            ConvertError::Interrupted => 130,
            ConvertError::Run(_) | ConvertError::Page(_) => 1,
        }
    }
}

/// Whether a plan cannot be made for the inputs that were given.
fn of_inputs(e: &PlanError) -> bool {
    matches!(
        e,
        PlanError::NoSuchInput { .. }
            | PlanError::MissingInput { .. }
            | PlanError::InputType { .. }
            | PlanError::InputShape { .. }
            | PlanError::DimConflict { .. }
            | PlanError::NeedsValue { .. }
    )
}
