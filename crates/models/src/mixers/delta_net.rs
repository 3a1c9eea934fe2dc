//! Gated delta net: a convolution over a few positions, then a state for each head that is written by the delta
//! rule. Yang et al. 2024, arXiv:2412.06464; as in Qwen3-Next and Qwen 3.5.

use kernels::delta::{DeltaRows, DeltaRule};
use kernels::ssm::Conv;

use crate::Result;
use crate::backend::Backend;
use crate::hparams::Hparams;
use crate::load::{LayerLoader, by_group};
use crate::mixers::attn::lost;
use crate::mixers::mamba2::softplus;
use crate::mixers::{Branch, Memory, Reading};

/// One gated delta net.
#[derive(Clone, Debug, PartialEq)]
pub struct DeltaNet {
    /// Heads of queries and keys.
    pub key_heads: usize,
    /// Heads of values.
    pub value_heads: usize,
    /// Width of a key.
    pub key_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
    /// Positions that the convolution sees.
    pub conv_kernel: usize,
    /// Value head `h` has the key head `h % key_heads` (GGUFs of Qwen 3.5); otherwise neighbours share one.
    pub tiled: bool,
    /// Of the norm of each head's result.
    pub eps: f32,
}

pub(crate) struct Weights<B: Backend> {
    qkv: B::Linear,
    z: B::Linear,
    beta: B::Linear,
    alpha: B::Linear,
    out: B::Linear,
    conv: Vec<f32>,
    conv_bias: Option<Vec<f32>>,
    a: Vec<f32>,
    dt_bias: Vec<f32>,
    norm: Vec<f32>,
}

/// Added under the root when queries and keys are brought to length one.
const L2_EPS: f32 = 1e-6;

impl DeltaNet {
    /// As config.json and GGUF describe it.
    pub(crate) fn of(h: &Hparams, eps: f32) -> Result<DeltaNet> {
        let (key_heads, value_heads) = (h.dim("ssm.group_count")?, h.dim("ssm.time_step_rank")?);
        if !value_heads.is_multiple_of(key_heads) {
            return Err(h.bad(
                "ssm.time_step_rank",
                value_heads,
                format!("a multiple of {key_heads} key heads"),
            ));
        }
        let key_dim = h.dim("ssm.state_size")?;
        let value_dim = match (h.opt_usize("linear_value_head_dim")?, h.opt_usize("ssm.inner_size")?) {
            (Some(n), _) => n,
            (None, Some(inner)) if inner.is_multiple_of(value_heads) => inner / value_heads,
            (None, Some(inner)) => {
                return Err(h.bad("ssm.inner_size", inner, format!("a multiple of {value_heads} heads")));
            }
            (None, None) => key_dim,
        };
        let conv_kernel = h.dim("ssm.conv_kernel")?;
        let size = value_heads.checked_mul(key_dim).and_then(|n| n.checked_mul(value_dim));
        if size.is_none_or(|n| n > 1 << 32) || conv_kernel > 1 << 16 {
            return Err(h.bad("ssm.state_size", key_dim, "a state of a size that can be"));
        }
        Ok(DeltaNet { key_heads, value_heads, key_dim, value_dim, conv_kernel, tiled: false, eps })
    }

    fn keys(&self) -> usize {
        self.key_heads * self.key_dim
    }

    fn values(&self) -> usize {
        self.value_heads * self.value_dim
    }

    /// Channels of the convolution: queries, keys, values.
    fn channels(&self) -> usize {
        2 * self.keys() + self.values()
    }

    fn conv_state(&self) -> usize {
        (self.conv_kernel - 1) * self.channels()
    }

    /// Numbers that it keeps for each sequence.
    pub fn state(&self) -> usize {
        self.conv_state() + self.value_heads * self.key_dim * self.value_dim
    }

    pub(crate) fn parameters(&self, dim: usize) -> usize {
        dim * (self.channels() + 2 * self.values() + 2 * self.value_heads)
            + self.channels() * self.conv_kernel
            + 2 * self.value_heads
            + self.value_dim
    }

    pub(crate) fn load<B: Backend>(&self, from: &LayerLoader<'_, B>) -> Result<Weights<B>> {
        let [qkv, z] = if from.has("ssm_in.weight") {
            let parts =
                [self.key_dim, self.key_dim, self.shared() * self.value_dim, self.shared() * self.value_dim];
            let order = by_group(self.key_heads, &parts);
            from.split_of("ssm_in", Some(&order), [self.channels(), self.values()], from.dim)?
        } else {
            [
                from.linear("attn_qkv", self.channels(), from.dim)?,
                from.linear("attn_gate", self.values(), from.dim)?,
            ]
        };
        let heads = self.value_heads;
        let [beta, alpha] = if from.has("ssm_ba.weight") {
            let order = by_group(self.key_heads, &[self.shared(), self.shared()]);
            from.split_of("ssm_ba", Some(&order), [heads, heads], from.dim)?
        } else {
            [from.linear("ssm_beta", heads, from.dim)?, from.linear("ssm_alpha", heads, from.dim)?]
        };
        Ok(Weights {
            qkv,
            z,
            beta,
            alpha,
            out: from.linear("ssm_out", from.dim, self.values())?,
            conv: from.conv("ssm_conv1d.weight", self.channels(), self.conv_kernel)?,
            conv_bias: from.opt_vector("ssm_conv1d.bias", self.channels())?,
            a: from.decay("ssm_a", &[heads])?,
            dt_bias: from.vector("ssm_dt.bias", heads)?,
            norm: from.vector("ssm_norm.weight", self.value_dim)?,
        })
    }

    /// Value heads that share a key head.
    fn shared(&self) -> usize {
        self.value_heads / self.key_heads
    }

    pub(crate) fn run<'w, B: Backend>(
        &self,
        w: &'w Weights<B>,
        from: &Reading<'_, B>,
        memory: &mut Memory<B>,
    ) -> Result<Branch<'w, B>> {
        let Memory::State(state) = memory else { return Err(lost()) };
        let rows = from.backend.project(from.x, from.norm, &[&w.qkv, &w.z, &w.beta, &w.alpha])?;
        let rows: Vec<&B::Rows> = rows.iter().collect();
        let values = self.values();
        let rows = from.backend.host(&rows, values, &mut |pool, rows, out| {
            let &[qkv, z, beta, alpha] = rows else { return };
            let (channels, heads) = (self.channels(), self.value_heads);
            let conv = Conv {
                channels,
                kernel: self.conv_kernel,
                weight: &w.conv,
                bias: w.conv_bias.as_deref(),
                silu: true,
            };
            let rule = self.rule();
            state.each_span(from.batch, |span, line| {
                let (conv_state, state) = line.split_at_mut(self.conv_state());
                let part = |x: &'_ [f32], width: usize| x[span.start * width..span.end * width].to_vec();
                let mixed =
                    conv.run(pool, &qkv[span.start * channels..span.end * channels], channels, 0, conv_state);
                let (q, k, v) = self.apart(&mixed);
                let beta: Vec<f32> = part(beta, heads).iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
                let mut decay = part(alpha, heads);
                for row in decay.chunks_exact_mut(heads) {
                    for ((x, bias), a) in row.iter_mut().zip(&w.dt_bias).zip(&w.a) {
                        *x = (a * softplus(*x + bias)).exp();
                    }
                }
                let rows = DeltaRows { q: &q, k: &k, v: &v, decay: &decay, beta: &beta };
                rule.run(pool, &rows, state, &mut out[span.start * values..span.end * values]);
            });
            let norm = &w.norm;
            pool.each_piece(out, self.value_dim, |i, y| {
                self.normed(y, &z[i * self.value_dim..(i + 1) * self.value_dim], norm);
            });
        })?;
        Ok(Branch { rows, out: Some(&w.out) })
    }

    fn rule(&self) -> DeltaRule {
        DeltaRule {
            key_heads: self.key_heads,
            value_heads: self.value_heads,
            key_dim: self.key_dim,
            value_dim: self.value_dim,
            tiled: self.tiled,
        }
    }

    /// Queries and keys of length one, the queries scaled, and values.
    fn apart(&self, mixed: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let n = mixed.len() / self.channels();
        let keys = self.keys();
        let (mut q, mut k) = (Vec::with_capacity(n * keys), Vec::with_capacity(n * keys));
        let mut v = Vec::with_capacity(n * self.values());
        for row in mixed.chunks_exact(self.channels()) {
            q.extend_from_slice(&row[..keys]);
            k.extend_from_slice(&row[keys..2 * keys]);
            v.extend_from_slice(&row[2 * keys..]);
        }
        let scale = (self.key_dim as f32).powf(-0.5);
        for (rows, scale) in [(&mut q, scale), (&mut k, 1.0)] {
            for head in rows.chunks_exact_mut(self.key_dim) {
                let squares: f32 = head.iter().map(|x| x * x).sum();
                let factor = scale / (squares + L2_EPS).sqrt();
                head.iter_mut().for_each(|x| *x *= factor);
            }
        }
        (q, k, v)
    }

    /// One head's result, normalised and gated.
    fn normed(&self, y: &mut [f32], z: &[f32], weight: &[f32]) {
        let x = y.to_vec();
        kernels::norm::rms_norm(&x, Some(weight), self.eps, y);
        y.iter_mut().zip(z).for_each(|(y, z)| *y *= z / (1.0 + (-z).exp()));
    }
}
