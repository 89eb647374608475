//! The integers that a stored array of reals was made of, and where their scales and zero points lie.
//!
//! An array stays one of reals for whoever computes with it; its integers go beside it ([`crate::model::Model::integers`]) so that the
//! pack can store them as they came. They follow an array through other layouts, and whoever changes its elements leaves them behind.

use crate::model::Array;

/// Stands for an element that is 0 and comes from nowhere.
const NOWHERE: u32 = u32::MAX;

/// Least scale above 0: below it, a real made of its integer may be a subnormal number.
const LEAST_SCALE: f32 = 1e-30;

/// Integers of an array: element `i` is `(codes[i] - zeros[g]) * scales[g]`, `g` being its group.
#[derive(Clone, Debug, PartialEq)]
pub struct Integers {
    /// Bits of a code: 2, 4 or 8.
    pub bits: u32,
    /// Row-major codes, signed; of unsigned ones, less half their range.
    pub codes: Vec<i8>,
    /// A scale a group, row-major.
    pub scales: Vec<f32>,
    /// A zero point a group, of the same kind as codes; none when all are 0.
    pub zeros: Vec<i8>,
    /// The array's shape.
    pub dims: Vec<usize>,
    /// Elements of a group along each dimension.
    pub blocks: Vec<usize>,
}

impl Integers {
    /// Groups along each dimension.
    pub fn counts(&self) -> Vec<usize> {
        self.dims.iter().zip(&self.blocks).map(|(dim, block)| dim.div_ceil((*block).max(1))).collect()
    }

    /// Groups.
    pub fn groups(&self) -> usize {
        self.counts().iter().product()
    }

    /// The group of each element, in order.
    fn each_group(&self) -> Vec<u32> {
        let counts = self.counts();
        let mut groups = vec![0u32];
        for ((dim, block), count) in self.dims.iter().zip(&self.blocks).zip(counts) {
            let along = |outer: u32| (0..*dim).map(move |at| outer * count as u32 + (at / block) as u32);
            groups = groups.into_iter().flat_map(along).collect();
        }
        groups
    }

    fn zero(&self, group: usize) -> i32 {
        self.zeros.get(group).copied().map_or(0, i32::from)
    }

    /// The reals, each rounded once.
    pub fn reals(&self) -> Vec<f32> {
        let real = |(code, group): (&i8, u32)| {
            (i32::from(*code) - self.zero(group as usize)) as f32 * self.scales[group as usize]
        };
        self.codes.iter().zip(self.each_group()).map(real).collect()
    }

    /// Whether every part is there and the pack can hold it.
    pub fn is_sound(&self) -> bool {
        let groups = self.groups();
        let scale = |scale: &f32| *scale == 0.0 || (scale.is_finite() && *scale >= LEAST_SCALE);
        self.dims.iter().product::<usize>() == self.codes.len()
            && self.dims.len() == self.blocks.len()
            && self.codes.len() < NOWHERE as usize / 2
            && self.scales.len() == groups
            && (self.zeros.is_empty() || self.zeros.len() == groups)
            && self.scales.iter().all(scale)
    }

    /// The integers of an array of two dimensions that was made of this one's by moving elements and filling up with zeros; `None` when
    /// it was made otherwise, or scales do not lie along its rows. `make` does to an array what was done to this one.
    pub fn moved<E>(&self, made: &Array, make: impl Fn(&Array) -> Result<Array, E>) -> Option<Integers> {
        let values = made.as_f32()?;
        let [n, k] = made.dims[..] else { return None };
        // The place of each element as the bits of a float, which whoever moves it leaves as they are.
        let places = (1..=self.codes.len() as u32).map(f32::from_bits);
        let probe = make(&Array::f32(&self.dims, &places.collect::<Vec<f32>>())).ok()?.as_f32()?;
        if probe.len() != values.len() || n * k == 0 {
            return None;
        }
        let from: Vec<u32> = probe.iter().map(|place| place.to_bits().wrapping_sub(1)).collect();
        let inside = |place: &u32| *place == NOWHERE || (*place as usize) < self.codes.len();
        if !from.iter().all(inside) {
            return None;
        }
        let moved = self.gathered(&from, n, k)?;
        (moved.reals() == values).then_some(moved)
    }

    /// The same with dimension `i` of the result being dimension `perm[i]`; `None` when `perm` is no permutation.
    pub fn permuted(&self, perm: &[usize]) -> Option<Integers> {
        let mut seen: Vec<usize> = perm.to_vec();
        seen.sort_unstable();
        if seen.iter().copied().ne(0..self.dims.len()) {
            return None;
        }
        let along = |sizes: &[usize]| perm.iter().map(|d| sizes[*d]).collect::<Vec<usize>>();
        let counts = self.counts();
        let moved = permutation(&counts, perm);
        let (groups, elements) = (moved.iter(), permutation(&self.dims, perm));
        let zeros =
            if self.zeros.is_empty() { Vec::new() } else { groups.clone().map(|g| self.zeros[*g]).collect() };
        Some(Integers {
            bits: self.bits,
            codes: elements.iter().map(|at| self.codes[*at]).collect(),
            scales: groups.map(|g| self.scales[*g]).collect(),
            zeros,
            dims: along(&self.dims),
            blocks: along(&self.blocks),
        })
    }

    /// The same with another shape, scales along its rows; `None` when they are not. The array has two dimensions.
    pub fn by_rows(&self) -> Option<Integers> {
        let [n, k] = self.dims[..] else { return None };
        let all: Vec<u32> = (0..self.codes.len() as u32).collect();
        self.gathered(&all, n, k)
    }

    fn gathered(&self, from: &[u32], n: usize, k: usize) -> Option<Integers> {
        let each = self.each_group();
        let group = |at: usize| each.get(from[at] as usize).copied();
        let alike = |range: std::ops::Range<usize>| {
            let mut groups = range.filter_map(group);
            let first = groups.next();
            groups.all(|g| Some(g) == first)
        };
        let whole = self.scales.len() == 1 && self.zeros.is_empty();
        let row = |r: usize| r * k..(r + 1) * k;
        let block = if whole || (0..n).all(|r| alike(row(r))) {
            k
        } else {
            // As many columns as the first row's first group has; kernels take eights.
            let block = (1..k).find(|c| group(*c) != group(0))?;
            let fits = block.is_multiple_of(8)
                && (0..n).all(|r| (0..k).step_by(block).all(|c| alike(r * k + c..r * k + k.min(c + block))));
            fits.then_some(block)?
        };
        let tall = if whole { n } else { 1 };
        let (mut scales, mut zeros) = (Vec::new(), Vec::new());
        for r in (0..n).step_by(tall) {
            for c in (0..k).step_by(block) {
                let here = (c..k.min(c + block)).find_map(|c| group(r * k + c));
                // What comes from nowhere has no scale, but that of a matrix that has one in all.
                let here = if whole { Some(0) } else { here };
                scales.push(here.map_or(0.0, |g| self.scales[g as usize]));
                zeros.push(here.map_or(0, |g| self.zero(g as usize) as i8));
            }
        }
        if self.zeros.is_empty() {
            zeros.clear();
        }
        let codes = from.iter().enumerate().map(|(at, place)| match self.codes.get(*place as usize) {
            Some(code) => *code,
            None => zeros.get(at / k * k.div_ceil(block) + at % k / block).copied().unwrap_or(0),
        });
        Some(Integers {
            bits: self.bits,
            codes: codes.collect(),
            dims: vec![n, k],
            blocks: vec![tall, block],
            scales,
            zeros,
        })
    }

    /// The same with zero points taken off the codes, where codes of as many bits hold what is left.
    pub fn without_zeros(mut self) -> Integers {
        if self.zeros.is_empty() {
            return self;
        }
        let half = 1i32 << (self.bits - 1);
        let left: Option<Vec<i8>> = self
            .codes
            .iter()
            .zip(self.each_group())
            .map(|(code, group)| i32::from(*code) - self.zero(group as usize))
            .map(|code| (-half..half).contains(&code).then_some(code as i8))
            .collect();
        if let Some(codes) = left {
            (self.codes, self.zeros) = (codes, Vec::new());
        }
        self
    }
}

/// For each element of a permuted array, in order, where it lies in the array of shape `dims`.
fn permutation(dims: &[usize], perm: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for d in (1..dims.len()).rev() {
        strides[d - 1] = strides[d] * dims[d];
    }
    let mut places = vec![0];
    for d in perm {
        let (dim, stride) = (dims[*d], strides[*d]);
        places = places.into_iter().flat_map(|place| (0..dim).map(move |i| place + i * stride)).collect();
    }
    places
}

#[cfg(test)]
mod tests {
    use super::Integers;
    use crate::model::Array;

    fn integers(dims: &[usize], blocks: &[usize], zeros: bool) -> Integers {
        let len: usize = dims.iter().product();
        let codes = (0..len).map(|i| (i * 37 % 251) as u8 as i8).collect();
        let mut made = Integers {
            bits: 8,
            codes,
            scales: Vec::new(),
            zeros: Vec::new(),
            dims: dims.to_vec(),
            blocks: blocks.to_vec(),
        };
        let groups = made.groups();
        made.scales = (0..groups).map(|g| 0.01 + g as f32 * 0.003).collect();
        made.zeros = if zeros { (0..groups).map(|g| g as i8 - 3).collect() } else { Vec::new() };
        assert!(made.is_sound());
        made
    }

    fn transposed(x: &Array) -> Result<Array, ()> {
        let (n, k) = (x.dims[0], x.dims[1]);
        let values = x.as_f32().ok_or(())?;
        let moved: Vec<f32> = (0..n * k).map(|i| values[i % n * k + i / n]).collect();
        Ok(Array::f32(&[k, n], &moved))
    }

    /// What a row-major place of a transposed matrix is made of.
    #[test]
    fn scales_follow_their_rows_and_blocks_their_columns() {
        for (blocks, zeros, want) in
            [([24, 1], true, [1, 24]), ([8, 1], false, [1, 8]), ([24, 40], false, [40, 24])]
        {
            let x = integers(&[24, 40], &blocks, zeros);
            let made = transposed(&Array::f32(&x.dims, &x.reals())).unwrap();
            let moved = x.moved(&made, transposed).unwrap();
            assert_eq!((&moved.blocks[..], &moved.dims[..]), (&want[..], &[40, 24][..]));
            assert_eq!(Array::f32(&[40, 24], &moved.reals()), made);
        }
        // Scales along the columns, and blocks of odd sizes.
        for blocks in [[1, 40], [3, 1]] {
            let x = integers(&[24, 40], &blocks, false);
            let made = transposed(&Array::f32(&x.dims, &x.reals())).unwrap();
            assert!(x.moved(&made, transposed).is_none());
        }
    }

    #[test]
    fn elements_that_change_leave_their_integers_behind() {
        let x = integers(&[16, 8], &[1, 8], false);
        let halved = |x: &Array| {
            let values: Vec<f32> = x.as_f32().ok_or(())?.iter().map(|v| v * 0.5).collect();
            Ok::<_, ()>(Array::f32(&x.dims, &values))
        };
        let made = halved(&Array::f32(&x.dims, &x.reals())).unwrap();
        assert!(x.moved(&made, halved).is_none());
    }

    #[test]
    fn rows_that_fill_up_are_zeros() {
        for zeros in [false, true] {
            let x = integers(&[3, 5], &[1, 5], zeros);
            let padded = |x: &Array| {
                let mut values = x.as_f32().ok_or(())?;
                values.resize(4 * 5, 0.0);
                Ok::<_, ()>(Array::f32(&[4, 5], &values))
            };
            let made = padded(&Array::f32(&x.dims, &x.reals())).unwrap();
            assert_eq!(x.moved(&made, padded).unwrap().reals(), made.as_f32().unwrap());
        }
    }

    #[test]
    fn zero_points_go_where_codes_hold_what_is_left() {
        let mut x = integers(&[2, 8], &[2, 8], false);
        (x.codes, x.zeros) = ((0..16).map(|i| i - 20).collect(), vec![-12]);
        let plain = x.clone().without_zeros();
        assert!(plain.zeros.is_empty() && plain.reals() == x.reals());
        x.codes[3] = 127;
        assert_eq!(x.clone().without_zeros(), x);
    }

    #[test]
    fn a_permutation_takes_scales_along() {
        for zeros in [false, true] {
            // Scales along dimension 2 in blocks of 2, and one for each of dimension 1.
            let all = integers(&[2, 3, 4], &[2, 1, 2], zeros);
            let moved = all.permuted(&[2, 0, 1]).unwrap();
            assert!(moved.is_sound());
            assert_eq!((&moved.dims[..], &moved.blocks[..]), (&[4, 2, 3][..], &[2, 2, 1][..]));
            let (from, to) = (all.reals(), moved.reals());
            for (a, b, c) in (0..24).map(|i| (i / 12, i / 4 % 3, i % 4)) {
                assert_eq!(to[(c * 2 + a) * 3 + b], from[(a * 3 + b) * 4 + c]);
            }
        }
        assert_eq!(integers(&[2, 3], &[2, 3], false).permuted(&[0, 0]), None);
    }
}
