//! Softmax attention with grouped heads, and what the architectures add to it.

use crate::Result;
use crate::backend::Backend;
use crate::error::Error;
use crate::lead::Beside;
use crate::load::{LayerLoader, by_group};
use crate::mixers::{Branch, Memory, Reading};

/// Grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245).
#[derive(Clone, Debug, PartialEq)]
pub struct Attn {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head's queries and keys.
    pub head_dim: usize,
    /// Width of a head's values.
    pub value_dim: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// A position sees itself and the `window - 1` before it (and, in an encoder, after it).
    pub window: Option<usize>,
    /// A position sees only its own chunk of so many (Llama 4).
    pub chunk: Option<usize>,
    /// A position sees what follows it too: an encoder.
    pub both_ways: bool,
    /// `cap * tanh(scores / cap)` before the softmax.
    pub softcap: Option<f32>,
    /// Index into [`crate::Spec::ropes`]; `None` is no rotation.
    pub rope: Option<usize>,
    /// Whether and how queries and keys are normalised.
    pub qk_norm: Option<QkNorm>,
    /// Values are normalised for each head, without weights (Gemma 3n and 4).
    pub v_norm: bool,
    /// Queries, keys and values are held within this (OLMo).
    pub clip: Option<f32>,
    /// A learned score for each head that takes weight and gives no value (gpt-oss).
    pub sinks: bool,
    /// Scores lean to near positions.
    pub alibi: Option<Alibi>,
    /// Queries grow with their position.
    pub temperature: Option<Temperature>,
    /// What is attended is multiplied by the sigmoid of a projection of its own (`attn_gate`).
    pub gate: bool,
    /// Keys and values are those of this earlier layer.
    pub shares: Option<usize>,
    /// Values are what keys are before their norm and rotation (Gemma 4).
    pub values_of_keys: bool,
    /// Factor on what it says.
    pub out_scale: f32,
}

/// Attention with linear biases (Press et al. 2021, arXiv:2108.12409).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alibi {
    /// The slopes are powers of 2 down to 2 to the minus this.
    pub max: f32,
    /// Factor on the slopes (Falcon adds the biases before it scales the scores).
    pub factor: f32,
}

/// How queries and keys are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QkNorm {
    /// What is normalised together, and which weights it has.
    pub scope: NormScope,
    /// After the rotation rather than before it.
    pub after_rope: bool,
}

/// What a norm of queries or keys goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormScope {
    /// Each head, all by the same weights (Qwen 3).
    Head,
    /// Each head by weights of its own (Cohere).
    EachHead,
    /// The whole row (OLMo 2).
    Row,
    /// Each head, without weights (Llama 4).
    Plain,
}

/// `1 + scale * ln(1 + floor(position / floor))` on the query (Llama 4's temperature tuning).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    /// Factor on the logarithm.
    pub scale: f32,
    /// Positions that count as one.
    pub floor: f32,
    /// Added to the position first.
    pub offset: f32,
}

/// The weights of attention.
pub(crate) struct Weights<B: Backend> {
    q: B::Linear,
    /// Not in a layer that shares another's; of keys alone where values are theirs.
    kv: Option<(B::Linear, Option<B::Linear>)>,
    o: B::Linear,
    gate: Option<B::Linear>,
    q_norm: Option<B::Norm>,
    k_norm: Option<B::Norm>,
    v_norm: Option<B::Norm>,
    sinks: Option<Vec<f32>>,
    /// Of what is attended, before `o` (BitNet; the file shows it).
    sub_norm: Option<B::Norm>,
}

impl Attn {
    /// Plain causal attention, rotated by the first rope.
    pub fn new(n_heads: usize, n_kv_heads: usize, head_dim: usize) -> Attn {
        Attn {
            n_heads,
            n_kv_heads,
            head_dim,
            value_dim: head_dim,
            scale: (head_dim as f32).powf(-0.5),
            window: None,
            chunk: None,
            both_ways: false,
            softcap: None,
            rope: Some(0),
            qk_norm: None,
            v_norm: false,
            clip: None,
            sinks: false,
            alibi: None,
            temperature: None,
            gate: false,
            shares: None,
            values_of_keys: false,
            out_scale: 1.0,
        }
    }

    pub(crate) fn q_dim(&self) -> usize {
        self.n_heads * self.head_dim
    }

    pub(crate) fn out_dim(&self) -> usize {
        self.n_heads * self.value_dim
    }

    pub(crate) fn k_dim(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    pub(crate) fn v_dim(&self) -> usize {
        self.n_kv_heads * self.value_dim
    }

    /// Numbers of its matrices and norms.
    pub(crate) fn parameters(&self, dim: usize) -> usize {
        let values = if self.values_of_keys { 0 } else { self.v_dim() };
        let kv = if self.shares.is_some() { 0 } else { self.k_dim() + values };
        let gate = if self.gate { self.out_dim() } else { 0 };
        let norms = match self.qk_norm.map(|n| n.scope) {
            None | Some(NormScope::Plain) => 0,
            Some(NormScope::Head) => self.head_dim * (1 + usize::from(self.shares.is_none())),
            Some(NormScope::EachHead | NormScope::Row) => self.q_dim() + self.k_dim(),
        };
        dim * (self.q_dim() + kv + self.out_dim() + gate) + norms
    }

    /// ALiBi's slope of each head: powers of 2^(-max / n) for the nearest power of two `n`, the others between.
    pub(crate) fn slopes(&self) -> Option<Vec<f32>> {
        let Alibi { max, factor } = self.alibi?;
        let n = self.n_heads.next_power_of_two();
        let all: Vec<f32> = (1..=n).map(|i| factor * 2f32.powf(-max * i as f32 / n as f32)).collect();
        if n == self.n_heads {
            return Some(all);
        }
        // Of twice as many as the power of two below: every second one first, then those between.
        let odd = all.iter().skip(1).step_by(2);
        let even = all.iter().step_by(2);
        Some(odd.chain(even).take(self.n_heads).copied().collect())
    }

    pub(crate) fn load<B: Backend>(&self, from: &LayerLoader<'_, B>) -> Result<Weights<B>> {
        let widths = [self.q_dim(), self.k_dim(), self.v_dim()];
        // Qwen3-Next has each head's gate behind its queries.
        let fused_gate = self.gate && from.has_shape("attn_q.weight", &[2 * widths[0], from.dim]);
        let mut gate = None;
        let (q, kv) = if self.shares.is_some() {
            // Some files have them nevertheless.
            ["attn_k.weight", "attn_v.weight", "attn_k_norm.weight"]
                .iter()
                .for_each(|name| from.pass_over(name));
            (from.linear("attn_q", widths[0], from.dim)?, None)
        } else if from.has("attn_qkv.weight") {
            let [q, k, v] = from.split("attn_qkv", widths, from.dim)?;
            (q, Some((k, Some(v))))
        } else {
            let k = from.linear("attn_k", widths[1], from.dim)?;
            let q = match fused_gate {
                false => from.linear("attn_q", widths[0], from.dim)?,
                true => {
                    let order = by_group(self.n_heads, &[self.head_dim, self.head_dim]);
                    let [q, g] = from.split_of("attn_q", Some(&order), [widths[0]; 2], from.dim)?;
                    gate = Some(g);
                    q
                }
            };
            let own = !self.values_of_keys;
            (q, Some((k, own.then(|| from.linear("attn_v", widths[2], from.dim)).transpose()?)))
        };
        if self.gate && gate.is_none() {
            gate = Some(from.linear("attn_gate", self.out_dim(), from.dim)?);
        }
        let norm = |name: &str, heads: usize| {
            self.qk_norm.map(|n| match n.scope {
                NormScope::Head => from.norm(name, self.head_dim),
                NormScope::EachHead => from.norm_of_groups(name, heads * self.head_dim, self.head_dim),
                NormScope::Row => from.norm(name, heads * self.head_dim),
                NormScope::Plain => from.plain_norm(self.head_dim),
            })
        };
        Ok(Weights {
            q,
            o: from.linear("attn_output", from.dim, self.out_dim())?,
            gate,
            q_norm: norm("attn_q_norm", self.n_heads).transpose()?,
            k_norm: if kv.is_some() { norm("attn_k_norm", self.n_kv_heads).transpose()? } else { None },
            v_norm: if self.v_norm { Some(from.plain_norm(self.value_dim)?) } else { None },
            sinks: if self.sinks { Some(from.vector("attn_sinks.weight", self.n_heads)?) } else { None },
            sub_norm: from.opt_norm_of(self.out_dim(), "attn_sub_norm")?,
            kv,
        })
    }

    /// Matrices that read rows of another width than the stream's, and nothing else.
    pub(crate) fn load_wide<B: Backend>(
        &self,
        from: &LayerLoader<'_, B>,
        width: usize,
        prefix: &str,
    ) -> Result<Weights<B>> {
        let linear =
            |part: &str, out: usize, inner: usize| from.linear(&format!("{prefix}{part}"), out, inner);
        Ok(Weights {
            q: linear("q", self.q_dim(), width)?,
            kv: Some((linear("k", self.k_dim(), width)?, Some(linear("v", self.v_dim(), width)?))),
            o: linear("output", from.dim, self.out_dim())?,
            gate: None,
            q_norm: None,
            k_norm: None,
            v_norm: None,
            sinks: None,
            sub_norm: None,
        })
    }

    /// Runs one layer; `memory` is its own, or that of the layer whose keys and values it shares.
    pub(crate) fn run<'w, B: Backend>(
        &self,
        w: &'w Weights<B>,
        from: &Reading<'_, B>,
        memory: &mut Memory<B>,
    ) -> Result<Branch<'w, B>> {
        self.run_beside(w, &[], from, memory)
    }

    /// The same with narrow matrices beside those of queries, keys and values.
    pub(crate) fn run_beside<'w, B: Backend>(
        &self,
        w: &'w Weights<B>,
        beside: &[Beside<B>],
        from: &Reading<'_, B>,
        memory: &mut Memory<B>,
    ) -> Result<Branch<'w, B>> {
        let backend = from.backend;
        let to: Vec<&B::Linear> = [Some(&w.q), w.gate.as_ref()]
            .into_iter()
            .flatten()
            .chain(w.kv.iter().flat_map(|(k, v)| std::iter::once(k).chain(v)))
            .collect();
        let mut rows = backend.project(from.x, from.norm, &to)?;
        for (rows, narrow) in rows.iter_mut().zip(beside) {
            narrow.add_to(backend, rows, from.x, from.norm)?;
        }
        let mut rows = rows.into_iter();
        let mut next = || rows.next().ok_or_else(lost);
        let q = self.prepare(next()?, self.q_dim(), w.q_norm.as_ref(), from)?;
        let gate = w.gate.as_ref().map(|_| next()).transpose()?;
        let q = self.warmed(q, from)?;
        let kv = match &w.kv {
            None => None,
            Some((_, own)) => {
                let k = next()?;
                let v = match own {
                    Some(_) => next()?,
                    None => backend.host(&[&k], self.v_dim(), &mut |_, k, v| v.copy_from_slice(k[0]))?,
                };
                let k = self.prepare(k, self.k_dim(), w.k_norm.as_ref(), from)?;
                let v = self.clipped(v, self.v_dim(), from)?;
                let normed = w.v_norm.as_ref().map(|n| backend.normed(&v, n)).transpose()?;
                Some((k, normed.unwrap_or(v)))
            }
        };
        let Memory::Cache(cache) = memory else { return Err(lost()) };
        let mut out = backend.attend(q, kv, self, w.sinks.as_deref(), cache, from.step)?;
        if let Some(gate) = gate {
            out = backend.host(&[&out, &gate], self.out_dim(), &mut |_, rows, out| {
                for ((o, x), g) in out.iter_mut().zip(rows[0]).zip(rows[1]) {
                    *o = x / (1.0 + (-g).exp());
                }
            })?;
        }
        if let Some(norm) = &w.sub_norm {
            out = backend.normed(&out, norm)?;
        }
        Ok(Branch { rows: out, out: Some(&w.o) })
    }

    /// Normalises, clips and rotates queries or keys, `[rows, width]`.
    fn prepare<B: Backend>(
        &self,
        x: B::Rows,
        width: usize,
        norm: Option<&B::Norm>,
        from: &Reading<'_, B>,
    ) -> Result<B::Rows> {
        let after = self.qk_norm.is_some_and(|n| n.after_rope);
        let normed = norm.filter(|_| !after).map(|n| from.backend.normed(&x, n)).transpose()?;
        let mut x = self.clipped(normed.unwrap_or(x), width, from)?;
        if let Some(rope) = self.rope {
            from.backend.rotate(&mut x, self.head_dim, rope, from.step)?;
        }
        let normed = norm.filter(|_| after).map(|n| from.backend.normed(&x, n)).transpose()?;
        Ok(normed.unwrap_or(x))
    }

    fn clipped<B: Backend>(&self, x: B::Rows, width: usize, from: &Reading<'_, B>) -> Result<B::Rows> {
        let Some(clip) = self.clip else { return Ok(x) };
        from.backend.host(&[&x], width, &mut |_, rows, out| {
            out.iter_mut().zip(rows[0]).for_each(|(o, x)| *o = x.clamp(-clip, clip));
        })
    }

    /// Queries under [`Attn::temperature`].
    fn warmed<B: Backend>(&self, q: B::Rows, from: &Reading<'_, B>) -> Result<B::Rows> {
        let Some(t) = self.temperature else { return Ok(q) };
        let width = self.q_dim();
        from.backend.host(&[&q], width, &mut |_, rows, out| {
            for (i, (o, x)) in out.chunks_exact_mut(width).zip(rows[0].chunks_exact(width)).enumerate() {
                let position = from.batch.positions[i] as f32 + t.offset;
                let factor = 1.0 + t.scale * (1.0 + (position / t.floor).floor()).ln();
                o.iter_mut().zip(x).for_each(|(o, x)| *o = x * factor);
            }
        })
    }
}

/// Rows and caches are as many as were asked for; this says so if they ever are not.
pub(crate) fn lost() -> Error {
    Error::Backend {
        backend: "decoder",
        message: "a mixer did not get the rows or the cache it needs".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in the paper: 1/2 to 1/256 for eight heads; for six, every second of eight, then those between... of four.
    #[test]
    fn slopes_are_those_of_the_paper() {
        let slopes = |n: usize| {
            Attn { alibi: Some(Alibi { max: 8.0, factor: 1.0 }), ..Attn::new(n, n, 8) }.slopes().unwrap()
        };
        assert_eq!(slopes(8), (1..=8).map(|i| 0.5f32.powi(i)).collect::<Vec<_>>());
        assert_eq!(slopes(6), [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]);
    }
}
