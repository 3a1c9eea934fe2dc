//! Embeddings for each layer (Gemma 3n and 4): beside the stream, every layer gets a narrow vector for each token. The stream
//! gates it after the layer's feed-forward, and what comes of that is added to the stream.
//!
//! `decoder.rs` makes the vectors of all layers at once from the tokens and their embedding.

use crate::Result;
use crate::backend::Backend;
use crate::cpu::glu_row;
use crate::load::LayerLoader;
use crate::mixers::Branch;
use crate::mixers::attn::lost;
use crate::spec::Act;

/// Vectors that layers get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerInputs {
    /// Ids that have vectors of their own; all others take the first's.
    pub rows: usize,
    /// Numbers for each layer.
    pub dim: usize,
    /// The gate's activation.
    pub act: Act,
}

/// What makes the vectors.
pub(crate) struct Weights<B: Backend> {
    table: B::Linear,
    of_embedding: B::Linear,
    norm: B::Norm,
}

/// What one layer does with its own.
pub(crate) struct Gate<B: Backend> {
    gate: B::Linear,
    out: B::Linear,
    norm: B::Norm,
}

impl LayerInputs {
    /// Numbers of its matrices and norms, in a stack of `layers`.
    pub(crate) fn parameters(&self, dim: usize, layers: usize) -> usize {
        layers * (self.dim * self.rows + 3 * self.dim * dim + dim) + self.dim
    }

    pub(crate) fn load<B: Backend>(&self, from: &LayerLoader<'_, B>, layers: usize) -> Result<Weights<B>> {
        Ok(Weights {
            table: from.linear("per_layer_token_embd", self.rows, layers * self.dim)?,
            of_embedding: from.linear("per_layer_model_proj", layers * self.dim, from.dim)?,
            norm: from.norm("per_layer_proj_norm", self.dim)?,
        })
    }

    pub(crate) fn load_gate<B: Backend>(&self, from: &LayerLoader<'_, B>) -> Result<Gate<B>> {
        Ok(Gate {
            gate: from.linear("inp_gate", self.dim, from.dim)?,
            out: from.linear("proj", from.dim, self.dim)?,
            norm: from.norm("post_norm", from.dim)?,
        })
    }

    /// The vectors of all layers, `[rows, layers * dim]`: half from the token, half from its embedding `x`.
    pub(crate) fn of<B: Backend>(
        &self,
        w: &Weights<B>,
        backend: &B,
        tokens: &[u32],
        x: &B::Rows,
        dim: usize,
    ) -> Result<B::Rows> {
        let mut made = backend.project(x, None, &[&w.of_embedding])?.pop().ok_or_else(lost)?;
        backend.scale(&mut made, (dim as f32).powf(-0.5))?;
        let mut made = backend.normed(&made, &w.norm)?;
        let ids: Vec<u32> = tokens.iter().map(|&t| if (t as usize) < self.rows { t } else { 0 }).collect();
        let own = backend.embed(&w.table, &ids, (self.dim as f32).sqrt())?;
        backend.add(&mut made, &own, None, None, 1.0)?;
        backend.scale(&mut made, std::f32::consts::FRAC_1_SQRT_2)?;
        Ok(made)
    }

    /// What layer number `index` says of its own vectors among `inputs`, gated by `x`; and the norm of that.
    pub(crate) fn said<'w, B: Backend>(
        &self,
        gate: &'w Gate<B>,
        backend: &B,
        x: &B::Rows,
        (inputs, index, layers): (&B::Rows, usize, usize),
    ) -> Result<(Branch<'w, B>, &'w B::Norm)> {
        let gates = backend.project(x, None, &[&gate.gate])?.pop().ok_or_else(lost)?;
        let (dim, all) = (self.dim, layers * self.dim);
        let rows = backend.host(&[&gates, inputs], dim, &mut |_, rows, out| {
            out.copy_from_slice(rows[0]);
            for (out, inputs) in out.chunks_exact_mut(dim).zip(rows[1].chunks_exact(all)) {
                glu_row(self.act, out, &inputs[index * dim..(index + 1) * dim]);
            }
        })?;
        Ok((Branch { rows, out: Some(&gate.out) }, &gate.norm))
    }
}
