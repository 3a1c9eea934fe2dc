//! Qwen3-Next and Qwen 3.5: three gated delta nets to one gated attention.

use crate::Result;
use crate::arch::{Arch, activation, attention, kinds, llama, moe, row};
use crate::convert::{Form, Rule};
use crate::hparams::Hparams;
use crate::mixers::{Attn, DeltaNet, Mixer};
use crate::moe::Shared;
use crate::rope_hparams::partial_rope;
use crate::spec::{Act, Ffn, Spec};

pub(super) const ARCHS: &[Arch] = &[
    next_row("qwen3next", &["Qwen3NextForCausalLM"], "Qwen3-Next", qwen3next, NORM),
    next_row(
        "qwen35",
        &["Qwen3_5ForConditionalGeneration", "Qwen3_5ForCausalLM"],
        "Qwen 3.5 (text)",
        qwen35,
        TILED,
    ),
    next_row(
        "qwen35moe",
        &["Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM"],
        "Qwen 3.5 MoE (text)",
        qwen35moe,
        TILED,
    ),
];

const fn next_row(
    gguf: &'static str,
    classes: &'static [&'static str],
    title: &'static str,
    build: fn(&Hparams) -> Result<Spec>,
    to_gguf: &'static [Rule],
) -> Arch {
    Arch { names: NAMES, norm_less_one: true, aside: ASIDE, to_gguf, ..row(gguf, classes, title, build) }
}

const NORM: &[Rule] = &[("ffn_norm.weight", &[("post_attention_norm.weight", &[])])];

/// GGUFs of Qwen 3.5 have the value heads in another order.
const TILED: &[Rule] = &[
    ("ffn_norm.weight", &[("post_attention_norm.weight", &[])]),
    ("attn_qkv.weight", &[("attn_qkv.weight", &[Form::TiledAfterKeys])]),
    ("attn_gate.weight", &[("attn_gate.weight", &[Form::TiledHeads])]),
    ("ssm_alpha.weight", &[("ssm_alpha.weight", &[Form::TiledEach])]),
    ("ssm_beta.weight", &[("ssm_beta.weight", &[Form::TiledEach])]),
    ("ssm_a_log", &[("ssm_a", &[Form::Decay, Form::TiledEach])]),
    ("ssm_dt.bias", &[("ssm_dt.bias", &[Form::TiledEach])]),
    ("ssm_conv1d.weight", &[("ssm_conv1d.weight", &[Form::Squeezed, Form::TiledAfterKeys])]),
    ("ssm_out.weight", &[("ssm_out.weight", &[Form::TiledColumns])]),
];

const NAMES: &[(&str, &str)] = &[
    ("linear_attn.in_proj_qkvz", "ssm_in"),
    ("linear_attn.in_proj_ba", "ssm_ba"),
    ("linear_attn.in_proj_qkv", "attn_qkv"),
    ("linear_attn.in_proj_z", "attn_gate"),
    ("linear_attn.in_proj_b", "ssm_beta"),
    ("linear_attn.in_proj_a", "ssm_alpha"),
    ("linear_attn.conv1d", "ssm_conv1d"),
    ("linear_attn.dt_bias", "ssm_dt.bias"),
    ("linear_attn.A_log", "ssm_a_log"),
    ("linear_attn.norm", "ssm_norm"),
    ("linear_attn.out_proj", "ssm_out"),
];

/// What foretells further tokens, and what sees.
const ASIDE: &[&str] = &["mtp.", "model.mtp.", "model.visual.", "visual."];

/// Layers of either kind, still without a feed-forward.
fn layers(h: &Hparams, arch: &'static str) -> Result<Spec> {
    // A GGUF counts the layers that foretell further tokens.
    let unused_layers = if h.is_gguf() { h.opt_count("nextn_predict_layers")?.unwrap_or(0) } else { 0 };
    let n = h.layers()?.saturating_sub(unused_layers);
    let mut s = Spec { unused_layers, ..Spec::stem(h, arch, n, h.usize("context_length")?)? };
    // Text moves along all parts of a position at once: the rope of several axes is a plain one.
    h.shown_by_tensors(&["attention_bias", "rope.dimension_sections"]);
    if h.opt_bool("attn_output_gate")? == Some(false) {
        return Err(h.bad("attn_output_gate", false, "true: every published model has it"));
    }
    let attn = Attn { gate: true, qk_norm: llama::QK_NORM, ..attention(h, s.dim)? };
    s.ropes = vec![partial_rope(h, attn.head_dim, 0.25)?];
    let delta = DeltaNet::of(h, s.norm.eps)?;
    let interval = h.opt_usize("full_attention_interval")?.unwrap_or(4);
    let words = [("full_attention", true), ("linear_attention", false)];
    let listed = kinds(h, s.layers.len(), &words)?;
    for (i, layer) in s.layers.iter_mut().enumerate() {
        let attends = listed.as_ref().map_or((i + 1).is_multiple_of(interval), |l| l[i]);
        let mixer = if attends { Mixer::Attn(attn.clone()) } else { Mixer::DeltaNet(delta.clone()) };
        layer.mixers = vec![mixer];
    }
    Ok(s)
}

fn dense(h: &Hparams, s: &mut Spec) -> Result<()> {
    let ffn = Ffn::Glu { dim: h.dim("feed_forward_length")?, act: activation(h, Act::Silu)? };
    s.layers.iter_mut().for_each(|l| l.ffn = ffn.clone());
    Ok(())
}

/// Experts, which a layer may do without, and a gated one for all.
fn experts(h: &Hparams, s: &mut Spec) -> Result<()> {
    if h.opt_count("feed_forward_length")?.is_some_and(|n| n > 0) {
        dense(h, s)?;
    }
    let shared = Shared { dim: h.dim("expert_shared_feed_forward_length")?, gate: true };
    moe::sparse(h, s, Some(shared), h.opt_bool("expert_weights_norm")?.unwrap_or(true))?;
    if s.layers.iter().any(|l| l.ffn == Ffn::None) {
        return Err(h.bad("feed_forward_length", "nothing", "the width of the layers without experts"));
    }
    Ok(())
}

fn qwen3next(h: &Hparams) -> Result<Spec> {
    let mut s = layers(h, "qwen3next")?;
    experts(h, &mut s)?;
    Ok(s)
}

fn qwen35(h: &Hparams) -> Result<Spec> {
    let mut s = layers(h, "qwen35")?;
    dense(h, &mut s)?;
    h.opt_counts("mlp_only_layers")?;
    tiled(h, &mut s);
    Ok(s)
}

fn qwen35moe(h: &Hparams) -> Result<Spec> {
    let mut s = layers(h, "qwen35moe")?;
    experts(h, &mut s)?;
    tiled(h, &mut s);
    Ok(s)
}

/// GGUFs of Qwen 3.5 have the value heads in another order than its own files and GGUFs of Qwen3-Next.
fn tiled(h: &Hparams, s: &mut Spec) {
    for mixer in s.layers.iter_mut().flat_map(|l| &mut l.mixers) {
        if let Mixer::DeltaNet(delta) = mixer {
            delta.tiled = h.is_gguf();
        }
    }
}
