//! Arithmetic over slices. Nothing here knows what a model is.

#![warn(clippy::undocumented_unsafe_blocks)]

pub mod activation;
pub mod alloc;
pub mod attention;
pub mod delta;
pub mod isa;
mod math;
pub mod matmul;
pub mod norm;
pub mod pack;
pub mod peak;
pub mod pool;
pub mod quant;
pub mod rope;
pub mod selective;
mod simd;
pub mod ssm;
mod strips;
pub mod threads;
pub mod wkv7;
