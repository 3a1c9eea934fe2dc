//! Families that each differ from llama by one or two things.

use crate::Result;
use crate::arch::{
    AFTER_ATTENTION, Arch, FOUR_NORMS, activation, interleave, llama, row, windowed_by_period,
    windowed_layers,
};
use crate::convert::Rule;
use crate::hparams::Hparams;
use crate::spec::{Act, Ffn, Norms, Spec};

pub(super) const ARCHS: &[Arch] = &[
    Arch { gguf_interleaved: true, ..row("smollm3", &["SmolLM3ForCausalLM"], "SmolLM 3", smollm3) },
    Arch { names: FOUR_NORMS, ..row("exaone4", &["Exaone4ForCausalLM"], "EXAONE 4", exaone4) },
    Arch { gguf_names: AFTER_ATTENTION, ..row("seed_oss", &["SeedOssForCausalLM"], "Seed-OSS", seed_oss) },
    row("ernie4_5", &["Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM"], "ERNIE 4.5", ernie),
    Arch { gguf_interleaved: true, ..row("arcee", &["ArceeForCausalLM"], "Arcee AFM", arcee) },
    Arch { names: APERTUS, to_gguf: XIELU, ..row("apertus", &["ApertusForCausalLM"], "Apertus", apertus) },
    Arch {
        names: BITNET,
        ..row("bitnet", &["BitNetForCausalLM", "BitnetForCausalLM"], "BitNet b1.58", bitnet)
    },
    Arch { gguf_interleaved: true, ..row("minicpm", &["MiniCPMForCausalLM"], "MiniCPM", minicpm) },
    Arch { ours: true, ..row("helium", &["HeliumForCausalLM"], "Helium", helium) },
];

const APERTUS: &[(&str, &str)] = &[
    ("attention_layernorm", "attn_norm"),
    ("feedforward_layernorm", "ffn_norm"),
    ("mlp.act_fn.alpha_p", "xielu_alpha_p"),
    ("mlp.act_fn.alpha_n", "xielu_alpha_n"),
    ("mlp.act_fn.beta", "xielu_beta"),
    ("mlp.act_fn.eps", "xielu_eps"),
];

/// A GGUF has the activation's numbers in its metadata.
const XIELU: &[Rule] =
    &[("xielu_alpha_p", &[]), ("xielu_alpha_n", &[]), ("xielu_beta", &[]), ("xielu_eps", &[])];

const BITNET: &[(&str, &str)] =
    &[("self_attn.attn_sub_norm", "attn_sub_norm"), ("mlp.ffn_sub_norm", "ffn_sub_norm")];

/// What the file says of the output matrix, or the class where it is silent.
fn tied(h: &Hparams, default: bool) -> Result<Option<bool>> {
    let said = h.opt_bool("tie_word_embeddings")?;
    Ok(if h.is_gguf() { None } else { Some(said.unwrap_or(default)) })
}

/// Llama, every fourth of whose layers is not rotated.
fn smollm3(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "smollm3")?;
    let n = s.layers.len();
    let step = h.opt_usize("no_rope_layer_interval")?.unwrap_or(4);
    let rotated =
        h.opt_counts("no_rope_layers")?.unwrap_or((1..=n).map(|i| usize::from(i % step != 0)).collect());
    if rotated.len() < n {
        return Err(h.bad(
            "no_rope_layers",
            format!("{} entries", rotated.len()),
            format!("{n}, one for each layer"),
        ));
    }
    let window = h.opt_count("attention.sliding_window")?.filter(|&w| w > 0);
    let used = h.opt_bool("use_sliding_window")?.unwrap_or(false);
    h.opt_count("max_window_layers")?;
    let windowed = windowed_layers(h, n, |i| rotated[i] == 0)?;
    s.each_attn(|i, a| {
        a.rope = a.rope.filter(|_| rotated[i] != 0);
        a.window = window.filter(|_| used && windowed[i]);
    });
    s.tied = tied(h, true)?;
    Ok(s)
}

/// Llama with norms after both halves instead of before, normalised heads, and in the larger model windows, where what
/// has none is not rotated.
fn exaone4(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "exaone4")?;
    let window = h.opt_count("attention.sliding_window")?.filter(|&w| w > 0);
    let windowed = windowed_by_period(h, s.layers.len(), 4)?;
    s.each_attn(|i, a| {
        a.qk_norm = llama::QK_NORM;
        a.window = window.filter(|_| windowed[i]);
        a.rope = a.rope.filter(|_| window.is_none() || windowed[i]);
    });
    let after = Norms {
        before_mixer: false,
        after_mixer: true,
        before_ffn: false,
        after_ffn: true,
        after_sums: false,
    };
    s.layers.iter_mut().for_each(|l| l.norms = after);
    Ok(s)
}

/// Llama with biases, which the tensors show.
fn seed_oss(h: &Hparams) -> Result<Spec> {
    Spec::llama(h, "seed_oss")
}

/// Llama that rotates neighbours, in every file.
pub(super) fn ernie(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "ernie4_5")?;
    s.tied = tied(h, true)?;
    h.shown_by_tensors(&["use_bias"]);
    interleave(&mut s.ropes);
    Ok(s)
}

/// Llama without gates, under the square of ReLU.
fn arcee(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "arcee")?;
    let ffn = Ffn::Mlp { dim: h.dim("feed_forward_length")?, act: activation(h, Act::Relu2)? };
    s.layers.iter_mut().for_each(|l| l.ffn = ffn.clone());
    Ok(s)
}

/// Llama that rotates neighbours.
fn helium(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "helium")?;
    interleave(&mut s.ropes);
    Ok(s)
}

/// Llama with normalised heads, and without gates, under an activation of which each layer has its own
/// (arXiv:2509.14233).
fn apertus(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "apertus")?;
    h.must_be("qk_norm", true)?;
    h.must_be("post_norm", false)?;
    s.each_attn(|_, a| a.qk_norm = llama::QK_NORM);
    let dim = h.dim("feed_forward_length")?;
    let of = |part: &str| h.opt_f32s(&format!("xielu.{part}"));
    let (p, n, beta, eps) = (of("alpha_p")?, of("alpha_n")?, of("beta")?, of("eps")?);
    for (i, layer) in s.layers.iter_mut().enumerate() {
        let at = |list: &Option<Vec<f32>>| list.as_ref().and_then(|l| l.get(i)).copied();
        let act = match (at(&p), at(&n), at(&beta), at(&eps)) {
            (Some(p), Some(n), Some(beta), Some(eps)) => Act::xielu(p, n, beta, eps),
            _ if h.is_gguf() => return Err(h.bad("xielu.alpha_p", "too few numbers", "one for each layer")),
            _ => Act::Xielu { p: 0.0, n: 0.0, beta: 0.0, eps: 0.0 },
        };
        layer.ffn = Ffn::Mlp { dim, act };
    }
    Ok(s)
}

/// Llama under the square of ReLU, with norms before the matrices that lead out (arXiv:2402.17764). The ternary packing
/// of the published weights is refused by its name.
fn bitnet(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "bitnet")?;
    let act = activation(h, Act::Relu2)?;
    s.layers.iter_mut().for_each(|l| l.ffn = l.ffn.with_act(act));
    Ok(s)
}

/// Llama with three multipliers, each said in another way than Granite's (arXiv:2404.06395).
fn minicpm(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "minicpm")?;
    s.embed_scale = h.opt_f32("embedding_scale")?.unwrap_or(1.0);
    let layers = s.layers.len() as f32;
    let residual = match h.is_gguf() {
        true => h.opt_f32("residual_scale")?.unwrap_or(1.4 / layers.sqrt()),
        false => h.opt_f32("scale_depth")?.map_or(1.0, |depth| depth / layers.sqrt()),
    };
    s.layers.iter_mut().for_each(|l| l.residual_scale = residual);
    let divisor = match h.is_gguf() {
        true => h.opt_positive("logit_scale")?,
        false => h.opt_positive("dim_model_base")?.map(|base| s.dim as f32 / base),
    };
    s.logit_scale = 1.0 / divisor.unwrap_or(1.0);
    Ok(s)
}
