//! CPU kernels, one folder an operation family.

pub mod activation;
pub mod attention;
pub mod boxes;
pub mod conv_narrow;
pub mod depthwise;
pub mod elementwise;
pub mod gather;
pub mod gemm_bf16;
pub mod gemm_blocks;
pub mod gemm_f32;
pub mod gemm_i16;
pub mod gemm_i8;
pub mod gemm_u8;
pub mod gemv_bits;
pub mod gemv_half;
pub mod gemv_planes;
pub mod im2col;
pub mod isa;
pub mod lookup;
pub mod loops;
pub mod math;
pub mod movement;
pub mod norm;
pub mod peak;
pub mod planes;
pub mod pool;
pub mod quantize;
pub mod recurrent;
pub mod reduce;
pub mod resize;
pub mod rotary;
pub mod shape;
pub mod softmax;
pub mod spread;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tile;
pub mod winograd;
