//! Tencent's Hunyuan.

use crate::Result;
use crate::arch::{Arch, activation, row};
use crate::hparams::Hparams;
use crate::mixers::{NormScope, QkNorm};
use crate::moe::{Moe, Routing, Shared};
use crate::rope::Scaling;
use crate::spec::{Act, Ffn, Spec};

pub(super) const ARCHS: &[Arch] = &[
    Arch { names: NAMES, ..row("hunyuan-dense", &["HunYuanDenseV1ForCausalLM"], "Hunyuan (dense)", dense) },
    Arch { names: NAMES, ..row("hunyuan-moe", &["HunYuanMoEV1ForCausalLM"], "Hunyuan A13B", moe) },
];

const NAMES: &[(&str, &str)] = &[
    ("self_attn.query_layernorm", "attn_q_norm"),
    ("self_attn.key_layernorm", "attn_k_norm"),
    ("mlp.gate.wg", "ffn_gate_inp"),
    ("mlp.shared_mlp.gate_proj", "ffn_gate_shexp"),
    ("mlp.shared_mlp.up_proj", "ffn_up_shexp"),
    ("mlp.shared_mlp.down_proj", "ffn_down_shexp"),
];

/// Llama whose heads are normalised after they were rotated, by a base that a fixed factor has grown.
fn dense(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "hunyuan-dense")?;
    h.must_be("use_qk_norm", true)?;
    h.must_be("use_cla", false)?;
    h.must_be("use_rotary_pos_emb", true)?;
    if let Some(other) = h.opt_str("norm_type")?.filter(|n| n != "rms") {
        return Err(h.bad("norm_type", other, "rms"));
    }
    s.each_attn(|_, a| a.qk_norm = Some(QkNorm { scope: NormScope::Head, after_rope: true }));
    let rope = &mut s.ropes[0];
    if let (Scaling::Dynamic { .. }, Some(alpha)) = (&rope.scaling, h.opt_positive("rope.scaling.alpha")?) {
        let dim = rope.dim as f32;
        rope.theta *= alpha.powf(dim / (dim - 2.0).max(1.0));
        rope.scaling = Scaling::None;
    }
    // Published beside the factor and used by nothing.
    for key in ["yarn_beta_fast", "yarn_beta_slow", "mscale", "mscale_all_dim"] {
        h.opt_f32(&format!("rope.scaling.{key}"))?;
    }
    if let Some(factor) = h.opt_f32("rope.scaling.factor")?.filter(|&f| h.is_gguf() && f != 1.0) {
        return Err(h.bad("rope.scaling.factor", factor, 1));
    }
    Ok(s)
}

/// The same with experts.
fn moe(h: &Hparams) -> Result<Spec> {
    let mut s = Spec { arch: "hunyuan-moe", ..dense(h)? };
    h.must_be("use_mixed_mlp_moe", true)?;
    if let Some(skipped) = h.opt_count("moe_layer_num_skipped")?.filter(|&n| n > 0) {
        return Err(h.bad("moe_layer_num_skipped", skipped, 0));
    }
    let dim = h.dim("feed_forward_length")?;
    let said = |key: &str| if h.has(key) { h.same_dim(key) } else { Ok(dim) };
    for key in ["expert_feed_forward_length", "expert_shared_feed_forward_length"] {
        if said(key)? != dim {
            return Err(h.bad(key, said(key)?, format!("{dim}, as all widths")));
        }
    }
    let shared = if h.has("expert_shared_count") { h.same_dim("expert_shared_count")? } else { 1 };
    if shared != 1 {
        return Err(h.bad("expert_shared_count", shared, 1));
    }
    let moe = Moe {
        routing: Routing { normalise: true, ..Routing::SOFTMAX },
        shared: Some(Shared { dim, gate: false }),
        ..Moe::of(h, dim, activation(h, Act::Silu)?)?
    };
    s.layers.iter_mut().for_each(|l| l.ffn = Ffn::Moe(Box::new(moe.clone())));
    Ok(s)
}
