//! Perplexity of a text: the exponential of the mean negative log-likelihood of its tokens, each after those before it in its window.

use super::generator::TextError;
use crate::decode::Decoder;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a text is cut. Windows follow one another and do not overlap; what is left at the end is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Tokens of a window.
    pub tokens: usize,
    /// The first token that counts. `tokens / 2 + 1` is what llama.cpp's `perplexity` does: the first half of a window is there to be read
    /// alone. 1: every token that follows one.
    pub from: usize,
    /// What stands in place of the first token of each window, for models whose texts begin with a token.
    pub first: Option<u32>,
}

impl Windows {
    /// As llama.cpp's `perplexity` cuts, of so many tokens (it takes 512).
    pub fn llama_cpp(tokens: usize, first: Option<u32>) -> Windows {
        Windows { tokens, from: tokens / 2 + 1, first }
    }
}

/// What was measured so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Perplexity {
    /// Windows that were read.
    pub windows: usize,
    /// Tokens that counted.
    pub tokens: usize,
    sum: f64,
    squares: f64,
}

impl Perplexity {
    /// Mean negative log-likelihood of a token, in nats.
    pub fn nll(&self) -> f64 {
        self.sum / self.tokens as f64
    }

    /// The perplexity.
    pub fn value(&self) -> f64 {
        self.nll().exp()
    }

    /// Its standard error, by that of the mean.
    pub fn error(&self) -> f64 {
        let n = self.tokens as f64;
        let variance = self.squares / n - self.nll() * self.nll();
        self.value() * (variance.max(0.0) / (n - 1.0)).sqrt()
    }

    fn add(&mut self, nll: f64) {
        self.tokens += 1;
        self.sum += nll;
        self.squares += nll * nll;
    }
}

/// Negative log-likelihood of a token by the softmax of logits, in f64.
fn nll(logits: &[f32], id: usize) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - most).exp()).sum();
    sum.ln() - f64::from(logits.get(id).copied().unwrap_or(f32::NAN) - most)
}

/// Measures a text of token ids; `see` is called after each window, with what was measured until then. Stops after the window in which `stopped` is set.
///
/// # Errors
/// When the text has fewer tokens than a window, or a window more than the context.
pub fn perplexity(
    decoder: &mut Decoder,
    ids: &[u32],
    windows: &Windows,
    stopped: &AtomicBool,
    see: &mut dyn FnMut(&Perplexity),
) -> Result<Perplexity, TextError> {
    let (window, context) = (windows.tokens, decoder.context());
    if window < 2 || window > context {
        return Err(TextError::Window { window, context });
    }
    if ids.len() < window {
        return Err(TextError::Short { tokens: ids.len(), least: window });
    }
    let mut all = Perplexity::default();
    let mut fed = Vec::with_capacity(window);
    for part in ids.chunks_exact(window) {
        fed.clear();
        fed.extend(part.iter().map(|id| i64::from(*id)));
        if let Some(first) = windows.first {
            fed[0] = i64::from(first);
        }
        decoder.truncate(0);
        // The last token is foretold, and never read.
        decoder.feed_all(&fed[..window - 1], &mut |i, logits| {
            if i + 1 >= windows.from {
                all.add(nll(logits, part[i + 1] as usize));
            }
        })?;
        all.windows += 1;
        see(&all);
        if stopped.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::{Perplexity, nll};

    #[test]
    fn likelihoods_are_those_of_a_softmax() {
        // 1 / (1 + e + e^2), e / .., e^2 / ..
        let total = 1.0 + 1f64.exp() + 2f64.exp();
        for (id, logit) in [0.0, 1.0, 2.0].into_iter().enumerate() {
            assert!((nll(&[50.0, 51.0, 52.0], id) - (total.ln() - logit)).abs() < 1e-12);
        }
        assert!(nll(&[0.0], 1).is_nan());
    }

    #[test]
    fn errors_are_those_of_the_mean() {
        let mut all = Perplexity::default();
        [1.0, 2.0, 4.0, 5.0].into_iter().for_each(|nll| all.add(nll));
        assert!((all.value() - 3f64.exp()).abs() < 1e-12);
        // Variance 2.5, of 4 numbers: sqrt(2.5 / 3).
        assert!((all.error() - 3f64.exp() * (2.5f64 / 3.0).sqrt()).abs() < 1e-12);
    }
}
