//! Windows of convolutions that shrink to their middle, through the matrices that a once-for-all network trains for it
//! (Cai et al. 2020, "Once-for-All", section 3.3): `w' = M middle(w)`, one matrix for all channels.

use super::super::tensors;
use super::edit::{Edit, ints};
use crate::import::supernet::Kernel;
use crate::model::Array;

impl Edit<'_> {
    /// Gives a convolution the window of an option.
    ///
    /// # Errors
    /// When the weight, a matrix or a reader of the weight is not what the table says.
    pub fn kernel(&mut self, table: &Kernel, option: usize) -> Result<(), String> {
        let wrong =
            |why: String| format!("[[kernel]] of choice `{}`: `{}`: {why}", table.choice, table.weight);
        let weight = self.array(&table.weight)?;
        let largest = table.sizes.last().copied().unwrap_or(0);
        let [o, i, h, w] = weight.dims[..] else {
            return Err(wrong(format!("shape {:?}, must be [O, I, {largest}, {largest}]", weight.dims)));
        };
        let values = tensors::floats(&weight).filter(|_| (h, w) == (largest, largest));
        let Some(mut values) = values else {
            return Err(wrong(format!(
                "{}{:?}, must be floats [O, I, {largest}, {largest}]",
                weight.dtype, weight.dims
            )));
        };
        let mut matrices = Vec::new();
        for (name, sizes) in table.transforms.iter().zip(table.sizes.windows(2).rev()) {
            let taps = sizes[0] * sizes[0];
            let matrix = self.array(name)?;
            let m = tensors::floats(&matrix).filter(|_| matrix.dims == [taps, taps]);
            matrices.push(m.ok_or_else(|| {
                wrong(format!("`{name}` has shape {:?}, must be [{taps}, {taps}]", matrix.dims))
            })?);
        }
        let smaller: Vec<usize> = table.sizes[option..].windows(2).rev().map(|pair| pair[0]).collect();
        let mut side = largest;
        for (step, size) in smaller.into_iter().enumerate() {
            values = shrunk(&values, side, size, matrices.get(step).map(Vec::as_slice));
            side = size;
        }
        if side == largest {
            return Ok(());
        }
        let array = Array::f32(&[o, i, side, side], &values);
        let array = match weight.dtype {
            edge_runtime::graph::DType::F32 => array,
            // Stored as it came, whatever the width.
            dtype => {
                let wide: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
                tensors::from_f64(dtype, &array.dims, &wide)
            }
        };
        self.store(&table.weight, &array)?;
        let off = ((largest - side) / 2) as i64;
        for (n, position) in self.readers(&table.weight) {
            let node = &mut self.graph.node[n];
            if node.op_type != "Conv" || position != 1 {
                return Err(wrong(format!(
                    "node `{}` ({}) reads it, and is no convolution",
                    node.name, node.op_type
                )));
            }
            let auto = node.attribute.iter().find(|a| a.name == "auto_pad").and_then(|a| a.s.clone());
            if auto.as_deref().is_some_and(|pad| pad == b"SAME_UPPER" || pad == b"SAME_LOWER") {
                node.set(ints("kernel_shape", &[side as i64; 2]));
                continue;
            }
            let dilations = node.ints("dilations").map_or(vec![1, 1], <[i64]>::to_vec);
            let pads = node.ints("pads").map_or(vec![0; 4], <[i64]>::to_vec);
            let fewer: Vec<i64> =
                pads.iter().zip(dilations.iter().cycle()).map(|(p, d)| p - off * d).collect();
            if fewer.len() != 4 || fewer.iter().any(|p| *p < 0) {
                let why = format!("node `{}` pads {pads:?}, too little for a window of {side}", node.name);
                return Err(wrong(why));
            }
            node.set(ints("kernel_shape", &[side as i64; 2]));
            node.set(ints("pads", &fewer));
        }
        Ok(())
    }
}

/// The middle of every window of `side`, through a matrix where there is one. Sums in f32, as who trained it did.
fn shrunk(values: &[f32], side: usize, size: usize, matrix: Option<&[f32]>) -> Vec<f32> {
    let (first, taps) = ((side - size) / 2, size * size);
    let mut out = Vec::with_capacity(values.len() / (side * side) * taps);
    let mut middle = Vec::with_capacity(taps);
    for window in values.chunks_exact(side * side) {
        middle.clear();
        (0..size).for_each(|y| middle.extend_from_slice(&window[(first + y) * side + first..][..size]));
        match matrix {
            None => out.extend_from_slice(&middle),
            Some(m) => out.extend(
                m.chunks_exact(taps).map(|row| row.iter().zip(&middle).map(|(a, b)| a * b).sum::<f32>()),
            ),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::shrunk;

    #[test]
    fn the_middle_goes_through_the_matrix() {
        let window: Vec<f32> = (0..9).map(|i| i as f32).collect();
        assert_eq!(shrunk(&window, 3, 1, None), [4.0]);
        assert_eq!(shrunk(&window, 3, 1, Some(&[0.5])), [2.0]);
        let turned: Vec<f32> = (0..81).map(|i| f32::from(u8::from(i % 9 == 8 - i / 9))).collect();
        let wide: Vec<f32> = (0..25).map(|i| i as f32).collect();
        assert_eq!(shrunk(&wide, 5, 3, Some(&turned)), [18.0, 17.0, 16.0, 13.0, 12.0, 11.0, 8.0, 7.0, 6.0]);
    }
}
