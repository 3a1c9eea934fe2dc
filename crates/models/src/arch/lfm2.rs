//! Liquid's LFM2: short gated convolutions, and attention in some layers.

use crate::Result;
use crate::arch::{Arch, attention, kinds, layers_with_heads, llama, row};
use crate::convert::Rule;
use crate::hparams::Hparams;
use crate::mixers::{Attn, Mixer, ShortConv};
use crate::moe::{Moe, Routing, Score};
use crate::rope_hparams::rope;
use crate::spec::{Act, Ffn, Spec};

pub(super) const ARCHS: &[Arch] = &[
    Arch { names: NAMES, to_gguf: LAST_NORM, ..row("lfm2", &["Lfm2ForCausalLM"], "LFM2", lfm2) },
    Arch { names: NAMES, to_gguf: LAST_NORM, ..row("lfm2moe", &["Lfm2MoeForCausalLM"], "LFM2 MoE", lfm2moe) },
];

/// GGUFs call the last norm the embedding's.
const LAST_NORM: &[Rule] = &[("output_norm.weight", &[("token_embd_norm.weight", &[])])];

const NAMES: &[(&str, &str)] = &[
    ("embedding_norm", "output_norm"),
    ("operator_norm", "attn_norm"),
    ("ffn_norm", "ffn_norm"),
    ("self_attn.out_proj", "attn_output"),
    ("self_attn.q_layernorm", "attn_q_norm"),
    ("self_attn.k_layernorm", "attn_k_norm"),
    ("conv.in_proj", "shortconv.in_proj"),
    ("conv.out_proj", "shortconv.out_proj"),
    ("conv.conv", "shortconv.conv"),
    ("feed_forward.w1", "ffn_gate"),
    ("feed_forward.w2", "ffn_down"),
    ("feed_forward.w3", "ffn_up"),
    ("feed_forward.gate", "ffn_gate_inp"),
    ("feed_forward.expert_bias", "exp_probs_b.bias"),
    ("feed_forward.experts.w1", "ffn_gate"),
    ("feed_forward.experts.w2", "ffn_down"),
    ("feed_forward.experts.w3", "ffn_up"),
    ("feed_forward.experts.gate_up_proj", "ffn_gate_up"),
    ("feed_forward.experts.down_proj", "ffn_down"),
];

/// Convolutions and attention, still without a feed-forward.
fn layers(h: &Hparams, arch: &'static str) -> Result<Spec> {
    let mut s = Spec::stem(h, arch, h.layers()?, h.usize("context_length")?)?;
    // `num_heads` repeats the number of attention heads.
    h.shown_by_tensors(&["conv_bias", "ssm.time_step_rank"]);
    if !h.is_gguf() {
        s.tied = Some(h.opt_bool("tie_word_embeddings")?.unwrap_or(true));
    }
    let attn = Attn { qk_norm: llama::QK_NORM, ..attention(h, s.dim)? };
    s.ropes = vec![rope(h, attn.head_dim)?];
    let kernel = h.dim("shortconv.l_cache")?;
    if !(2..=1 << 16).contains(&kernel) {
        return Err(h.bad("shortconv.l_cache", kernel, "from 2 to 65536 positions"));
    }
    let conv = ShortConv { dim: s.dim, kernel };
    let attending = attending(h, s.layers.len())?;
    for (layer, attends) in s.layers.iter_mut().zip(attending) {
        let mixer = if attends { Mixer::Attn(attn.clone()) } else { Mixer::ShortConv(conv) };
        layer.mixers = vec![mixer];
    }
    Ok(s)
}

fn attending(h: &Hparams, n: usize) -> Result<Vec<bool>> {
    if h.is_gguf() {
        return layers_with_heads(h, n);
    }
    let indices = h.opt_counts("full_attn_idxs")?;
    let listed = kinds(h, n, &[("full_attention", true), ("conv", false)])?;
    Ok(listed.unwrap_or_else(|| (0..n).map(|i| indices.as_ref().is_none_or(|l| l.contains(&i))).collect()))
}

fn lfm2(h: &Hparams) -> Result<Spec> {
    let mut s = layers(h, "lfm2")?;
    let ffn = Ffn::Glu { dim: width(h)?, act: Act::Silu };
    s.layers.iter_mut().for_each(|l| l.ffn = ffn.clone());
    Ok(s)
}

/// Of what config.json states, two thirds, times a factor, up to a round number. A GGUF has worked it out.
fn width(h: &Hparams) -> Result<usize> {
    let stated = h.dim("feed_forward_length")?;
    let factor = h.opt_positive("block_ffn_dim_multiplier")?;
    let multiple = h.opt_usize("block_multiple_of")?.unwrap_or(256);
    if h.is_gguf() || !h.opt_bool("block_auto_adjust_ff_dim")?.unwrap_or(true) {
        return Ok(stated);
    }
    let width = 2 * stated / 3;
    let width = factor.map_or(width, |f| (f64::from(f) * width as f64) as usize);
    match width.checked_next_multiple_of(multiple).filter(|&w| w > 0 && w <= 1 << 30) {
        Some(width) => Ok(width),
        None => Err(h.bad("block_multiple_of", multiple, "a feed-forward of a size that can be")),
    }
}

/// With experts in all layers but the first.
fn lfm2moe(h: &Hparams) -> Result<Spec> {
    let mut s = layers(h, "lfm2moe")?;
    match h.opt_count("expert_gating_func")? {
        None | Some(2) => {}
        Some(other) => return Err(h.bad("expert_gating_func", other, "2, the sigmoid")),
    }
    let routing = Routing {
        score: Score::Sigmoid,
        normalise: h.opt_bool("expert_weights_norm")?.unwrap_or(true),
        scale: h.opt_f32("expert_weights_scale")?.unwrap_or(1.0),
        bias: h.opt_bool("use_expert_bias")?.unwrap_or(true),
        ..Routing::SOFTMAX
    };
    let moe = Moe { routing, ..Moe::of(h, h.dim("expert_feed_forward_length")?, Act::Silu)? };
    let dense = Ffn::Glu { dim: h.dim("feed_forward_length")?, act: Act::Silu };
    let first = h.opt_count("leading_dense_block_count")?.unwrap_or(if h.is_gguf() { 0 } else { 2 });
    for (i, layer) in s.layers.iter_mut().enumerate() {
        layer.ffn = if i < first { dense.clone() } else { Ffn::Moe(Box::new(moe.clone())) };
    }
    Ok(s)
}
