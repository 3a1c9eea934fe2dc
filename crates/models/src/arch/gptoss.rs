//! OpenAI's gpt-oss.

use crate::arch::{AFTER_ATTENTION, Arch, row, windowed_layers};
use crate::hparams::Hparams;
use crate::moe::{Moe, Routing, Score};
use crate::rope::Scaling;
use crate::spec::{Act, Ffn, Spec};
use crate::{Error, Result};
use weights::{DType, Tensor};

pub(super) const ARCHS: &[Arch] = &[Arch {
    names: NAMES,
    gguf_names: AFTER_ATTENTION,
    edit: Some(edit),
    ..row("gpt-oss", &["GptOssForCausalLM"], "gpt-oss", gptoss)
}];

const NAMES: &[(&str, &str)] = &[
    ("self_attn.sinks", "attn_sinks.weight"),
    ("mlp.router", "ffn_gate_inp"),
    ("mlp.experts.gate_up_proj", "ffn_gate_up_exps.weight"),
    ("mlp.experts.gate_up_proj_bias", "ffn_gate_up_exps.bias"),
    ("mlp.experts.gate_up_proj_blocks", "ffn_gate_up_exps.blocks"),
    ("mlp.experts.gate_up_proj_scales", "ffn_gate_up_exps.scales"),
    ("mlp.experts.down_proj", "ffn_down_exps.weight"),
    ("mlp.experts.down_proj_bias", "ffn_down_exps.bias"),
    ("mlp.experts.down_proj_blocks", "ffn_down_exps.blocks"),
    ("mlp.experts.down_proj_scales", "ffn_down_exps.scales"),
];

/// Llama with sinks, every other layer windowed, and experts under a clamped activation (arXiv:2508.10925).
fn gptoss(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "gpt-oss")?;
    let window = h.opt_count("attention.sliding_window")?.filter(|&w| w > 0);
    let layers = windowed_layers(h, s.layers.len(), |i| i % 2 == 0)?;
    s.each_attn(|i, a| {
        a.window = window.filter(|_| layers[i]);
        a.sinks = true;
    });
    if let Scaling::Yarn(yarn) = &mut s.ropes[0].scaling {
        // A GGUF has no word for what every published file says.
        yarn.truncate &= !h.is_gguf();
    }
    let dim = h.dim("feed_forward_length")?;
    if h.is_gguf() && h.opt_usize("expert_feed_forward_length")?.is_some_and(|d| d != dim) {
        return Err(h.bad("expert_feed_forward_length", "another width than feed_forward_length", dim));
    }
    let act = Act::SwigluOai { limit: h.opt_positive("swiglu_limit")?.unwrap_or(7.0) };
    let routing = Routing { score: Score::SoftmaxOfChosen, ..Routing::SOFTMAX };
    let ffn = Ffn::Moe(Box::new(Moe { routing, ..Moe::of(h, dim, act)? }));
    s.layers.iter_mut().for_each(|l| l.ffn = ffn.clone());
    Ok(s)
}

/// Plain experts lie with inputs before outputs; gates and ups alternate.
fn edit(_: &Spec, name: &str, tensor: Tensor) -> Result<Tensor> {
    let part = name.rsplit_once(".ffn_").map_or("", |(_, part)| part);
    let plain = tensor.dtype != DType::MXFP4;
    let edited = match part {
        "down_exps.weight" if plain => tensor.transposed(),
        "gate_up_exps.weight" if plain => tensor.transposed().and_then(|t| gates_first(&t)),
        "gate_up_exps.weight" | "gate_up_exps.bias" => gates_first(&tensor),
        _ => return Ok(tensor),
    };
    edited.ok_or_else(|| Error::Tensor {
        file: tensor.file().display().to_string(),
        tensor: tensor.name.clone(),
        found: format!("shape {:?}", tensor.shape),
        expected: "experts with as many gates as ups".into(),
    })
}

/// Of `[experts, 2 * inner, ..]`, the even rows of each expert and then the odd ones.
fn gates_first(tensor: &Tensor) -> Option<Tensor> {
    let [experts, rows, rest @ ..] = tensor.shape.as_slice() else { return None };
    let mut flat = tensor.clone();
    flat.shape = [&[experts.checked_mul(*rows)?], rest].concat();
    let of_expert = |e: usize| (0..*rows).step_by(2).chain((1..*rows).step_by(2)).map(move |r| e * rows + r);
    let order: Vec<usize> = (0..*experts).flat_map(of_expert).collect();
    let mut sorted = flat.reordered(&order)?;
    sorted.shape.clone_from(&tensor.shape);
    Some(sorted)
}
