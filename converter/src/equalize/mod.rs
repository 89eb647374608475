//! Channels of like size: what one scale of 8 bits serves well.
//!
//! A value of an integer rung has one scale for all of its channels. Where channels differ much in size, the small ones get a few of
//! the 256 levels, and the outputs lose what they say. So a channel `c` that is small is divided by a number `e[c] < 1` where it is
//! made, and the columns of the matrices that read it are multiplied by it (Nagel et al., "Data-Free Quantization Through Weight
//! Equalization and Bias Correction", 2019, with ranges of activations for those of weights):
//! ```text
//! x'[c] = x[c] / e[c]        in the rows and the bias of what makes x, or the factor behind its activation function
//! W'[n][c] = W[n][c] * e[c]  in what reads x
//! ```
//! `e[c]` is a power of two, so that the model computes what it computed, to the bit. The groups of a matrix gain as well: a column whose channel is small no longer asks for
//! levels that nothing needs (Lin et al., "AWQ", 2023).
//!
//! How far `e` goes is a bet on samples not seen, which may have more in a channel than those that are. `choose` makes it on two
//! halves of the samples, each judged by the other. It is made where the caller asks for it (`--equalize`): what stays in floats
//! without it often serves samples held out better, in more time (`benches/README.md`, "Even channels").

mod apply;
mod choose;
mod classes;
#[cfg(test)]
mod tests;

use crate::draft::Draft;
use crate::error::ConvertError;
use crate::measure::Evaluator;
use crate::model::Model;
use crate::samples::Sample;

/// Makes the channels of a model's values more alike, where that makes them better in 8 bits. Gives how many matrices read such a
/// value. `float` is a draft whose first rung is the model as it is.
///
/// # Errors
/// When a sample does not suit the model, or the evaluator was stopped.
pub fn equalize(
    model: &mut Model,
    evaluator: &Evaluator<'_>,
    float: &Draft,
    samples: &[Sample],
) -> Result<usize, ConvertError> {
    let Some(first) = samples.first() else { return Ok(0) };
    let (opened, rung) = (float.open(), &float.header.rungs[0]);
    let dims = choose::dims(evaluator, &opened, rung, first)?;
    let classes = classes::find(model, &dims);
    let chosen = choose::sizes(evaluator, &opened, rung, samples, model, &classes)?;
    let mut readers = 0;
    for (class, exponents) in classes.iter().zip(chosen) {
        let Some(exponents) = exponents else { continue };
        apply::apply(model, class, &exponents);
        readers += class.readers.len();
    }
    Ok(readers)
}
