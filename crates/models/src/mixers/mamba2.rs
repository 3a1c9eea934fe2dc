//! Mamba-2: a convolution over a few positions, then a scan whose state decays by one number a head.
//! Dao & Gu 2024, arXiv:2405.21060.

use std::borrow::Cow;

use kernels::activation::{Act, glu};
use kernels::ssm::{Conv, Scan};

use crate::Result;
use crate::backend::Backend;
use crate::hparams::Hparams;
use crate::load::LayerLoader;
use crate::mixers::attn::lost;
use crate::mixers::{Branch, Memory, Reading};

/// One Mamba-2 mixer.
#[derive(Clone, Debug, PartialEq)]
pub struct Mamba2 {
    /// Heads.
    pub n_heads: usize,
    /// Width of a head; `n_heads * head_dim` is the inner width.
    pub head_dim: usize,
    /// Numbers of state for each number of a head.
    pub state_dim: usize,
    /// Groups of heads that share B and C.
    pub n_groups: usize,
    /// Positions that the convolution sees.
    pub conv_kernel: usize,
    /// The least and the greatest step.
    pub dt_limit: (f32, f32),
    /// How the result is normalised and gated.
    pub gated_norm: GatedNorm,
    /// Factors on the parts of the input projection: gate, x, B, C, dt (Falcon-H1).
    pub in_scales: [f32; 5],
    /// Factor on what it says.
    pub out_scale: f32,
}

/// What stands between the scan and the output matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GatedNorm {
    /// `y * silu(z)`.
    None,
    /// `norm(y * silu(z))`, over this many groups.
    After {
        /// Groups normalised apart.
        groups: usize,
        /// Added to the variance.
        eps: f32,
    },
    /// As `After` where the file brings weights for the norm, else as `None`.
    IfBrought {
        /// Groups normalised apart.
        groups: usize,
        /// Added to the variance.
        eps: f32,
    },
    /// `norm(y) * silu(z)`.
    Before {
        /// Groups normalised apart.
        groups: usize,
        /// Added to the variance.
        eps: f32,
    },
}

pub(crate) struct Weights<B: Backend> {
    input: B::Linear,
    out: B::Linear,
    /// `[kernel][channels]`, and a bias.
    conv: Vec<f32>,
    conv_bias: Option<Vec<f32>>,
    /// Of each head: the negative rate, the way past the scan, the bias of the step.
    a: Vec<f32>,
    d: Vec<f32>,
    dt_bias: Vec<f32>,
    norm: Option<Vec<f32>>,
}

impl Mamba2 {
    /// As most files describe it; the stream is `dim` wide.
    pub(crate) fn of(h: &Hparams, dim: usize) -> Result<Mamba2> {
        h.shown_by_tensors(&["mamba_conv_bias", "mamba_proj_bias"]);
        let n_heads = h.dim("ssm.time_step_rank")?;
        // Nemotron-H states an expansion that its heads do not make: where heads have a width, that counts.
        let head_dim = h.opt_number("ssm.head_dim")?;
        let expand = h.opt_positive("ssm.expand")?.unwrap_or(2.0);
        let inner = match (h.opt_usize("ssm.inner_size")?, head_dim) {
            (Some(inner), _) => inner,
            (None, Some(width)) => width.checked_mul(n_heads).unwrap_or(0),
            (None, None) => (expand * dim as f32) as usize,
        };
        let n_groups = h.opt_usize("ssm.group_count")?.unwrap_or(1);
        let head_dim = head_dim.unwrap_or(inner / n_heads);
        if head_dim.checked_mul(n_heads) != Some(inner) || !n_heads.is_multiple_of(n_groups) {
            return Err(h.bad(
                "ssm.time_step_rank",
                n_heads,
                format!("heads of {head_dim} that make {inner}, in {n_groups} groups"),
            ));
        }
        Ok(Mamba2 {
            n_heads,
            head_dim,
            n_groups,
            state_dim: h.dim("ssm.state_size")?,
            conv_kernel: h.dim("ssm.conv_kernel")?,
            dt_limit: (0.0, f32::INFINITY),
            gated_norm: GatedNorm::None,
            in_scales: [1.0; 5],
            out_scale: 1.0,
        })
    }

    fn inner(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Channels of the convolution: x, B and C.
    fn channels(&self) -> usize {
        self.inner() + 2 * self.n_groups * self.state_dim
    }

    fn projected(&self) -> usize {
        self.inner() + self.channels() + self.n_heads
    }

    fn conv_state(&self) -> usize {
        (self.conv_kernel - 1) * self.channels()
    }

    /// Numbers that it keeps for each sequence.
    pub fn state(&self) -> usize {
        self.conv_state() + self.inner() * self.state_dim
    }

    pub(crate) fn parameters(&self, dim: usize) -> usize {
        dim * (self.projected() + self.inner())
            + self.channels() * self.conv_kernel
            + 3 * self.n_heads
            + if self.gated_norm == GatedNorm::None { 0 } else { self.inner() }
    }

    pub(crate) fn load<B: Backend>(&self, from: &LayerLoader<'_, B>) -> Result<Weights<B>> {
        let norm = match self.gated_norm {
            GatedNorm::None => false,
            GatedNorm::IfBrought { .. } => from.has("ssm_norm.weight"),
            GatedNorm::After { .. } | GatedNorm::Before { .. } => true,
        };
        let heads = self.n_heads;
        Ok(Weights {
            input: from.linear("ssm_in", self.projected(), from.dim)?,
            out: from.linear("ssm_out", from.dim, self.inner())?,
            conv: from.conv("ssm_conv1d.weight", self.channels(), self.conv_kernel)?,
            conv_bias: from.opt_vector("ssm_conv1d.bias", self.channels())?,
            a: from.decay("ssm_a", &[heads])?,
            d: from.numbers("ssm_d", &[heads])?,
            dt_bias: from.vector("ssm_dt.bias", heads)?,
            norm: if norm { Some(self.norm_weights(from)?) } else { None },
        })
    }

    /// A GGUF has them as `[groups, numbers of a group]`.
    fn norm_weights<B: Backend>(&self, from: &LayerLoader<'_, B>) -> Result<Vec<f32>> {
        let whole_shape = [self.inner()];
        let whole = from.has_shape("ssm_norm.weight", &whole_shape);
        let shape = [self.n_groups, self.inner() / self.n_groups];
        from.numbers("ssm_norm.weight", if whole { &whole_shape } else { &shape })
    }

    pub(crate) fn run<'w, B: Backend>(
        &self,
        w: &'w Weights<B>,
        from: &Reading<'_, B>,
        memory: &mut Memory<B>,
    ) -> Result<Branch<'w, B>> {
        let Memory::State(state) = memory else { return Err(lost()) };
        let rows = from.backend.project(from.x, from.norm, &[&w.input])?.pop().ok_or_else(lost)?;
        let rows = from.backend.host(&[&rows], self.inner(), &mut |pool, rows, out| {
            let (width, inner) = (self.projected(), self.inner());
            let projected = self.scaled(rows[0]);
            state.each_span(from.batch, |span, line| {
                let (conv_state, scan_state) = line.split_at_mut(self.conv_state());
                let rows = &projected[span.start * width..span.end * width];
                let conv = Conv {
                    channels: self.channels(),
                    kernel: self.conv_kernel,
                    weight: &w.conv,
                    bias: w.conv_bias.as_deref(),
                    silu: true,
                };
                let mixed = conv.run(pool, rows, width, inner, conv_state);
                let scan = Scan {
                    heads: self.n_heads,
                    head_dim: self.head_dim,
                    state_dim: self.state_dim,
                    groups: self.n_groups,
                    a: &w.a,
                    d: &w.d,
                };
                let dt = self.steps(rows, &w.dt_bias);
                scan.run(pool, &mixed, &dt, scan_state, &mut out[span.start * inner..span.end * inner]);
            });
            let norm = w.norm.as_deref();
            pool.each_piece(out, inner, |i, out| {
                self.gate(out, &projected[i * width..][..inner], norm);
            });
        })?;
        Ok(Branch { rows, out: Some(&w.out) })
    }

    /// Falcon-H1's factors on gate, x, B, C and dt.
    fn scaled<'a>(&self, projected: &'a [f32]) -> Cow<'a, [f32]> {
        if self.in_scales == [1.0; 5] {
            return Cow::Borrowed(projected);
        }
        let mut projected = projected.to_vec();
        let bc = self.n_groups * self.state_dim;
        let widths = [self.inner(), self.inner(), bc, bc, self.n_heads];
        for row in projected.chunks_exact_mut(self.projected()) {
            let mut rest = row;
            for (width, factor) in widths.into_iter().zip(self.in_scales) {
                let (part, others) = rest.split_at_mut(width);
                part.iter_mut().for_each(|x| *x *= factor);
                rest = others;
            }
        }
        Cow::Owned(projected)
    }

    /// How far each head goes at each position: softplus, within limits.
    fn steps(&self, rows: &[f32], bias: &[f32]) -> Vec<f32> {
        let (low, high) = self.dt_limit;
        let at = self.projected() - self.n_heads;
        let dt = rows.chunks_exact(self.projected()).flat_map(|row| row[at..].iter().zip(bias));
        dt.map(|(x, b)| softplus(x + b).clamp(low, high)).collect()
    }

    fn gate(&self, y: &mut [f32], z: &[f32], norm: Option<&[f32]>) {
        let silu = |y: &mut [f32]| {
            let mut gate = z.to_vec();
            glu(Act::Silu, &mut gate, y);
            y.copy_from_slice(&gate);
        };
        match self.gated_norm {
            GatedNorm::None => silu(y),
            GatedNorm::IfBrought { .. } if norm.is_none() => silu(y),
            GatedNorm::After { groups, eps } | GatedNorm::IfBrought { groups, eps } => {
                silu(y);
                rms_groups(y, norm, groups, eps);
            }
            GatedNorm::Before { groups, eps } => {
                rms_groups(y, norm, groups, eps);
                silu(y);
            }
        }
    }
}

fn rms_groups(y: &mut [f32], weight: Option<&[f32]>, groups: usize, eps: f32) {
    let size = y.len() / groups;
    for (g, part) in y.chunks_exact_mut(size).enumerate() {
        let weight = weight.map(|w| &w[g * size..(g + 1) * size]);
        let x = part.to_vec();
        kernels::norm::rms_norm(&x, weight, eps, part);
    }
}

/// `ln(1 + e^x)`, itself where that is all that f32 can tell.
pub(crate) fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}
