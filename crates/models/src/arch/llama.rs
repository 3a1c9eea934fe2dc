//! Llama and those that differ from it by a line or ten.

use crate::Result;
use crate::arch::{Arch, row, windowed_layers};
use crate::hparams::Hparams;
use crate::mixers::{NormScope, QkNorm};
use crate::spec::Spec;

pub(super) const ARCHS: &[Arch] = &[
    Arch {
        gguf_interleaved: true,
        ..row("llama", &["LlamaForCausalLM", "LLaMAForCausalLM"], "Llama", llama)
    },
    Arch {
        gguf_interleaved: true,
        gguf_as: Some(without_window),
        ..row("mistral", &["MistralForCausalLM"], "Mistral", mistral)
    },
    row("qwen2", &["Qwen2ForCausalLM"], "Qwen 2 and 2.5", qwen2),
    row("qwen3", &["Qwen3ForCausalLM"], "Qwen 3", qwen3),
    row("phi3", &["Phi3ForCausalLM"], "Phi-3, 3.5 and 4", phi3),
];

/// Mistral is llama there, which has no window. (With one it is written under a name that we alone read.)
fn without_window(s: &Spec) -> &'static str {
    let windowed = s.mixers().filter_map(|m| m.cached()).any(|a| a.window.is_some());
    if windowed { "mistral" } else { "llama" }
}

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
