//! The tensors of one layer on their way to a backend.

use crate::backend::{Backend, Expert};
use crate::decoder::{FfnWeights, LayerWeights, MoeNorms, MoeWeights, SharedWeights};
use crate::laurel::Laurel;
use crate::moe::Moe;
use crate::spec::{Ffn, Layer, Norm, Norms, Spec};
use crate::tensors::{Tensors, widen};
use crate::{Error, Result};

/// What fetches tensors whose names begin with `prefix`.
pub(crate) struct LayerLoader<'a, B: Backend> {
    pub tensors: &'a Tensors,
    pub backend: &'a B,
    pub norm: Norm,
    pub norm_less_one: bool,
    /// Width of the stream.
    pub dim: usize,
    /// `blk.3.`, or nothing.
    pub prefix: String,
}

impl<B: Backend> LayerLoader<'_, B> {
    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Whether the file has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.has(&self.name(name))
    }

    /// Whether the file has this tensor in this shape.
    pub fn has_shape(&self, name: &str, shape: &[usize]) -> bool {
        self.tensors.has_shape(&self.name(name), shape)
    }

    /// How many rows the file's tensor has.
    pub fn rows_of(&self, name: &str) -> Option<usize> {
        self.tensors.rows_of(&self.name(name))
    }

    /// The matrix `name.weight`, with `name.bias` if there is one.
    pub fn linear(&self, name: &str, out: usize, inner: usize) -> Result<B::Linear> {
        let full = self.name(&format!("{name}.weight"));
        // A matrix of one row may lie as a vector.
        let mut weight = match out {
            1 => self.tensors.get_squeezed(&full, &[out, inner])?,
            _ => self.tensors.get(&full, &[out, inner])?,
        };
        weight.shape = vec![out, inner];
        let bias = self.tensors.opt_vector(&self.name(&format!("{name}.bias")), out)?;
        self.backend.linear(&weight, bias)
    }

    /// The matrix `name.weight`, with a vector of another name as its bias.
    pub fn linear_with(&self, name: &str, bias: Option<&str>, out: usize, inner: usize) -> Result<B::Linear> {
        let weight = self.tensors.get(&self.name(&format!("{name}.weight")), &[out, inner])?;
        self.backend.linear(&weight, bias.map(|b| self.vector(b, out)).transpose()?)
    }

    /// Says that `name` may stand in the file without being used.
    pub fn pass_over(&self, name: &str) {
        self.tensors.pass_over(&self.name(name));
    }

    /// Says that what begins so may stand in the file without being used.
    pub fn pass_over_beginning(&self, with: &str) {
        self.tensors.pass_over_beginning(&[&self.name(with)]);
    }

    /// The numbers of the matrix `name.weight`, to be taken apart.
    pub fn matrix(&self, name: &str, out: usize, inner: usize) -> Result<weights::Tensor> {
        self.tensors.get(&self.name(&format!("{name}.weight")), &[out, inner])
    }

    /// Takes `name` apart into matrices of `widths` rows each.
    pub fn split<const N: usize>(
        &self,
        name: &str,
        widths: [usize; N],
        inner: usize,
    ) -> Result<[B::Linear; N]> {
        self.split_of(name, None, widths, inner)
    }

    /// As [`LayerLoader::split`], of the rows of `name` in this order.
    pub fn split_of<const N: usize>(
        &self,
        name: &str,
        order: Option<&[usize]>,
        widths: [usize; N],
        inner: usize,
    ) -> Result<[B::Linear; N]> {
        let total = widths.iter().sum();
        let mut whole = self.tensors.get(&self.name(&format!("{name}.weight")), &[total, inner])?;
        let mut bias = self.tensors.opt_vector(&self.name(&format!("{name}.bias")), total)?;
        if let Some(order) = order {
            whole = whole.reordered(order).ok_or_else(|| self.misfit(&whole))?;
            bias = bias.map(|b| order.iter().map(|&i| b[i]).collect());
        }
        let mut first = 0;
        let mut parts = vec![];
        for width in widths {
            let part = whole.rows(first, width).ok_or_else(|| self.misfit(&whole))?;
            let bias = bias.as_ref().map(|b| b[first..first + width].to_vec());
            parts.push(self.backend.linear(&part, bias)?);
            first += width;
        }
        <[B::Linear; N]>::try_from(parts).map_err(|_| Error::Backend {
            backend: "loader",
            message: "a fused matrix came apart into another number of parts".into(),
        })
    }

    /// A norm over `width` numbers.
    pub fn norm(&self, name: &str, width: usize) -> Result<B::Norm> {
        self.norm_of_groups(name, width, width)
    }

    /// A norm of `width` weights, over groups of `group` numbers.
    pub fn norm_of_groups(&self, name: &str, width: usize, group: usize) -> Result<B::Norm> {
        self.norm_of_kind(self.norm, name, width, group)
    }

    /// A norm of another kind than those of the stream.
    pub fn norm_of_kind(&self, norm: Norm, name: &str, width: usize, group: usize) -> Result<B::Norm> {
        if !norm.affine {
            return self.backend.norm(norm, vec![1.0; width], None, width);
        }
        let mut weight = self.norm_weight(name, width, group)?;
        if self.norm_less_one {
            weight.iter_mut().for_each(|w| *w += 1.0);
        }
        let bias = self.opt_vector(&format!("{name}.bias"), width)?;
        self.backend.norm(norm, weight, bias, group)
    }

    /// The weights of a norm: a row, a row for each group, or a tensor for each group.
    fn norm_weight(&self, name: &str, width: usize, group: usize) -> Result<Vec<f32>> {
        // GGUFs of Falcon-H1 leave the suffix out.
        let bare = self.has(name) && !self.has(&format!("{name}.weight"));
        let whole = if bare { name.to_string() } else { format!("{name}.weight") };
        let groups = width / group;
        if self.has_shape(&whole, &[groups, group]) {
            return self.numbers(&whole, &[groups, group]);
        }
        if self.has(&format!("{name}.0.weight")) {
            let each = (0..groups).map(|g| self.vector(&format!("{name}.{g}.weight"), group));
            return Ok(each.collect::<Result<Vec<_>>>()?.concat());
        }
        self.numbers(&whole, &[width])
    }

    /// A norm without weights.
    pub fn plain_norm(&self, width: usize) -> Result<B::Norm> {
        self.backend.norm(self.norm, vec![1.0; width], None, width)
    }

    /// A norm of the stream, if there is one.
    pub fn opt_norm(&self, present: bool, name: &str) -> Result<Option<B::Norm>> {
        present.then(|| self.norm(name, self.dim)).transpose()
    }

    /// A norm over `width` numbers, if the file has it.
    pub fn opt_norm_of(&self, width: usize, name: &str) -> Result<Option<B::Norm>> {
        self.has(&format!("{name}.weight")).then(|| self.norm(name, width)).transpose()
    }

    /// A vector widened to f32.
    pub fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        self.tensors.vector(&self.name(name), len)
    }

    /// A vector widened to f32, if there is one.
    pub fn opt_vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>> {
        self.tensors.opt_vector(&self.name(name), len)
    }

    /// Numbers of this shape, dimensions of one apart: files differ in where they put those. Row-major.
    pub fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        widen(&self.tensors.get_squeezed(&self.name(name), shape)?)
    }

    /// The weights of a convolution, `[channels, kernel]` in files (perhaps with a one between), as
    /// `[kernel][channels]`.
    pub fn conv(&self, name: &str, channels: usize, kernel: usize) -> Result<Vec<f32>> {
        let stored = self.numbers(name, &[channels, kernel])?;
        let column = |k: usize| (0..channels).map(move |c| (c, k));
        Ok((0..kernel).flat_map(column).map(|(c, k)| stored[c * kernel + k]).collect())
    }

    /// Rates of decay, negative: a GGUF has them under `name`, the Hub's files their negative logarithm
    /// under `name_log`.
    pub fn decay(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        if self.has(name) {
            return self.numbers(name, shape);
        }
        let logs = self.numbers(&format!("{name}_log"), shape)?;
        Ok(logs.into_iter().map(|x| -x.exp()).collect())
    }

    /// The output matrix; `None` where the embedding serves.
    pub fn head(&self, spec: &Spec) -> Result<Option<B::Linear>> {
        let tied = spec.tied.unwrap_or(!self.has("output.weight"));
        if tied {
            // Some files repeat the embedding under the output's name; tied means that it is not looked at.
            self.tensors.pass_over("output.weight");
            return Ok(None);
        }
        self.linear("output", spec.vocab, spec.dim).map(Some)
    }

    /// All weights of a layer.
    pub fn layer(&self, layer: &Layer, spec: &Spec) -> Result<LayerWeights<B>> {
        let norms = &layer.norms;
        // Where Falcon has two, the mixer's is called the second.
        let second = self.has("attn_norm_2.weight");
        let (mixer, ffn) = if second { ("attn_norm_2", "attn_norm") } else { ("attn_norm", "ffn_norm") };
        Ok(LayerWeights {
            lead: None,
            around: spec.altup.map(|a| a.load(self)).transpose()?,
            laurel: layer.laurel.map(|rank| Laurel::load(self, rank)).transpose()?,
            before_mixer: self.opt_norm(norms.before_mixer, mixer)?,
            mixers: layer.mixers.iter().map(|m| m.load(self)).collect::<Result<_>>()?,
            after_mixer: self.opt_norm(norms.after_mixer, "post_attention_norm")?,
            after_first: self.opt_norm(norms.after_sums, "attn_output_norm")?,
            before_ffn: self.opt_norm(norms.before_ffn, if second { ffn } else { self.ffn_norm(norms) })?,
            ffn: self.ffn(layer)?,
            after_ffn: self.opt_norm(norms.after_ffn, "post_ffw_norm")?,
            after_second: self.opt_norm(norms.after_sums, "layer_output_norm")?,
            input: spec.inputs.map(|i| i.load_gate(self)).transpose()?,
            scale: self.opt_vector("layer_output_scale.weight", 1)?.map(|one| one[0]),
        })
    }

    /// What the file calls the norm before the feed-forward: GGUFs of Qwen3-Next name it by where it stands, those
    /// whose layers are one half each (Nemotron-H) call all norms alike.
    fn ffn_norm(&self, norms: &Norms) -> &'static str {
        let has = |name: &str| self.has(&format!("{name}.weight"));
        match (has("ffn_norm") || self.has("ffn_norm"), norms.after_mixer, norms.before_mixer) {
            (false, false, _) if has("post_attention_norm") => "post_attention_norm",
            (false, _, false) if has("attn_norm") => "attn_norm",
            _ => "ffn_norm",
        }
    }

    fn ffn(&self, layer: &Layer) -> Result<FfnWeights<B>> {
        Ok(match &layer.ffn {
            Ffn::Mixer(mixer) => FfnWeights::Mixer(mixer.load(self)?),
            Ffn::None => FfnWeights::None,
            Ffn::Glu { dim: inner, .. } => {
                // Granite's hybrids without experts keep the shared one's name.
                let alone = self.has("ffn_up_shexp.weight") && !self.has("ffn_up.weight");
                let pattern = if alone { "ffn_{}_shexp" } else { "ffn_{}" };
                let Expert { gate, up, down } = self.expert(pattern, *inner, true)?;
                // BitNet normalises what stands between.
                let between = self.opt_norm_of(*inner, "ffn_sub_norm")?;
                match gate {
                    Some(gate) => FfnWeights::Glu { gate, up, down, between },
                    None => FfnWeights::Mlp { up, down },
                }
            }
            Ffn::Mlp { dim: inner, .. } => {
                let Expert { up, down, .. } = self.expert("ffn_{}", *inner, false)?;
                FfnWeights::Mlp { up, down }
            }
            Ffn::Moe(moe) => FfnWeights::Moe(Box::new(self.mixture(moe)?)),
        })
    }

    /// Three (or, without gate, two) matrices whose names are `pattern` with `gate`, `up` and `down`. Gate and up may
    /// be one matrix under the name of up.
    fn expert(&self, pattern: &str, inner: usize, gated: bool) -> Result<Expert<B::Linear>> {
        let name = |part: &str| pattern.replace("{}", part);
        let has = |part: &str| self.has(&format!("{}.weight", name(part)));
        let (gate, up) = if gated && !has("gate") && has("up") {
            let [gate, up] = self.split(&name("up"), [inner, inner], self.dim)?;
            (Some(gate), up)
        } else {
            let gate = gated.then(|| self.linear(&name("gate"), inner, self.dim)).transpose()?;
            (gate, self.linear(&name("up"), inner, self.dim)?)
        };
        Ok(Expert { gate, up, down: self.linear(&name("down"), self.dim, inner)? })
    }

    fn mixture(&self, moe: &Moe) -> Result<MoeWeights<B>> {
        let bias =
            moe.routing.bias.then(|| self.numbers("exp_probs_b.bias", &[moe.n_experts])).transpose()?;
        let shared = moe.shared.map(|s| {
            let gate = s.gate.then(|| self.linear("ffn_gate_inp_shexp", 1, self.dim)).transpose()?;
            let pattern = if self.has("ffn_up_shexp.weight") { "ffn_{}_shexp" } else { "ffn_{}" };
            Ok::<_, Error>(SharedWeights { expert: self.expert(pattern, s.dim, moe.gated)?, gate })
        });
        let factors = moe.routing.factors.then(|| self.vector("ffn_down_exps.scale", moe.n_experts));
        Ok(MoeWeights {
            router: self.linear("ffn_gate_inp", moe.n_experts, self.dim)?,
            bias,
            experts: self.experts(moe)?,
            shared: shared.transpose()?,
            norms: moe.apart.then(|| self.moe_norms()).transpose()?,
            factors: factors.transpose()?,
        })
    }

    fn moe_norms(&self) -> Result<MoeNorms<B>> {
        // The router reads its stream divided by the root of the width.
        let mut router = self.vector("ffn_gate_inp.scale", self.dim)?;
        router.iter_mut().for_each(|w| *w /= (self.dim as f32).sqrt());
        Ok(MoeNorms {
            router: self.backend.norm(self.norm, router, None, self.dim)?,
            before: self.norm("pre_ffw_norm_2", self.dim)?,
            after: self.norm("post_ffw_norm_2", self.dim)?,
            after_shared: self.norm("post_ffw_norm_1", self.dim)?,
        })
    }

    /// The experts: stacked into one tensor for each part, gate and up stacked together, or each by itself.
    fn experts(&self, moe: &Moe) -> Result<Vec<Expert<B::Linear>>> {
        let (n, inner, dim) = (moe.n_experts, moe.dim, self.dim);
        if !self.has("ffn_down_exps.weight") {
            return (0..n).map(|e| self.expert(&format!("ffn_{{}}.{e}"), inner, moe.gated)).collect();
        }
        let down = self.stack("ffn_down_exps", n, dim, inner)?;
        let (gate, up) = if self.has("ffn_gate_up_exps.weight") {
            let (both, bias) = self.stacked("ffn_gate_up_exps", n, 2 * inner, dim)?;
            let part = |first: usize| {
                both.iter().zip(&bias).map(move |(t, b)| {
                    let rows = t.rows(first, inner).ok_or_else(|| self.misfit(t))?;
                    self.backend.linear(&rows, b.as_ref().map(|b| b[first..first + inner].to_vec()))
                })
            };
            (Some(part(0).collect::<Result<Vec<_>>>()?), part(inner).collect::<Result<Vec<_>>>()?)
        } else {
            let gate = moe.gated.then(|| self.stack("ffn_gate_exps", n, inner, dim)).transpose()?;
            (gate, self.stack("ffn_up_exps", n, inner, dim)?)
        };
        let mut gate = gate.into_iter().flatten();
        Ok(up.into_iter().zip(down).map(|(up, down)| Expert { gate: gate.next(), up, down }).collect())
    }

    /// `name`, `[n, out, inner]`, as `n` matrices.
    pub fn stack(&self, name: &str, n: usize, out: usize, inner: usize) -> Result<Vec<B::Linear>> {
        let (tensors, biases) = self.stacked(name, n, out, inner)?;
        tensors.iter().zip(biases).map(|(t, b)| self.backend.linear(t, b)).collect()
    }

    #[allow(clippy::type_complexity)] // matrices and their biases
    fn stacked(
        &self,
        name: &str,
        n: usize,
        out: usize,
        inner: usize,
    ) -> Result<(Vec<weights::Tensor>, Vec<Option<Vec<f32>>>)> {
        let whole = self.tensors.get(&self.name(&format!("{name}.weight")), &[n, out, inner])?;
        let bias = self.tensors.opt(&self.name(&format!("{name}.bias")), &[n, out])?;
        let bias = bias.map(|b| widen(&b)).transpose()?;
        let matrix = |e: usize| {
            let mut part = whole.rows(e, 1).ok_or_else(|| self.misfit(&whole))?;
            part.shape.remove(0);
            Ok(part)
        };
        let tensors = (0..n).map(matrix).collect::<Result<_>>()?;
        Ok((tensors, (0..n).map(|e| bias.as_ref().map(|b| b[e * out..(e + 1) * out].to_vec())).collect()))
    }

    /// An error about a tensor whose numbers cannot be taken apart.
    pub fn misfit(&self, tensor: &weights::Tensor) -> Error {
        let expected = format!("rows of whole blocks of {}", tensor.dtype.format().name);
        self.tensors.bad(&tensor.name, format!("shape {:?}", tensor.shape), expected)
    }
}

/// Rows that lie group by group, each group in parts, in another order: all groups' first part, all groups' second...
pub(crate) fn by_group(groups: usize, parts: &[usize]) -> Vec<usize> {
    let size: usize = parts.iter().sum();
    let mut order = Vec::with_capacity(groups * size);
    let mut at = 0;
    for part in parts {
        for group in 0..groups {
            order.extend(group * size + at..group * size + at + part);
        }
        at += part;
    }
    order
}
