//! Microsoft's Phi before and beside Phi-3.

use crate::Result;
use crate::arch::gpt::{NAMES, Usual, gpt};
use crate::arch::{Arch, activation, llama, row};
use crate::hparams::Hparams;
use crate::mixers::{NormScope, QkNorm};
use crate::moe::{Moe, Routing, Score};
use crate::spec::{Act, Ffn, NormKind, Spec};

pub(super) const ARCHS: &[Arch] = &[
    Arch { names: NAMES, ..row("phi2", &["PhiForCausalLM"], "Phi-1 and 2", phi) },
    Arch { names: MOE, ..row("phimoe", &["PhiMoEForCausalLM", "PhimoeForCausalLM"], "Phi-3.5 MoE", phimoe) },
];

const MOE: &[(&str, &str)] = &[
    ("block_sparse_moe.gate", "ffn_gate_inp"),
    ("block_sparse_moe.experts.w1", "ffn_gate"),
    ("block_sparse_moe.experts.w2", "ffn_down"),
    ("block_sparse_moe.experts.w3", "ffn_up"),
];

/// A part of each head rotated, the branches side by side behind one norm, biases everywhere.
fn phi(h: &Hparams) -> Result<Spec> {
    let mut s = gpt(h, "phi2", Usual { act: Act::GeluTanh, rotated: Some(0.5), tied: false })?;
    s.in_parallel(1);
    let normed = h.opt_bool("qk_layernorm")?.unwrap_or(false);
    let norm = normed.then_some(QkNorm { scope: NormScope::Head, after_rope: false });
    s.each_attn(|_, a| a.qk_norm = norm);
    Ok(s)
}

/// Phi-3 with LayerNorm and two experts, the second chosen as if the first were not there.
fn phimoe(h: &Hparams) -> Result<Spec> {
    let mut s = Spec { arch: "phimoe", ..llama::mistral(h)? };
    s.norm.kind = NormKind::Layer;
    // No GGUF says it; this is the published model's.
    let jitter = h.opt_positive("router_jitter_noise")?.unwrap_or(0.01);
    let routing = Routing { score: Score::SparseMixer { jitter }, ..Routing::SOFTMAX };
    let moe = Moe { routing, ..Moe::of(h, h.dim("feed_forward_length")?, activation(h, Act::Silu)?)? };
    if moe.top_k != 2 {
        return Err(h.bad("expert_used_count", moe.top_k, 2));
    }
    s.layers.iter_mut().for_each(|l| l.ffn = Ffn::Moe(Box::new(moe.clone())));
    Ok(s)
}
