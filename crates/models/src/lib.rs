//! What a model is and how it runs: a path becomes a [`Checkpoint`], its [`Spec`], and a [`Decoder`] on
//! a [`Backend`].

mod altup;
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
mod encoder;
mod error;
mod hparam_keys;
mod hparams;
mod laurel;
mod lead;
mod load;
mod mixers;
mod moe;
mod packed;
mod peak;
mod per_layer;
mod pooling;
mod rope;
mod rope_hparams;
mod spec;
mod tensors;

pub use altup::AltUp;
pub use arch::supported;
pub use backend::{Backend, Expert, LogitShape};
pub use batch::{Batch, CacheShape, Model, Span};
pub use candle::CandleBackend;
pub use checkpoint::Checkpoint;
pub use convert::{Conversion, TARGETS, Target};
pub use cpu::CpuBackend;
pub use decoder::Decoder;
pub use encoder::{Classifier, Embedding, Pool};
pub use error::{Error, Result};
pub use kernels::attention::KvType;
pub use lead::Lead;
pub use mixers::{
    Alibi, Attn, ChannelMix, DeltaNet, Mamba, Mamba2, Mixer, Mla, NormScope, QkNorm, RgLru, ShortConv,
    Temperature, TimeMix4, TimeMix7,
};
pub use moe::{Choice, Groups, Moe, Routing, Score, Shared};
pub use peak::{Probe, Product};
pub use per_layer::LayerInputs;
pub use rope::{Rope, Rotation, Scaling, Yarn};
pub use spec::{Act, Ffn, FfnScales, Layer, Norm, NormKind, Norms, Positions, Spec};
