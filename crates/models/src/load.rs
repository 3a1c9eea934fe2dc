//! Fetches the tensors that a [`Spec`] calls for and hands them to a backend.
//!
//! Here the conventions of files end: fused matrices are taken apart by rows (in place), norm weights
//! that lie less one get it back, rope divisors move into the spec, and a missing output matrix means
//! the embedding. What is in the file and not called for is an error.

use crate::backend::Backend;
use crate::checkpoint::Checkpoint;
use crate::decoder::{AttnWeights, Decoder, FfnWeights, LayerWeights};
use crate::rope_hparams::put_divisors;
use crate::spec::{Attn, Ffn, Layer, Mixer, Norm, Spec};
use crate::tensors::Tensors;
use crate::{Error, Result};

/// Tensors on their way to a backend.
struct Loader<'a, B: Backend> {
    tensors: &'a Tensors,
    backend: &'a B,
    norm: Norm,
    norm_less_one: bool,
}

impl Checkpoint {
    /// Loads the weights onto `backend`.
    ///
    /// # Errors
    /// A tensor that is missing, of another shape, of a type that cannot be used, or not called for.
    pub fn load<B: Backend>(&self, backend: B) -> Result<Decoder<B>> {
        self.load_spec(self.spec()?, backend)
    }

    /// As [`Checkpoint::load`], with a spec that need not be the file's own.
    pub fn load_spec<B: Backend>(&self, mut spec: Spec, backend: B) -> Result<Decoder<B>> {
        let tensors = self.named_tensors();
        take_divisors(&mut spec, &tensors)?;
        let loader = Loader {
            tensors: &tensors,
            backend: &backend,
            norm: spec.norm,
            norm_less_one: self.norm_less_one(),
        };
        let embed = loader.linear("token_embd", spec.vocab, spec.dim)?;
        let layer = |(i, l): (usize, &Layer)| loader.layer(i, l, spec.dim);
        let layers = spec.layers.iter().enumerate().map(layer).collect::<Result<Vec<_>>>()?;
        let norm = loader.norm("output_norm", spec.dim, spec.norm)?;
        let head = loader.head(&spec)?;
        tensors.finish()?;
        Ok(Decoder { spec, backend, embed, layers, norm, head, caches: vec![] })
    }
}

/// Rope divisors that the file brings as tensors belong to the spec.
fn take_divisors(spec: &mut Spec, tensors: &Tensors) -> Result<()> {
    for name in ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"] {
        if let Some(list) = tensors.opt_list(name)? {
            for rope in &mut spec.ropes {
                put_divisors(rope, name, list.clone(), tensors.file())?;
            }
        }
    }
    let lacking = spec.ropes.iter().find(|r| r.lacks_divisors());
    match lacking {
        None => Ok(()),
        Some(rope) => Err(tensors.bad(
            "rope_factors_long.weight",
            "nothing".into(),
            format!("{} numbers, since the rope scaling is longrope", rope.dim / 2),
        )),
    }
}

impl<B: Backend> Loader<'_, B> {
    fn linear(&self, name: &str, out: usize, inner: usize) -> Result<B::Linear> {
        let weight = self.tensors.get(&format!("{name}.weight"), &[out, inner])?;
        let bias = self.tensors.opt_vector(&format!("{name}.bias"), out)?;
        self.backend.linear(&weight, bias)
    }

    /// Takes `name` apart into matrices of `widths` rows each.
    fn split(&self, name: &str, widths: &[usize], inner: usize) -> Result<Vec<B::Linear>> {
        let whole = self.tensors.get(&format!("{name}.weight"), &[widths.iter().sum(), inner])?;
        let bias = self.tensors.opt_vector(&format!("{name}.bias"), widths.iter().sum())?;
        let mut first = 0;
        let mut parts = vec![];
        for &width in widths {
            let part = whole.rows(first, width).ok_or_else(|| {
                let expected = format!("rows of whole blocks of {}", whole.dtype.format().name);
                self.tensors.bad(&whole.name, format!("shape {:?}", whole.shape), expected)
            })?;
            let bias = bias.as_ref().map(|b| b[first..first + width].to_vec());
            parts.push(self.backend.linear(&part, bias)?);
            first += width;
        }
        Ok(parts)
    }

    fn norm(&self, name: &str, width: usize, norm: Norm) -> Result<B::Norm> {
        let mut weight = self.tensors.vector(&format!("{name}.weight"), width)?;
        if self.norm_less_one {
            weight.iter_mut().for_each(|w| *w += 1.0);
        }
        let bias = self.tensors.opt_vector(&format!("{name}.bias"), width)?;
        self.backend.norm(norm, weight, bias)
    }

    fn opt_norm(&self, present: bool, name: &str, width: usize) -> Result<Option<B::Norm>> {
        present.then(|| self.norm(name, width, self.norm)).transpose()
    }

    /// The output matrix; `None` where the embedding serves.
    fn head(&self, spec: &Spec) -> Result<Option<B::Linear>> {
        let tied = spec.tied.unwrap_or(!self.tensors.has("output.weight"));
        if tied {
            // Some files repeat the embedding under the output's name; tied means that it is not looked at.
            self.tensors.pass_over("output.weight");
            return Ok(None);
        }
        self.linear("output", spec.vocab, spec.dim).map(Some)
    }

    fn layer(&self, index: usize, layer: &Layer, dim: usize) -> Result<LayerWeights<B>> {
        let blk = |name: &str| format!("blk.{index}.{name}");
        let Mixer::Attn(attn) = &layer.mixer;
        let norms = &layer.norms;
        Ok(LayerWeights {
            before_mixer: self.opt_norm(norms.before_mixer, &blk("attn_norm"), dim)?,
            attn: self.attn(&blk, attn, dim)?,
            after_mixer: self.opt_norm(norms.after_mixer, &blk("post_attention_norm"), dim)?,
            before_ffn: self.opt_norm(norms.before_ffn, &blk("ffn_norm"), dim)?,
            ffn: self.ffn(&blk, &layer.ffn, dim)?,
            after_ffn: self.opt_norm(norms.after_ffn, &blk("post_ffw_norm"), dim)?,
        })
    }

    fn attn(&self, blk: &impl Fn(&str) -> String, attn: &Attn, dim: usize) -> Result<AttnWeights<B>> {
        let (q_dim, kv_dim) = (attn.n_heads * attn.head_dim, attn.n_kv_heads * attn.head_dim);
        let widths = [q_dim, kv_dim, kv_dim];
        let qkv = if self.tensors.has(&blk("attn_qkv.weight")) {
            self.split(&blk("attn_qkv"), &widths, dim)?
        } else {
            let parts = ["attn_q", "attn_k", "attn_v"].iter().zip(widths);
            parts.map(|(name, width)| self.linear(&blk(name), width, dim)).collect::<Result<_>>()?
        };
        let [q, k, v] = <[B::Linear; 3]>::try_from(qkv).map_err(|_| unreachable_parts())?;
        let head_norm = |name: &str| self.norm(&blk(name), attn.head_dim, self.norm);
        let qk_norms =
            if attn.qk_norm { Some((head_norm("attn_q_norm")?, head_norm("attn_k_norm")?)) } else { None };
        Ok(AttnWeights { q, k, v, o: self.linear(&blk("attn_output"), dim, q_dim)?, qk_norms })
    }

    fn ffn(&self, blk: &impl Fn(&str) -> String, ffn: &Ffn, dim: usize) -> Result<FfnWeights<B>> {
        let Ffn::Glu { dim: inner, .. } = *ffn;
        let fused = !self.tensors.has(&blk("ffn_gate.weight")) && self.tensors.has(&blk("ffn_up.weight"));
        let (gate, up) = if fused {
            let mut parts = self.split(&blk("ffn_up"), &[inner, inner], dim)?.into_iter();
            parts.next().zip(parts.next()).ok_or_else(unreachable_parts)?
        } else {
            (self.linear(&blk("ffn_gate"), inner, dim)?, self.linear(&blk("ffn_up"), inner, dim)?)
        };
        Ok(FfnWeights { gate, up, down: self.linear(&blk("ffn_down"), dim, inner)? })
    }
}

/// A split gives as many parts as it was asked for; this says so if it ever does not.
fn unreachable_parts() -> Error {
    Error::Backend {
        backend: "loader",
        message: "a fused matrix came apart into another number of parts".into(),
    }
}
