//! What a model is and how it runs: a path becomes a [`Checkpoint`], its [`Spec`], and a [`Decoder`] on
//! a [`Backend`].

mod arch;
mod backend;
mod batch;
mod candle;
mod checkpoint;
mod convert;
mod cpu;
mod cpu_cache;
mod cpu_experts;
mod cpu_heads;
mod decoder;
mod error;
mod hparam_keys;
mod hparams;
mod load;
mod mixers;
mod moe;
mod peak;
mod rope;
mod rope_hparams;
mod spec;
mod tensors;

pub use arch::supported;
pub use backend::{Backend, Expert, LogitShape};
pub use batch::{Batch, CacheShape, Model, Span};
pub use candle::CandleBackend;
pub use checkpoint::Checkpoint;
pub use convert::{Conversion, TARGETS, Target};
pub use cpu::CpuBackend;
pub use decoder::Decoder;
pub use error::{Error, Result};
pub use kernels::attention::KvType;
pub use mixers::{Alibi, Attn, Mamba2, Mixer, Mla, NormScope, QkNorm, Temperature};
pub use moe::{Choice, Groups, Moe, Routing, Score, Shared};
pub use peak::Probe;
pub use rope::{Rope, Rotation, Scaling, Yarn};
pub use spec::{Act, Ffn, Layer, Norm, NormKind, Norms, Positions, Spec};
