//! Arithmetic over slices. Nothing here knows what a model is.

#![warn(clippy::undocumented_unsafe_blocks)]

pub mod quant;
