//! The operations that a decoder is made of. A backend says where numbers live and how these few
//! things are done to them; the order in which they are done is the decoder's.
//!
//! They are coarse on purpose: each is one pass over the machine's cores in a fast backend, and a line
//! or ten in an obvious one.

use weights::Tensor;

use crate::Result;
use crate::batch::{Batch, CacheShape};
use crate::rope::Rotation;
use crate::spec::{Act, Attn, Norm};

/// Where activations and weights live, and what can be done to them.
pub trait Backend: Send {
    /// Activations, `[rows, width]`.
    type Rows;
    /// A matrix `[out, in]` with its bias, if any.
    type Linear: Send;
    /// A normalisation with its weights.
    type Norm: Send;
    /// Keys and values of one layer.
    type Cache: Send;
    /// What one batch brings with it, prepared once for all layers.
    type Step;

    /// Takes a matrix up.
    fn linear(&self, weight: &Tensor, bias: Option<Vec<f32>>) -> Result<Self::Linear>;

    /// Takes a norm up; `weight` and `bias` as wide as the rows it will see.
    fn norm(&self, norm: Norm, weight: Vec<f32>, bias: Option<Vec<f32>>) -> Result<Self::Norm>;

    /// Room for the keys and values of one layer.
    fn cache(&self, attn: &Attn, shape: CacheShape) -> Result<Self::Cache>;

    /// Bytes that one token takes in a layer's cache.
    fn cache_bytes(&self, attn: &Attn) -> usize;

    /// Prepares a batch; `rotations` are those of [`crate::Spec::ropes`], in order.
    fn step(&self, batch: &Batch, rotations: Vec<Rotation>) -> Result<Self::Step>;

    /// Rows of `table` times `scale`: `[rows, dim]`.
    fn embed(&self, table: &Self::Linear, tokens: &[u32], scale: f32) -> Result<Self::Rows>;

    /// `norm(x)` through each of several matrices.
    fn project(
        &self,
        x: &Self::Rows,
        norm: Option<&Self::Norm>,
        to: &[&Self::Linear],
    ) -> Result<Vec<Self::Rows>>;

    /// Normalises (if asked) and rotates queries and keys, stores keys and values, and attends:
    /// `[rows, n_heads * head_dim]`.
    fn attend(
        &self,
        qkv: [Self::Rows; 3],
        attn: &Attn,
        qk_norms: Option<&(Self::Norm, Self::Norm)>,
        cache: &mut Self::Cache,
        step: &Self::Step,
    ) -> Result<Self::Rows>;

    /// `act(gate(norm(x))) * up(norm(x))`.
    fn glu(
        &self,
        x: &Self::Rows,
        norm: Option<&Self::Norm>,
        gate: &Self::Linear,
        up: &Self::Linear,
        act: Act,
    ) -> Result<Self::Rows>;

    /// `x += scale * norm(out(y))`.
    fn add(
        &self,
        x: &mut Self::Rows,
        y: &Self::Rows,
        out: &Self::Linear,
        norm: Option<&Self::Norm>,
        scale: f32,
    ) -> Result<()>;

    /// `cap(scale * head(norm(x[rows])))`, row-major `[rows, vocab]`.
    fn logits(
        &self,
        x: &Self::Rows,
        rows: &[u32],
        norm: &Self::Norm,
        head: &Self::Linear,
        shape: LogitShape,
    ) -> Result<Vec<f32>>;
}

/// What is done to logits after the output matrix.
#[derive(Clone, Copy, Debug)]
pub struct LogitShape {
    /// Factor.
    pub scale: f32,
    /// `cap * tanh(x / cap)`.
    pub softcap: Option<f32>,
}
