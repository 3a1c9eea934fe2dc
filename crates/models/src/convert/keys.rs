//! A [`Spec`] under GGUF's keys: the way back of `hparams.rs` and `arch.rs`.
//!
//! Everything that could be said is gathered here; `readback.rs` keeps what the reader of the architecture asks for.

use std::collections::BTreeMap;

use serde_json::Value;
use weights::Field;

use super::official::is_float;
use crate::encoder::Pool;
use crate::mixers::{Attn, Mixer};
use crate::moe::{Moe, Score};
use crate::rope::{Rope, Scaling, yarn_mscale};
use crate::spec::{Act, Ffn, NormKind, Spec};

/// Values by key, without the architecture's prefix.
pub(super) type Keys = BTreeMap<String, Value>;

/// A value as a GGUF holds it.
pub(super) fn field(key: &str, value: &Value) -> Field {
    match value {
        Value::Bool(b) => Field::Bool(*b),
        Value::String(s) => Field::String(s.clone()),
        Value::Array(list) if list.iter().all(Value::is_string) => {
            Field::Strings(list.iter().filter_map(|v| v.as_str().map(str::to_string)).collect())
        }
        // Lists of whole numbers are signed, as Python's writer has them.
        Value::Array(list) => Field::List(
            list.iter()
                .map(|v| match (field(key, v), v.as_i64()) {
                    (Field::U32(_), Some(n)) => i32::try_from(n).map_or(Field::I64(n), Field::I32),
                    (other, _) => other,
                })
                .collect(),
        ),
        number if is_float(key) || !(number.is_u64() || number.is_i64()) => {
            Field::F32(number.as_f64().unwrap_or(0.0) as f32)
        }
        number => match number.as_u64() {
            Some(n) => u32::try_from(n).map_or(Field::U64(n), Field::U32),
            None => Field::I64(number.as_i64().unwrap_or(0)),
        },
    }
}

/// What `spec` says, over what config.json said under GGUF's keys.
pub(super) fn candidates(spec: &Spec, arch: &str, mut keys: Keys) -> Keys {
    for structural in ["attention.sliding_window", "nextn_predict_layers", "attention.scale"] {
        keys.remove(structural);
    }
    let grown = growth(arch, &keys);
    let (sections, theta) = (keys.remove("rope.dimension_sections"), keys.remove("rope.freq_base"));
    keys.retain(|key, _| !key.starts_with("rope."));
    let mut put = |key: &str, value: Value| drop(keys.insert(key.to_string(), value));
    put("vocab_size", spec.vocab.into());
    put("tensor_data_layout", "jploski".into());
    put("context_length", spec.context.into());
    put("embedding_length", spec.dim.into());
    put("block_count", spec.layers.len().into());
    put("attention.layer_norm_epsilon", spec.norm.eps.into());
    if spec.norm.kind == NormKind::Rms || arch == "phimoe" {
        put("attention.layer_norm_rms_epsilon", spec.norm.eps.into());
    }
    if let Some(Value::Array(list)) = sections {
        put("rope.dimension_sections", list.into_iter().chain([Value::from(0)]).take(4).collect());
    }
    if let Some(growth) = grown {
        put("rope.scaling.yarn_log_multiplier", growth);
    }
    attention(spec, arch == "deepseek2", &mut keys);
    windows(spec, &mut keys);
    feed_forward(spec, &mut keys);
    scans(spec, &mut keys);
    multipliers(spec, arch, &mut keys);
    ropes(spec, arch, theta, &mut keys);
    encoder(spec, &mut keys);
    keys
}

/// YaRN's growth for all numbers, where GGUF has a key for it: as a factor on the logarithm, or as it is.
fn growth(arch: &str, keys: &Keys) -> Option<Value> {
    let all = keys.get("rope.scaling.mscale_all_dim")?.as_f64()?;
    match arch {
        "deepseek2" => Some((0.1 * all).into()),
        "mistral3" => Some(all.into()),
        _ => None,
    }
}

fn put(keys: &mut Keys, key: &str, value: impl Into<Value>) {
    keys.insert(key.to_string(), value.into());
}

/// One number where all are the same, else one for each.
fn each<T: Clone + PartialEq + Into<Value>>(list: &[T]) -> Value {
    match list {
        [first, rest @ ..] if rest.iter().all(|x| x == first) => first.clone().into(),
        _ => list.to_vec().into(),
    }
}

fn first_attn(spec: &Spec) -> Option<&Attn> {
    spec.mixers().find_map(Mixer::cached)
}

/// `folds`: keys and values made of a latent lie ready to be folded.
fn attention(spec: &Spec, folds: bool, keys: &mut Keys) {
    let Some(attn) = first_attn(spec) else {
        return put(keys, "attention.head_count", 0);
    };
    let kv = |mixers: &[Mixer]| mixers.iter().find_map(Mixer::cached).map_or(0, |a| a.n_kv_heads);
    put(keys, "attention.head_count", attn.n_heads);
    let mut heads: Vec<usize> = spec.layers.iter().map(|l| kv(&l.mixers)).collect();
    // Where an interval says which layers attend, the number is that of those.
    if spec.mixers().any(|m| matches!(m, Mixer::DeltaNet(_))) {
        heads.retain(|&n| n > 0);
    }
    // (Zamba 2's attention leads its layers.)
    if heads.iter().any(|&n| n > 0) {
        put(keys, "attention.head_count_kv", each(&heads));
    }
    put(keys, "attention.key_length", attn.head_dim);
    put(keys, "attention.value_length", attn.value_dim);
    let (mut scale, mut usual) = (attn.scale, (attn.head_dim as f32).powf(-0.5));
    if let Some(mla) = spec.mixers().find_map(|m| if let Mixer::Mla(mla) = m { Some(mla) } else { None }) {
        keys.remove("attention.value_length_mla");
        if folds {
            put(keys, "attention.key_length_mla", mla.nope_dim + mla.rope_dim);
            put(keys, "attention.value_length_mla", mla.value_dim);
        } else {
            let plain = mla.clone().unfold().attn;
            put(keys, "attention.head_count_kv", plain.n_kv_heads);
            put(keys, "attention.key_length", plain.head_dim);
            put(keys, "attention.value_length", plain.value_dim);
        }
        // (YaRN's growth enters it, and is said elsewhere.)
        (scale, usual) = (1.0, 1.0);
    }
    if (scale - usual).abs() > usual * 1e-6 || keys.contains_key("embedding_scale") {
        put(keys, "attention.scale", scale);
    }
    if let Some(cap) = attn.softcap {
        put(keys, "attn_logit_softcapping", cap);
    }
    if let Some(clip) = attn.clip {
        put(keys, "attention.clamp_kqv", clip);
    }
    put(keys, "attention.max_alibi_bias", attn.alibi.map_or(0.0, |a| a.max));
    let grows = spec.mixers().filter_map(Mixer::cached).find_map(|a| a.temperature);
    if let Some(temperature) = grows {
        put(keys, "attention.temperature_scale", temperature.scale);
    }
}

fn windows(spec: &Spec, keys: &mut Keys) {
    let all: Vec<Option<usize>> = spec.mixers().filter_map(Mixer::cached).map(|a| a.window).collect();
    let Some(window) = all.iter().flatten().next().copied() else {
        keys.remove("attention.sliding_window_pattern");
        // llama.cpp tells Phi-4 from Phi-3 by a window of 0, and Llama 4 without chunks.
        if spec.mixers().filter_map(Mixer::cached).all(|a| a.chunk.is_none()) {
            put(keys, "attention.sliding_window", 0);
        }
        return;
    };
    // An encoder's is as wide to the other side.
    put(keys, "attention.sliding_window", if spec.both_ways() { 2 * (window - 1) } else { window });
    if !spec.both_ways() {
        let windowed: Vec<bool> = all.iter().map(Option::is_some).collect();
        put(keys, "attention.sliding_window_pattern", windowed.clone());
        let kind = |w: bool| if w { "sliding_attention" } else { "full_attention" };
        put(keys, "layer_types", windowed.into_iter().map(kind).collect::<Vec<_>>());
    }
}

fn feed_forward(spec: &Spec, keys: &mut Keys) {
    let width = |ffn: &Ffn| match ffn {
        Ffn::None => 0,
        Ffn::Glu { dim, .. } | Ffn::Mlp { dim, .. } => *dim,
        Ffn::Moe(moe) => moe.dim,
        Ffn::Mixer(mixer) => {
            if let Mixer::ChannelMix(c) = &**mixer {
                c.inner
            } else {
                0
            }
        }
    };
    let widths: Vec<usize> = spec.layers.iter().map(|l| width(&l.ffn)).collect();
    let dense = spec.layers.iter().find(|l| !matches!(l.ffn, Ffn::Moe(_))).map(|l| width(&l.ffn));
    let moe = spec.layers.iter().find_map(|l| if let Ffn::Moe(moe) = &l.ffn { Some(&**moe) } else { None });
    // Where some layers are nothing else, the widths say which. What leads layers has the width that was said.
    let said = keys.contains_key("feed_forward_length") && !keys.contains_key("block_multiple_of");
    if widths.contains(&0) && spec.layers.iter().all(|l| l.lead.is_none()) {
        put(keys, "feed_forward_length", each(&widths));
    } else if let Some(apart) = keys.get("dense_feed_forward_length").cloned() {
        put(keys, "feed_forward_length", apart);
    } else if let Some(dense) = dense.filter(|&n| n > 0 && !said) {
        put(keys, "feed_forward_length", dense);
    }
    put(keys, "use_parallel_residual", spec.layers.first().is_some_and(|l| l.parallel));
    if let Some(moe) = moe {
        experts(spec, moe, keys);
    }
    let act = match spec.layers.iter().find_map(|l| act_of(&l.ffn)) {
        Some(Act::Silu) => "silu",
        Some(Act::GeluTanh) => "gelu_pytorch_tanh",
        Some(Act::Gelu) => "gelu",
        Some(Act::Relu) => "relu",
        Some(Act::Relu2) => "relu2",
        _ => return,
    };
    put(keys, "hidden_act", act);
}

fn act_of(ffn: &Ffn) -> Option<Act> {
    match ffn {
        Ffn::Glu { act, .. } | Ffn::Mlp { act, .. } => Some(*act),
        Ffn::Moe(moe) => Some(moe.act),
        Ffn::None | Ffn::Mixer(_) => None,
    }
}

fn experts(spec: &Spec, moe: &Moe, keys: &mut Keys) {
    put(keys, "expert_count", moe.n_experts);
    put(keys, "expert_used_count", moe.top_k);
    put(keys, "expert_feed_forward_length", moe.dim);
    if let Some(shared) = moe.shared {
        put(keys, "expert_shared_feed_forward_length", shared.dim);
        if !keys.get("expert_shared_count").is_some_and(Value::is_number) {
            put(keys, "expert_shared_count", (shared.dim / moe.dim.max(1)).max(1));
        }
    }
    put(keys, "expert_gating_func", if moe.routing.score == Score::Sigmoid { 2 } else { 1 });
    for (key, usual) in [
        ("expert_weights_norm", Value::from(moe.routing.normalise)),
        ("expert_weights_scale", moe.routing.scale.into()),
        ("expert_group_count", moe.routing.groups.map_or(1, |g| g.count).into()),
        ("expert_group_used_count", moe.routing.groups.map_or(1, |g| g.top).into()),
    ] {
        keys.entry(key.to_string()).or_insert(usual);
    }
    let first = spec.layers.iter().position(|l| matches!(l.ffn, Ffn::Moe(_))).unwrap_or(0);
    keys.entry("leading_dense_block_count".into()).or_insert(first.into());
}

fn scans(spec: &Spec, keys: &mut Keys) {
    let mut put = |key: &str, n: usize| put(keys, key, n);
    let mut norms = None;
    for mixer in spec.layers.iter().flat_map(|l| l.all_mixers()) {
        match mixer {
            Mixer::Mamba(m) => {
                put("ssm.conv_kernel", m.conv_kernel);
                put("ssm.state_size", m.state_dim);
                put("ssm.inner_size", m.inner);
                put("ssm.time_step_rank", m.step_rank);
                norms = Some(m.norms.is_some_and(|n| !n.weights));
            }
            Mixer::Mamba2(m) => {
                put("ssm.conv_kernel", m.conv_kernel);
                put("ssm.state_size", m.state_dim);
                put("ssm.group_count", m.n_groups);
                put("ssm.inner_size", m.n_heads * m.head_dim);
                put("ssm.time_step_rank", m.n_heads);
            }
            Mixer::DeltaNet(m) => {
                put("ssm.conv_kernel", m.conv_kernel);
                put("ssm.state_size", m.key_dim);
                put("ssm.group_count", m.key_heads);
                put("ssm.inner_size", m.value_heads * m.value_dim);
                put("ssm.time_step_rank", m.value_heads);
            }
            Mixer::TimeMix7(m) => {
                put("wkv.head_size", m.head_dim);
                let ranks = ["decay", "iclr", "value_residual_mix", "gate"];
                let each = ranks.iter().zip(m.ranks);
                each.for_each(|(kind, rank)| put(&format!("attention.{kind}_lora_rank"), rank));
            }
            _ => {}
        }
    }
    if let Some(normed) = norms {
        keys.insert("ssm.dt_b_c_rms".into(), normed.into());
    }
    // Which layers attend: every so many.
    let attends = |l: &crate::spec::Layer| l.mixers.iter().any(|m| m.cached().is_some());
    if let Some(first) = spec.layers.iter().position(attends) {
        keys.entry("full_attention_interval".into()).or_insert((first + 1).into());
    }
}

fn multipliers(spec: &Spec, arch: &str, keys: &mut Keys) {
    put(keys, "embedding_scale", spec.embed_scale);
    put(keys, "residual_scale", spec.layers.first().map_or(1.0, |l| l.residual_scale));
    let divides = !["command-r", "cohere2"].contains(&arch);
    put(keys, "logit_scale", if divides { 1.0 / spec.logit_scale } else { spec.logit_scale });
    if let Some(cap) = spec.logit_softcap {
        put(keys, "final_logit_softcapping", cap);
    }
}

fn ropes(spec: &Spec, arch: &str, theta: Option<Value>, keys: &mut Keys) {
    put(keys, "rope.scaling.finetuned", spec.mixers().filter_map(Mixer::cached).any(|a| a.rope.is_some()));
    let Some(rope) = spec.ropes.first() else {
        // Some files speak of a rope that no layer uses.
        keys.extend(theta.map(|theta| ("rope.freq_base".into(), theta)));
        return put(keys, "rope.dimension_count", first_attn(spec).map_or(0, |a| a.head_dim));
    };
    put(keys, "rope.freq_base", rope.theta);
    put(keys, "rope.dimension_count", rope.dim);
    if let Some(second) = spec.ropes.get(1) {
        put(keys, "rope.freq_base_swa", second.theta);
    }
    scaling(spec, arch, rope, keys);
}

/// What converters say where ropes are not scaled.
const SAID_OF_NONE: &[(&[&str], &str, &str)] = &[
    (
        &["command-r", "cohere2", "nemotron", "hunyuan-dense", "hunyuan-moe", "modern-bert"],
        "type",
        "\"none\"",
    ),
    (&["hunyuan-dense", "hunyuan-moe"], "original_context_length", "262144"),
    (&["hunyuan-dense", "hunyuan-moe", "bitnet"], "factor", "1.0"),
    (&["bitnet"], "type", "\"linear\""),
];

fn scaling(spec: &Spec, arch: &str, rope: &Rope, keys: &mut Keys) {
    match &rope.scaling {
        Scaling::None => keys.extend(SAID_OF_NONE.iter().filter(|(archs, ..)| archs.contains(&arch)).map(
            |(_, key, value)| {
                (format!("rope.scaling.{key}"), serde_json::from_str(value).unwrap_or_default())
            },
        )),
        Scaling::Llama3 { .. }
        | Scaling::Factors(_)
        | Scaling::Proportional { .. }
        | Scaling::Dynamic { .. } => {}
        Scaling::Linear { factor } => {
            put(keys, "rope.scaling.type", "linear");
            put(keys, "rope.scaling.factor", *factor);
        }
        Scaling::Yarn(yarn) => {
            put(keys, "rope.scaling.type", "yarn");
            put(keys, "rope.scaling.factor", yarn.factor);
            put(keys, "rope.scaling.original_context_length", yarn.original);
            put(keys, "rope.scaling.yarn_beta_fast", yarn.beta_fast);
            put(keys, "rope.scaling.yarn_beta_slow", yarn.beta_slow);
            // GGUF's factor multiplies YaRN's own.
            let times = yarn.attention_factor / yarn_mscale(yarn.factor, 1.0);
            if (times - 1.0).abs() > 1e-6 && !keys.contains_key("rope.scaling.yarn_log_multiplier") {
                put(keys, "rope.scaling.attn_factor", times);
            }
            put(keys, "rope.scaling.truncate", yarn.truncate);
        }
        Scaling::LongRope { original, attention_factor, .. } => {
            put(keys, "rope.scaling.original_context_length", *original);
            put(keys, "rope.scaling.attn_factor", *attention_factor);
        }
    }
    if arch == "phi3" && !matches!(rope.scaling, Scaling::LongRope { .. } | Scaling::Yarn(_)) {
        put(keys, "rope.scaling.original_context_length", spec.context);
    }
}

fn encoder(spec: &Spec, keys: &mut Keys) {
    if !spec.both_ways() {
        return;
    }
    put(keys, "attention.causal", false);
    let pool = match (spec.classifier, spec.embedding.map(|e| e.pool)) {
        (Some(_), _) => 4,
        (_, Some(Pool::First)) => 2,
        (_, Some(Pool::Last)) => 3,
        (_, Some(Pool::Each)) => 0,
        (_, Some(Pool::Mean) | None) => 1,
    };
    put(keys, "pooling_type", pool);
}

/// The divisors of the rope's frequencies, which GGUF has as tensors.
pub(super) fn rope_tensors(spec: &Spec) -> Vec<(&'static str, Vec<f32>)> {
    let whole = |rope: &&Rope| matches!(rope.scaling, Scaling::Proportional { .. });
    let Some(rope) = spec.ropes.iter().find(whole).or(spec.ropes.first()) else { return vec![] };
    match &rope.scaling {
        // Pairs that do not turn are divided by what leaves nothing.
        Scaling::Proportional { .. } => {
            vec![("rope_freqs.weight", divisors(rope).into_iter().map(|x| x.min(1e30)).collect())]
        }
        Scaling::Llama3 { .. } => vec![("rope_freqs.weight", divisors(rope))],
        Scaling::Factors(list) => vec![("rope_freqs.weight", list.clone())],
        Scaling::LongRope { short, long, .. } => {
            vec![("rope_factors_long.weight", long.clone()), ("rope_factors_short.weight", short.clone())]
        }
        _ => vec![],
    }
}

/// What the scaling divides each frequency by.
fn divisors(rope: &Rope) -> Vec<f32> {
    let plain = Rope { scaling: Scaling::None, ..rope.clone() }.frequencies(1).0;
    let scaled = rope.frequencies(1).0;
    plain.iter().zip(scaled).map(|(plain, scaled)| plain / scaled).collect()
}
