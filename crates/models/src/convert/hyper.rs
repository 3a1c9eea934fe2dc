//! A [`Spec`] as GGUF's keys: the way back of `hparams.rs` and `arch.rs`.
//!
//! Written are the keys that llama.cpp's converter writes for the architecture. Where GGUF has no key for
//! something, the one that `hparam_keys.rs` knows is written for us to read, and a note says that others
//! do not.

use std::path::Path;

use serde_json::Value;
use weights::Field;

use crate::mixers::{Attn, Mixer};
use crate::rope::{Rope, Scaling, Yarn, yarn_mscale};
use crate::spec::{Act, Ffn, Spec};

/// Keys in the making.
struct Keys<'a> {
    arch: &'static str,
    fields: Vec<(String, Field)>,
    notes: &'a mut Vec<String>,
}

impl Keys<'_> {
    fn general(&mut self, key: &str, value: &str) {
        self.fields.push((format!("general.{key}"), Field::String(value.to_string())));
    }

    fn put(&mut self, key: &str, field: Field) {
        self.fields.push((format!("{}.{key}", self.arch), field));
    }

    fn count(&mut self, key: &str, n: usize) {
        self.put(key, u32::try_from(n).map_or(Field::U64(n as u64), Field::U32));
    }

    fn float(&mut self, key: &str, x: f32) {
        self.put(key, Field::F32(x));
    }

    /// A key of ours.
    fn own(&mut self, key: &str, field: Field) {
        self.notes.push(format!(
            "GGUF has no key for {key}: influence reads {}.{key}, other programs will compute without it",
            self.arch
        ));
        self.put(key, field);
    }
}

/// The model's `general.*` and `<arch>.*` keys.
pub(super) fn fields(
    path: &Path,
    spec: &Spec,
    config: &Value,
    notes: &mut Vec<String>,
) -> Vec<(String, Field)> {
    let arch = gguf_arch(spec, notes);
    let mut keys = Keys { arch, fields: vec![], notes };
    keys.general("architecture", arch);
    keys.general("type", "model");
    keys.general("name", &name(path, config));
    keys.count("vocab_size", spec.vocab);
    keys.count("context_length", spec.context);
    keys.count("embedding_length", spec.dim);
    keys.count("block_count", spec.layers.len());
    keys.float("attention.layer_norm_rms_epsilon", spec.norm.eps);
    let first = spec.layers.first();
    if let Some(attn) = spec.mixers().find_map(Mixer::cached)
        && let Some(Ffn::Glu { dim, act }) = first.map(|l| &l.ffn)
    {
        keys.count("feed_forward_length", *dim);
        attention(&mut keys, spec, attn);
        activation(&mut keys, spec, *act);
    }
    windows(&mut keys, spec);
    multipliers(&mut keys, spec);
    spec.ropes.iter().for_each(|r| rope(&mut keys, spec, r));
    keys.fields
}

/// Mistral is llama there, which has no window.
fn gguf_arch(spec: &Spec, notes: &mut Vec<String>) -> &'static str {
    if spec.arch != "mistral" {
        return spec.arch;
    }
    if window(spec).is_none() {
        return "llama";
    }
    notes.push(
        "the model has a sliding window, which GGUF's llama has not: it is written as architecture \
         `mistral`, which influence reads and llama.cpp refuses"
            .into(),
    );
    "mistral"
}

fn name(path: &Path, config: &Value) -> String {
    let named = config.get("_name_or_path").and_then(Value::as_str).unwrap_or_default();
    let last = named.rsplit('/').next().unwrap_or_default();
    let folder = path.file_name().unwrap_or_default().to_string_lossy();
    if last.is_empty() { folder.into_owned() } else { last.to_string() }
}

fn attention(keys: &mut Keys<'_>, spec: &Spec, attn: &Attn) {
    keys.count("attention.head_count", attn.n_heads);
    keys.count("attention.head_count_kv", attn.n_kv_heads);
    keys.count("attention.key_length", attn.head_dim);
    keys.count("attention.value_length", attn.head_dim);
    let usual = (attn.head_dim as f32).powf(-0.5);
    if let Some(cap) = attn.softcap {
        keys.float("attn_logit_softcapping", cap);
    }
    if (attn.scale - usual).abs() <= usual * 1e-6 {
        return;
    }
    match spec.arch {
        // The one published size that scales otherwise is known by its 46 layers.
        "gemma2" if spec.layers.len() == 46 => {}
        "gemma2" => keys.own("query_pre_attn_scalar", Field::F32(attn.scale.powi(-2))),
        _ => keys.float("attention.scale", attn.scale),
    }
}

fn activation(keys: &mut Keys<'_>, spec: &Spec, act: Act) {
    let usual = if spec.arch == "gemma2" { Act::GeluTanh } else { Act::Silu };
    let name = match act {
        Act::Silu => "silu",
        Act::GeluTanh => "gelu_pytorch_tanh",
        Act::Gelu => "gelu",
        Act::Relu => "relu",
        Act::Tanh | Act::Relu2 | Act::SwigluOai { .. } | Act::Xielu { .. } => return,
    };
    if act != usual {
        keys.own("hidden_act", Field::String(name.into()));
    }
}

fn layer_windows(spec: &Spec) -> impl Iterator<Item = Option<usize>> + '_ {
    spec.mixers().filter_map(Mixer::cached).map(|attn| attn.window)
}

fn window(spec: &Spec) -> Option<usize> {
    layer_windows(spec).flatten().next()
}

fn windows(keys: &mut Keys<'_>, spec: &Spec) {
    let Some(window) = window(spec) else {
        // llama.cpp tells Phi-4 from Phi-3 by a window of 0.
        return if spec.arch == "phi3" {
            keys.count("attention.sliding_window", 0)
        };
    };
    keys.count("attention.sliding_window", window);
    let by_rule = match spec.arch {
        "gemma2" => layer_windows(spec).enumerate().all(|(i, w)| w.is_some() == (i % 2 == 0)),
        "qwen2" | "qwen3" => false,
        _ => layer_windows(spec).all(|w| w.is_some()),
    };
    if !by_rule {
        let kind = |w: Option<usize>| if w.is_some() { "sliding_attention" } else { "full_attention" };
        let kinds = layer_windows(spec).map(|w| kind(w).to_string()).collect();
        keys.own("layer_types", Field::Strings(kinds));
    }
}

fn multipliers(keys: &mut Keys<'_>, spec: &Spec) {
    if let Some(cap) = spec.logit_softcap {
        keys.float("final_logit_softcapping", cap);
    }
    if spec.arch == "granite" {
        keys.float("embedding_scale", spec.embed_scale);
        keys.float("residual_scale", spec.layers.first().map_or(1.0, |l| l.residual_scale));
        keys.float("logit_scale", 1.0 / spec.logit_scale);
    }
}

fn rope(keys: &mut Keys<'_>, spec: &Spec, rope: &Rope) {
    keys.float("rope.freq_base", rope.theta);
    keys.count("rope.dimension_count", rope.dim);
    let kind = |keys: &mut Keys<'_>, name: &str| keys.put("rope.scaling.type", Field::String(name.into()));
    match &rope.scaling {
        Scaling::None
        | Scaling::Llama3 { .. }
        | Scaling::Factors(_)
        // (No architecture that is written has it.)
        | Scaling::Proportional { .. } => {}
        Scaling::Linear { factor } => {
            kind(keys, "linear");
            keys.float("rope.scaling.factor", *factor);
        }
        Scaling::Dynamic { original, .. } => keys.notes.push(format!(
            "GGUF has no dynamic rope scaling: the file is right for texts of up to {original} tokens"
        )),
        Scaling::Yarn(yarn) => {
            kind(keys, "yarn");
            yarn_keys(keys, yarn);
        }
        Scaling::LongRope { original, attention_factor, .. } => {
            keys.count("rope.scaling.original_context_length", *original);
            keys.float("rope.scaling.attn_factor", *attention_factor);
        }
    }
    if spec.arch == "phi3" && !matches!(rope.scaling, Scaling::LongRope { .. } | Scaling::Yarn(_)) {
        keys.count("rope.scaling.original_context_length", spec.context);
    }
}

fn yarn_keys(keys: &mut Keys<'_>, yarn: &Yarn) {
    keys.float("rope.scaling.factor", yarn.factor);
    keys.count("rope.scaling.original_context_length", yarn.original);
    if yarn.beta_fast != 32.0 {
        keys.float("rope.scaling.yarn_beta_fast", yarn.beta_fast);
    }
    if yarn.beta_slow != 1.0 {
        keys.float("rope.scaling.yarn_beta_slow", yarn.beta_slow);
    }
    // GGUF's factor multiplies YaRN's own.
    let times = yarn.attention_factor / yarn_mscale(yarn.factor, 1.0);
    if (times - 1.0).abs() > 1e-6 {
        keys.float("rope.scaling.attn_factor", times);
    }
    if !yarn.truncate {
        keys.own("rope.scaling.truncate", Field::Bool(false));
    }
}

/// The divisors of the rope's frequencies, which GGUF has as tensors.
pub(super) fn rope_tensors(spec: &Spec) -> Vec<(&'static str, Vec<f32>)> {
    let Some(rope) = spec.ropes.first() else { return vec![] };
    match &rope.scaling {
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
