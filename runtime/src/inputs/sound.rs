//! Sound.

use super::{InputError, NamedArray};
use crate::graph::DType;
use hound::{SampleFormat, WavReader};
use std::path::Path;

/// A WAV file as mono samples in [-1, 1], `[1, samples]`, brought to `sample_rate` by linear interpolation when
/// its own differs.
///
/// # Errors
/// When the file is no WAV, or its samples are more than `limit` bytes.
pub fn read_sound(path: &Path, name: &str, sample_rate: u32, limit: u64) -> Result<NamedArray, InputError> {
    let wrong = |why: String| InputError::Format { path: path.into(), why };
    let reader = WavReader::open(path).map_err(|e| match e {
        hound::Error::IoError(source) => InputError::Io { path: path.into(), source },
        other => wrong(other.to_string()),
    })?;
    let spec = reader.spec();
    let channels = usize::from(spec.channels.max(1));
    let frames = u64::from(reader.duration());
    let resampled = frames * u64::from(sample_rate) / u64::from(spec.sample_rate.max(1)) + 1;
    let bytes = (frames + 2 * resampled) * 4;
    if bytes > limit {
        return Err(InputError::TooLarge { path: path.into(), bytes, limit });
    }
    let mut mono = Vec::with_capacity(frames as usize);
    let mut frame = 0.0f32;
    let mut push = |i: usize, sample: f32| {
        frame += sample;
        if (i + 1).is_multiple_of(channels) {
            mono.push(frame / channels as f32);
            frame = 0.0;
        }
    };
    match spec.sample_format {
        SampleFormat::Float => {
            for (i, s) in reader.into_samples::<f32>().enumerate() {
                push(i, s.map_err(|e| wrong(e.to_string()))?);
            }
        }
        SampleFormat::Int => {
            let scale = 1.0 / (1u64 << (spec.bits_per_sample.clamp(1, 32) - 1)) as f32;
            for (i, s) in reader.into_samples::<i32>().enumerate() {
                push(i, s.map_err(|e| wrong(e.to_string()))? as f32 * scale);
            }
        }
    }
    let samples =
        if spec.sample_rate == sample_rate { mono } else { resample(&mono, spec.sample_rate, sample_rate) };
    let data = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
    Ok(NamedArray { name: name.to_string(), dtype: DType::F32, dims: vec![1, samples.len()], data })
}

fn resample(x: &[f32], from: u32, to: u32) -> Vec<f32> {
    let step = f64::from(from) / f64::from(to.max(1));
    let len = (x.len() as f64 / step) as usize;
    (0..len)
        .map(|i| {
            let at = i as f64 * step;
            let (lo, part) = (at as usize, at.fract() as f32);
            let a = x.get(lo).copied().unwrap_or(0.0);
            let b = x.get(lo + 1).copied().unwrap_or(a);
            a + (b - a) * part
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::resample;

    #[test]
    fn half_the_rate_takes_every_second_sample() {
        assert_eq!(resample(&[0.0, 1.0, 2.0, 3.0], 32_000, 16_000), [0.0, 2.0]);
        assert_eq!(resample(&[0.0, 1.0, 2.0], 8_000, 16_000), [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]);
    }
}
