//! What graphs of decoders are made of: parameters and tensors by their roles, whatever kind of file they are in.

use crate::import::ImportError;
use crate::import::gguf::Kind;
use crate::import::tokenizer::Found;
use std::collections::BTreeSet;
use std::path::Path;

/// A decoder as it is stored. Roles are what GGUF calls parameters and tensors, without the architecture before them:
/// `attention.head_count`, `blk.0.attn_q.weight`.
pub trait ModelFile {
    /// The file, or the folder.
    fn path(&self) -> &Path;

    /// The name of its family, one of those that there are graphs of.
    ///
    /// # Errors
    /// When the file does not say it.
    fn family(&self) -> Result<&str, ImportError>;

    /// A parameter that counts something; `None` when the file does not say it.
    ///
    /// # Errors
    /// When it is something else.
    fn count_of(&self, role: &str) -> Result<Option<usize>, ImportError>;

    /// A real parameter, finite; `None` when the file does not say it.
    ///
    /// # Errors
    /// When it is something else.
    fn real_of(&self, role: &str) -> Result<Option<f32>, ImportError>;

    /// A parameter that is a text; `None` when the file does not say it.
    ///
    /// # Errors
    /// When it is something else.
    fn text_of(&self, role: &str) -> Result<Option<&str>, ImportError>;

    /// Whether a layer sees a window of tokens alone; `None` when the file leaves that to the family.
    ///
    /// # Errors
    /// When what it says of layers is something else.
    fn is_local(&self, layer: usize) -> Result<Option<bool>, ImportError>;

    /// What the frequencies of rotary positions are divided by, one for each of so many pairs; empty when they are as `base` has them.
    ///
    /// # Errors
    /// When the file has others.
    fn divisors(&self, pairs: usize, base: f32) -> Result<Vec<f32>, ImportError>;

    /// Whether families whose rotary positions turn neighbours are stored so; else first halves of heads stand before second ones.
    fn turns_neighbours(&self) -> bool;

    /// What is added to the numbers of a vector: some forms store the weights of norms without the 1 in them.
    fn added_to(&self, role: &str) -> f32;

    /// The tensor of a role.
    fn stored(&self, role: &str) -> Option<Stored<'_>>;

    /// The names of tensors that have none of these roles.
    fn unused(&self, used: &BTreeSet<String>) -> Vec<String>;

    /// Where its parameters are, in words.
    fn stated_in(&self) -> &'static str;

    /// What of its tensors nothing decodes, in words.
    fn not_decoded(&self) -> Vec<String>;

    /// Lets the memory behind some bytes of the file go; the next use reads them again.
    fn let_go(&self, part: &[u8]);

    /// The tokenizer that comes with it.
    ///
    /// # Errors
    /// When it contradicts itself.
    fn tokenizer(&self) -> Result<Found, ImportError>;

    /// What is wrong with a parameter.
    fn wrong_parameter(&self, role: &str, why: String) -> ImportError;

    /// What is wrong with a tensor.
    fn wrong(&self, role: &str, why: String) -> ImportError;

    /// What is not implemented.
    fn not_implemented(&self, what: Vec<String>) -> ImportError;
}

/// A tensor in its file.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// Its shape, outermost dimension first.
    pub dims: &'a [usize],
    /// The type of its elements.
    pub kind: &'static Kind,
    /// The elements, rows one after the other.
    pub bytes: &'a [u8],
}
