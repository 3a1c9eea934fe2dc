//! What mixes positions: one file for each kind, with what it is, which tensors it fetches and how it runs.
//!
//! `arch.rs` makes a [`Mixer`], `load.rs` asks it for its weights, `decoder.rs` runs it once for each layer.
//! A kind is attention over a cache of keys and values, or a scan that keeps a state of fixed size.

pub(crate) mod attn;
pub(crate) mod mamba2;
pub(crate) mod mla;
pub(crate) mod state;

pub use attn::{Alibi, Attn, NormScope, QkNorm, Temperature};
pub use mamba2::Mamba2;
pub use mla::Mla;

use crate::Result;
use crate::backend::Backend;
use crate::batch::{Batch, CacheShape};
use crate::load::LayerLoader;
use state::State;

/// What mixes positions.
#[derive(Clone, Debug, PartialEq)]
pub enum Mixer {
    /// Softmax attention.
    Attn(Attn),
    /// A selective scan with a scalar decay for each head.
    Mamba2(Mamba2),
    /// Attention whose keys and values come from one short vector a position.
    Mla(Mla),
}

/// The weights of a mixer on a backend.
pub(crate) enum MixerWeights<B: Backend> {
    Attn(Box<attn::Weights<B>>),
    Mamba2(Box<mamba2::Weights<B>>),
    Mla(Box<mla::Weights<B>>),
}

/// What a mixer remembers of the sequences that run.
pub(crate) enum Memory<B: Backend> {
    /// Nothing, or another layer's.
    None,
    /// Keys and values.
    Cache(B::Cache),
    /// A line of numbers for each sequence.
    State(State),
}

/// What a mixer reads beside its weights.
pub(crate) struct Reading<'a, B: Backend> {
    pub backend: &'a B,
    pub x: &'a B::Rows,
    pub norm: Option<&'a B::Norm>,
    pub batch: &'a Batch,
    pub step: &'a B::Step,
}

/// What a mixer or a feed-forward says: rows, and the matrix that brings them to the stream's width unless they
/// have it.
pub(crate) struct Branch<'a, B: Backend> {
    pub rows: B::Rows,
    pub out: Option<&'a B::Linear>,
}

impl Mixer {
    /// The attention whose keys and values it caches.
    pub fn cached(&self) -> Option<&Attn> {
        match self {
            Mixer::Attn(attn) => Some(attn).filter(|a| a.shares.is_none()),
            Mixer::Mla(m) => Some(&m.attn),
            Mixer::Mamba2(_) => None,
        }
    }

    /// The attention inside, whether it caches or not.
    pub fn attn_mut(&mut self) -> Option<&mut Attn> {
        match self {
            Mixer::Attn(attn) => Some(attn),
            Mixer::Mla(m) => Some(&mut m.attn),
            Mixer::Mamba2(_) => None,
        }
    }

    /// Numbers that it keeps for each sequence; 0 for attention.
    pub fn state(&self) -> usize {
        match self {
            Mixer::Attn(_) | Mixer::Mla(_) => 0,
            Mixer::Mamba2(m) => m.state(),
        }
    }

    /// Numbers of its matrices and larger vectors, biases not counted.
    pub fn parameters(&self, dim: usize) -> u64 {
        match self {
            Mixer::Attn(a) => a.parameters(dim) as u64,
            Mixer::Mamba2(m) => m.parameters(dim) as u64,
            Mixer::Mla(m) => m.parameters(dim) as u64,
        }
    }

    /// Factor on what it says.
    pub(crate) fn out_scale(&self) -> f32 {
        match self {
            Mixer::Attn(a) => a.out_scale,
            Mixer::Mamba2(m) => m.out_scale,
            Mixer::Mla(m) => m.attn.out_scale,
        }
    }

    pub(crate) fn load<B: Backend>(&self, from: &LayerLoader<'_, B>) -> Result<MixerWeights<B>> {
        Ok(match self {
            Mixer::Attn(a) => MixerWeights::Attn(Box::new(a.load(from)?)),
            Mixer::Mamba2(m) => MixerWeights::Mamba2(Box::new(m.load(from)?)),
            Mixer::Mla(m) => MixerWeights::Mla(Box::new(m.load(from)?)),
        })
    }

    pub(crate) fn memory<B: Backend>(&self, backend: &B, shape: CacheShape) -> Result<Memory<B>> {
        match (self.cached(), self.state()) {
            (Some(attn), _) => backend.cache(attn, shape).map(Memory::Cache),
            (None, 0) => Ok(Memory::None),
            (None, size) => Ok(Memory::State(State::new(size, shape.states))),
        }
    }
}
