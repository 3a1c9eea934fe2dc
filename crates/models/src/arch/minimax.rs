//! MiniMax-M2 and Baidu's ERNIE 4.5 with experts.

use crate::Result;
use crate::arch::{Arch, activation, kin, latent, row};
use crate::hparams::Hparams;
use crate::mixers::{NormScope, QkNorm};
use crate::moe::{Moe, Routing, Score, Shared};
use crate::spec::{Act, Ffn, Spec};

pub(super) const ARCHS: &[Arch] = &[
    Arch { names: MINIMAX, ..row("minimax-m2", &["MiniMaxM2ForCausalLM"], "MiniMax-M2", minimax) },
    Arch {
        names: ERNIE,
        // What predicts tokens after the next.
        aside: &["mtp_"],
        ..row(
            "ernie4_5-moe",
            &["Ernie4_5_MoeForCausalLM", "Ernie4_5_MoEForCausalLM"],
            "ERNIE 4.5 with experts",
            ernie,
        )
    },
];

const MINIMAX: &[(&str, &str)] = &[
    ("block_sparse_moe.gate", "ffn_gate_inp"),
    ("block_sparse_moe.e_score_correction_bias", "exp_probs_b.bias"),
    ("block_sparse_moe.experts.w1", "ffn_gate"),
    ("block_sparse_moe.experts.w2", "ffn_down"),
    ("block_sparse_moe.experts.w3", "ffn_up"),
];

const ERNIE: &[(&str, &str)] = &[("mlp.moe_statics.e_score_correction_bias", "exp_probs_b.bias")];

/// Llama with part of each head turned, rows of queries and keys normalised whole, and experts scored each by its own
/// sigmoid.
fn minimax(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "minimax-m2")?;
    h.must_be("use_qk_norm", true)?;
    h.must_be("use_routing_bias", true)?;
    h.must_be("expert_weights_norm", true)?;
    if let Some(other) = h.opt_str("qk_norm_type")?.filter(|v| v != "per_layer") {
        return Err(h.bad("qk_norm_type", other, "per_layer"));
    }
    if h.opt_counts("attn_type_list")?.is_some_and(|types| types.iter().any(|&t| t != 1)) {
        return Err(h.bad("attn_type_list", "another kind of layer", "1 for each layer: attention"));
    }
    if let Some(other) = h.opt_count("expert_shared_feed_forward_length")?.filter(|&n| n > 0) {
        return Err(h.bad("expert_shared_feed_forward_length", other, 0));
    }
    if latent::scored_by_sigmoid(h)? == Some(false) {
        return Err(h.bad("expert_gating_func", "softmax", "sigmoid"));
    }
    let dim = match h.opt_usize("expert_feed_forward_length")? {
        Some(_) => h.dim("expert_feed_forward_length")?,
        None => h.dim("feed_forward_length")?,
    };
    s.each_attn(|_, a| a.qk_norm = Some(QkNorm { scope: NormScope::Row, after_rope: false }));
    let routing = Routing { score: Score::Sigmoid, normalise: true, bias: true, ..Routing::SOFTMAX };
    let moe = Moe { routing, ..Moe::of(h, dim, activation(h, Act::Silu)?)? };
    s.layers.iter_mut().for_each(|l| l.ffn = Ffn::Moe(Box::new(moe.clone())));
    Ok(s)
}

/// ERNIE 4.5 with experts in some layers.
fn ernie(h: &Hparams) -> Result<Spec> {
    let mut s = Spec { arch: "ernie4_5-moe", ..kin::ernie(h)? };
    // The prediction of later tokens lies beside the layers here, not after them.
    h.opt_count("nextn_predict_layers")?;
    let dim = h.dim("expert_feed_forward_length")?;
    let shared = h.opt_count("expert_shared_count")?.unwrap_or(0).saturating_mul(dim).min(1 << 30);
    // llama.cpp's converter writes a width here that it does not use.
    h.opt_count("expert_shared_feed_forward_length")?;
    let moe = Moe {
        routing: Routing { normalise: true, bias: true, ..Routing::SOFTMAX },
        shared: Some(Shared { dim: shared, gate: false }).filter(|s| s.dim > 0),
        ..Moe::of(h, dim, activation(h, Act::Silu)?)?
    };
    let first = h.opt_count("leading_dense_block_count")?.unwrap_or(1);
    let step = h.opt_usize("interleave_moe_layer_step")?.unwrap_or(1);
    // -1 is the last.
    let last = h.opt_f32("moe_layer_end_index")?.filter(|&i| i >= 0.0).map_or(usize::MAX, |i| i as usize);
    for (i, layer) in s.layers.iter_mut().enumerate() {
        if i >= first && i <= last && (i + 1).is_multiple_of(step) {
            layer.ffn = Ffn::Moe(Box::new(moe.clone()));
        }
    }
    Ok(s)
}
