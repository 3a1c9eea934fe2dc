//! Latent attention: keys and values of all heads come from one short vector a position.
//! DeepSeek-V2, arXiv:2405.04434, section 2.1.
//!
//! Of the key of a head, `nope_dim` numbers come from the latent, and `rope_dim`, which alone are rotated, from a vector
//! that all heads share. There are two ways of running it, which give the same:
//! - plain: keys and values of each head are made from the latent and cached, as in any attention;
//! - folded: since `q · (K c) = (Kᵀ q) · c`, the matrix that makes keys is applied to the query instead, and the one that
//!   makes values to what was attended. Then the latent is key and value of a single head, and the cache holds little.

use crate::Result;
use crate::backend::Backend;
use crate::hparams::Hparams;
use crate::load::LayerLoader;
use crate::mixers::attn::lost;
use crate::mixers::{Attn, Branch, Memory, Reading};
use crate::spec::{Norm, NormKind};

/// The published models leave the norms of the latents at their default, whatever the layers' have.
const LATENT_EPS: f32 = 1e-6;

/// Latent attention.
#[derive(Clone, Debug, PartialEq)]
pub struct Mla {
    /// What is attended to: heads, widths of cached keys and values, scale and rope.
    pub attn: Attn,
    /// Width of the queries' latent; `None` where queries come from the stream directly.
    pub q_rank: Option<usize>,
    /// Width of the keys' and values' latent.
    pub kv_rank: usize,
    /// Numbers of a head's query and key that are not rotated.
    pub nope_dim: usize,
    /// Numbers of a head's query that are rotated, and of the key that the heads share.
    pub rope_dim: usize,
    /// Width of a head's values.
    pub value_dim: usize,
    /// Matrices of keys and values are folded into query and output.
    pub folded: bool,
}

pub(crate) struct Weights<B: Backend> {
    /// From the stream to queries, or to their latent.
    q: B::Linear,
    /// From their latent to queries.
    q_up: Option<(B::Norm, B::Linear)>,
    latent: B::Linear,
    k_rope: B::Linear,
    kv_norm: B::Norm,
    up: Up<B>,
    o: B::Linear,
}

/// From the latent to keys and values.
enum Up<B: Backend> {
    /// Of each head its keys, then its values.
    Plain(B::Linear),
    /// Head by head.
    Folded { k: Vec<B::Linear>, v: Vec<B::Linear> },
}

/// Numbers `at .. at + len` of each of the heads that a row is made of, `stride` wide.
#[derive(Clone, Copy)]
struct Slice {
    stride: usize,
    at: usize,
    len: usize,
}

impl Mla {
    /// As config.json and both layouts of GGUF describe it; the stream is `dim` wide. In the older layout the matrix of
    /// keys and values may be quantized, so that it cannot be taken apart and folded.
    pub(crate) fn of(h: &Hparams, dim: usize) -> Result<Mla> {
        let n_heads = h.dim("attention.head_count")?;
        let kv_rank = h.dim("attention.kv_lora_rank")?;
        let rope_dim = h.dim("rope.dimension_count")?;
        let mla = h.opt_usize("attention.key_length_mla")?;
        let whole = match (h.is_gguf(), mla, h.opt_usize("attention.key_length")?) {
            (true, Some(n), _) | (true, None, Some(n)) => n,
            // config.json may give the width of a whole key too, or that of the rotated part.
            _ => h.dim("qk_nope_head_dim")?.saturating_add(rope_dim),
        };
        let nope_dim = whole.checked_sub(rope_dim).filter(|&n| n > 0).ok_or_else(|| {
            h.bad("attention.key_length", whole, format!("more than the {rope_dim} that are rotated"))
        })?;
        let own = h.opt_usize("attention.value_length")?.filter(|_| mla.is_none());
        let value_dim = h.opt_usize("attention.value_length_mla")?.or(own).unwrap_or(dim / n_heads);
        if let Some(n) = h.opt_usize("qk_head_dim")?.filter(|&n| n != whole) {
            return Err(h.bad("qk_head_dim", n, whole));
        }
        let kv_heads = h.opt_usize("attention.head_count_kv")?.unwrap_or(n_heads);
        if kv_heads != n_heads && !(h.is_gguf() && kv_heads == 1) {
            return Err(h.bad("attention.head_count_kv", kv_heads, n_heads));
        }
        let widest = [whole.saturating_add(value_dim), kv_rank.saturating_add(rope_dim)].into_iter().max();
        if value_dim == 0 || widest.and_then(|w| w.checked_mul(n_heads)).is_none_or(|n| n > 1 << 30) {
            return Err(h.bad("attention.kv_lora_rank", kv_rank, "heads of a size that can be"));
        }
        let attn = Attn { scale: (whole as f32).powf(-0.5), ..Attn::new(n_heads, n_heads, whole) };
        let q_rank = h.opt_usize("attention.q_lora_rank")?;
        let folded = !h.is_gguf() || mla.is_some();
        let plain = Mla { attn, q_rank, kv_rank, nope_dim, rope_dim, value_dim, folded: false };
        Ok(if folded { plain.fold() } else { plain.unfold() })
    }

    /// The same, run the folded way.
    pub fn fold(mut self) -> Mla {
        self.attn.n_kv_heads = 1;
        (self.attn.head_dim, self.attn.value_dim) = (self.kv_rank + self.rope_dim, self.kv_rank);
        Mla { folded: true, ..self }
    }

    /// The same, run the plain way.
    pub fn unfold(mut self) -> Mla {
        self.attn.n_kv_heads = self.attn.n_heads;
        (self.attn.head_dim, self.attn.value_dim) = (self.nope_dim + self.rope_dim, self.value_dim);
        Mla { folded: false, ..self }
    }

    fn q_dim(&self) -> usize {
        self.attn.n_heads * (self.nope_dim + self.rope_dim)
    }

    pub(crate) fn parameters(&self, dim: usize) -> usize {
        let heads = self.attn.n_heads;
        let q = self.q_rank.map_or(dim * self.q_dim(), |rank| rank * (dim + 1 + self.q_dim()));
        let down = dim * (self.kv_rank + self.rope_dim) + self.kv_rank;
        q + down + heads * (self.nope_dim + self.value_dim) * self.kv_rank + heads * self.value_dim * dim
    }

    pub(crate) fn load<B: Backend>(&self, from: &LayerLoader<'_, B>) -> Result<Weights<B>> {
        let latent_norm = Norm { kind: NormKind::Rms, eps: LATENT_EPS, affine: true };
        let (q, q_up) = match self.q_rank {
            None => (from.linear("attn_q", self.q_dim(), from.dim)?, None),
            Some(rank) => {
                let norm = from.norm_of_kind(latent_norm, "attn_q_a_norm", rank, rank)?;
                let up = from.linear("attn_q_b", self.q_dim(), rank)?;
                (from.linear("attn_q_a", rank, from.dim)?, Some((norm, up)))
            }
        };
        let [latent, k_rope] = from.split("attn_kv_a_mqa", [self.kv_rank, self.rope_dim], from.dim)?;
        let kv_norm = from.norm_of_kind(latent_norm, "attn_kv_a_norm", self.kv_rank, self.kv_rank)?;
        let o = from.linear("attn_output", from.dim, self.attn.n_heads * self.value_dim)?;
        Ok(Weights { q, q_up, latent, k_rope, kv_norm, up: self.up(from)?, o })
    }

    fn up<B: Backend>(&self, from: &LayerLoader<'_, B>) -> Result<Up<B>> {
        let (heads, rank) = (self.attn.n_heads, self.kv_rank);
        let width = self.nope_dim + self.value_dim;
        if !self.folded {
            return Ok(Up::Plain(from.linear("attn_kv_b", heads * width, rank)?));
        }
        if from.has("attn_k_b.weight") {
            let k = from.stack("attn_k_b", heads, rank, self.nope_dim)?;
            return Ok(Up::Folded { k, v: from.stack("attn_v_b", heads, self.value_dim, rank)? });
        }
        let whole = from.matrix("attn_kv_b", heads * width, rank)?;
        let (mut k, mut v) = (vec![], vec![]);
        for head in 0..heads {
            let keys = whole.rows(head * width, self.nope_dim).and_then(|t| t.transposed());
            let values = whole.rows(head * width + self.nope_dim, self.value_dim);
            let (Some(keys), Some(values)) = (keys, values) else { return Err(from.misfit(&whole)) };
            k.push(from.backend.linear(&keys, None)?);
            v.push(from.backend.linear(&values, None)?);
        }
        Ok(Up::Folded { k, v })
    }

    /// Runs one layer.
    pub(crate) fn run<'w, B: Backend>(
        &self,
        w: &'w Weights<B>,
        from: &Reading<'_, B>,
        memory: &mut Memory<B>,
    ) -> Result<Branch<'w, B>> {
        let (backend, heads) = (from.backend, self.attn.n_heads);
        let to = [&w.q, &w.latent, &w.k_rope];
        let read = backend.project(from.x, from.norm, &to)?;
        let [mut q, latent, mut k_rope] = <[B::Rows; 3]>::try_from(read).map_err(|_| lost())?;
        if let Some((norm, up)) = &w.q_up {
            q = one(backend.project(&q, Some(norm), &[up])?)?;
        }
        let latent = backend.normed(&latent, &w.kv_norm)?;
        let stride = self.nope_dim + self.rope_dim;
        let q_nope = self.taken(backend, &q, Slice { stride, at: 0, len: self.nope_dim })?;
        let mut q_rope = self.taken(backend, &q, Slice { stride, at: self.nope_dim, len: self.rope_dim })?;
        if let Some(rope) = self.attn.rope {
            backend.rotate(&mut q_rope, self.rope_dim, rope, from.step)?;
            backend.rotate(&mut k_rope, self.rope_dim, rope, from.step)?;
        }
        let (q, k, v) = match &w.up {
            Up::Plain(up) => {
                let kv = one(backend.project(&latent, None, &[up])?)?;
                let stride = self.nope_dim + self.value_dim;
                let k_nope = self.taken(backend, &kv, Slice { stride, at: 0, len: self.nope_dim })?;
                let v = self.taken(backend, &kv, Slice { stride, at: self.nope_dim, len: self.value_dim })?;
                let k = self.joined(backend, &k_nope, &k_rope, heads, 1)?;
                (self.joined(backend, &q_nope, &q_rope, heads, heads)?, k, v)
            }
            Up::Folded { k, .. } => {
                let q_latent = backend.by_head(&q_nope, k)?;
                let k = self.joined(backend, &latent, &k_rope, 1, 1)?;
                (self.joined(backend, &q_latent, &q_rope, heads, heads)?, k, latent)
            }
        };
        let Memory::Cache(cache) = memory else { return Err(lost()) };
        let mut out = backend.attend(q, Some((k, v)), &self.attn, None, cache, from.step)?;
        if let Up::Folded { v, .. } = &w.up {
            out = backend.by_head(&out, v)?;
        }
        Ok(Branch { rows: out, out: Some(&w.o) })
    }

    /// A part of each head.
    fn taken<B: Backend>(&self, backend: &B, x: &B::Rows, part: Slice) -> Result<B::Rows> {
        backend.host(&[x], self.attn.n_heads * part.len, &mut |_, rows, out| {
            let heads = rows[0].chunks_exact(part.stride).zip(out.chunks_exact_mut(part.len));
            heads.for_each(|(head, out)| out.copy_from_slice(&head[part.at..part.at + part.len]));
        })
    }

    /// Of each of `heads` heads its part of `x`, then its rotated part, of which there are `turned`: as many, or one.
    fn joined<B: Backend>(
        &self,
        backend: &B,
        x: &B::Rows,
        rotated: &B::Rows,
        heads: usize,
        turned: usize,
    ) -> Result<B::Rows> {
        let width = self.attn.head_dim;
        let (first, second) = (width - self.rope_dim, self.rope_dim);
        backend.host(&[x, rotated], heads * width, &mut |_, rows, out| {
            for (i, out) in out.chunks_exact_mut(width).enumerate() {
                let from = if turned == heads { i } else { i / heads };
                out[..first].copy_from_slice(&rows[0][i * first..(i + 1) * first]);
                out[first..].copy_from_slice(&rows[1][from * second..(from + 1) * second]);
            }
        })
    }
}

fn one<R>(mut rows: Vec<R>) -> Result<R> {
    rows.pop().ok_or_else(lost)
}
