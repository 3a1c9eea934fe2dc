//! The operations that a decoder is made of. A backend says where numbers live and how these few
//! things are done to them; the order in which they are done is the decoder's.
//!
//! They are coarse on purpose: each is one pass over the machine's cores in a fast backend, and a line
//! or ten in an obvious one. What is scanned position by position is plain code over host memory
//! ([`Backend::host`]), the same for all backends.

use kernels::pool::Pool;
use weights::Tensor;

use crate::Result;
use crate::batch::{Batch, CacheShape};
use crate::mixers::Attn;
use crate::moe::Choice;
use crate::rope::Rotation;
use crate::spec::{Act, Norm};

/// Plain code over the rows of its inputs, writing the rows of its output.
pub type HostCode<'a> = dyn FnMut(&Pool, &[&[f32]], &mut [f32]) + 'a;

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

    /// Takes a norm up. Rows are normalised in groups of `group` numbers; `weight` and `bias` may span several
    /// groups, and are taken from their beginning again where a row is longer.
    fn norm(&self, norm: Norm, weight: Vec<f32>, bias: Option<Vec<f32>>, group: usize) -> Result<Self::Norm>;

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

    /// Each head of `x`, `[rows, heads * width]`, through a matrix of its own.
    fn by_head(&self, x: &Self::Rows, heads: &[Self::Linear]) -> Result<Self::Rows>;

    /// `norm(x)`.
    fn normed(&self, x: &Self::Rows, norm: &Self::Norm) -> Result<Self::Rows>;

    /// Rotates every head of `x`, `[rows, heads * head_dim]`, by rope number `rope`.
    fn rotate(&self, x: &mut Self::Rows, head_dim: usize, rope: usize, step: &Self::Step) -> Result<()>;

    /// Stores keys and values (none where another layer did) and attends: `[rows, n_heads * value_dim]`.
    fn attend(
        &self,
        q: Self::Rows,
        kv: Option<(Self::Rows, Self::Rows)>,
        attn: &Attn,
        sinks: Option<&[f32]>,
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

    /// `act(up(norm(x)))`.
    fn mlp(
        &self,
        x: &Self::Rows,
        norm: Option<&Self::Norm>,
        up: &Self::Linear,
        act: Act,
    ) -> Result<Self::Rows>;

    /// Each row through the experts that were chosen for it, their results weighted and added up in the order of
    /// the experts' numbers: `[rows, dim]`.
    fn experts(
        &self,
        x: &Self::Rows,
        choice: &Choice,
        experts: &[Expert<Self::Linear>],
        act: Act,
    ) -> Result<Self::Rows>;

    /// `x += scale * norm(out(y))`; without a matrix, `y` itself.
    fn add(
        &self,
        x: &mut Self::Rows,
        y: &Self::Rows,
        out: Option<&Self::Linear>,
        norm: Option<&Self::Norm>,
        scale: f32,
    ) -> Result<()>;

    /// `x *= factor`.
    fn scale(&self, x: &mut Self::Rows, factor: f32) -> Result<()>;

    /// `cap(scale * head(norm(x[rows])))`, row-major `[rows, vocab]`.
    fn logits(
        &self,
        x: &Self::Rows,
        rows: &[u32],
        norm: &Self::Norm,
        head: &Self::Linear,
        shape: LogitShape,
    ) -> Result<Vec<f32>>;

    /// Runs plain code over rows in host memory; the result has as many rows as `inputs[0]`, of `width`.
    fn host(&self, inputs: &[&Self::Rows], width: usize, code: &mut HostCode<'_>) -> Result<Self::Rows>;

    /// The numbers of `x`, row-major.
    fn fetch(&self, x: &Self::Rows) -> Result<Vec<f32>>;
}

/// One part of a mixture.
pub struct Expert<L> {
    /// Gate, if it is gated.
    pub gate: Option<L>,
    /// Up.
    pub up: L,
    /// Down.
    pub down: L,
}

/// What is done to logits after the output matrix.
#[derive(Clone, Copy, Debug)]
pub struct LogitShape {
    /// Factor.
    pub scale: f32,
    /// `cap * tanh(x / cap)`.
    pub softcap: Option<f32>,
}
