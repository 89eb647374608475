//! The offline converter: trained models in, one `model.pack` out.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod alone;
mod board;
mod calibrate;
mod candidate;
mod card;
pub mod case;
mod compare;
pub mod compress;
mod convert;
mod correct;
pub mod draft;
mod equalize;
mod error;
mod family;
mod golden;
pub mod import;
pub mod integers;
mod journal;
mod known;
pub mod ladder;
mod language;
pub mod lowrank;
pub mod measure;
pub mod model;
mod report;
pub mod samples;
mod shapes;
pub mod simplify;
mod supernet;
pub mod units;
pub mod witness;

pub use calibrate::Rows;
pub use card::read_card;
pub use compare::{Comparison, Layer, compare};
pub use compress::Family;
pub use convert::{Options, Watch, convert};
pub use error::ConvertError;
pub use journal::{Cache, default_folder};
pub use language::{convert_language_model, is_language_model};
pub use report::{Measurements, Page, PageOptions, Report, RungReport, TensorReport, write_page};
pub use supernet::{convert as convert_supernet, convert_checkpoint};
