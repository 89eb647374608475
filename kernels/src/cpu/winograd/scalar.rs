//! The definition: a channel at a time.

use super::transform::{self, Lanes};
use super::{Inputs, Isa, Outputs, Variant};
use crate::MatMut;

pub(super) const VARIANT: Variant =
    Variant { name: "winograd_f32_f32__scalar", isa: Isa::Scalar, filter, input, output };

impl Lanes for f32 {
    const WIDTH: usize = 1;

    unsafe fn load(from: &[f32]) -> Self {
        from[0]
    }

    fn store(self, to: &mut [f32]) {
        to[0] = self;
    }

    fn plus(self, other: Self) -> Self {
        self + other
    }

    fn minus(self, other: Self) -> Self {
        self - other
    }

    fn times(self, factor: f32) -> Self {
        self * factor
    }

    fn times_plus(self, factor: f32, other: Self) -> Self {
        self.mul_add(factor, other)
    }
}

fn filter(panel: &[f32], out: &mut MatMut<'_, f32>) {
    // SAFETY: plain numbers need no instruction set.
    unsafe { transform::filter::<f32>(panel, out) }
}

fn input(task: &Inputs<'_>, out: &mut [f32]) {
    // SAFETY: as above.
    unsafe { transform::input::<f32>(task, out) }
}

fn output(task: &mut Outputs<'_, '_>) {
    // SAFETY: as above.
    unsafe {
        transform::output::<f32>(task, |epilogue, out, m, columns, tile| {
            epilogue.finish(out, m, columns, tile);
        });
    }
}
