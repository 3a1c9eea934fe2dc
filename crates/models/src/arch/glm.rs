//! Zhipu's GLM.

use crate::Result;
use crate::arch::{AFTER_ATTENTION, Arch, activation, interleave, latent, llama, row};
use crate::hparams::Hparams;
use crate::moe::{Moe, Routing, Score, Shared};
use crate::spec::{Act, Ffn, Norms, Spec};

pub(super) const ARCHS: &[Arch] = &[
    row("chatglm", &["GlmForCausalLM"], "GLM-4 (9B, 2024)", glm),
    Arch { names: GLM4, ..row("glm4", &["Glm4ForCausalLM"], "GLM-4 (0414)", glm4) },
    Arch {
        gguf_names: AFTER_ATTENTION,
        ..row("glm4moe", &["Glm4MoeForCausalLM"], "GLM-4.5 to 4.7", glm4moe)
    },
    row("dots1", &["Dots1ForCausalLM"], "dots.llm1", dots1),
];

const GLM4: &[(&str, &str)] =
    &[("post_self_attn_layernorm", "post_attention_norm"), ("post_mlp_layernorm", "post_ffw_norm")];

/// Llama, of whose heads neighbouring numbers turn, in one half.
fn glm(h: &Hparams) -> Result<Spec> {
    let mut s = half_turned(h, "chatglm")?;
    interleave(&mut s.ropes);
    Ok(s)
}

/// Llama with half of each head turned unless the file says otherwise.
fn half_turned(h: &Hparams, arch: &'static str) -> Result<Spec> {
    let mut s = Spec::llama(h, arch)?;
    let said = h.opt_positive("rope.partial")?.is_some() || h.opt_usize("rope.dimension_count")?.is_some();
    let half = s.ropes[0].dim / 2;
    if !said && half > 0 && half % 2 == 0 {
        s.ropes[0].dim = half;
    }
    Ok(s)
}

/// GLM with norms after both halves too.
fn glm4(h: &Hparams) -> Result<Spec> {
    let mut s = Spec { arch: "glm4", ..glm(h)? };
    s.layers.iter_mut().for_each(|l| l.norms = Norms::BOTH);
    Ok(s)
}

/// Llama with half of each head turned, perhaps normalised heads, and experts after the first layers
/// (arXiv:2508.06471). Layers beyond the last predict further tokens and are left aside.
fn glm4moe(h: &Hparams) -> Result<Spec> {
    let mut s = half_turned(h, "glm4moe")?;
    let beyond = h.opt_count("nextn_predict_layers")?.unwrap_or(0);
    if h.is_gguf() && beyond > 0 {
        // A GGUF counts them.
        let kept = s.layers.len().checked_sub(beyond).filter(|&n| n > 0);
        let kept = kept.ok_or_else(|| h.bad("nextn_predict_layers", beyond, "fewer than the layers"))?;
        s.layers.truncate(kept);
    }
    s.unused_layers = beyond;
    // A GGUF has the norms' tensors or not (GLM-4.5-Air does without), and says nothing.
    let normed = if h.is_gguf() {
        h.has_tensor("blk.0.attn_q_norm.weight")
    } else {
        h.opt_bool("use_qk_norm")?.unwrap_or(false)
    };
    s.each_attn(|_, a| a.qk_norm = llama::QK_NORM.filter(|_| normed));
    sigmoid_experts(h, &mut s)?;
    Ok(s)
}

/// Qwen 3 with experts as GLM-4.5 has them.
fn dots1(h: &Hparams) -> Result<Spec> {
    let mut s = Spec { arch: "dots1", ..llama::qwen3(h)? };
    sigmoid_experts(h, &mut s)?;
    Ok(s)
}

/// Experts after the first layers, each scored by its own sigmoid, and some for all tokens.
pub(super) fn sigmoid_experts(h: &Hparams, s: &mut Spec) -> Result<()> {
    let dim = h.dim("expert_feed_forward_length")?;
    let shared = h.opt_count("expert_shared_count")?.unwrap_or(0);
    if latent::scored_by_sigmoid(h)? == Some(false) {
        return Err(h.bad("expert_gating_func", "softmax", "sigmoid"));
    }
    let moe = Moe::of(h, dim, activation(h, Act::Silu)?)?;
    let routing = Routing {
        score: Score::Sigmoid,
        normalise: h.opt_bool("expert_weights_norm")?.unwrap_or(true),
        scale: h.opt_positive("expert_weights_scale")?.unwrap_or(1.0),
        bias: true,
        groups: latent::groups(h, &moe, true)?,
        ..Routing::SOFTMAX
    };
    let shared = Some(shared.saturating_mul(dim).min(1 << 30)).filter(|&n| n > 0);
    let moe = Moe { routing, shared: shared.map(|dim| Shared { dim, gate: false }), ..moe };
    let dense = h.opt_count("leading_dense_block_count")?.unwrap_or(0);
    s.layers.iter_mut().skip(dense).for_each(|l| l.ffn = Ffn::Moe(Box::new(moe.clone())));
    Ok(())
}
