//! Griffin's recurrent block: a convolution over a few positions, then a gated linear recurrence of each channel.
//! De et al. 2024, arXiv:2402.19427; as in RecurrentGemma.

use kernels::ssm::Conv;

use crate::Result;
use crate::backend::Backend;
use crate::load::LayerLoader;
use crate::mixers::attn::lost;
use crate::mixers::mamba2::softplus;
use crate::mixers::{Branch, Memory, Reading};
use crate::spec::Act;

/// One recurrent block.
#[derive(Clone, Debug, PartialEq)]
pub struct RgLru {
    /// Channels.
    pub inner: usize,
    /// Groups of channels whose gates are made of one another.
    pub blocks: usize,
    /// Positions that the convolution sees.
    pub conv_kernel: usize,
    /// Of the branch that gates the recurrence.
    pub act: Act,
}

pub(crate) struct Weights<B: Backend> {
    y: B::Linear,
    x: B::Linear,
    out: B::Linear,
    conv: Vec<f32>,
    conv_bias: Option<Vec<f32>>,
    /// `-8 softplus(parameter)` of each channel.
    rate: Vec<f32>,
    input: Gate,
    recurrent: Gate,
}

/// A sigmoid of a matrix for each block, `[blocks, in, out]`.
struct Gate {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Gate {
    /// The gates of one block of `x`.
    fn of(&self, block: usize, x: &[f32]) -> Vec<f32> {
        let size = x.len();
        let mut out = self.bias[block * size..(block + 1) * size].to_vec();
        let weight = &self.weight[block * size * size..(block + 1) * size * size];
        for (row, x) in weight.chunks_exact(size).zip(x) {
            out.iter_mut().zip(row).for_each(|(o, w)| *o += x * w);
        }
        out.iter_mut().for_each(|o| *o = 1.0 / (1.0 + (-*o).exp()));
        out
    }
}

impl RgLru {
    fn conv_state(&self) -> usize {
        (self.conv_kernel - 1) * self.inner
    }

    /// Numbers that it keeps for each sequence.
    pub fn state(&self) -> usize {
        self.conv_state() + self.inner
    }

    pub(crate) fn parameters(&self, dim: usize) -> usize {
        let gates = 2 * self.inner * (self.inner / self.blocks + 1);
        3 * dim * self.inner + gates + self.inner * (self.conv_kernel + 1)
    }

    pub(crate) fn load<B: Backend>(&self, from: &LayerLoader<'_, B>) -> Result<Weights<B>> {
        let size = self.inner / self.blocks;
        let gate = |name: &str| {
            Ok::<_, crate::Error>(Gate {
                weight: from.numbers(&format!("lru_{name}_gate.weight"), &[self.blocks, size, size])?,
                bias: from.numbers(&format!("lru_{name}_gate.bias"), &[self.blocks, size])?,
            })
        };
        let parameter = from.vector("lru_rate", self.inner)?;
        Ok(Weights {
            y: from.linear("lru_y", self.inner, from.dim)?,
            x: from.linear("lru_x", self.inner, from.dim)?,
            out: from.linear("lru_out", from.dim, self.inner)?,
            conv: from.conv("lru_conv.weight", self.inner, self.conv_kernel)?,
            conv_bias: from.opt_vector("lru_conv.bias", self.inner)?,
            rate: parameter.into_iter().map(|x| -8.0 * softplus(x)).collect(),
            input: gate("input")?,
            recurrent: gate("recurrent")?,
        })
    }

    pub(crate) fn run<'w, B: Backend>(
        &self,
        w: &'w Weights<B>,
        from: &Reading<'_, B>,
        memory: &mut Memory<B>,
    ) -> Result<Branch<'w, B>> {
        let Memory::State(state) = memory else { return Err(lost()) };
        let both = from.backend.project(from.x, from.norm, &[&w.x, &w.y])?;
        let [x, y] = &both[..] else { return Err(lost()) };
        let inner = self.inner;
        let rows = from.backend.host(&[x, y], inner, &mut |pool, rows, out| {
            state.each_span(from.batch, |span, line| {
                let (conv_state, held) = line.split_at_mut(self.conv_state());
                let conv = Conv {
                    channels: inner,
                    kernel: self.conv_kernel,
                    weight: &w.conv,
                    bias: w.conv_bias.as_deref(),
                    silu: false,
                };
                let part = span.start * inner..span.end * inner;
                let mixed = conv.run(pool, &rows[0][part.clone()], inner, 0, conv_state);
                let begins = from.batch.positions[span.start] == 0;
                self.scan(w, &mixed, held, begins, &mut out[part]);
            });
            out.iter_mut().zip(rows[1]).for_each(|(o, y)| *o *= self.act.glu(*y, 1.0));
        })?;
        Ok(Branch { rows, out: Some(&w.out) })
    }

    /// `held = a held + sqrt(1 - a^2) gate x`; at a sequence's beginning what comes in is not made smaller.
    fn scan<B: Backend>(
        &self,
        w: &Weights<B>,
        mixed: &[f32],
        held: &mut [f32],
        begins: bool,
        out: &mut [f32],
    ) {
        let size = self.inner / self.blocks;
        for (t, (row, out)) in
            mixed.chunks_exact(self.inner).zip(out.chunks_exact_mut(self.inner)).enumerate()
        {
            let blocks =
                row.chunks_exact(size).zip(held.chunks_exact_mut(size)).zip(out.chunks_exact_mut(size));
            for (block, ((x, held), out)) in blocks.enumerate() {
                let (input, recurrent) = (w.input.of(block, x), w.recurrent.of(block, x));
                let rates = &w.rate[block * size..(block + 1) * size];
                for i in 0..size {
                    let log = recurrent[i] * rates[i];
                    let (decay, scale) = match begins && t == 0 {
                        true => (0.0, 1.0),
                        false => (log.exp(), (1.0 - (2.0 * log).exp()).sqrt()),
                    };
                    held[i] = decay * held[i] + scale * input[i] * x[i];
                    out[i] = held[i];
                }
            }
        }
    }
}
