//! The file: layout, reading, checking, writing. `runtime/PACK.md` is the specification.

mod header;

pub use header::{
    Acts, Arg, Blob, BlobId, Card, Colour, Constant, ConstantData, Expr, Golden, GoldenSource, GoldenValue,
    Header, ImageLayout, Preprocess, Quality, Rung, Section, Take, Tensor,
};

/// A 128-bit hash as 32 hexadecimal digits.
mod hex128 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(hash: &u128, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&format!("{hash:032x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u128, D::Error> {
        let text = String::deserialize(d)?;
        u128::from_str_radix(&text, 16).map_err(|_| D::Error::custom("a hash is 32 hexadecimal digits"))
    }
}
