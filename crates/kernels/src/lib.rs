//! Arithmetic over slices. Nothing here knows what a model is.

#![warn(clippy::undocumented_unsafe_blocks)]

pub mod alloc;
pub mod isa;
pub mod matmul;
pub mod pack;
pub mod pool;
pub mod quant;
mod simd;
pub mod threads;
