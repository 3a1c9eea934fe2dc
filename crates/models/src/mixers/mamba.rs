//! Mamba: a convolution over a few positions, then a scan whose steps and whose B and C depend on the input.
//! Gu & Dao 2023, arXiv:2312.00752.

use kernels::selective::{Selective, SelectiveRows};
use kernels::ssm::Conv;

use crate::Result;
use crate::backend::Backend;
use crate::hparams::Hparams;
use crate::load::LayerLoader;
use crate::mixers::attn::lost;
use crate::mixers::mamba2::softplus;
use crate::mixers::{Branch, Memory, Reading};

/// One Mamba mixer.
#[derive(Clone, Debug, PartialEq)]
pub struct Mamba {
    /// Channels.
    pub inner: usize,
    /// Numbers of state for each channel.
    pub state_dim: usize,
    /// Numbers that the steps of all channels are made of.
    pub step_rank: usize,
    /// Positions that the convolution sees.
    pub conv_kernel: usize,
    /// What steps, B and C are made of is normalised first.
    pub norms: Option<StepNorms>,
}

/// The norms of Jamba and FalconMamba.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepNorms {
    /// Added to the variance.
    pub eps: f32,
    /// Whether they have weights (Jamba).
    pub weights: bool,
}

pub(crate) struct Weights<B: Backend> {
    input: B::Linear,
    params: B::Linear,
    steps: B::Linear,
    out: B::Linear,
    conv: Vec<f32>,
    conv_bias: Option<Vec<f32>>,
    a: Vec<f32>,
    d: Vec<f32>,
    /// Of steps, B and C.
    norms: Option<[Vec<f32>; 3]>,
}

impl Mamba {
    /// As most files describe it; the stream is `dim` wide.
    pub(crate) fn of(h: &Hparams, dim: usize) -> Result<Mamba> {
        h.shown_by_tensors(&["mamba_conv_bias", "mamba_proj_bias"]);
        let expand = h.opt_positive("ssm.expand")?.unwrap_or(2.0);
        let inner = h.opt_usize("ssm.inner_size")?.unwrap_or((expand * dim as f32) as usize);
        let key = if h.is_gguf() { "ssm.time_step_rank" } else { "mamba.step_rank" };
        let step_rank = h.opt_number(key)?.unwrap_or(dim.div_ceil(16));
        let (state_dim, conv_kernel) = (h.dim("ssm.state_size")?, h.dim("ssm.conv_kernel")?);
        let size = inner.checked_mul(state_dim.max(conv_kernel));
        if inner == 0 || step_rank > 1 << 30 || size.is_none_or(|n| n > 1 << 32) {
            return Err(h.bad("ssm.state_size", state_dim, "a state of a size that can be"));
        }
        Ok(Mamba { inner, state_dim, step_rank, conv_kernel, norms: None })
    }

    fn conv_state(&self) -> usize {
        (self.conv_kernel - 1) * self.inner
    }

    /// Steps, B and C before they are widened.
    fn projected(&self) -> usize {
        self.step_rank + 2 * self.state_dim
    }

    /// Numbers that it keeps for each sequence.
    pub fn state(&self) -> usize {
        self.conv_state() + self.inner * self.state_dim
    }

    pub(crate) fn parameters(&self, dim: usize) -> usize {
        let norms = if self.norms.is_some_and(|n| n.weights) { self.projected() } else { 0 };
        let inner = self.projected() + self.step_rank + self.conv_kernel + self.state_dim + 1;
        3 * dim * self.inner + self.inner * inner + norms
    }

    pub(crate) fn load<B: Backend>(&self, from: &LayerLoader<'_, B>) -> Result<Weights<B>> {
        let norm = |name: &str, width| from.vector(&format!("ssm_{name}_norm.weight"), width);
        let norms = self.norms.filter(|n| n.weights).map(|_| {
            Ok::<_, crate::Error>([
                norm("dt", self.step_rank)?,
                norm("b", self.state_dim)?,
                norm("c", self.state_dim)?,
            ])
        });
        Ok(Weights {
            input: from.linear("ssm_in", 2 * self.inner, from.dim)?,
            params: from.linear("ssm_x", self.projected(), self.inner)?,
            steps: from.linear("ssm_dt", self.inner, self.step_rank)?,
            out: from.linear("ssm_out", from.dim, self.inner)?,
            conv: from.conv("ssm_conv1d.weight", self.inner, self.conv_kernel)?,
            conv_bias: from.opt_vector("ssm_conv1d.bias", self.inner)?,
            a: from.decay("ssm_a", &[self.inner, self.state_dim])?,
            d: from.numbers("ssm_d", &[self.inner])?,
            norms: norms.transpose()?,
        })
    }

    pub(crate) fn run<'w, B: Backend>(
        &self,
        w: &'w Weights<B>,
        from: &Reading<'_, B>,
        memory: &mut Memory<B>,
    ) -> Result<Branch<'w, B>> {
        let Memory::State(state) = memory else { return Err(lost()) };
        let backend = from.backend;
        let both = backend.project(from.x, from.norm, &[&w.input])?.pop().ok_or_else(lost)?;
        let mixed = backend.host(&[&both], self.inner, &mut |pool, rows, out| {
            state.each_part(from.batch, 0..self.conv_state(), |span, line| {
                let conv = Conv {
                    channels: self.inner,
                    kernel: self.conv_kernel,
                    weight: &w.conv,
                    bias: w.conv_bias.as_deref(),
                    silu: true,
                };
                let width = 2 * self.inner;
                let mixed = conv.run(pool, &rows[0][span.start * width..span.end * width], width, 0, line);
                out[span.start * self.inner..span.end * self.inner].copy_from_slice(&mixed);
            });
        })?;
        let params = backend.project(&mixed, None, &[&w.params])?.pop().ok_or_else(lost)?;
        let params = backend.host(&[&params], self.projected(), &mut |_, rows, out| {
            out.copy_from_slice(rows[0]);
            self.normalise(out, w.norms.as_ref());
        })?;
        let steps = backend.host(&[&params], self.step_rank, &mut |_, rows, out| {
            let rows = rows[0].chunks_exact(self.projected());
            out.chunks_exact_mut(self.step_rank).zip(rows).for_each(|(out, row)| {
                out.copy_from_slice(&row[..self.step_rank]);
            });
        })?;
        let steps = backend.project(&steps, None, &[&w.steps])?.pop().ok_or_else(lost)?;
        let inputs = [&mixed, &params, &steps, &both];
        let rows = backend.host(&inputs, self.inner, &mut |pool, rows, out| {
            let &[mixed, params, steps, both] = rows else { return };
            let dt: Vec<f32> = steps.iter().map(|&x| softplus(x)).collect();
            let (b, c) = self.b_and_c(params);
            let scan = Selective { channels: self.inner, state_dim: self.state_dim, a: &w.a, d: &w.d };
            state.each_part(from.batch, self.conv_state()..self.state(), |span, state| {
                let part = |width: usize| span.start * width..span.end * width;
                let rows = SelectiveRows {
                    x: &mixed[part(self.inner)],
                    dt: &dt[part(self.inner)],
                    b: &b[part(self.state_dim)],
                    c: &c[part(self.state_dim)],
                };
                scan.run(pool, &rows, state, &mut out[span.start * self.inner..span.end * self.inner]);
            });
            for (out, row) in out.chunks_exact_mut(self.inner).zip(both.chunks_exact(2 * self.inner)) {
                for (o, z) in out.iter_mut().zip(&row[self.inner..]) {
                    *o *= z / (1.0 + (-z).exp());
                }
            }
        })?;
        Ok(Branch { rows, out: Some(&w.out) })
    }

    fn normalise(&self, params: &mut [f32], weights: Option<&[Vec<f32>; 3]>) {
        let Some(norms) = self.norms else { return };
        let widths = [self.step_rank, self.state_dim, self.state_dim];
        for row in params.chunks_exact_mut(self.projected()) {
            let mut at = 0;
            for (i, width) in widths.into_iter().enumerate() {
                let part = &mut row[at..at + width];
                let x = part.to_vec();
                kernels::norm::rms_norm(&x, weights.map(|w| w[i].as_slice()), norms.eps, part);
                at += width;
            }
        }
    }

    fn b_and_c(&self, params: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let column = |at: usize| {
            let rows = params.chunks_exact(self.projected());
            rows.flat_map(|row| row[at..at + self.state_dim].iter().copied()).collect()
        };
        (column(self.step_rank), column(self.step_rank + self.state_dim))
    }
}
