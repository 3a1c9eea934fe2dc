//! Llama and those that differ from it by a line or ten.

use crate::Result;
use crate::arch::{Arch, FOUR_NORMS, activation, row, windowed_layers};
use crate::hparams::Hparams;
use crate::mixers::{Mixer, NormScope, QkNorm};
use crate::spec::{Act, Norms, Spec};

pub(super) const ARCHS: &[Arch] = &[
    Arch {
        gguf_interleaved: true,
        ..row("llama", &["LlamaForCausalLM", "LLaMAForCausalLM"], "Llama", llama)
    },
    Arch { gguf_interleaved: true, ..row("mistral", &["MistralForCausalLM"], "Mistral", mistral) },
    row("qwen2", &["Qwen2ForCausalLM"], "Qwen 2 and 2.5", qwen2),
    row("qwen3", &["Qwen3ForCausalLM"], "Qwen 3", qwen3),
    row("phi3", &["Phi3ForCausalLM"], "Phi-3, 3.5 and 4", phi3),
    Arch {
        names: FOUR_NORMS,
        norm_less_one: true,
        ..row("gemma2", &["Gemma2ForCausalLM"], "Gemma 2", gemma2)
    },
];

/// Each head normalised before it is rotated.
pub(super) const QK_NORM: Option<QkNorm> = Some(QkNorm { scope: NormScope::Head, after_rope: false });

/// GGUF calls Mixtral by this name too.
fn llama(h: &Hparams) -> Result<Spec> {
    if h.is_gguf() && h.opt_count("expert_count")?.is_some_and(|n| n > 0) {
        return super::moe::mixtral(h);
    }
    Spec::llama(h, "llama")
}

/// Llama with a window.
pub(super) fn mistral(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "mistral")?;
    let window = h.opt_count("attention.sliding_window")?.filter(|&w| w > 0);
    s.each_attn(|_, a| a.window = window);
    Ok(s)
}

/// Llama with a window in the upper layers, if at all.
pub(super) fn qwen2(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "qwen2")?;
    let window = h.opt_count("attention.sliding_window")?.filter(|&w| w > 0);
    let used = h.opt_bool("use_sliding_window")?.unwrap_or(h.is_gguf());
    let first = h.opt_count("max_window_layers")?.unwrap_or(28);
    let layers = windowed_layers(h, s.layers.len(), |i| i >= first)?;
    s.each_attn(|i, a| a.window = window.filter(|_| used && layers[i]));
    Ok(s)
}

/// Qwen 2 with normalised queries and keys.
pub(super) fn qwen3(h: &Hparams) -> Result<Spec> {
    let mut s = Spec { arch: "qwen3", ..qwen2(h)? };
    s.each_attn(|_, a| a.qk_norm = QK_NORM);
    Ok(s)
}

/// Llama with fused projections (the loader splits them), a window and longrope.
fn phi3(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "phi3")?;
    let window = h.opt_count("attention.sliding_window")?.filter(|&w| w > 0);
    s.each_attn(|_, a| a.window = window);
    Ok(s)
}

/// Llama with softcaps, four norms, every other layer windowed, GELU and scaled embeddings.
fn gemma2(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "gemma2")?;
    if h.opt_bool("use_bidirectional_attention")? == Some(true) {
        return Err(h.bad("use_bidirectional_attention", "true", "false: only causal attention is built"));
    }
    s = s.tied_unless_said(h, true)?;
    s.embed_scale = (s.dim as f32).sqrt();
    s.logit_softcap = h.opt_positive("final_logit_softcapping")?.or(Some(30.0));
    let softcap = h.opt_positive("attn_logit_softcapping")?.or(Some(50.0));
    let window = h.opt_count("attention.sliding_window")?.filter(|&w| w > 0);
    let scalar = h.opt_positive("query_pre_attn_scalar")?.or(gemma2_scalar(&s)).map(|n| 1.0 / n.sqrt());
    let layers = windowed_layers(h, s.layers.len(), |i| i % 2 == 0)?;
    s.each_attn(|i, a| {
        a.softcap = softcap;
        a.window = window.filter(|_| layers[i]);
        a.scale = scalar.unwrap_or(a.scale);
    });
    let act = activation(h, Act::GeluTanh)?;
    for layer in &mut s.layers {
        layer.norms = Norms::BOTH;
        layer.ffn = layer.ffn.with_act(act);
    }
    Ok(s)
}

/// A GGUF does not carry `query_pre_attn_scalar`; of the published sizes only the 27B (46 layers)
/// scales by its width per head rather than by the head's.
fn gemma2_scalar(s: &Spec) -> Option<f32> {
    let a = s.mixers().find_map(Mixer::cached)?;
    Some(if s.layers.len() == 46 { s.dim / a.n_heads } else { a.head_dim } as f32)
}
