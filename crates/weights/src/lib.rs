//! What is in a model file: GGUF and safetensors, memory-mapped.
//!
//! The first step of a load: a path becomes named [`Tensor`]s whose bytes lie where the file lies, and the
//! file's own words about itself ([`Metadata`], JSON side files). Everything a file claims is checked here,
//! once, with memory bounded by the file's own size; what passes can be indexed without further care.

mod checkpoint;
mod error;
pub mod gguf;
mod json;
mod mmap;
pub mod names;
pub mod quantize;
mod safetensors;
mod sniff;
mod tensor;
mod write;

pub use checkpoint::Checkpoint;
pub use error::{Error, Result};
pub use gguf::{Array, Gguf, Metadata, Value};
pub use json::read_json;
pub use kernels::quant::DType;
pub use names::gguf_name;
pub use safetensors::Safetensors;
pub use tensor::{Tensor, Unreadable};
pub use write::{Field, GgufWriter, Planned};
