//! The first Mamba: alone (Mamba, FalconMamba), and in turns with attention and experts (Jamba).

use crate::Result;
use crate::arch::hybrid::{BACKBONE, ONE_NORM, check_silu};
use crate::arch::{Arch, activation, attention, layers_with_heads, row};
use crate::hparams::Hparams;
use crate::mixers::mamba::StepNorms;
use crate::mixers::{Attn, Mamba, Mixer};
use crate::moe::Moe;
use crate::spec::{Act, Ffn, Spec};

pub(super) const ARCHS: &[Arch] = &[
    Arch { names: BACKBONE, ..row("mamba", &["MambaForCausalLM"], "Mamba", mamba) },
    // A GGUF of it is of the architecture `mamba`.
    Arch {
        names: BACKBONE,
        gguf_as: Some(|_| "mamba"),
        ..row("falcon-mamba", &["FalconMambaForCausalLM"], "FalconMamba", falcon_mamba)
    },
    Arch { names: JAMBA, ..row("jamba", &["JambaForCausalLM"], "Jamba", jamba) },
];

const JAMBA: &[(&str, &str)] = &[
    ("final_layernorm", "output_norm"),
    ("pre_ff_layernorm", "ffn_norm"),
    ("mamba.x_proj", "ssm_x"),
    ("mamba.dt_proj", "ssm_dt"),
    ("mamba.dt_layernorm", "ssm_dt_norm"),
    ("mamba.b_layernorm", "ssm_b_norm"),
    ("mamba.c_layernorm", "ssm_c_norm"),
    ("feed_forward.gate_proj", "ffn_gate"),
    ("feed_forward.up_proj", "ffn_up"),
    ("feed_forward.down_proj", "ffn_down"),
    ("feed_forward.router", "ffn_gate_inp"),
    ("feed_forward.experts.gate_proj", "ffn_gate"),
    ("feed_forward.experts.up_proj", "ffn_up"),
    ("feed_forward.experts.down_proj", "ffn_down"),
];

/// Nothing but Mamba. The context is not bounded; a GGUF states this one.
fn mamba(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::stem(h, "mamba", h.layers()?, h.opt_usize("context_length")?.unwrap_or(1 << 20))?;
    h.shown_by_tensors(&["attention.head_count"]);
    if !h.is_gguf() {
        s.tied = Some(h.opt_bool("tie_word_embeddings")?.unwrap_or(true));
    }
    check_silu(h, "hidden_act")?;
    if h.opt_bool("rms_norm")? == Some(false) {
        return Err(h.bad("rms_norm", false, "true: no published model is without"));
    }
    let mut mamba = Mamba::of(h, s.dim)?;
    let stated = h.opt_count("feed_forward_length")?.filter(|&n| n > 0);
    if stated.is_some_and(|n| n != mamba.inner) {
        return Err(h.bad("feed_forward_length", stated.unwrap_or(0), mamba.inner));
    }
    if h.opt_bool("ssm.dt_b_c_rms")? == Some(true) {
        mamba.norms = Some(StepNorms { eps: s.norm.eps, weights: false });
    }
    for layer in &mut s.layers {
        layer.mixers = vec![Mixer::Mamba(mamba.clone())];
        layer.norms = ONE_NORM;
    }
    Ok(s)
}

/// Mamba with norms, without weights, of what makes steps, B and C.
fn falcon_mamba(h: &Hparams) -> Result<Spec> {
    let mut s = Spec { arch: "falcon-mamba", ..mamba(h)? };
    let eps = h.opt_positive("mixer_rms_eps")?.unwrap_or(1e-6);
    for mixer in s.layers.iter_mut().flat_map(|l| &mut l.mixers) {
        if let Mixer::Mamba(mamba) = mixer {
            mamba.norms = Some(StepNorms { eps, weights: false });
        }
    }
    Ok(s)
}

/// Mamba with norms of its own, in some layers attention without rotation instead, in some experts.
fn jamba(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::stem(h, "jamba", h.layers()?, h.usize("context_length")?)?;
    if h.opt_bool("mamba_inner_layernorms")? == Some(false) {
        return Err(h.bad("mamba_inner_layernorms", false, "true: no published model is without"));
    }
    if let Some(window) = h.opt_usize("attention.sliding_window")? {
        return Err(h.bad("attention.sliding_window", window, "none: no published model has one"));
    }
    let attn = Attn { rope: None, ..attention(h, s.dim)? };
    let mamba = Mamba { norms: Some(StepNorms { eps: s.norm.eps, weights: true }), ..Mamba::of(h, s.dim)? };
    let n = s.layers.len();
    let every = |period: &str, offset: &str, usual: (usize, usize)| {
        let period = h.opt_usize(period)?.unwrap_or(usual.0);
        let offset = h.opt_count(offset)?.unwrap_or(usual.1);
        Ok::<_, crate::Error>((0..n).map(|i| i % period == offset).collect::<Vec<_>>())
    };
    let attends = match h.is_gguf() {
        true => layers_with_heads(h, n)?,
        false => every("attn_layer_period", "attn_layer_offset", (8, 4))?,
    };
    // A GGUF does not say which layers have experts; in all published models it is every second.
    let sparse = every("expert_layer_period", "expert_layer_offset", (2, 1))?;
    let (dim, act) = (h.dim("feed_forward_length")?, activation(h, Act::Silu)?);
    let moe = match h.opt_count("expert_count")? {
        Some(2..) => Some(Moe::of(h, dim, act)?),
        _ => h.opt_count("expert_used_count")?.and(None),
    };
    for (i, layer) in s.layers.iter_mut().enumerate() {
        let mixer = if attends[i] { Mixer::Attn(attn.clone()) } else { Mixer::Mamba(mamba.clone()) };
        layer.mixers = vec![mixer];
        layer.ffn = match &moe {
            Some(moe) if sparse[i] => Ffn::Moe(Box::new(moe.clone())),
            _ => Ffn::Glu { dim, act },
        };
    }
    Ok(s)
}
