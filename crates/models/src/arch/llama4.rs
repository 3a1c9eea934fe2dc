//! Llama 4's text model.

use crate::arch::{Arch, activation, interleave, row};
use crate::hparams::Hparams;
use crate::mixers::{NormScope, QkNorm, Temperature};
use crate::moe::{Moe, Routing, Score, Shared};
use crate::spec::{Act, Ffn, Spec};
use crate::{Error, Result};
use weights::Tensor;

pub(super) const ARCHS: &[Arch] = &[Arch {
    names: NAMES,
    edit: Some(edit),
    aside: &["vision_model.", "multi_modal_projector."],
    ..row("llama4", &["Llama4ForCausalLM", "Llama4ForConditionalGeneration"], "Llama 4 (text)", llama4)
}];

const NAMES: &[(&str, &str)] = &[
    ("feed_forward.gate_proj", "ffn_gate"),
    ("feed_forward.up_proj", "ffn_up"),
    ("feed_forward.down_proj", "ffn_down"),
    ("feed_forward.router", "ffn_gate_inp"),
    ("feed_forward.experts.gate_up_proj", "ffn_gate_up_exps.weight"),
    ("feed_forward.experts.down_proj", "ffn_down_exps.weight"),
    ("feed_forward.shared_expert.gate_proj", "ffn_gate_shexp"),
    ("feed_forward.shared_expert.up_proj", "ffn_up_shexp"),
    ("feed_forward.shared_expert.down_proj", "ffn_down_shexp"),
];

/// Of a GGUF what llama.cpp takes for granted, and of config.json what the class does.
const CHUNK: usize = 8192;
const FLOOR: f32 = 8192.0;
const GROWTH: f32 = 0.1;

/// Llama that rotates neighbours in three layers of four, which see only their chunk and normalise their heads; the
/// fourth sees everything under queries that grow. Experts read a weighted input, beside one for all tokens.
fn llama4(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "llama4")?;
    interleave(&mut s.ropes);
    let n = s.layers.len();
    let step = h.opt_usize("no_rope_layer_interval")?.unwrap_or(4);
    let listed = h.opt_counts("no_rope_layers")?.filter(|list| !list.is_empty());
    let rotated = listed.unwrap_or((1..=n).map(|i| usize::from(i % step != 0)).collect());
    let chunked = chunked_layers(h, &rotated)?;
    // A GGUF that says 0 here has no chunks.
    let whole = h.is_gguf() && h.opt_count("attention.sliding_window")? == Some(0);
    let chunk = Some(h.opt_usize("attention.chunk_size")?.unwrap_or(CHUNK)).filter(|_| !whole);
    // The larger model of 128 experts does without, and a GGUF does not say it.
    let large = h.is_gguf() && h.opt_count("expert_count")? == Some(128);
    let normed = h.opt_bool("use_qk_norm")?.unwrap_or(!large);
    let (scale, floor) =
        (h.opt_f32("attention.temperature_scale")?, h.opt_positive("attention.temperature_length")?);
    let grows = h.opt_switch("attn_temperature_tuning")?.unwrap_or(true);
    let growth = Temperature { scale: scale.unwrap_or(GROWTH), floor: floor.unwrap_or(FLOOR), offset: 1.0 };
    if rotated.len() < n {
        return Err(h.bad(
            "no_rope_layers",
            format!("{} entries", rotated.len()),
            format!("{n}, one for each layer"),
        ));
    }
    s.each_attn(|i, a| {
        let rotates = rotated[i] != 0;
        a.rope = a.rope.filter(|_| rotates);
        a.chunk = chunk.filter(|_| chunked[i]);
        a.qk_norm = Some(QkNorm { scope: NormScope::Plain, after_rope: true }).filter(|_| rotates && normed);
        a.temperature = Some(growth).filter(|_| !rotates && grows);
    });
    experts(h, &mut s)?;
    Ok(s)
}

/// Which layers see only their chunk.
fn chunked_layers(h: &Hparams, rotated: &[usize]) -> Result<Vec<bool>> {
    let Some(types) = h.opt_strs("layer_types")? else {
        return Ok(rotated.iter().map(|&r| r != 0).collect());
    };
    let kind = |t: &String| match t.as_str() {
        "chunked_attention" => Ok(true),
        "full_attention" => Ok(false),
        other => Err(h.bad("layer_types", other, "chunked_attention or full_attention")),
    };
    if types.len() != rotated.len() {
        return Err(h.bad("layer_types", format!("{} entries", types.len()), "one for each layer"));
    }
    types.iter().map(kind).collect()
}

/// Experts in every layer or every second; GGUF gives the dense layers' width where config.json gives the experts'.
fn experts(h: &Hparams, s: &mut Spec) -> Result<()> {
    let act = activation(h, Act::Silu)?;
    let (dense, dim) = if h.is_gguf() {
        (h.dim("feed_forward_length")?, h.dim("expert_feed_forward_length")?)
    } else {
        (h.dim("dense_feed_forward_length")?, h.dim("feed_forward_length")?)
    };
    let moe = Moe {
        routing: Routing { score: Score::Sigmoid, weigh_input: true, ..Routing::SOFTMAX },
        shared: Some(Shared { dim, gate: false }),
        ..Moe::of(h, dim, act)?
    };
    let step = h.opt_usize("interleave_moe_layer_step")?.unwrap_or(1);
    let listed = h.opt_counts("moe_layers")?;
    for (i, layer) in s.layers.iter_mut().enumerate() {
        let sparse = listed.as_ref().map_or((i + 1).is_multiple_of(step), |list| list.contains(&i));
        layer.ffn = if sparse { Ffn::Moe(Box::new(moe.clone())) } else { Ffn::Glu { dim: dense, act } };
    }
    Ok(())
}

/// Experts lie with inputs before outputs.
fn edit(_: &Spec, name: &str, tensor: Tensor) -> Result<Tensor> {
    if !name.ends_with("_exps.weight") {
        return Ok(tensor);
    }
    tensor.transposed().ok_or_else(|| Error::Tensor {
        file: tensor.file().display().to_string(),
        tensor: tensor.name.clone(),
        found: format!("shape {:?}", tensor.shape),
        expected: "matrices of plain numbers".into(),
    })
}
