//! A tensor's elements within its storage: where each index lies, and all of them in order.

/// Repeated elements (a stride of 0, rows that overlap) are written out up to this many bytes, however small the storage.
const MAX_REPEATED: u64 = 64 << 20;

/// Where the elements of a tensor lie in their storage, counted in elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub offset: u64,
    /// Sizes with their strides; `None` when the elements lie one after the other.
    strides: Option<Vec<(usize, usize)>>,
    elements: usize,
}

impl View {
    /// Elements one after the other.
    pub fn plain(elements: usize) -> View {
        View { offset: 0, strides: None, elements }
    }

    /// A view, checked against the `len` elements of `width` bytes of its storage; says in words why it is none.
    pub fn new(offset: u64, dims: &[u64], strides: &[u64], len: u64, width: usize) -> Result<View, String> {
        let uncountable = || format!("shape {dims:?} has more elements than can be counted");
        let elements = dims.iter().try_fold(1u64, |n, d| n.checked_mul(*d)).ok_or_else(uncountable)?;
        let bytes = elements.checked_mul(width as u64).ok_or_else(uncountable)?;
        let all: Vec<(u64, u64)> = dims.iter().copied().zip(strides.iter().copied()).collect();
        if elements > 0 {
            let reach = all.iter().try_fold(offset, |last, (size, stride)| {
                (size - 1).checked_mul(*stride).and_then(|step| last.checked_add(step))
            });
            if reach.is_none_or(|last| last >= len) {
                return Err(format!(
                    "shape {dims:?} with strides {strides:?} from element {offset} on does not fit its storage of {len} elements"
                ));
            }
        }
        let stored = len.saturating_mul(width as u64);
        if bytes > stored.max(MAX_REPEATED) {
            return Err(format!(
                "shape {dims:?} with strides {strides:?} makes {bytes} bytes of the {stored} that are stored; at most {MAX_REPEATED} \
                 repeated bytes are written out: save tensor.clone()"
            ));
        }
        let narrow = |n: u64| usize::try_from(n).map_err(|_| uncountable());
        // Axes of one element have any stride.
        let kept: Vec<(u64, u64)> = all.into_iter().filter(|(size, _)| *size != 1).collect();
        let mut expected = 1;
        let mut in_order = true;
        for (size, stride) in kept.iter().rev() {
            in_order &= *stride == expected;
            expected = expected.saturating_mul(*size);
        }
        let strides = if in_order || elements == 0 {
            None
        } else {
            Some(kept.iter().map(|(d, s)| Ok((narrow(*d)?, narrow(*s)?))).collect::<Result<_, String>>()?)
        };
        Ok(View { offset, strides, elements: narrow(elements)? })
    }

    /// Whether the elements lie one after the other.
    pub fn is_plain(&self) -> bool {
        self.strides.is_none()
    }

    /// Where a plain view's bytes lie, or all that a strided one may touch.
    pub fn bytes(&self, width: usize) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(self.offset).ok()?.checked_mul(width)?;
        let last: usize = self.strides.iter().flatten().map(|(size, stride)| (size - 1) * stride).sum();
        let count = if self.is_plain() { self.elements } else { last + 1 };
        Some(start..start.checked_add(count.checked_mul(width)?)?)
    }

    /// The elements in row-major order; `source` is what [`View::bytes`] says.
    pub fn gather(&self, source: &[u8], width: usize) -> Vec<u8> {
        let Some(axes) = &self.strides else { return source.to_vec() };
        let mut out = Vec::with_capacity(self.elements * width);
        let (inner_size, inner_stride) = axes.last().copied().unwrap_or((1, 1));
        let outer = &axes[..axes.len().saturating_sub(1)];
        let mut index = vec![0; outer.len()];
        loop {
            let row: usize = index.iter().zip(outer).map(|(i, (_, stride))| i * stride).sum();
            if inner_stride == 1 {
                out.extend_from_slice(&source[row * width..(row + inner_size) * width]);
            } else {
                for i in 0..inner_size {
                    let at = (row + i * inner_stride) * width;
                    out.extend_from_slice(&source[at..at + width]);
                }
            }
            // The next row: the last axis that is not through goes on, those behind it start again.
            let Some(axis) = (0..outer.len()).rev().find(|axis| index[*axis] + 1 < outer[*axis].0) else {
                return out;
            };
            index[axis] += 1;
            index[axis + 1..].fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::View;

    fn elements(offset: u64, dims: &[u64], strides: &[u64], len: u8) -> Result<Vec<u8>, String> {
        let stored: Vec<u8> = (0..len).flat_map(|i| [i, 100 + i]).collect();
        let view = View::new(offset, dims, strides, len.into(), 2)?;
        let bytes = view.bytes(2).unwrap();
        let gathered = view.gather(&stored[bytes], 2);
        assert!(gathered.as_chunks::<2>().0.iter().all(|[low, high]| *high == low + 100));
        Ok(gathered.as_chunks::<2>().0.iter().map(|pair| pair[0]).collect())
    }

    #[test]
    fn elements_come_in_row_major_order() {
        assert_eq!(elements(0, &[2, 3], &[3, 1], 6).unwrap(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(elements(0, &[3, 2], &[1, 3], 6).unwrap(), [0, 3, 1, 4, 2, 5]);
        assert_eq!(elements(1, &[2, 2], &[3, 1], 6).unwrap(), [1, 2, 4, 5]);
        assert_eq!(elements(2, &[3], &[0], 6).unwrap(), [2, 2, 2]);
        assert_eq!(elements(5, &[], &[], 6).unwrap(), [5]);
        assert!(elements(6, &[0, 4], &[4, 1], 6).unwrap().is_empty());
        assert_eq!(elements(0, &[1, 3, 1], &[77, 1, 5], 3).unwrap(), [0, 1, 2]);
        assert_eq!(elements(0, &[2, 2, 2], &[1, 2, 4], 8).unwrap(), [0, 4, 2, 6, 1, 5, 3, 7]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (offset, dims, strides) in [
            (0, &[7][..], &[1][..]),
            (6, &[1], &[1]),
            (0, &[2, 3], &[4, 1]),
            (0, &[u64::MAX, 2], &[0, 0]),
            (0, &[2, 2], &[u64::MAX, 1]),
            (u64::MAX, &[2], &[1]),
            (0, &[1_000_000, 1_000_000], &[0, 0]),
        ] {
            assert!(elements(offset, dims, strides, 6).is_err(), "{offset} {dims:?} {strides:?}");
        }
    }
}
