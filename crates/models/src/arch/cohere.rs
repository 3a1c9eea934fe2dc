//! Llama with LayerNorm: Cohere's Command models, and StableLM.

use crate::Result;
use crate::arch::{Arch, interleave, row, windowed_by_period};
use crate::hparams::Hparams;
use crate::mixers::{NormScope, QkNorm};
use crate::rope_hparams::partial_rope;
use crate::spec::Spec;

pub(super) const ARCHS: &[Arch] = &[
    row("command-r", &["CohereForCausalLM"], "Cohere Command R", cohere),
    row("cohere2", &["Cohere2ForCausalLM"], "Cohere Command R7B and A", cohere2),
    Arch {
        names: STABLELM,
        ..row("stablelm", &["StableLmForCausalLM", "StableLMEpochForCausalLM"], "StableLM", stablelm)
    },
];

const STABLELM: &[(&str, &str)] =
    &[("self_attn.q_layernorm.norms", "attn_q_norm"), ("self_attn.k_layernorm.norms", "attn_k_norm")];

/// Each head normalised by weights of its own.
const QK_NORM: QkNorm = QkNorm { scope: NormScope::EachHead, after_rope: false };

/// The branches side by side behind one norm, neighbours rotated, logits scaled, the head tied.
fn cohere(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "command-r")?.with_layer_norm(h)?.tied_unless_said(h, true)?;
    s.logit_scale = h.opt_f32("logit_scale")?.unwrap_or(0.0625);
    s.in_parallel(1);
    interleave(&mut s.ropes);
    let said = h.opt_bool("qk_layernorm")?.unwrap_or(false);
    let normed = said || h.has_tensor("blk.0.attn_q_norm.weight");
    s.each_attn(|_, a| a.qk_norm = normed.then_some(QK_NORM));
    Ok(s)
}

/// Cohere with a window and a rotation in three layers of four, neither in the fourth.
fn cohere2(h: &Hparams) -> Result<Spec> {
    let mut s = Spec { arch: "cohere2", ..cohere(h)? };
    let window = h.opt_count("attention.sliding_window")?.unwrap_or(4096);
    let windowed = windowed_by_period(h, s.layers.len(), 4)?;
    s.each_attn(|i, a| {
        a.window = Some(window).filter(|&w| w > 0 && windowed[i]);
        a.rope = a.rope.filter(|_| windowed[i]);
    });
    Ok(s)
}

/// A quarter of each head rotated; perhaps the branches side by side, perhaps heads normalised.
fn stablelm(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "stablelm")?.with_layer_norm(h)?;
    let head_dim = s.mixers().find_map(|m| m.cached()).map_or(0, |a| a.head_dim);
    s.ropes = vec![partial_rope(h, head_dim, 0.25)?];
    if h.opt_bool("use_parallel_residual")?.unwrap_or(false) {
        s.in_parallel(1);
    }
    let said = h.opt_bool("qk_layernorm")?.unwrap_or(false);
    let normed = said || h.has_tensor("blk.0.attn_q_norm.weight");
    s.each_attn(|_, a| a.qk_norm = normed.then_some(QK_NORM));
    Ok(s)
}
