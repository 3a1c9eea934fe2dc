//! The architectures: each a function that says how it differs from llama, and a row of [`ARCHS`].
//!
//! Nothing outside this file asks which architecture it is running.

mod cohere;
mod encoders;
mod falcon;
mod gemma;
mod gemma3n;
mod glm;
mod gpt;
mod gptoss;
mod granite;
mod hunyuan;
mod hybrid;
mod kin;
mod latent;
mod lfm2;
mod llama;
mod llama4;
mod mamba;
mod minimax;
mod ministral;
mod moe;
mod olmo;
mod phi;
mod qwen_next;
mod rwkv;
mod zamba;

use weights::Tensor;

use crate::convert::{Form, Rule};
use crate::hparams::Hparams;
use crate::mixers::{Attn, Mixer};
use crate::rope::Rope;
use crate::rope_hparams::rope;
use crate::spec::{Act, Ffn, FfnScales, Layer, Norm, NormKind, Norms, Spec};
use crate::{Error, Result};

/// A row of the table: what an architecture is called, and what the loader has to know of its files.
pub struct Arch {
    /// GGUF's `general.architecture`.
    pub gguf: &'static str,
    /// Class names in config.json's `architectures`.
    pub classes: &'static [&'static str],
    /// What people call the models.
    pub title: &'static str,
    /// Hyperparameters to spec.
    pub build: fn(&Hparams) -> Result<Spec>,
    /// Where config.json's parameter names differ from llama's: `(their suffix, GGUF's)`.
    pub names: &'static [(&'static str, &'static str)],
    /// Where GGUF's names differ from those used here: `(theirs, ours)`.
    pub gguf_names: &'static [(&'static str, &'static str)],
    /// What the Hub's files leave to the class, by config.json's names.
    pub defaults: &'static [(&'static str, f64)],
    /// Beginnings of the names of the Hub's tensors that are no part of the text model.
    pub aside: &'static [&'static str],
    /// The Hub's files hold norm weights less one (GGUF's hold them whole).
    pub norm_less_one: bool,
    /// GGUF's files pair neighbours in the rotary embedding, so their q and k rows are permuted.
    pub gguf_interleaved: bool,
    /// Where tensors of the Hub's files lie otherwise than GGUF's: what makes the one of the other, by GGUF name.
    pub edit: Option<Edit>,
    /// Where tensors are written to a GGUF under other names or otherwise than they are here.
    pub to_gguf: &'static [Rule],
    /// What a GGUF of such a model is called, where that is not [`Arch::gguf`].
    pub gguf_as: Option<fn(&Spec) -> &'static str>,
    /// What of a spec lies in a GGUF's weights: takes it out.
    pub in_weights: Option<fn(&mut Spec)>,
    /// Nobody else has GGUFs of this architecture.
    pub ours: bool,
    /// GGUFs of it are read, but none is written yet.
    pub unwritten: bool,
}

/// Spec, GGUF name and the file's tensor to what GGUF has under the name.
pub type Edit = fn(&Spec, &str, Tensor) -> Result<Tensor>;

/// Gemma 2 calls the norm after attention what llama calls the one before the feed-forward.
const FOUR_NORMS: &[(&str, &str)] = &[
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

/// Gate and up of the expert for all tokens lie in one matrix, in a GGUF in two.
const SHARED_HALVES: &[Rule] = &[(
    "ffn_up_shexp.weight",
    &[("ffn_gate_shexp.weight", &[Form::Half(0)]), ("ffn_up_shexp.weight", &[Form::Half(1)])],
)];

/// GGUF calls the norm before the feed-forward by what it comes after, in some architectures.
const AFTER_ATTENTION: &[(&str, &str)] = &[("post_attention_norm", "ffn_norm")];

const fn row(
    gguf: &'static str,
    classes: &'static [&'static str],
    title: &'static str,
    build: fn(&Hparams) -> Result<Spec>,
) -> Arch {
    Arch {
        gguf,
        classes,
        title,
        build,
        names: &[],
        gguf_names: &[],
        defaults: &[],
        norm_less_one: false,
        gguf_interleaved: false,
        edit: None,
        aside: &[],
        to_gguf: &[],
        gguf_as: None,
        in_weights: None,
        ours: false,
        unwritten: false,
    }
}

/// Every supported architecture, family by family.
const FAMILIES: &[&[Arch]] = &[
    llama::ARCHS,
    encoders::ARCHS,
    cohere::ARCHS,
    falcon::ARCHS,
    gemma::ARCHS,
    gemma3n::ARCHS,
    glm::ARCHS,
    gpt::ARCHS,
    gptoss::ARCHS,
    granite::ARCHS,
    hunyuan::ARCHS,
    kin::ARCHS,
    latent::ARCHS,
    llama4::ARCHS,
    minimax::ARCHS,
    ministral::ARCHS,
    moe::ARCHS,
    qwen_next::ARCHS,
    lfm2::ARCHS,
    hybrid::ARCHS,
    mamba::ARCHS,
    rwkv::ARCHS,
    olmo::ARCHS,
    phi::ARCHS,
    zamba::ARCHS,
];

/// Every row.
fn rows() -> impl Iterator<Item = &'static Arch> {
    FAMILIES.iter().flat_map(|f| f.iter())
}

/// What stands in the way of architectures that people ask for: `(name or its beginning, why)`.
const NOT_YET: &[(&str, &str)] = &[
    ("DeepseekV32", "its sparse attention is not built yet"),
    ("DeepseekV4", "its sparse attention is not built yet"),
    ("GlmMoeDsa", "its sparse attention is not built yet"),
];

/// The row for a name found in `file`, by GGUF name or class name.
pub fn find(file: &str, name: &str) -> Result<&'static Arch> {
    let known = |a: &&'static Arch| a.gguf == name || a.classes.contains(&name);
    rows().find(known).ok_or_else(|| Error::Architecture {
        file: file.to_string(),
        name: name.to_string(),
        why: reason(name),
        supported: rows().map(|a| a.title).collect::<Vec<_>>().join(", "),
    })
}

/// What a GGUF's tensor is called here, by the rows of [`Arch::gguf_names`].
pub(crate) fn own_name(name: &str, rows: &[(&str, &str)]) -> String {
    let parts = || {
        let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
        let (module, end) = rest.rsplit_once('.')?;
        let ours = rows.iter().find(|row| row.0 == module)?.1;
        Some(format!("blk.{layer}.{ours}.{end}"))
    };
    parts().unwrap_or_else(|| name.to_string())
}

fn reason(name: &str) -> Option<String> {
    let listed = NOT_YET.iter().find(|(start, _)| name.starts_with(start)).map(|(_, why)| why.to_string());
    let multimodal = name.ends_with("ForConditionalGeneration");
    listed.or_else(|| multimodal.then(|| "models that take images or sound are not built yet".to_string()))
}

/// Which layers have the window: as `layer_types` lists them, else as the architecture's rule says.
pub(crate) fn windowed_layers(h: &Hparams, n: usize, rule: impl Fn(usize) -> bool) -> Result<Vec<bool>> {
    let Some(types) = h.opt_strs("layer_types")? else { return Ok((0..n).map(rule).collect()) };
    if types.len() != n {
        return Err(h.bad(
            "layer_types",
            format!("{} entries", types.len()),
            format!("one for each of {n} layers"),
        ));
    }
    let windowed = |t: &String| match t.as_str() {
        "sliding_attention" => Ok(true),
        "full_attention" => Ok(false),
        other => Err(h.bad("layer_types", other, "sliding_attention or full_attention")),
    };
    types.iter().map(windowed).collect()
}

/// What each of `n` layers is, by the words of `layer_types`; `None` where the file has no such list.
pub(crate) fn kinds<T: Copy>(h: &Hparams, n: usize, words: &[(&str, T)]) -> Result<Option<Vec<T>>> {
    let Some(types) = h.opt_strs("layer_types")? else { return Ok(None) };
    let known = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
    if types.len() != n {
        return Err(h.bad(
            "layer_types",
            format!("{} entries", types.len()),
            format!("one for each of {n} layers"),
        ));
    }
    let kind = |t: &String| match words.iter().find(|(word, _)| word == t) {
        Some((_, kind)) => Ok(*kind),
        None => Err(h.bad("layer_types", t, known())),
    };
    types.iter().map(kind).collect::<Result<_>>().map(Some)
}

/// Which of `n` layers attend, in a GGUF: those with kv heads.
pub(crate) fn layers_with_heads(h: &Hparams, n: usize) -> Result<Vec<bool>> {
    Ok(h.counts("attention.head_count_kv", n)?.into_iter().map(|heads| heads > 0).collect())
}

/// Which layers have the window in a pattern that repeats: every `period`th has none. A file may say it in several ways.
pub(crate) fn windowed_by_period(h: &Hparams, n: usize, period: usize) -> Result<Vec<bool>> {
    let pattern = h.opt_pattern("attention.sliding_window_pattern", n)?;
    let rule = |i: usize| pattern.as_ref().map_or(!(i + 1).is_multiple_of(period), |p| p[i]);
    windowed_layers(h, n, rule)
}

/// The activation that the file names, or the architecture's own.
pub(crate) fn activation(h: &Hparams, default: Act) -> Result<Act> {
    match h.opt_str("hidden_act")?.as_deref() {
        None => Ok(default),
        Some("silu" | "swish" | "swiglu") => Ok(Act::Silu),
        Some("gelu") => Ok(Act::Gelu),
        Some("gelu_pytorch_tanh" | "gelu_new" | "gelu_fast") => Ok(Act::GeluTanh),
        Some("relu") => Ok(Act::Relu),
        Some("relu2") => Ok(Act::Relu2),
        // Its numbers are each layer's own; the architecture puts them in.
        Some("xielu") => Ok(Act::Silu),
        Some(other) => Err(h.bad("hidden_act", other, "silu, gelu, gelu_pytorch_tanh, relu or relu2")),
    }
}

impl Spec {
    /// What most architectures share: pre-norm layers of grouped attention with rotary embeddings and
    /// a gated feed-forward.
    pub(crate) fn llama(h: &Hparams, arch: &'static str) -> Result<Spec> {
        Spec::llama_with(h, arch, rope)
    }

    /// As [`Spec::llama`], with a rope for heads of a width.
    pub(crate) fn llama_with(
        h: &Hparams,
        arch: &'static str,
        rope: impl Fn(&Hparams, usize) -> Result<Rope>,
    ) -> Result<Spec> {
        h.shown_by_tensors(&["attention_bias", "mlp_bias"]);
        let attn = attention(h, h.dim("embedding_length")?)?;
        let rope = rope(h, attn.head_dim)?;
        Spec::of(h, arch, Mixer::Attn(attn), vec![rope])
    }

    /// The same with a mixer and ropes of its own.
    pub(crate) fn of(h: &Hparams, arch: &'static str, mixer: Mixer, ropes: Vec<Rope>) -> Result<Spec> {
        let mut s = Spec::stem(h, arch, h.layers()?, h.usize("context_length")?)?;
        s.ropes = ropes;
        let ffn = Ffn::Glu { dim: h.dim("feed_forward_length")?, act: activation(h, Act::Silu)? };
        for layer in &mut s.layers {
            (layer.mixers, layer.ffn) = (vec![mixer.clone()], ffn.clone());
        }
        Ok(s)
    }

    /// What is around the layers, and `n` layers of nothing but two norms.
    pub(crate) fn stem(h: &Hparams, arch: &'static str, n: usize, context: usize) -> Result<Spec> {
        h.shown_by_tensors(&["lm_head_bias"]);
        let layer = Layer {
            mixers: vec![],
            ffn: Ffn::None,
            norms: Norms::PRE,
            parallel: false,
            residual_scale: 1.0,
            ffn_scales: FfnScales::ONE,
            laurel: None,
            lead: None,
        };
        let eps = h.opt_positive("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-6);
        let norm = Norm { kind: NormKind::Rms, eps, affine: true };
        Spec { norm, context, ..Spec::alike_so_many(h, arch, layer, n)? }.tied_unless_said(h, false)
    }

    /// Layers that are all alike, and nothing else that a file would have to say.
    pub(crate) fn alike(h: &Hparams, arch: &'static str, layer: Layer) -> Result<Spec> {
        Spec::alike_so_many(h, arch, layer, h.layers()?)
    }

    fn alike_so_many(h: &Hparams, arch: &'static str, layer: Layer, n: usize) -> Result<Spec> {
        h.shown_by_tensors(&["tensor_data_layout"]);
        Ok(Spec {
            arch,
            dim: h.dim("embedding_length")?,
            vocab: h.dim("vocab_size")?,
            context: 0,
            embed_scale: 1.0,
            logit_scale: 1.0,
            logit_softcap: None,
            norm: Norm { kind: NormKind::Rms, eps: 1e-6, affine: true },
            tied: None,
            ropes: vec![],
            positions: None,
            embed_norm: false,
            layers: vec![layer; n],
            altup: None,
            inputs: None,
            final_norm: true,
            token_types: false,
            embedding: None,
            classifier: None,
            unused_layers: 0,
        })
    }

    /// Whether the embedding serves as output matrix: config.json says it, or leaves it to what is usual.
    pub(crate) fn tied_unless_said(mut self, h: &Hparams, usual: bool) -> Result<Spec> {
        let said = h.opt_bool("tie_word_embeddings")?;
        self.tied = if h.is_gguf() { None } else { Some(said.unwrap_or(usual)) };
        Ok(self)
    }

    /// All norms as LayerNorm.
    pub(crate) fn with_layer_norm(mut self, h: &Hparams) -> Result<Spec> {
        let eps = h.opt_positive("attention.layer_norm_epsilon")?.unwrap_or(1e-5);
        self.norm = Norm { kind: NormKind::Layer, eps, affine: true };
        Ok(self)
    }

    /// Both branches of each layer read the stream, through one norm or each through its own.
    pub(crate) fn in_parallel(&mut self, norms: usize) {
        for layer in &mut self.layers {
            layer.parallel = true;
            layer.norms.before_ffn = norms > 1;
        }
    }

    /// Changes the attention of each layer that has one, by the layer's number.
    pub(crate) fn each_attn(&mut self, mut change: impl FnMut(usize, &mut Attn)) {
        for (i, layer) in self.layers.iter_mut().enumerate() {
            layer.mixers.iter_mut().filter_map(Mixer::attn_mut).for_each(|a| change(i, a));
        }
    }
}

pub(crate) fn attention(h: &Hparams, dim: usize) -> Result<Attn> {
    let n_heads = h.dim("attention.head_count")?;
    let n_kv_heads = match h.opt_most("attention.head_count_kv")? {
        Some(n) if n_heads.is_multiple_of(n) => n,
        Some(n) => {
            return Err(h.bad("attention.head_count_kv", n, format!("a divisor of the {n_heads} heads")));
        }
        None => n_heads,
    };
    let head_dim = match h.opt_usize("attention.key_length")? {
        Some(n) => n,
        None if dim.is_multiple_of(n_heads) => dim / n_heads,
        None => return Err(h.bad("attention.head_count", n_heads, format!("a divisor of the width {dim}"))),
    };
    if n_heads.checked_mul(head_dim).is_none_or(|n| n > 1 << 30) {
        return Err(h.bad("attention.key_length", head_dim, "heads of a size that can be"));
    }
    if h.opt_usize("attention.value_length")?.is_some_and(|n| n != head_dim) {
        return Err(h.bad("attention.value_length", "another length than the keys'", head_dim));
    }
    let scale = h.opt_positive("attention.scale")?.unwrap_or((head_dim as f32).powf(-0.5));
    Ok(Attn { scale, ..Attn::new(n_heads, n_kv_heads, head_dim) })
}

/// The names that [`find`] understands, for tables: title, GGUF name, class names.
pub fn supported() -> impl Iterator<Item = (&'static str, &'static str, &'static [&'static str])> {
    rows().map(|a| (a.title, a.gguf, a.classes))
}

/// Marks a rope as pairing neighbours, for files that hold permuted rows.
pub(crate) fn interleave(ropes: &mut [Rope]) {
    ropes.iter_mut().for_each(|r| r.interleaved = true);
}
