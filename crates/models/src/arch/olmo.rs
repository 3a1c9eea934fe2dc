//! The Allen Institute's OLMo.

use crate::Result;
use crate::arch::{Arch, activation, row, windowed_by_period};
use crate::hparams::Hparams;
use crate::mixers::{NormScope, QkNorm};
use crate::moe::{Moe, Routing};
use crate::rope::{Rope, Scaling};
use crate::spec::{Act, Ffn, Norm, NormKind, Norms, Spec};

pub(super) const ARCHS: &[Arch] = &[
    Arch { gguf_interleaved: true, ..row("olmo", &["OlmoForCausalLM"], "OLMo", olmo) },
    Arch { names: NAMES, ..row("olmo2", &["Olmo2ForCausalLM", "Olmo3ForCausalLM"], "OLMo 2 and 3", olmo2) },
    row("olmoe", &["OlmoeForCausalLM"], "OLMoE", olmoe),
];

const NAMES: &[(&str, &str)] =
    &[("post_attention_layernorm", "post_attention_norm"), ("post_feedforward_layernorm", "post_ffw_norm")];

/// All queries normalised together, and all keys.
const QK_NORM: Option<QkNorm> = Some(QkNorm { scope: NormScope::Row, after_rope: false });

/// Norms without weights; queries, keys and values held within a bound.
fn olmo(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "olmo")?;
    let eps = h.opt_positive("attention.layer_norm_epsilon")?.unwrap_or(1e-5);
    s.norm = Norm { kind: NormKind::Layer, eps, affine: false };
    clip(h, &mut s)?;
    Ok(s)
}

fn clip(h: &Hparams, s: &mut Spec) -> Result<()> {
    let clip = h.opt_positive("attention.clamp_kqv")?;
    s.each_attn(|_, a| a.clip = clip);
    Ok(())
}

/// Norms behind the branches instead of before them; queries and keys normalised. OLMo 3 has a window in three layers of
/// four, which are rotated without the scaling of the others.
fn olmo2(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "olmo2")?;
    s.each_attn(|_, a| a.qk_norm = QK_NORM);
    let norms = Norms { before_mixer: false, after_mixer: true, before_ffn: false, after_ffn: true };
    s.layers.iter_mut().for_each(|l| l.norms = norms);
    windows(h, &mut s)?;
    Ok(s)
}

fn windows(h: &Hparams, s: &mut Spec) -> Result<()> {
    let Some(window) = h.opt_count("attention.sliding_window")?.filter(|&w| w > 0) else { return Ok(()) };
    let windowed = windowed_by_period(h, s.layers.len(), 4)?;
    let mut full = s.ropes[0].clone();
    if let (Scaling::Yarn(yarn), true) = (&mut full.scaling, h.is_gguf()) {
        // Its first GGUFs have the whole factor here, not what YaRN's own is multiplied by.
        yarn.attention_factor = h.opt_positive("rope.scaling.attn_factor")?.unwrap_or(yarn.attention_factor);
    }
    if let Some(other) = h.opt_str("rope.scaling.type_swa")?.filter(|t| t != "default") {
        return Err(h.bad("rope.scaling.type_swa", other, "default"));
    }
    let theta = h.opt_positive("rope.freq_base_swa")?.unwrap_or(full.theta);
    s.ropes = vec![full, Rope::plain(s.ropes[0].dim, theta)];
    s.each_attn(|i, a| {
        a.window = Some(window).filter(|_| windowed[i]);
        a.rope = Some(windowed[i] as usize);
    });
    Ok(())
}

/// Llama with experts, and queries and keys normalised.
fn olmoe(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "olmoe")?;
    clip(h, &mut s)?;
    s.each_attn(|_, a| a.qk_norm = QK_NORM);
    let routing =
        Routing { normalise: h.opt_bool("expert_weights_norm")?.unwrap_or(false), ..Routing::SOFTMAX };
    let moe = Moe { routing, ..Moe::of(h, h.dim("feed_forward_length")?, activation(h, Act::Silu)?)? };
    s.layers.iter_mut().for_each(|l| l.ffn = Ffn::Moe(Box::new(moe.clone())));
    Ok(s)
}
