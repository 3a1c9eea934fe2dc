//! What one step of the engine hands to a model, and what a model looks like from outside.
//!
//! Stands between `engine/scheduler.rs`, which fills a [`Batch`], and `decoder.rs`, which runs it.
//! There is no prefill and no decode: a batch is flattened tokens of any number of sequences, each
//! token with its position and the slot of the KV cache that its key and value go to.

use crate::Result;

/// Flattened tokens of one step. `tokens`, `positions` and `slots` have one entry per row.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Token ids, `[rows]`.
    pub tokens: Vec<u32>,
    /// Position of each token in its own sequence, `[rows]`.
    pub positions: Vec<u32>,
    /// Slot of the KV cache that each token's key and value are written to, `[rows]`:
    /// `block * block_size + offset`.
    pub slots: Vec<u32>,
    /// Which rows belong together; they cover the rows in order, without gaps.
    pub spans: Vec<Span>,
    /// The kind of each token (which text of a pair it is of), `[rows]`; empty where all are of the first. Only models that
    /// have [`crate::Spec::token_types`] look at it.
    pub types: Vec<u32>,
    /// Rows whose logits are wanted, ascending.
    pub outputs: Vec<u32>,
}

/// A run of rows of one sequence: consecutive positions, causal among themselves.
#[derive(Clone, Debug)]
pub struct Span {
    /// First row of the run in the batch.
    pub start: usize,
    /// Number of rows.
    pub len: usize,
    /// The sequence's block table: position `p` lies in slot
    /// `blocks[p / block_size] * block_size + p % block_size`. Covers every position up to the last
    /// of this run.
    pub blocks: Vec<u32>,
    /// Tokens of the sequence that are known so far (prompt and answer), whether computed or not.
    /// Only rope scalings that depend on the length in use (dynamic, longrope) look at it: when
    /// [`crate::Spec::rope_regime`] of it changes, what the cache holds of the sequence was rotated
    /// otherwise and has to be computed again.
    pub length: usize,
    /// Line of state of the recurrent layers that this sequence owns, below [`CacheShape::states`]. It is
    /// cleared where a span begins at position 0.
    pub state: u32,
}

impl Span {
    /// The slot of position `position` of this sequence.
    pub fn slot(&self, position: usize, block_size: usize) -> u32 {
        self.blocks[position / block_size] * block_size as u32 + (position % block_size) as u32
    }
}

/// How large a KV cache to allocate.
#[derive(Clone, Copy, Debug)]
pub struct CacheShape {
    /// Number of blocks.
    pub blocks: usize,
    /// Tokens per block.
    pub block_size: usize,
    /// Sequences that run at once: lines of state for each recurrent layer.
    pub states: usize,
}

/// A loaded model, ready to run: the one thing that the engine sees of this crate at run time.
pub trait Model: Send {
    /// What the model is.
    fn spec(&self) -> &crate::Spec;

    /// Bytes of KV cache that one token takes over all layers.
    fn cache_bytes_per_token(&self) -> usize;

    /// Allocates (or reallocates, forgetting everything) the KV cache.
    fn allocate(&mut self, shape: CacheShape) -> Result<()>;

    /// Runs the batch and returns the logits of `batch.outputs`, row-major `[outputs, vocab]`.
    ///
    /// Keys and values of every row are in the cache afterwards. The logits of a row do not depend
    /// on which other spans are in the batch.
    fn forward(&mut self, batch: &Batch) -> Result<Vec<f32>>;

    /// Runs whole texts, one a span, and returns what the model says of each: a number for each label where it has a
    /// [`crate::Spec::classifier`], else the vector of [`crate::Spec::embedding`].
    fn encode(&mut self, batch: &Batch) -> Result<Vec<Vec<f32>>>;
}
