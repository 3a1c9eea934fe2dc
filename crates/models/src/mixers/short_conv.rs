//! A gated convolution over a few positions (LFM2, Liquid AI 2025, arXiv:2511.23404): `out(C * conv(B * x))`.

use kernels::ssm::Conv;

use crate::Result;
use crate::backend::Backend;
use crate::load::LayerLoader;
use crate::mixers::attn::lost;
use crate::mixers::{Branch, Memory, Reading};

/// One short convolution, as wide as the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortConv {
    /// Width of the stream.
    pub dim: usize,
    /// Positions that it sees.
    pub kernel: usize,
}

pub(crate) struct Weights<B: Backend> {
    input: B::Linear,
    out: B::Linear,
    conv: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl ShortConv {
    /// Numbers that it keeps for each sequence.
    pub fn state(&self) -> usize {
        (self.kernel - 1) * self.dim
    }

    pub(crate) fn parameters(&self, dim: usize) -> usize {
        4 * dim * self.dim + self.dim * self.kernel
    }

    pub(crate) fn load<B: Backend>(&self, from: &LayerLoader<'_, B>) -> Result<Weights<B>> {
        Ok(Weights {
            input: from.linear("shortconv.in_proj", 3 * self.dim, from.dim)?,
            out: from.linear("shortconv.out_proj", from.dim, self.dim)?,
            conv: from.conv("shortconv.conv.weight", self.dim, self.kernel)?,
            bias: from.opt_vector("shortconv.conv.bias", self.dim)?,
        })
    }

    pub(crate) fn run<'w, B: Backend>(
        &self,
        w: &'w Weights<B>,
        from: &Reading<'_, B>,
        memory: &mut Memory<B>,
    ) -> Result<Branch<'w, B>> {
        let Memory::State(state) = memory else { return Err(lost()) };
        let rows = from.backend.project(from.x, from.norm, &[&w.input])?.pop().ok_or_else(lost)?;
        let dim = self.dim;
        let conv = Conv {
            channels: dim,
            kernel: self.kernel,
            weight: &w.conv,
            bias: w.bias.as_deref(),
            silu: false,
        };
        let rows = from.backend.host(&[&rows], dim, &mut |pool, rows, out| {
            state.each_span(from.batch, |span, line| {
                let rows = &rows[0][span.start * 3 * dim..span.end * 3 * dim];
                let gated: Vec<f32> = rows
                    .chunks_exact(3 * dim)
                    .flat_map(|row| row[..dim].iter().zip(&row[2 * dim..]).map(|(b, x)| b * x))
                    .collect();
                let mixed = conv.run(pool, &gated, dim, 0, line);
                let out = out[span.start * dim..span.end * dim].chunks_exact_mut(dim);
                for ((out, mixed), row) in out.zip(mixed.chunks_exact(dim)).zip(rows.chunks_exact(3 * dim)) {
                    for ((o, m), c) in out.iter_mut().zip(mixed).zip(&row[dim..2 * dim]) {
                        *o = c * m;
                    }
                }
            });
        })?;
        Ok(Branch { rows, out: Some(&w.out) })
    }
}
