//! The Allen Institute's OLMo.

use crate::Result;
use crate::arch::{Arch, activation, row};
use crate::hparams::Hparams;
use crate::mixers::{NormScope, QkNorm};
use crate::moe::{Moe, Routing};
use crate::spec::{Act, Ffn, Norm, NormKind, Norms, Spec};

pub(super) const ARCHS: &[Arch] = &[
    Arch { gguf_interleaved: true, ..row("olmo", &["OlmoForCausalLM"], "OLMo", olmo) },
    Arch { names: NAMES, ..row("olmo2", &["Olmo2ForCausalLM"], "OLMo 2", olmo2) },
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

/// Norms behind the branches instead of before them; queries and keys normalised.
fn olmo2(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "olmo2")?;
    s.each_attn(|_, a| a.qk_norm = QK_NORM);
    let norms = Norms { before_mixer: false, after_mixer: true, before_ffn: false, after_ffn: true };
    s.layers.iter_mut().for_each(|l| l.norms = norms);
    Ok(s)
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
