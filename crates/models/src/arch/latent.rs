//! Latent attention: DeepSeek V2 and V3 with their relatives, and MiniCPM 3.

use crate::Result;
use crate::arch::{Arch, activation, row};
use crate::convert::{Form, Rule};
use crate::hparams::Hparams;
use crate::mixers::{Mixer, Mla};
use crate::moe::{Groups, Moe, Routing, Score, Shared};
use crate::rope::{Scaling, yarn_mscale};
use crate::rope_hparams::rope;
use crate::spec::{Act, Ffn, Spec};

pub(super) const ARCHS: &[Arch] = &[
    deepseek_row(&["DeepseekV2ForCausalLM"], "DeepSeek V2", deepseek2),
    deepseek_row(&["DeepseekV3ForCausalLM", "kimi_k2"], "DeepSeek V3 and R1, Kimi K2", deepseek3),
    deepseek_row(&["Glm4MoeLiteForCausalLM"], "GLM-4.7 Flash", deepseek3),
    row("minicpm3", &["MiniCPM3ForCausalLM"], "MiniCPM 3", minicpm3),
];

/// GGUFs have keys and values apart, ready to be folded.
const KEYS_AND_VALUES: &[Rule] = &[(
    "attn_kv_b.weight",
    &[("attn_k_b.weight", &[Form::LatentKeys]), ("attn_v_b.weight", &[Form::LatentValues])],
)];

const fn deepseek_row(
    classes: &'static [&'static str],
    title: &'static str,
    build: fn(&Hparams) -> Result<Spec>,
) -> Arch {
    Arch { to_gguf: KEYS_AND_VALUES, ..row("deepseek2", classes, title, build) }
}

/// How the router of a file scores and chooses, where it does not say.
struct Default {
    sigmoid: bool,
    grouped: bool,
}

/// DeepSeek V2: softmax routing. (A GGUF of V3 and of its relatives is of this architecture too.)
fn deepseek2(h: &Hparams) -> Result<Spec> {
    deepseek(h, Default { sigmoid: false, grouped: h.is_gguf() })
}

/// DeepSeek V3 (arXiv:2412.19437): sigmoid routing with a bias that only chooses. (GGUF calls it deepseek2.)
fn deepseek3(h: &Hparams) -> Result<Spec> {
    deepseek(h, Default { sigmoid: true, grouped: true })
}

fn deepseek(h: &Hparams, default: Default) -> Result<Spec> {
    let halves = h.opt_bool("rope_interleave")? == Some(false);
    let mut s = latent(h, "deepseek2", !halves)?;
    let inner = h.dim("expert_feed_forward_length")?;
    let shared = h.opt_count("expert_shared_count")?.filter(|&n| n > 0);
    let moe = Moe::of(h, inner, activation(h, Act::Silu)?)?;
    let moe = Moe {
        routing: routing(h, &moe, default)?,
        shared: shared.map(|n| Shared { dim: n.saturating_mul(inner).min(1 << 30), gate: false }),
        ..moe
    };
    let sparse = sparse_layers(h, s.layers.len())?;
    for (layer, _) in s.layers.iter_mut().zip(sparse).filter(|(_, sparse)| *sparse) {
        layer.ffn = Ffn::Moe(Box::new(moe.clone()));
    }
    // Layers that guess the token after the next, for speculation.
    s.unused_layers = h.opt_count("nextn_predict_layers")?.unwrap_or(0);
    Ok(s)
}

/// Which layers have experts: as `mlp_layer_types` lists them, else all but the first few.
fn sparse_layers(h: &Hparams, n: usize) -> Result<Vec<bool>> {
    let first = h.opt_count("leading_dense_block_count")?;
    let step = h.opt_usize("moe_layer_freq")?.unwrap_or(1);
    let Some(types) = h.opt_strs("mlp_layer_types")? else {
        // What GLM-4.7 Flash means where it says nothing.
        let first = first.unwrap_or(1);
        return Ok((0..n).map(|i| i >= first && i.is_multiple_of(step)).collect());
    };
    if types.len() != n {
        return Err(h.bad(
            "mlp_layer_types",
            format!("{} entries", types.len()),
            format!("one for each of {n} layers"),
        ));
    }
    let sparse = |t: &String| match t.as_str() {
        "sparse" => Ok(true),
        "dense" => Ok(false),
        other => Err(h.bad("mlp_layer_types", other, "sparse or dense")),
    };
    types.iter().map(sparse).collect()
}

fn routing(h: &Hparams, moe: &Moe, default: Default) -> Result<Routing> {
    let sigmoid = scored_by_sigmoid(h)?.unwrap_or(default.sigmoid);
    let grouped = match h.opt_str("topk_method")?.as_deref() {
        None => default.grouped,
        Some("greedy") => false,
        Some("group_limited_greedy" | "noaux_tc") => true,
        Some(other) => return Err(h.bad("topk_method", other, "greedy, group_limited_greedy or noaux_tc")),
    };
    let groups = groups(h, moe, sigmoid)?.filter(|_| grouped);
    let normalise = h.opt_bool("expert_weights_norm")?.unwrap_or(sigmoid);
    let scale = h.opt_positive("expert_weights_scale")?.unwrap_or(1.0);
    // V2 as published scales only where it does not normalise.
    let scale = if sigmoid || !normalise || moe.top_k == 1 { scale } else { 1.0 };
    let score = if sigmoid { Score::Sigmoid } else { Score::Softmax };
    Ok(Routing {
        score,
        normalise: normalise && moe.top_k > 1,
        scale,
        bias: sigmoid,
        groups,
        ..Routing::SOFTMAX
    })
}

/// GGUF has a number for it, config.json a word.
pub(super) fn scored_by_sigmoid(h: &Hparams) -> Result<Option<bool>> {
    if h.is_gguf() {
        return match h.opt_count("expert_gating_func")? {
            None | Some(0) => Ok(None),
            Some(1) => Ok(Some(false)),
            Some(2) => Ok(Some(true)),
            Some(other) => Err(h.bad("expert_gating_func", other, "1 (softmax) or 2 (sigmoid)")),
        };
    }
    match h.opt_str("expert_gating_func")?.as_deref() {
        None => Ok(None),
        Some("softmax") => Ok(Some(false)),
        Some("sigmoid") => Ok(Some(true)),
        Some(other) => Err(h.bad("expert_gating_func", other, "softmax or sigmoid")),
    }
}

pub(super) fn groups(h: &Hparams, moe: &Moe, by_two: bool) -> Result<Option<Groups>> {
    let count = h.opt_count("expert_group_count")?.unwrap_or(1);
    let top = h.opt_count("expert_group_used_count")?.unwrap_or(1);
    if count <= 1 {
        return Ok(None);
    }
    if !moe.n_experts.is_multiple_of(count) {
        return Err(h.bad(
            "expert_group_count",
            count,
            format!("a divisor of the {} experts", moe.n_experts),
        ));
    }
    if top == 0 || top > count || top * (moe.n_experts / count) < moe.top_k {
        let expected = format!("at most {count} groups, with {} experts or more", moe.top_k);
        return Err(h.bad("expert_group_used_count", top, expected));
    }
    Ok(Some(Groups { count, top, by_two }))
}

/// Latent attention and the scalings of MiniCPM. (A GGUF says none of them: they are those of the one published model.)
fn minicpm3(h: &Hparams) -> Result<Spec> {
    let mut s = latent(h, "minicpm3", false)?;
    s.tied = if h.is_gguf() { None } else { Some(h.opt_bool("tie_word_embeddings")?.unwrap_or(true)) };
    s.embed_scale = h.opt_positive("embedding_scale")?.unwrap_or(12.0);
    s.logit_scale = h.opt_positive("dim_model_base")?.unwrap_or(256.0) / s.dim as f32;
    let depth = h.opt_positive("scale_depth")?.unwrap_or(1.4) / (s.layers.len() as f32).sqrt();
    s.layers.iter_mut().for_each(|l| l.residual_scale = depth);
    Ok(s)
}

/// Llama with latent attention, whose scale YaRN's growth enters.
fn latent(h: &Hparams, arch: &'static str, interleaved: bool) -> Result<Spec> {
    h.shown_by_tensors(&["attention_bias", "mlp_bias", "lm_head_bias"]);
    let mut mla = Mla::of(h, h.dim("embedding_length")?)?;
    let mut rope = rope(h, mla.rope_dim)?;
    rope.interleaved = interleaved;
    if let Scaling::Yarn(yarn) = &mut rope.scaling {
        let m = if h.is_gguf() {
            // Converters leave the factor on cosines and sines out: in these models it is 1.
            yarn.attention_factor = 1.0;
            1.0 + h.opt_f32("rope.scaling.yarn_log_multiplier")?.unwrap_or(0.0) * yarn.factor.max(1.0).ln()
        } else {
            yarn_mscale(yarn.factor, h.opt_f32("rope.scaling.mscale_all_dim")?.unwrap_or(0.0))
        };
        mla.attn.scale *= m * m;
    }
    Spec::of(h, arch, Mixer::Mla(mla), vec![rope])
}
