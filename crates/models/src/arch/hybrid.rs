//! Mamba-2 alone, in turns with attention, and beside it: Mamba-2, Bamba, Nemotron-H, Falcon-H1.

use crate::Result;
use crate::arch::{Arch, activation, attention, kinds, row};
use crate::convert::{Form, Rule};
use crate::hparams::Hparams;
use crate::mixers::mamba2::GatedNorm;
use crate::mixers::{Attn, Mamba2, Mixer};
use crate::moe::{Groups, Moe, Routing, Score, Shared};
use crate::rope_hparams::{partial_rope, rope};
use crate::spec::{Act, Ffn, FfnScales, Norms, Spec};

pub(super) const ARCHS: &[Arch] = &[
    Arch { names: BACKBONE, ..row("mamba2", &["Mamba2ForCausalLM"], "Mamba-2", mamba2) },
    Arch { names: BAMBA, ours: true, ..row("bamba", &["BambaForCausalLM"], "Bamba", bamba) },
    Arch {
        names: BAMBA,
        to_gguf: FALCON_H1,
        in_weights: Some(without_factors),
        ..row("falcon-h1", &["FalconH1ForCausalLM"], "Falcon-H1", falcon_h1)
    },
    Arch {
        names: BACKBONE,
        aside: &["mtp."],
        gguf_as: Some(with_experts),
        ..row("nemotron_h", &["NemotronHForCausalLM"], "Nemotron-H", nemotron_h)
    },
    // A GGUF has a name of its own for those with experts.
    Arch { names: BACKBONE, ..row("nemotron_h_moe", &[], "Nemotron-H", nemotron_h) },
];

/// What stands under `backbone.`, every layer with one norm and one `mixer`.
pub(super) const BACKBONE: &[(&str, &str)] = &[
    ("embeddings", "token_embd"),
    ("norm_f", "output_norm"),
    ("norm", "attn_norm"),
    ("mixer.in_proj", "ssm_in"),
    ("mixer.conv1d", "ssm_conv1d"),
    ("mixer.x_proj", "ssm_x"),
    ("mixer.dt_proj", "ssm_dt"),
    ("mixer.dt_bias", "ssm_dt.bias"),
    ("mixer.A_log", "ssm_a_log"),
    ("mixer.D", "ssm_d"),
    ("mixer.norm", "ssm_norm"),
    ("mixer.out_proj", "ssm_out"),
    ("mixer.q_proj", "attn_q"),
    ("mixer.k_proj", "attn_k"),
    ("mixer.v_proj", "attn_v"),
    ("mixer.o_proj", "attn_output"),
    ("mixer.up_proj", "ffn_up"),
    ("mixer.down_proj", "ffn_down"),
    ("mixer.gate", "ffn_gate_inp"),
    ("mixer.gate.e_score_correction_bias", "exp_probs_b.bias"),
    ("mixer.experts.up_proj", "ffn_up"),
    ("mixer.experts.down_proj", "ffn_down"),
    ("mixer.shared_experts.up_proj", "ffn_up_shexp"),
    ("mixer.shared_experts.down_proj", "ffn_down_shexp"),
];

/// A GGUF has every factor in its weights, and leaves a suffix out.
const FALCON_H1: &[Rule] = &[
    ("ffn_norm.weight", &[("ffn_norm", &[])]),
    (
        "token_embd.weight",
        &[
            ("token_embd.weight", &[Form::Times(&["embedding_multiplier"])]),
            ("output.weight", &[Form::WhereTied, Form::Times(&["lm_head_multiplier"])]),
        ],
    ),
    ("output.weight", &[("output.weight", &[Form::Times(&["lm_head_multiplier"])])]),
    ("attn_q.weight", &[("attn_q.weight", &[Form::Times(&["attention_in_multiplier"])])]),
    ("attn_k.weight", &[("attn_k.weight", &[Form::Times(&["attention_in_multiplier", "key_multiplier"])])]),
    ("attn_k.bias", &[("attn_k.bias", &[Form::Times(&["key_multiplier"])])]),
    ("attn_v.weight", &[("attn_v.weight", &[Form::Times(&["attention_in_multiplier"])])]),
    ("attn_output.weight", &[("attn_output.weight", &[Form::Times(&["attention_out_multiplier"])])]),
    ("attn_output.bias", &[("attn_output.bias", &[Form::Times(&["attention_out_multiplier"])])]),
    ("ssm_in.weight", &[("ssm_in.weight", &[Form::TimesParts])]),
    ("ssm_out.weight", &[("ssm_out.weight", &[Form::Times(&["ssm_out_multiplier"])])]),
    ("ssm_out.bias", &[("ssm_out.bias", &[Form::Times(&["ssm_out_multiplier"])])]),
    ("ffn_gate.weight", &[("ffn_gate.weight", &[Form::Times(&["mlp_multipliers.0"])])]),
    ("ffn_gate.bias", &[("ffn_gate.bias", &[Form::Times(&["mlp_multipliers.0"])])]),
    ("ffn_down.weight", &[("ffn_down.weight", &[Form::Times(&["mlp_multipliers.1"])])]),
    ("ffn_down.bias", &[("ffn_down.bias", &[Form::Times(&["mlp_multipliers.1"])])]),
];

/// A GGUF takes the norm after the gate for granted where it has one.
fn without_factors(s: &mut Spec) {
    (s.embed_scale, s.logit_scale) = (1.0, 1.0);
    s.each_attn(|_, a| (a.scale, a.out_scale) = (1.0, 1.0));
    for layer in &mut s.layers {
        layer.ffn_scales = FfnScales::ONE;
        for mixer in &mut layer.mixers {
            if let Mixer::Mamba2(mamba) = mixer {
                (mamba.in_scales, mamba.out_scale) = ([1.0; 5], 1.0);
                if !matches!(mamba.gated_norm, GatedNorm::Before { .. }) {
                    mamba.gated_norm = GatedNorm::None;
                }
            }
        }
    }
}

const BAMBA: &[(&str, &str)] = &[
    ("final_layernorm", "output_norm"),
    ("pre_ff_layernorm", "ffn_norm"),
    ("feed_forward.gate_proj", "ffn_gate"),
    ("feed_forward.up_proj", "ffn_up"),
    ("feed_forward.down_proj", "ffn_down"),
];

/// Mamba-2 under a norm after the gate, by groups.
fn mixer(h: &Hparams, s: &Spec) -> Result<Mamba2> {
    let mamba = Mamba2::of(h, s.dim)?;
    Ok(Mamba2 {
        gated_norm: GatedNorm::After { groups: mamba.n_groups, eps: s.norm.eps },
        dt_limit: h.opt_range("time_step_limit")?.unwrap_or((0.0, f32::INFINITY)),
        ..mamba
    })
}

/// Nothing but Mamba-2. The context is not bounded; a GGUF states this one.
fn mamba2(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::stem(h, "mamba2", h.layers()?, h.opt_usize("context_length")?.unwrap_or(1 << 20))?;
    h.shown_by_tensors(&["mamba.step_rank", "feed_forward_length", "attention.head_count"]);
    check_silu(h, "hidden_act")?;
    if h.opt_bool("rms_norm")? == Some(false) {
        return Err(h.bad("rms_norm", false, "true: no published model is without"));
    }
    let mamba = mixer(h, &s)?;
    if h.opt_usize("attention.key_length")?.is_some_and(|n| n != mamba.head_dim) {
        return Err(h.bad("attention.key_length", "another width", format!("the heads' {}", mamba.head_dim)));
    }
    for layer in &mut s.layers {
        layer.mixers = vec![Mixer::Mamba2(mamba.clone())];
        layer.norms = ONE_NORM;
    }
    Ok(s)
}

/// Layers with a mixer and without a feed-forward.
pub(super) const ONE_NORM: Norms = Norms { before_ffn: false, ..Norms::PRE };

pub(super) fn check_silu(h: &Hparams, key: &str) -> Result<()> {
    match h.opt_str(key)?.as_deref() {
        None | Some("silu" | "swish") => Ok(()),
        Some(other) => Err(h.bad(key, other, "silu")),
    }
}

/// Mamba-2, and attention of which half a head is rotated.
fn bamba(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama_with(h, "bamba", |h, width| partial_rope(h, width, 0.5))?;
    let mamba = mixer(h, &s)?;
    let n = s.layers.len();
    let indices = h.opt_counts("full_attn_idxs")?.unwrap_or_default();
    let words =
        [("attention", true), ("full_attention", true), ("mamba", false), ("linear_attention", false)];
    let listed = kinds(h, n, &words)?;
    for (i, layer) in s.layers.iter_mut().enumerate() {
        if !listed.as_ref().map_or(indices.contains(&i), |l| l[i]) {
            layer.mixers = vec![Mixer::Mamba2(mamba.clone())];
        }
    }
    Ok(s)
}

/// Attention and Mamba-2 side by side in every layer, and factors everywhere. A GGUF has the factors in its weights.
fn falcon_h1(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama_with(h, "falcon-h1", rope)?;
    h.shown_by_tensors(&["conv_bias", "full_attn_idxs"]);
    let one = |key: &str| Ok::<_, crate::Error>(h.opt_f32(key)?.unwrap_or(1.0));
    let list = |key: &str, n: usize| match h.opt_f32s(key)? {
        None => Ok(vec![1.0; n]),
        Some(list) if list.len() == n => Ok(list),
        Some(list) => Err(h.bad(key, format!("{} numbers", list.len()), n)),
    };
    s.embed_scale = one("embedding_scale")?;
    s.logit_scale = one("lm_head_multiplier")?;
    let (into, out, key) =
        (one("attention_in_multiplier")?, one("attention_out_multiplier")?, one("key_multiplier")?);
    if into != 1.0 && h.opt_bool("attention_bias")? == Some(true) {
        return Err(h.bad("attention_bias", true, "false where attention_in_multiplier is not 1"));
    }
    // Queries and keys are linear in what they read, and so is the rotation.
    s.each_attn(|_, a| (a.scale, a.out_scale) = (a.scale * into * into * key, into * out));
    let mlp = list("mlp_multipliers", 2)?;
    let parts = list("ssm_multipliers", 5)?;
    let ssm_in = one("ssm_in_multiplier")?;
    if ssm_in != 1.0 && h.opt_bool("mamba_proj_bias")? == Some(true) {
        return Err(h.bad("mamba_proj_bias", true, "false where ssm_in_multiplier is not 1"));
    }
    let mamba = mixer(h, &s)?;
    let mamba = Mamba2 {
        in_scales: std::array::from_fn(|i| parts[i] * ssm_in),
        out_scale: one("ssm_out_multiplier")?,
        gated_norm: falcon_norm(h, mamba.n_groups, s.norm.eps)?,
        ..mamba
    };
    for layer in &mut s.layers {
        layer.mixers.insert(0, Mixer::Mamba2(mamba.clone()));
        layer.ffn_scales = FfnScales { gate: mlp[0], down: mlp[1], ..FfnScales::ONE };
    }
    Ok(s)
}

fn falcon_norm(h: &Hparams, groups: usize, eps: f32) -> Result<GatedNorm> {
    let before = h.opt_bool("mamba_norm_before_gate")?.unwrap_or(true);
    Ok(match h.opt_bool("mamba_rms_norm")? {
        _ if h.is_gguf() => GatedNorm::IfBrought { groups, eps },
        Some(true) if before => GatedNorm::Before { groups, eps },
        Some(true) => GatedNorm::After { groups, eps },
        Some(false) | None => GatedNorm::None,
    })
}

/// A GGUF has a name of its own for those with experts.
fn with_experts(s: &Spec) -> &'static str {
    let sparse = s.layers.iter().any(|l| matches!(l.ffn, Ffn::Moe(_)));
    if sparse { "nemotron_h_moe" } else { "nemotron_h" }
}

/// What a layer of Nemotron-H is.
#[derive(Clone, Copy, PartialEq)]
enum Half {
    Mamba,
    Attention,
    Mlp,
    Experts,
}

/// Each layer is one half: Mamba-2, attention without rotation, or a feed-forward.
fn nemotron_h(h: &Hparams) -> Result<Spec> {
    let halves = halves(h)?;
    let mut s = Spec::stem(h, "nemotron_h", halves.len(), h.usize("context_length")?)?;
    h.shown_by_tensors(&["attention_bias", "mlp_bias", "attention.layer_norm_epsilon"]);
    s.unused_layers = if h.is_gguf() { h.opt_count("nextn_predict_layers")?.unwrap_or(0) } else { 0 };
    h.shown_by_tensors(&["nextn_predict_layers"]);
    // Said in the files, and not used by the model.
    h.shown_by_tensors(&["rope.freq_base", "rope.partial", "rope.dimension_count", "rope.scaling.finetuned"]);
    check_silu(h, "mamba_hidden_act")?;
    if let Some(size) = h.opt_usize("moe_latent_size")? {
        return Err(h.bad("moe_latent_size", size, "none: experts in a narrower stream are not built yet"));
    }
    if let Some(window) = h.opt_usize("attention.sliding_window")? {
        return Err(h.bad("attention.sliding_window", window, "none: no published model has one"));
    }
    let attn = Attn { rope: None, ..attention(h, s.dim)? };
    // transformers holds steps above `time_step_min`; the published code does not, and is followed.
    let mamba = mixer(h, &s)?;
    let act = activation(h, Act::Relu2)?;
    let width = h.opt_most("feed_forward_length")?;
    let moe = if halves.contains(&Half::Experts) { Some(nemotron_experts(h, act)?) } else { None };
    if moe.is_none() {
        // transformers 5 writes its defaults for experts that are not there.
        h.shown_by_tensors(EXPERTS);
    }
    for (layer, half) in s.layers.iter_mut().zip(&halves) {
        layer.norms = ONE_NORM;
        match half {
            Half::Mamba => layer.mixers = vec![Mixer::Mamba2(mamba.clone())],
            Half::Attention => layer.mixers = vec![Mixer::Attn(attn.clone())],
            Half::Mlp | Half::Experts => layer.norms = Norms { before_mixer: false, ..Norms::PRE },
        }
        layer.ffn = match (half, &moe) {
            (Half::Mlp, _) => Ffn::Mlp { dim: width.ok_or_else(|| no_width(h))?, act },
            (Half::Experts, Some(moe)) => Ffn::Moe(Box::new(moe.clone())),
            _ => Ffn::None,
        };
    }
    Ok(s)
}

const EXPERTS: &[&str] = &[
    "expert_count",
    "expert_used_count",
    "expert_feed_forward_length",
    "expert_shared_feed_forward_length",
    "expert_shared_count",
    "expert_group_count",
    "expert_group_used_count",
    "expert_weights_norm",
    "expert_weights_scale",
];

fn no_width(h: &Hparams) -> crate::Error {
    h.bad("feed_forward_length", "nothing", "a whole number of at least 1")
}

/// A pattern of signs, a list of words, or (in a GGUF) widths and heads for each layer.
fn halves(h: &Hparams) -> Result<Vec<Half>> {
    if h.is_gguf() {
        let n = h.layers()?;
        let (heads, widths) = (h.counts("attention.head_count_kv", n)?, h.counts("feed_forward_length", n)?);
        let experts = h.opt_count("expert_count")?.is_some_and(|n| n > 0);
        let half = |(heads, width): (usize, usize)| match (heads, width) {
            (_, 1..) if experts => Half::Experts,
            (_, 1..) => Half::Mlp,
            (1.., 0) => Half::Attention,
            (0, 0) => Half::Mamba,
        };
        let unused = h.opt_count("nextn_predict_layers")?.unwrap_or(0);
        return Ok(heads.into_iter().zip(widths).map(half).take(n.saturating_sub(unused)).collect());
    }
    let n = h.opt_usize("block_count")?;
    if let Some(pattern) = h.opt_str("hybrid_override_pattern")? {
        let half = |sign: char| match sign {
            'M' => Ok(Half::Mamba),
            '*' => Ok(Half::Attention),
            '-' => Ok(Half::Mlp),
            'E' => Ok(Half::Experts),
            other => Err(h.bad("hybrid_override_pattern", other, "M, *, - or E")),
        };
        let halves: Vec<Half> = pattern.chars().map(half).collect::<Result<_>>()?;
        if n.is_some_and(|n| n != halves.len()) || halves.len() > 10_000 {
            return Err(h.bad(
                "hybrid_override_pattern",
                format!("{} signs", halves.len()),
                "one for each layer",
            ));
        }
        return Ok(halves);
    }
    let words = [
        ("mamba", Half::Mamba),
        ("linear_attention", Half::Mamba),
        ("attention", Half::Attention),
        ("full_attention", Half::Attention),
        ("mlp", Half::Mlp),
        ("moe", Half::Experts),
    ];
    let n = n.or(h.opt_strs("layer_types")?.map(|l| l.len())).unwrap_or(0);
    kinds(h, n, &words)?.ok_or_else(|| h.bad("hybrid_override_pattern", "nothing", "what each layer is"))
}

/// Experts without gates, chosen by sigmoids and a bias, and one for all.
fn nemotron_experts(h: &Hparams, act: Act) -> Result<Moe> {
    let groups = h.opt_usize("expert_group_count")?.unwrap_or(1);
    let top = h.opt_usize("expert_group_used_count")?.unwrap_or(groups.min(1));
    let routing = Routing {
        score: Score::Sigmoid,
        normalise: h.opt_bool("expert_weights_norm")?.unwrap_or(true),
        scale: h.opt_f32("expert_weights_scale")?.unwrap_or(1.0),
        bias: true,
        groups: (groups > 1).then_some(Groups { count: groups, top, by_two: true }),
        ..Routing::SOFTMAX
    };
    h.opt_count("expert_shared_count")?;
    let shared = Shared { dim: h.dim("expert_shared_feed_forward_length")?, gate: false };
    let moe = Moe::of(h, h.dim("expert_feed_forward_length")?, act)?;
    if !moe.n_experts.is_multiple_of(groups) || top > groups {
        return Err(h.bad("expert_group_count", groups, format!("a divisor of {} experts", moe.n_experts)));
    }
    Ok(Moe { routing, gated: false, shared: Some(shared), ..moe })
}
