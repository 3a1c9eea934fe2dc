//! Gemma 3n and Gemma 4: Google's models whose layers get vectors of their own, and of which the last share keys and values.

use crate::Result;
use crate::altup::AltUp;
use crate::arch::{Arch, activation, attention, llama, row, windowed_by_period};
use crate::hparams::Hparams;
use crate::mixers::{Attn, Mixer};
use crate::moe::{Moe, Routing, Shared};
use crate::per_layer::LayerInputs;
use crate::rope::{Rope, Scaling};
use crate::rope_hparams::rope;
use crate::spec::{Act, Ffn, FfnScales, Norms, Spec};

pub(super) const ARCHS: &[Arch] = &[
    Arch {
        names: NAMES,
        aside: OTHER_SENSES,
        unwritten: true,
        ..row(
            "gemma3n",
            &["Gemma3nForCausalLM", "Gemma3nForConditionalGeneration"],
            "Gemma 3n (text)",
            gemma3n,
        )
    },
    Arch {
        names: NAMES,
        aside: OTHER_SENSES,
        unwritten: true,
        ..row("gemma4", GEMMA4, "Gemma 4 (text)", gemma4)
    },
];

const GEMMA4: &[&str] = &[
    "Gemma4ForCausalLM",
    "Gemma4ForConditionalGeneration",
    "Gemma4UnifiedForCausalLM",
    "Gemma4UnifiedForConditionalGeneration",
];

const OTHER_SENSES: &[&str] =
    &["vision_tower.", "audio_tower.", "embed_vision.", "embed_audio.", "vision_embedder."];

const NAMES: &[(&str, &str)] = &[
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
    ("embed_tokens_per_layer", "per_layer_token_embd"),
    ("per_layer_model_projection", "per_layer_model_proj"),
    ("per_layer_projection_norm", "per_layer_proj_norm"),
    ("per_layer_input_gate", "inp_gate"),
    ("per_layer_projection", "proj"),
    ("post_per_layer_input_norm", "post_norm"),
    ("altup_projections", "altup_proj"),
    ("altup_unembed_projections", "altup_unembd_proj"),
    ("altup.correction_coefs", "altup_correct_coef"),
    ("altup.correct_output_scale", "altup_correct_scale.weight"),
    ("altup.prediction_coefs", "altup_predict_coef"),
    ("altup.modality_router", "altup_router"),
    ("altup.router_norm", "altup_router_norm"),
    ("laurel.linear_left", "laurel_l"),
    ("laurel.linear_right", "laurel_r"),
    ("laurel.post_laurel_norm", "laurel_post_norm"),
    ("layer_scalar", "layer_output_scale.weight"),
    ("router.proj", "ffn_gate_inp"),
    ("router.scale", "ffn_gate_inp.scale"),
    ("router.per_expert_scale", "ffn_down_exps.scale"),
    ("experts.gate_up_proj", "ffn_gate_up_exps.weight"),
    ("experts.down_proj", "ffn_down_exps.weight"),
    ("pre_feedforward_layernorm_2", "pre_ffw_norm_2"),
    ("post_feedforward_layernorm_1", "post_ffw_norm_1"),
    ("post_feedforward_layernorm_2", "post_ffw_norm_2"),
];

/// Gemma 3 in four streams, with a narrow branch beside attention, few gates open in the first layers, and scores that are not
/// scaled.
fn gemma3n(h: &Hparams) -> Result<Spec> {
    let attn = Attn {
        scale: 1.0,
        qk_norm: llama::QK_NORM,
        v_norm: true,
        ..attention(h, h.dim("embedding_length")?)?
    };
    h.opt_positive("query_pre_attn_scalar")?;
    let mut s = stem(h, "gemma3n", 5, rope(h, attn.head_dim)?, |_| Ok(attn.clone()))?;
    s.logit_softcap = s.logit_softcap.or(Some(30.0));
    let (n, act) = (s.layers.len(), activation(h, Act::GeluTanh)?);
    let (widths, cutoffs) = (h.dims("feed_forward_length", n)?, cutoffs(h, n)?);
    let rank = match h.rows_of("blk.0.laurel_l.weight") {
        Some(rows) if h.is_gguf() => rows,
        _ => h.dim("laurel_rank")?,
    };
    for (i, layer) in s.layers.iter_mut().enumerate() {
        layer.laurel = Some(rank);
        layer.ffn = Ffn::Glu { dim: widths[i], act };
        layer.ffn_scales = FfnScales { cutoff: cutoffs[i], ..FfnScales::ONE };
    }
    let streams = h.usize("altup.num_inputs")?;
    let active = h.opt_count("altup.active_idx")?.unwrap_or(0);
    if !(2..=4).contains(&streams) || active >= streams {
        return Err(h.bad("altup.num_inputs", format!("{streams}, of which {active} is active"), "2 to 4"));
    }
    let scaled = h.opt_bool("altup_correct_scale")?.unwrap_or(true);
    s.altup = Some(AltUp { streams, active, scaled });
    Ok(s)
}

/// Gemma 3n in one stream, whose layers that see everything have wider heads of which a part turns; perhaps values that are the
/// keys, and experts beside the feed-forward.
fn gemma4(h: &Hparams) -> Result<Spec> {
    if let Some(other) = h.opt_str("use_bidirectional_attention")?.filter(|w| w != "vision") {
        return Err(h.bad(
            "use_bidirectional_attention",
            other,
            "vision: only causal attention is built for text",
        ));
    }
    let (attn, act) = (attention(h, h.dim("embedding_length")?)?, activation(h, Act::GeluTanh)?);
    let heads = Heads::read(h, &attn)?;
    let mut s = stem(h, "gemma4", 6, heads.rope(h)?, |windowed| heads.of(h, &attn, windowed))?;
    let (n, double) = (s.layers.len(), h.opt_bool("use_double_wide_mlp")?.unwrap_or(false));
    let widths = h.dims("feed_forward_length", n)?;
    let experts = experts(h, act)?;
    for (i, layer) in s.layers.iter_mut().enumerate() {
        let Some(Mixer::Attn(a)) = layer.mixers.first_mut() else { continue };
        let tensor = |name: &str| h.has_tensor(&format!("blk.{i}.{name}.weight"));
        let shown = h.is_gguf() && !tensor("attn_v") && !tensor("attn_qkv");
        a.values_of_keys = a.shares.is_none() && (shown || heads.values_of_keys && a.window.is_none());
        let dim = if double && a.shares.is_some() { 2 * widths[i] } else { widths[i] };
        layer.ffn = match &experts {
            Some(moe) => Ffn::Moe(Box::new(Moe { shared: Some(Shared { dim, gate: false }), ..moe.clone() })),
            None => Ffn::Glu { dim, act },
        };
    }
    Ok(s)
}

/// What both share: every layer but each `period`th has the window and the second rope, and the last layers take keys and values
/// of the last one of their kind before them. `attn` is told whether the layer has the window.
fn stem(
    h: &Hparams,
    arch: &'static str,
    period: usize,
    full: Rope,
    attn: impl Fn(bool) -> Result<Attn>,
) -> Result<Spec> {
    let mut s = Spec::stem(h, arch, h.layers()?, h.usize("context_length")?)?.tied_unless_said(h, true)?;
    h.shown_by_tensors(&["attention_bias"]);
    s.embed_scale = (s.dim as f32).sqrt();
    s.logit_softcap = h.opt_positive("final_logit_softcapping")?;
    s.inputs = inputs(h, s.vocab)?;
    let n = s.layers.len();
    let windowed = windowed_by_period(h, n, period)?;
    let (window, shared) =
        (h.usize("attention.sliding_window")?, h.opt_count("attention.shared_kv_layers")?.unwrap_or(0));
    let first = n.saturating_sub(shared);
    for (i, layer) in s.layers.iter_mut().enumerate() {
        let home = (0..first).rev().find(|&j| windowed[j] == windowed[i]);
        if i >= first && home.is_none() {
            let expected = "so few that each kind of layer is among those before them";
            return Err(h.bad("attention.shared_kv_layers", shared, expected));
        }
        layer.mixers = vec![Mixer::Attn(Attn {
            window: windowed[i].then_some(window),
            rope: Some(usize::from(windowed[i])),
            shares: home.filter(|_| i >= first),
            ..attn(windowed[i])?
        })];
        layer.norms = Norms::BOTH;
    }
    if let Some(other) = h.opt_str("rope.scaling.type_swa")?.filter(|t| t != "default") {
        return Err(h.bad("rope.scaling.type_swa", other, "default"));
    }
    let theta = h.opt_positive("rope.freq_base_swa")?.unwrap_or(10_000.0);
    let local = attn(true)?.head_dim;
    if h.opt_usize("rope.dimension_count_swa")?.is_some_and(|n| n != local) {
        return Err(h.bad("rope.dimension_count_swa", "another number", format!("the head's {local}")));
    }
    s.ropes = vec![full, Rope::plain(local, theta)];
    Ok(s)
}

/// The vectors that layers get, if any.
fn inputs(h: &Hparams, vocab: usize) -> Result<Option<LayerInputs>> {
    let rows = match h.rows_of("per_layer_token_embd.weight") {
        Some(rows) => rows,
        None => h.opt_usize("vocab_size_per_layer_input")?.unwrap_or(vocab),
    };
    match h.opt_count("embedding_length_per_layer_input")? {
        None | Some(0) => Ok(None),
        Some(dim) if dim > 1 << 16 || rows > 1 << 30 => {
            Err(h.bad("embedding_length_per_layer_input", dim, "at most 65536"))
        }
        Some(dim) => Ok(Some(LayerInputs { rows, dim, act: activation(h, Act::GeluTanh)? })),
    }
}

/// How far over the mean a gate has to be in each layer: GGUF says it in standard deviations, config.json as the part of the
/// gates that are to stay shut, were they normally distributed.
fn cutoffs(h: &Hparams, n: usize) -> Result<Vec<Option<f32>>> {
    if let Some(scale) = h.opt_numbers("activation_sparsity_scale", n)? {
        return Ok(scale);
    }
    let usual = (0..n).map(|i| Some(if n > 10 && i < 10 { 0.95 } else { 0.0 })).collect();
    let parts = h.opt_numbers("activation_sparsity_pattern", n)?.unwrap_or(usual);
    let cutoff = |part: Option<f32>| match part.unwrap_or(0.0) {
        part if part >= 1.0 => Err(h.bad("activation_sparsity_pattern", part, "numbers under 1")),
        part => Ok((part > 0.0).then(|| quantile(part as f64) as f32)),
    };
    parts.into_iter().map(cutoff).collect()
}

/// Where the normal distribution has `part` of itself before, by Newton's method on its series (Abramowitz & Stegun 26.2.11),
/// which from 0 never steps too far.
fn quantile(part: f64) -> f64 {
    let mut x = 0.0f64;
    for _ in 0..200 {
        let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let (mut term, mut sum) = (x, x);
        for k in 1..200 {
            term *= x * x / (2 * k + 1) as f64;
            sum += term;
        }
        let step = (0.5 + density * sum - part) / density;
        if !step.is_finite() || step.abs() < 1e-12 {
            break;
        }
        x -= step;
    }
    x
}

/// Heads of layers with the window and of those that see everything.
struct Heads {
    local: usize,
    whole: usize,
    local_kv: usize,
    whole_kv: usize,
    values_of_keys: bool,
}

impl Heads {
    fn read(h: &Hparams, attn: &Attn) -> Result<Heads> {
        let values_of_keys = h.opt_bool("attention_k_eq_v")?.unwrap_or(false);
        let n = h.layers()?;
        let windowed = windowed_by_period(h, n, 6)?;
        if windowed.last() != Some(&false) {
            return Err(h.bad("layer_types", "a last layer with the window", "one that sees everything"));
        }
        let kv = h.counts("attention.head_count_kv", n)?;
        let at = |list: &[usize], is: bool| windowed.iter().position(|&w| w == is).map(|i| list[i]);
        let mut heads = Heads {
            local: attn.head_dim,
            whole: attn.head_dim,
            local_kv: at(&kv, true).unwrap_or(attn.n_kv_heads),
            whole_kv: at(&kv, false).unwrap_or(attn.n_kv_heads),
            values_of_keys,
        };
        if h.is_gguf() {
            heads.local = h.dim("attention.key_length_swa")?;
            h.opt_usize("attention.value_length_swa")?;
            return Ok(heads);
        }
        let own = h.opt_usize("num_global_key_value_heads")?.filter(|_| values_of_keys);
        let (dims, kvs) =
            (h.of_layers("head_dim", &windowed)?, h.of_layers("num_key_value_heads", &windowed)?);
        heads.whole = dims.or(h.opt_usize("global_head_dim")?).unwrap_or(512);
        heads.whole_kv = kvs.or(own).unwrap_or(attn.n_kv_heads);
        Ok(heads)
    }

    fn of(&self, h: &Hparams, attn: &Attn, windowed: bool) -> Result<Attn> {
        let (head_dim, n_kv_heads) =
            if windowed { (self.local, self.local_kv) } else { (self.whole, self.whole_kv) };
        if n_kv_heads == 0 || !attn.n_heads.is_multiple_of(n_kv_heads) {
            let expected = format!("a divisor of the {} heads", attn.n_heads);
            return Err(h.bad("attention.head_count_kv", n_kv_heads, expected));
        }
        if attn.n_heads.checked_mul(head_dim).is_none_or(|n| n > 1 << 30) {
            return Err(h.bad("global_head_dim", head_dim, "heads of a size that can be"));
        }
        let plain = Attn::new(attn.n_heads, n_kv_heads, head_dim);
        Ok(Attn { scale: 1.0, qk_norm: llama::QK_NORM, v_norm: true, ..plain })
    }

    /// The rope of layers that see everything. A GGUF has its divisors as a tensor.
    fn rope(&self, h: &Hparams) -> Result<Rope> {
        let plain = Rope::plain(self.whole, h.opt_positive("rope.freq_base")?.unwrap_or(1_000_000.0));
        if h.is_gguf() {
            h.opt_usize("rope.dimension_count")?;
            return Ok(Rope { scaling: Scaling::Factors(vec![]), ..plain });
        }
        match h.opt_str("rope.scaling.type")?.as_deref() {
            Some("proportional") => {}
            _ => return rope(h, self.whole),
        }
        let part = h.opt_positive("rope.partial")?.unwrap_or(1.0).min(1.0);
        let pairs = (part * self.whole as f32) as usize / 2;
        let factor = h.opt_positive("rope.scaling.factor")?.unwrap_or(1.0);
        Ok(Rope { scaling: Scaling::Proportional { pairs, factor }, ..plain })
    }
}

/// Experts beside the feed-forward, if there are any.
fn experts(h: &Hparams, act: Act) -> Result<Option<Moe>> {
    let there =
        if h.is_gguf() { h.has("expert_count") } else { h.opt_bool("enable_moe_block")?.unwrap_or(false) };
    if !there {
        h.shown_by_tensors(&["expert_count", "expert_used_count", "expert_feed_forward_length"]);
        return Ok(None);
    }
    let routing = Routing { normalise: true, factors: true, ..Routing::SOFTMAX };
    let moe = Moe::of(h, h.same_dim("expert_feed_forward_length")?, act)?;
    Ok(Some(Moe { routing, apart: true, ..moe }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of tables (and torch's `Normal.icdf`).
    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (part, x) in [(0.5, 0.0), (0.95, 1.644_853_627), (0.25, -0.674_489_75), (0.999, 3.090_232_306)] {
            assert!((quantile(part) - x).abs() < 1e-8, "{part}: {}", quantile(part));
        }
    }
}
