//! Functions of one byte by tables of all 256 results: `y[i] = table[x[i]]`.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(test)]
mod tests;

use super::elementwise::InOut;
use super::isa::Isa;

/// Results by the operand's bits: `table[x as u8]`.
pub type Table = [i8; 256];

/// One implementation.
pub struct Variant {
    /// `op__isa`.
    pub name: &'static str,
    /// The level that it belongs to.
    pub isa: Isa,
    /// Whether this CPU has what it needs beyond that level.
    extra: fn() -> bool,
    /// Reads as many bytes from the first pointer as it writes to the second, which may be equal.
    run: unsafe fn(&Table, *const i8, *mut i8, usize),
}

/// Best first; scalar last. AVX2 looks up 16 bytes at most: 16 such tables are no faster than one load a byte.
pub static VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    avx512::VARIANT,
    #[cfg(target_arch = "aarch64")]
    neon::VARIANT,
    scalar::VARIANT,
];

/// The best variant at or below `isa` that this CPU runs.
pub fn select(isa: Isa) -> &'static Variant {
    let fits = |variant: &&Variant| variant.isa <= isa && variant.supported();
    VARIANTS.iter().find(fits).unwrap_or(&scalar::VARIANT)
}

impl Variant {
    /// Whether this CPU runs it.
    pub fn supported(&self) -> bool {
        self.isa.supported() && (self.extra)()
    }

    /// `y[i] = table[x[i]]`.
    ///
    /// # Panics
    /// When the buffers of [`InOut::Apart`] differ in length, or the CPU lacks the ISA.
    pub fn run(&self, table: &Table, io: InOut<'_, i8>) {
        assert!(self.supported(), "{}: this CPU lacks what it needs", self.name);
        let (x, y) = match io {
            InOut::InPlace(y) => (y.as_ptr(), y),
            InOut::Apart(x, y) => {
                assert_eq!(x.len(), y.len(), "{}: operand and result differ in length", self.name);
                (x.as_ptr(), y)
            }
        };
        // SAFETY: the CPU has what it needs (checked above), and both pointers reach as far as `y`: one is `y`'s own or that of
        // a slice as long.
        unsafe { (self.run)(table, x, y.as_mut_ptr(), y.len()) }
    }
}
