//! The file: layout, reading, checking, writing. `runtime/PACK.md` is the specification.

mod candidates;
mod check;
mod error;
mod file;
mod header;
mod layout;
mod loaded;
mod map;
mod owner;
mod packed;
mod preamble;
mod scan;
mod source;
mod temporary;
mod verify;
mod writer;

pub use candidates::{Candidates, Foreseen};
pub(crate) use candidates::{NO_PART, NUMBERS};
pub(crate) use check::{check_graph, constants_end};
pub use error::{PackError, PackTrouble};
pub use file::{FEATURES, PackFile, RungState};
pub use header::{
    Acts, Arg, Blob, BlobId, Card, Choice, Colour, Constant, ConstantData, Cost, Expr, Golden, GoldenSource,
    GoldenValue, Header, ImageLayout, PERPLEXITY, Parts, Preprocess, Quality, Rung, Section, Subnet, Take,
    Tensor,
};
pub use layout::{BLOB_ALIGN, MAX_HEADER, section_align};
pub use loaded::Loaded;
pub use map::{FileMap, Mapped};
pub use preamble::{FORMAT, MAGIC, PREAMBLE, RUNTIME_VERSION};
pub(crate) use preamble::{finish128, hash128};
pub use scan::{MAX_BRACKETS, MAX_DECODED};
pub use source::{BlobSource, MemorySource};
pub use verify::Verified;
pub use writer::{Contents, Written, write};

/// A 128-bit hash as 32 hexadecimal digits.
mod hex128 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(hash: &u128, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&format!("{hash:032x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u128, D::Error> {
        let text = String::deserialize(d)?;
        // `from_str_radix` alone would also take a sign, capitals and any number of digits.
        let digits = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let hash = if digits { u128::from_str_radix(&text, 16).ok() } else { None };
        hash.ok_or_else(|| D::Error::custom("a hash is 32 lower-case hexadecimal digits"))
    }
}
