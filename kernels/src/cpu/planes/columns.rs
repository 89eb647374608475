//! Planes whose units are single columns of 16 channels, as depthwise convolutions take them: one
//! plain definition serves all levels but AVX2.

use super::{Numbers, PANEL, Plane, Scales, Variant, total_bits};

/// The codes of column `unit`.
#[inline(always)]
fn join(planes: &[Plane<'_>], unit: usize) -> [u16; PANEL] {
    let mut codes = [0; PANEL];
    for plane in planes {
        match plane.bits {
            1 => append::<1>(&mut codes, plane.bytes, unit),
            2 => append::<2>(&mut codes, plane.bytes, unit),
            4 => append::<4>(&mut codes, plane.bytes, unit),
            _ => append::<8>(&mut codes, plane.bytes, unit),
        }
    }
    codes
}

/// Appends the `W` bits of each code.
#[inline(always)]
fn append<const W: usize>(codes: &mut [u16; PANEL], bytes: &[u8], unit: usize) {
    let len = 2 * W;
    let mut column = [0; PANEL];
    column[..len].copy_from_slice(&bytes[unit * len..][..len]);
    let bits = spread::<W>(column);
    for (code, bits) in codes.iter_mut().zip(bits) {
        *code = (*code << W) | u16::from(bits);
    }
}

/// The `W` bits of each code of a column whose `2 W` bytes come first: in words, of which one shift and one mask make codes.
#[inline(always)]
fn spread<const W: usize>(column: [u8; PANEL]) -> [u8; PANEL] {
    let word = u128::from_le_bytes(column);
    match W {
        1 => bytemuck::cast(std::array::from_fn::<u16, 8, _>(|i| (word as u16 >> i) & 0x0101)),
        2 => bytemuck::cast(std::array::from_fn::<u32, 4, _>(|i| (word as u32 >> (2 * i)) & 0x0303_0303)),
        4 => bytemuck::cast([word as u64, word as u64 >> 4].map(|word| word & 0x0f0f_0f0f_0f0f_0f0f)),
        _ => column,
    }
}

fn check(planes: &[Plane<'_>], columns: usize, most: u32) {
    let bits = total_bits(planes);
    assert!((1..=most).contains(&bits), "codes of {bits} bits, at most {most}");
    for plane in planes {
        assert!(matches!(plane.bits, 1 | 2 | 4 | 8), "a plane of {} bits", plane.bits);
        assert_eq!(plane.bytes.len(), columns * 2 * plane.bits as usize, "bytes of {columns} columns");
    }
}

/// Columns of odd numbers, see [`Variant::join_columns_i16`], whose arguments were checked.
#[inline(never)] // or its loops would be compiled as its caller is: for size
pub(super) fn columns_i16(planes: &[Plane<'_>], channels: usize, out: &mut [[i16; PANEL]]) {
    let least = 1 - (1i16 << total_bits(planes));
    for (unit, column) in out.iter_mut().enumerate() {
        let codes = join(planes, unit);
        for (lane, (odd, code)) in column.iter_mut().zip(codes).enumerate() {
            *odd = if lane < channels { 2 * code as i16 + least } else { 0 };
        }
    }
}

/// Columns of reals, see [`Variant::join_columns_f32`], whose arguments were checked.
#[inline(never)] // as above
pub(super) fn columns_f32(planes: &[Plane<'_>], scales: &Scales<'_>, out: &mut [[f32; PANEL]]) {
    let bits = total_bits(planes);
    for (unit, column) in out.iter_mut().enumerate() {
        let (codes, group) = (join(planes, unit), unit / scales.units);
        let parts = codes.into_iter().zip(scales.offsets(group, bits)).zip(scales.scales[group]);
        for (real, ((code, offset), scale)) in column.iter_mut().zip(parts) {
            *real = (f32::from(code) * 2.0 + offset) * scale;
        }
    }
}

/// `q` of `2q + 1`.
#[inline(never)] // as above
fn halve(numbers: &mut [i16]) {
    numbers.iter_mut().for_each(|number| *number >>= 1);
}

impl Variant {
    /// Joins columns of codes of at most 14 bits to the numbers `2p + 1 - 2^b` of the first `channels` channels, or to `p - 2^(b-1)` unless
    /// `odd`; the others are 0. `out`: `[k][16]`.
    ///
    /// # Panics
    /// When `out` is not whole columns, a plane has other bits or another length, or the CPU lacks the ISA.
    pub fn join_columns_i16(&self, planes: &[Plane<'_>], channels: usize, odd: bool, out: &mut [i16]) {
        assert!(self.isa.supported(), "{}: this CPU lacks {}", self.name, self.isa);
        let columns = out.as_chunks_mut::<PANEL>().0;
        check(planes, columns.len(), 14);
        // SAFETY: the CPU has the ISA: checked above.
        unsafe { (self.columns_i16)(planes, channels, columns) }
        if !odd {
            halve(out);
        }
    }

    /// Joins columns of codes of at most 16 bits to reals: the number times its scale, rounded once. `out`: `[k][16]`; `scales`:
    /// `[ceil(k / group)][16]`.
    ///
    /// # Panics
    /// As [`Variant::join_columns_i16`], or when there are too few scales.
    pub fn join_columns_f32(
        &self,
        planes: &[Plane<'_>],
        scales: &[f32],
        numbers: Numbers<'_>,
        group: usize,
        out: &mut [f32],
    ) {
        assert!(self.isa.supported(), "{}: this CPU lacks {}", self.name, self.isa);
        let columns = out.as_chunks_mut::<PANEL>().0;
        check(planes, columns.len(), 16);
        let scales = Scales::new(scales, numbers, group);
        // SAFETY: the CPU has the ISA: checked above.
        unsafe { (self.columns_f32)(planes, &scales, columns) }
    }
}
