//! One written loop, compiled once per instruction set.
//!
//! Elementwise, movement and reduction kernels have no use for hand-written SIMD: their definition is a plain
//! Rust loop that the compiler vectorises. The loop body is generic code marked `#[inline(always)]`, compiled
//! once as it stands and once inside a function that enables AVX2 and FMA. Rust never reorders or contracts
//! float arithmetic and [`f32::mul_add`] is a fused multiply-add on every target, so all variants give the same
//! bits (of a NaN only that it is one: payload and sign are not promised).
//!
//! One table serves every family in this style, because what varies is the compiler's target and not the code.
//! AArch64 needs no row of its own: NEON is part of its baseline, so the plain row already uses it.

use super::isa::Isa;

/// Number of partial results that a sum or product keeps: element `i` goes to lane `i % 16`, and the lanes are
/// joined as `l[i] + l[i + 8]`, then `+ 4`, `+ 2`, `+ 1`. Part of every reduction's definition.
pub const LANES: usize = 16;

/// Columns that a reduction along rows works on at a time: 256 bytes of every row, with the running results of
/// all of them in registers or the first-level cache. Does not show in the results.
pub(crate) const COLUMNS: usize = 64;

/// Folds a run of contiguous elements into the lanes, element `i` into lane `i % 16`.
#[inline(always)]
pub(crate) fn fold_lanes<T: Copy, A: Copy>(lanes: &mut [A; LANES], run: &[T], f: impl Fn(A, T) -> A) {
    let (blocks, rest) = run.as_chunks::<LANES>();
    // A local copy that is only indexed by constants lives in registers; `rest` needs it in memory.
    let mut acc = *lanes;
    for block in blocks {
        for i in 0..LANES {
            acc[i] = f(acc[i], block[i]);
        }
    }
    *lanes = acc;
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = f(*lane, *x);
    }
}

/// Joins the lanes in the fixed order that [`LANES`] gives.
#[inline(always)]
pub(crate) fn join_lanes<A: Copy>(mut lanes: [A; LANES], f: impl Fn(A, A) -> A) -> A {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = f(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Elements that a [`Cascade`] takes one after the other.
pub(crate) const BLOCK: usize = 32;

/// `N` partial results, each on three levels: [`BLOCK`] elements, `BLOCK` of such blocks, all of those.
///
/// The error of a sum of n grows with `2 * BLOCK + n / BLOCK^2` roundings, not with n. Variances as
/// `E[x^2] - E[x]^2` need that: with 512 additions one after the other, a real classifier's output was off by 1.8e-4
/// of its range, and with these by 2e-5.
pub(crate) struct Cascade<T, const N: usize> {
    init: T,
    /// Where elements are taken in.
    pub(crate) acc: [T; N],
    blocks: [T; N],
    total: [T; N],
    elements_taken: usize,
    blocks_taken: usize,
}

impl<T: Copy, const N: usize> Cascade<T, N> {
    /// `init` is what joining to changes nothing.
    #[inline(always)]
    pub(crate) fn new(init: T) -> Self {
        let none = [init; N];
        Cascade { init, acc: none, blocks: none, total: none, elements_taken: 0, blocks_taken: 0 }
    }

    /// One that goes on where another stopped after `taken` elements, having left these levels.
    #[inline(always)]
    pub(crate) fn resumed(init: T, taken: usize, acc: [T; N], blocks: [T; N], total: [T; N]) -> Self {
        let (elements_taken, blocks_taken) = (taken % BLOCK, taken / BLOCK % BLOCK);
        Cascade { init, acc, blocks, total, elements_taken, blocks_taken }
    }

    /// Its levels, for [`Cascade::resumed`].
    #[inline(always)]
    pub(crate) fn levels(self) -> [[T; N]; 3] {
        [self.acc, self.blocks, self.total]
    }

    /// To be called when `n` more elements are in `acc`.
    #[inline(always)]
    pub(crate) fn taken(&mut self, n: usize, join: impl Fn(T, T) -> T + Copy) {
        self.elements_taken += n;
        if self.elements_taken >= BLOCK {
            self.carry(join);
        }
    }

    /// Ends a block. A call, because it is rare, large when inlined, and inlined in dozens of loops.
    #[inline(never)]
    fn carry(&mut self, join: impl Fn(T, T) -> T + Copy) {
        flush(&mut self.blocks, &mut self.acc, self.init, join);
        (self.elements_taken, self.blocks_taken) = (0, self.blocks_taken + 1);
        if self.blocks_taken == BLOCK {
            flush(&mut self.total, &mut self.blocks, self.init, join);
            self.blocks_taken = 0;
        }
    }

    /// All levels joined.
    #[inline(never)] // as `carry`
    pub(crate) fn total(mut self, join: impl Fn(T, T) -> T + Copy) -> [T; N] {
        flush(&mut self.blocks, &mut self.acc, self.init, join);
        flush(&mut self.total, &mut self.blocks, self.init, join);
        self.total
    }
}

/// Joins partial results to those before them and starts anew.
#[inline(always)]
fn flush<T: Copy, const N: usize>(
    total: &mut [T; N],
    acc: &mut [T; N],
    init: T,
    join: impl Fn(T, T) -> T + Copy,
) {
    for (total, acc) in total.iter_mut().zip(acc) {
        *total = join(*total, *acc);
        *acc = init;
    }
}

/// A proof that this CPU can run the loops compiled for [`Variant::isa`]; only [`select`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    isa: Isa,
    wide: bool,
}

/// Levels that the loops are compiled for, best first.
pub const VARIANTS: &[Isa] = &[
    #[cfg(target_arch = "x86_64")]
    Isa::Avx2,
    Isa::Scalar,
];

/// The best variant at or below `isa` that this CPU supports.
pub fn select(isa: Isa) -> Variant {
    let best = VARIANTS.iter().copied().find(|v| *v <= isa && v.supported());
    let wide = cfg!(target_arch = "x86_64") && isa >= Isa::Avx512 && Isa::Avx512.supported();
    Variant { isa: best.unwrap_or(Isa::Scalar), wide }
}

/// Every variant that this CPU supports, best first: what tests and benches walk.
pub fn supported() -> impl Iterator<Item = Variant> {
    let narrow = VARIANTS.iter().filter(|v| v.supported()).map(|v| Variant { isa: *v, wide: false });
    Some(select(Isa::detect())).filter(|v| v.wide).into_iter().chain(narrow)
}

impl Variant {
    /// The level that this variant was compiled for.
    pub fn isa(self) -> Isa {
        self.isa
    }

    /// Whether the few loops that are written for AVX-512 are to run by that: only [`select`] says so, for a CPU that has it.
    pub fn wide(self) -> bool {
        self.wide
    }

    /// The level of its loops; of those that are written for AVX-512, that.
    pub fn name(self) -> &'static str {
        if self.wide { Isa::Avx512.name() } else { self.isa.name() }
    }

    /// [`Variant::run`] for a caller that has served the plain variant itself where it [`PLAIN_IS_RARE`]: no plain copy of `body` is
    /// made there.
    #[inline(always)]
    pub(crate) fn run_unless_rare<R>(self, body: impl FnOnce() -> R) -> R {
        match self.isa {
            // SAFETY: as below.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { run__avx2(body) },
            _ if PLAIN_IS_RARE => unreachable!("the caller serves the plain variant"),
            _ => run__scalar(body),
        }
    }

    /// Runs `body`, compiled for this variant's level as far as it is inlined.
    ///
    /// So `body` and every function and larger closure below it are marked `#[inline(always)]`: what the compiler
    /// leaves as a call runs without the level's instructions (the same bits, but up to 20 times slower).
    #[inline(always)]
    pub(crate) fn run<R>(self, body: impl FnOnce() -> R) -> R {
        match self.isa {
            // SAFETY: `select` and `supported` make this value only when the CPU has these features.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { run__avx2(body) },
            _ => run__scalar(body),
        }
    }
}

/// Whether the plain variant is only for CPUs that are rare or asked for it, so that its size counts more than its speed: of
/// large bodies one copy that calls its parts then serves all operations. On AArch64 the plain variant is the one in use.
pub(crate) const PLAIN_IS_RARE: bool = cfg!(target_arch = "x86_64");

/// A function that the compiler does not see through. Of one that takes a known function by reference it makes a copy for each such
/// function, inlined or not, and then there is one plain loop for each again.
#[inline(always)]
pub(crate) fn opaque<F: ?Sized>(f: &F) -> &F {
    std::hint::black_box(f)
}

/// Not inlined: the runtime is compiled for size, and loops that were inlined into it would stay scalar.
#[inline(never)]
#[allow(non_snake_case)] // op__isa is the naming rule of kernel variants
fn run__scalar<R>(body: impl FnOnce() -> R) -> R {
    body()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
#[allow(non_snake_case)] // op__isa is the naming rule of kernel variants
fn run__avx2<R>(body: impl FnOnce() -> R) -> R {
    body()
}

#[cfg(test)]
mod tests {
    use super::{VARIANTS, select, supported};
    use crate::cpu::isa::Isa;

    #[test]
    fn selection_stays_at_or_below_the_asked_level() {
        assert_eq!(select(Isa::Scalar).isa(), Isa::Scalar);
        for isa in Isa::ALL {
            assert!(select(isa).isa() <= isa);
        }
        assert_eq!(VARIANTS.last(), Some(&Isa::Scalar));
        assert_eq!(supported().last(), Some(select(Isa::Scalar)));
    }
}
