//! IBM's Granite: llama with four multipliers, with experts, and with Mamba-2 layers.

use crate::Result;
use crate::arch::{Arch, SHARED_HALVES, activation, kinds, layers_with_heads, row};
use crate::hparams::Hparams;
use crate::mixers::mamba2::GatedNorm;
use crate::mixers::{Mamba2, Mixer};
use crate::moe::{Moe, Routing, Score, Shared};
use crate::spec::{Act, Ffn, Spec};

pub(super) const ARCHS: &[Arch] = &[
    Arch { gguf_interleaved: true, ..row("granite", &["GraniteForCausalLM"], "Granite 3", granite) },
    Arch {
        gguf_interleaved: true,
        names: NAMES,
        to_gguf: SHARED_HALVES,
        ..row(
            "granitemoe",
            &["GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"],
            "Granite 3 MoE",
            granite_moe,
        )
    },
    Arch {
        gguf_interleaved: true,
        names: NAMES,
        to_gguf: SHARED_HALVES,
        ..row("granitehybrid", &["GraniteMoeHybridForCausalLM"], "Granite 4", granite_hybrid)
    },
];

const NAMES: &[(&str, &str)] = &[
    ("block_sparse_moe.router.layer", "ffn_gate_inp"),
    ("block_sparse_moe.input_linear", "ffn_gate_up_exps"),
    ("block_sparse_moe.output_linear", "ffn_down_exps"),
    ("shared_mlp.input_linear", "ffn_up_shexp"),
    ("shared_mlp.output_linear", "ffn_down_shexp"),
];

/// Llama with four multipliers (the attention one is read by [`Spec::llama`]).
fn granite(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "granite")?;
    s.embed_scale = h.opt_f32("embedding_scale")?.unwrap_or(1.0);
    s.logit_scale = 1.0 / h.opt_positive("logit_scale")?.unwrap_or(1.0);
    let residual = h.opt_f32("residual_scale")?.unwrap_or(1.0);
    s.layers.iter_mut().for_each(|l| l.residual_scale = residual);
    Ok(s)
}

/// Granite with experts, and perhaps a shared one.
fn granite_moe(h: &Hparams) -> Result<Spec> {
    let mut s = Spec { arch: "granitemoe", ..granite(h)? };
    let shared = shared_width(h)?;
    let ffn = Ffn::Moe(Box::new(mixture(h, shared)?));
    s.layers.iter_mut().for_each(|l| l.ffn = ffn.clone());
    Ok(s)
}

/// The shared expert's width, where there is one.
fn shared_width(h: &Hparams) -> Result<Option<usize>> {
    Ok(h.opt_count("expert_shared_feed_forward_length")?.filter(|&n| n > 0))
}

fn mixture(h: &Hparams, shared: Option<usize>) -> Result<Moe> {
    Ok(Moe {
        routing: Routing { score: Score::SoftmaxOfChosen, ..Routing::SOFTMAX },
        shared: shared.map(|dim| Shared { dim, gate: false }),
        ..Moe::of(h, h.dim("feed_forward_length")?, activation(h, Act::Silu)?)?
    })
}

/// Granite whose layers are Mamba-2 or attention, mostly without rotation, with experts or with the shared one alone.
fn granite_hybrid(h: &Hparams) -> Result<Spec> {
    let mut s = Spec { arch: "granitehybrid", ..granite(h)? };
    let shared = shared_width(h)?;
    let dense = h.opt_count("expert_count")?.unwrap_or(0) == 0;
    let ffn = match shared {
        _ if !dense => Ffn::Moe(Box::new(mixture(h, shared)?)),
        Some(dim) => Ffn::Glu { dim, act: activation(h, Act::Silu)? },
        None => Ffn::Glu { dim: h.dim("feed_forward_length")?, act: activation(h, Act::Silu)? },
    };
    if dense {
        h.opt_count("expert_used_count")?;
    }
    let rotated = match h.opt_str("position_embedding_type")?.as_deref() {
        None if h.is_gguf() => h.opt_bool("rope.scaling.finetuned")?.unwrap_or(false),
        None | Some("nope") => false,
        Some("rope") => true,
        Some(other) => return Err(h.bad("position_embedding_type", other, "rope or nope")),
    };
    s.each_attn(|_, a| a.rope = a.rope.filter(|_| rotated));
    let mamba = Mamba2 {
        dt_limit: h.opt_range("time_step_limit")?.unwrap_or((0.0, f32::INFINITY)),
        ..Mamba2::of(h, s.dim)?
    };
    let mamba = Mamba2 { gated_norm: GatedNorm::After { groups: mamba.n_groups, eps: s.norm.eps }, ..mamba };
    if let Some(other) = h.opt_str("normalization_function")?.filter(|n| n != "rmsnorm") {
        return Err(h.bad("normalization_function", other, "rmsnorm"));
    }
    let attends = attention_layers(h, s.layers.len())?;
    for (layer, attends) in s.layers.iter_mut().zip(attends) {
        layer.ffn = ffn.clone();
        if !attends {
            layer.mixers = vec![Mixer::Mamba2(mamba.clone())];
        }
    }
    Ok(s)
}

/// Which layers attend: config.json lists them by name, a GGUF by the number of their kv heads.
fn attention_layers(h: &Hparams, n: usize) -> Result<Vec<bool>> {
    if h.is_gguf() {
        return layers_with_heads(h, n);
    }
    let words =
        [("attention", true), ("full_attention", true), ("mamba", false), ("linear_attention", false)];
    let listed = kinds(h, n, &words)?;
    listed.ok_or_else(|| h.bad("layer_types", "nothing", format!("one for each of {n} layers")))
}
