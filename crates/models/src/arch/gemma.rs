//! Google's Gemma.

use crate::Result;
use crate::arch::{Arch, FOUR_NORMS, activation, llama, row, windowed_by_period, windowed_layers};
use crate::hparams::Hparams;
use crate::mixers::Mixer;
use crate::rope::{Rope, Scaling};
use crate::spec::{Act, Norms, Spec};

pub(super) const ARCHS: &[Arch] = &[
    Arch { norm_less_one: true, ..row("gemma", &["GemmaForCausalLM"], "Gemma", gemma) },
    Arch {
        names: FOUR_NORMS,
        norm_less_one: true,
        ..row("gemma2", &["Gemma2ForCausalLM"], "Gemma 2", gemma2)
    },
    Arch {
        names: FOUR_NORMS,
        norm_less_one: true,
        defaults: GEMMA3_DEFAULTS,
        aside: &["vision_tower.", "multi_modal_projector."],
        ..row("gemma3", &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"], "Gemma 3 (text)", gemma3)
    },
];

/// What the published files of the 4B and larger leave out.
const GEMMA3_DEFAULTS: &[(&str, f64)] = &[
    ("vocab_size", 262_208.0),
    ("num_attention_heads", 8.0),
    ("num_key_value_heads", 4.0),
    ("head_dim", 256.0),
    ("max_position_embeddings", 131_072.0),
    ("rope_theta", 1_000_000.0),
];

/// Llama with GELU and scaled embeddings (arXiv:2403.08295).
fn gemma(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "gemma")?;
    if h.opt_bool("use_bidirectional_attention")? == Some(true) {
        return Err(h.bad("use_bidirectional_attention", "true", "false: only causal attention is built"));
    }
    s.tied = if h.is_gguf() { None } else { Some(h.opt_bool("tie_word_embeddings")?.unwrap_or(true)) };
    s.embed_scale = (s.dim as f32).sqrt();
    // The first files say "gelu" and were trained with its tanh form.
    let act = match activation(h, Act::GeluTanh)? {
        Act::Gelu => Act::GeluTanh,
        act => act,
    };
    s.layers.iter_mut().for_each(|l| l.ffn = l.ffn.with_act(act));
    Ok(s)
}

/// Gemma 2 with normalised heads instead of softcaps, and five windowed layers under a rope of their own to one that
/// sees everything (arXiv:2503.19786).
fn gemma3(h: &Hparams) -> Result<Spec> {
    let mut s = Spec { arch: "gemma3", ..gemma(h)? };
    s.logit_softcap = h.opt_positive("final_logit_softcapping")?;
    let softcap = h.opt_positive("attn_logit_softcapping")?;
    let window = h.opt_count("attention.sliding_window")?.filter(|&w| w > 0);
    let scalar = h.opt_positive("query_pre_attn_scalar")?.or(scalar(&s, 62)).map(|n| 1.0 / n.sqrt());
    let layers = windowed_by_period(h, s.layers.len(), 6)?;
    if let Some(other) = h.opt_str("rope.scaling.type_swa")?.filter(|t| t != "default") {
        return Err(h.bad("rope.scaling.type_swa", other, "default"));
    }
    let theta = h.opt_positive("rope.freq_base_swa")?.unwrap_or(10_000.0);
    s.ropes.push(Rope { theta, scaling: Scaling::None, ..s.ropes[0].clone() });
    s.each_attn(|i, a| {
        a.softcap = softcap;
        a.window = window.filter(|_| layers[i]);
        a.scale = scalar.unwrap_or(a.scale);
        a.rope = Some(usize::from(layers[i]));
        a.qk_norm = llama::QK_NORM;
    });
    s.layers.iter_mut().for_each(|l| l.norms = Norms::BOTH);
    Ok(s)
}

/// Gemma with softcaps, four norms and every other layer windowed (arXiv:2408.00118).
fn gemma2(h: &Hparams) -> Result<Spec> {
    let mut s = Spec { arch: "gemma2", ..gemma(h)? };
    s.logit_softcap = h.opt_positive("final_logit_softcapping")?.or(Some(30.0));
    let softcap = h.opt_positive("attn_logit_softcapping")?.or(Some(50.0));
    let window = h.opt_count("attention.sliding_window")?.filter(|&w| w > 0);
    let scalar = h.opt_positive("query_pre_attn_scalar")?.or(scalar(&s, 46)).map(|n| 1.0 / n.sqrt());
    let layers = windowed_layers(h, s.layers.len(), |i| i % 2 == 0)?;
    s.each_attn(|i, a| {
        a.softcap = softcap;
        a.window = window.filter(|_| layers[i]);
        a.scale = scalar.unwrap_or(a.scale);
    });
    s.layers.iter_mut().for_each(|l| l.norms = Norms::BOTH);
    Ok(s)
}

/// A GGUF does not carry `query_pre_attn_scalar`; of the published sizes only the 27B (of so many layers)
/// scales by its width per head rather than by the head's.
fn scalar(s: &Spec, layers_of_27b: usize) -> Option<f32> {
    let a = s.mixers().find_map(Mixer::cached)?;
    Some(if s.layers.len() == layers_of_27b { s.dim / a.n_heads } else { a.head_dim } as f32)
}
