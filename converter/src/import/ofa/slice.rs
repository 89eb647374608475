//! Slices of a supernet's tensors, in the runtime's layouts.

use super::names::find;
use super::{SupernetError, find::transform};
use crate::import::checkpoint::Checkpoint;
use crate::model::Array;

/// A checkpoint whose tensors have been checked.
pub(super) struct Slices<'a> {
    pub checkpoint: &'a Checkpoint,
    pub epsilon: f64,
}

impl Slices<'_> {
    fn floats(&self, name: &str) -> Result<Vec<f32>, SupernetError> {
        let stored = find(self.checkpoint, name).map_or(name, |info| info.name.as_str());
        Ok(self.checkpoint.floats(stored)?)
    }

    fn dims(&self, name: &str) -> Result<Vec<usize>, SupernetError> {
        match find(self.checkpoint, name) {
            Some(info) => Ok(info.dims.clone()),
            None => Err(self.checkpoint.wrong(name, "it is missing").into()),
        }
    }

    /// The first `out` rows and `channels` channels of `[out, channels, ky, kx]` as rows `[ky * kx * channels]`.
    pub fn rows(&self, name: &str, out: usize, channels: usize) -> Result<Array, SupernetError> {
        let (dims, values) = (self.dims(name)?, self.floats(name)?);
        let [all_out, all_channels, taps @ ..] = &dims[..] else {
            return Err(self.checkpoint.wrong(name, format!("shape {dims:?}")).into());
        };
        let taps: usize = taps.iter().product();
        if out > *all_out || channels > *all_channels {
            let why = format!("shape {dims:?}, of which {out} x {channels} are wanted");
            return Err(self.checkpoint.wrong(name, why).into());
        }
        let mut rows = Vec::with_capacity(out * taps * channels);
        for row in values.chunks_exact((all_channels * taps).max(1)).take(out) {
            for tap in 0..taps {
                rows.extend((0..channels).map(|c| row[c * taps + tap]));
            }
        }
        Ok(Array::f32(&[out, taps * channels], &rows))
    }

    /// The first entries of a vector.
    pub fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, SupernetError> {
        let mut values = self.floats(name)?;
        if values.len() < len {
            let why = format!("{} elements, of which {len} are wanted", values.len());
            return Err(self.checkpoint.wrong(name, why).into());
        }
        values.truncate(len);
        Ok(values)
    }

    /// A batch norm of stored statistics as a scale and a bias a channel: `scale = weight / sqrt(variance + epsilon)`,
    /// `bias - mean * scale`.
    pub fn norm(&self, prefix: &str, len: usize) -> Result<[Array; 2], SupernetError> {
        let part = |part: &str| self.vector(&format!("{prefix}.{part}"), len);
        let (weight, bias, mean, var) =
            (part("weight")?, part("bias")?, part("running_mean")?, part("running_var")?);
        let (mut scale, mut shift) = (Vec::with_capacity(len), Vec::with_capacity(len));
        for i in 0..len {
            let s = f64::from(weight[i]) / (f64::from(var[i]) + self.epsilon).sqrt();
            scale.push(s as f32);
            shift.push((f64::from(bias[i]) - f64::from(mean[i]) * s) as f32);
        }
        Ok([Array::f32(&[len], &scale), Array::f32(&[len], &shift)])
    }

    /// A block's kernels of one size for its first `channels` channels, as rows `[kernel * kernel]`: from the largest, step by step,
    /// the centre times the matrix of the step.
    pub fn kernels(
        &self,
        prefix: &str,
        largest: usize,
        kernel: usize,
        channels: usize,
    ) -> Result<Array, SupernetError> {
        let name = format!("{prefix}depth_conv.conv.weight");
        let mut rows = self.vector(&name, channels * largest * largest)?;
        let mut size = largest;
        while size > kernel {
            let matrix = self.floats(&transform(prefix, size))?;
            let small = size - 2;
            let count = small * small;
            if matrix.len() != count * count {
                return Err(self.checkpoint.wrong(&transform(prefix, size), "not square").into());
            }
            let mut smaller = Vec::with_capacity(channels * count);
            for row in rows.chunks_exact(size * size) {
                let centre = |i: usize| f64::from(row[(i / small + 1) * size + i % small + 1]);
                let centre: Vec<f64> = (0..count).map(centre).collect();
                for weights in matrix.chunks_exact(count) {
                    let sum: f64 = weights.iter().zip(&centre).map(|(w, x)| f64::from(*w) * x).sum();
                    smaller.push(sum as f32);
                }
            }
            (rows, size) = (smaller, small);
        }
        Ok(Array::f32(&[channels, size * size], &rows))
    }
}
