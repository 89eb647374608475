//! Windows of a text's tokens: some to calibrate with, others to measure with.

use crate::convert::Options;
use crate::error::ConvertError;
use crate::journal::{Key, Mix};
use crate::samples::Sample;
use edge_runtime::graph::DType;
use edge_runtime::inputs::NamedArray;
use edge_runtime::tokenizer::Tokenizer;
use std::path::Path;

/// Tokens of a window that shows what matrices are multiplied with.
const CALIBRATION_TOKENS: usize = 256;
/// Most of these.
const CALIBRATION: usize = 24;
/// Tokens of a window that candidates are judged on, the second half of which counts.
const PROBE_TOKENS: usize = 128;
/// Windows that they are judged on: each costs a run for every matrix and precision.
const PROBES: usize = 2;
/// Tokens of a window that perplexity is measured on, the second half of which counts, as llama.cpp measures.
const HELD_OUT_TOKENS: usize = 512;
/// Most of these.
const HELD_OUT: usize = 8;

/// A window whose tokens are foretold.
pub struct Window {
    /// Its tokens, and the places whose logits are wanted.
    pub sample: Sample,
    /// The token behind each of these places.
    pub next: Vec<u32>,
}

/// What a ladder is made with.
pub struct Texts {
    /// Windows that show what matrices are multiplied with.
    pub calibration: Vec<Sample>,
    /// Windows that candidates are judged on, some of these.
    pub probes: Vec<Sample>,
    /// Windows that perplexity is measured on.
    pub held_out: Vec<Window>,
    /// What they are, for the report.
    pub origin: String,
}

impl Texts {
    /// Of the texts that the options name; the last quarter of `--calib` is held out when there is no `--heldout`. Windows have at most
    /// `longest` tokens: what the model was made for.
    ///
    /// # Errors
    /// When one cannot be read, is not UTF-8, or has fewer tokens than two windows.
    pub fn of(options: &Options, tokenizer: &Tokenizer, longest: usize) -> Result<Texts, ConvertError> {
        let path = options.calib.as_deref().unwrap_or(Path::new(""));
        let all = tokens(path, tokenizer)?;
        let (calibration, held_out, origin) = match &options.held_out {
            Some(other) => (all, tokens(other, tokenizer)?, other.as_path()),
            None => {
                let cut = all.len() - all.len() / 4;
                (all[..cut].to_vec(), all[cut..].to_vec(), path)
            }
        };
        let first = tokenizer.tokens().first;
        let spread = |ids: &[u32], (tokens, what): (usize, &str), most: usize, path: &Path| {
            let tokens = tokens.min(longest);
            // A token more, which the last place foretells.
            let windows = spread(ids.len(), tokens + 1, most);
            if windows.is_empty() {
                let why = format!(
                    "{} tokens to {what} with; at least {} are expected: give a longer text",
                    ids.len(),
                    tokens + 1,
                );
                return Err(ConvertError::Samples { path: path.into(), why });
            }
            Ok(windows.into_iter().map(|at| Window::of(&ids[at..=at + tokens], first)).collect::<Vec<_>>())
        };
        let whole =
            |windows: Vec<Window>| windows.into_iter().map(|window| window.sample).collect::<Vec<_>>();
        let held_out = spread(&held_out, (HELD_OUT_TOKENS, "measure"), HELD_OUT, origin)?;
        let name = origin.file_name().unwrap_or(origin.as_os_str()).to_string_lossy();
        let counted: usize = held_out.iter().map(|window| window.next.len()).sum();
        Ok(Texts {
            calibration: whole(spread(&calibration, (CALIBRATION_TOKENS, "calibrate"), CALIBRATION, path)?),
            probes: whole(spread(&calibration, (PROBE_TOKENS, "calibrate"), PROBES, path)?),
            origin: format!("{counted} tokens of {name}, in windows of {}", HELD_OUT_TOKENS.min(longest)),
            held_out,
        })
    }

    /// What the held-out windows are.
    pub fn held_out_key(&self) -> Key {
        let mix = Mix::of("held out");
        self.held_out.iter().fold(mix, |mix, w| mix.key(&w.sample.key()).debug(&w.next)).done()
    }
}

impl Window {
    /// Of these tokens, the last of which is foretold and not read; `first` stands in place of the first one.
    fn of(ids: &[u32], first: Option<u32>) -> Window {
        let tokens = ids.len() - 1;
        let read = ids[..tokens].iter().enumerate().map(|(i, id)| match (i, first) {
            (0, Some(first)) => i64::from(first),
            _ => i64::from(*id),
        });
        let wanted = tokens / 2..tokens;
        let array = |name: &str, dims: Vec<usize>, values: Vec<i64>| NamedArray {
            name: name.into(),
            dtype: DType::I64,
            dims,
            data: values.into_iter().flat_map(i64::to_le_bytes).collect(),
        };
        let inputs = vec![
            array("input_ids", vec![1, tokens], read.collect()),
            array("past", vec![1], vec![0]),
            array("wanted", vec![wanted.len()], wanted.clone().map(|at| at as i64).collect()),
        ];
        Window { sample: Sample { inputs, label: None }, next: ids[wanted.start + 1..].to_vec() }
    }
}

/// Where windows of so many tokens begin: at most `most`, spread over all, none upon another.
fn spread(all: usize, tokens: usize, most: usize) -> Vec<usize> {
    let count = (all / tokens).min(most);
    (0..count).map(|i| i * all / count).filter(|at| at + tokens <= all).collect()
}

/// The tokens of a text.
fn tokens(path: &Path, tokenizer: &Tokenizer) -> Result<Vec<u32>, ConvertError> {
    let bytes = std::fs::read(path).map_err(|source| ConvertError::Io { path: path.into(), source })?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let why = format!("byte {at} is not UTF-8; of a language model the samples are a text");
        ConvertError::Samples { path: path.into(), why }
    })?;
    let mut ids = Vec::new();
    tokenizer.encode(&text, false, &mut ids);
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::{Window, spread};

    #[test]
    fn windows_are_spread_and_foretell_their_second_half() {
        assert_eq!(spread(100, 10, 4), [0, 25, 50, 75]);
        assert_eq!(spread(25, 10, 4), [0, 12]);
        assert!(spread(9, 10, 4).is_empty());
        let window = Window::of(&[5, 6, 7, 8, 9], Some(1));
        let ids: Vec<u8> = [1i64, 6, 7, 8].iter().flat_map(|id| id.to_le_bytes()).collect();
        assert_eq!((&window.sample.inputs[0].data, &window.next[..]), (&ids, &[8, 9][..]));
        let wanted: Vec<u8> = [2i64, 3].iter().flat_map(|id| id.to_le_bytes()).collect();
        assert_eq!(window.sample.inputs[2].data, wanted);
    }
}
