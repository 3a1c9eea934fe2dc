//! The decoders before llama, and those that kept to them: LayerNorm, biases, a feed-forward without a gate.

use weights::Tensor;

use crate::arch::{Arch, activation, attention, row};
use crate::hparams::Hparams;
use crate::mixers::{Alibi, Attn, Mixer};
use crate::rope_hparams::partial_rope;
use crate::spec::{Act, Ffn, FfnScales, Layer, Norms, Positions, Spec};
use crate::{Error, Result};

pub(super) const ARCHS: &[Arch] = &[
    Arch {
        names: NAMES,
        edit: Some(untransposed),
        ..row("gpt2", &["GPT2LMHeadModel", "GPT2Model"], "GPT-2", gpt2)
    },
    Arch {
        names: NAMES,
        edit: Some(by_part),
        ..row("starcoder", &["GPTBigCodeForCausalLM"], "StarCoder (GPT-BigCode)", bigcode)
    },
    Arch { names: NAMES, ..row("starcoder2", &["Starcoder2ForCausalLM"], "StarCoder 2", starcoder2) },
    Arch {
        names: NAMES,
        edit: Some(by_part),
        ..row("gptneox", &["GPTNeoXForCausalLM"], "GPT-NeoX and Pythia", neox)
    },
    Arch { names: NAMES, ours: true, ..row("gptj", &["GPTJForCausalLM"], "GPT-J", gptj) },
    Arch {
        names: NAMES,
        edit: Some(by_part),
        ..row("bloom", &["BloomForCausalLM", "BloomModel"], "BLOOM", bloom)
    },
    Arch { names: NAMES, ..row("mpt", &["MptForCausalLM", "MPTForCausalLM"], "MPT", mpt) },
    Arch { names: OPT, ours: true, ..row("opt", &["OPTForCausalLM"], "OPT and Galactica", opt) },
    Arch { norm_less_one: true, ..row("nemotron", &["NemotronForCausalLM"], "Nemotron 3 and 4", nemotron) },
];

/// What all of them called things.
pub(super) const NAMES: &[(&str, &str)] = &[
    ("wte", "token_embd"),
    ("embed_in", "token_embd"),
    ("word_embeddings", "token_embd"),
    ("word_embeddings_layernorm", "token_embd_norm"),
    ("wpe", "position_embd"),
    ("ln_f", "output_norm"),
    ("norm_f", "output_norm"),
    ("final_layer_norm", "output_norm"),
    ("final_layernorm", "output_norm"),
    ("embed_out", "output"),
    // Norms of a layer.
    ("ln_1", "attn_norm"),
    ("ln_2", "ffn_norm"),
    ("norm_1", "attn_norm"),
    ("norm_2", "ffn_norm"),
    ("ln_attn", "attn_norm_2"),
    ("ln_mlp", "attn_norm"),
    // Attention.
    ("attn.c_attn", "attn_qkv"),
    ("attn.c_proj", "attn_output"),
    ("attn.Wqkv", "attn_qkv"),
    ("attn.q_proj", "attn_q"),
    ("attn.k_proj", "attn_k"),
    ("attn.v_proj", "attn_v"),
    ("attn.out_proj", "attn_output"),
    ("attention.query_key_value", "attn_qkv"),
    ("attention.dense", "attn_output"),
    ("self_attention.query_key_value", "attn_qkv"),
    ("self_attention.dense", "attn_output"),
    ("self_attn.dense", "attn_output"),
    ("self_attn.q_layernorm", "attn_q_norm"),
    ("self_attn.k_layernorm", "attn_k_norm"),
    // Feed-forward.
    ("mlp.c_fc", "ffn_up"),
    ("mlp.c_proj", "ffn_down"),
    ("mlp.dense_h_to_4h", "ffn_up"),
    ("mlp.dense_4h_to_h", "ffn_down"),
    ("mlp.fc1", "ffn_up"),
    ("mlp.fc2", "ffn_down"),
    ("mlp.fc_in", "ffn_up"),
    ("mlp.fc_out", "ffn_down"),
    ("ffn.up_proj", "ffn_up"),
    ("ffn.down_proj", "ffn_down"),
];

const OPT: &[(&str, &str)] = &[
    ("embed_positions", "position_embd"),
    ("layers.N.final_layer_norm", "ffn_norm"),
    ("final_layer_norm", "output_norm"),
    ("self_attn_layer_norm", "attn_norm"),
    ("self_attn.out_proj", "attn_output"),
    ("fc1", "ffn_up"),
    ("fc2", "ffn_down"),
];

/// What a file that does not say it means.
pub(super) struct Usual {
    pub act: Act,
    /// The part of a head that is rotated, if any.
    pub rotated: Option<f32>,
    pub tied: bool,
}

/// Pre-norm layers of attention and a feed-forward without a gate, four times as wide as the stream.
pub(super) fn gpt(h: &Hparams, arch: &'static str, usual: Usual) -> Result<Spec> {
    let dim = h.dim("embedding_length")?;
    h.shown_by_tensors(&["attention_bias", "mlp_bias", "lm_head_bias"]);
    let attn = attention(h, dim)?;
    let ropes: Option<_> = usual.rotated.map(|part| partial_rope(h, attn.head_dim, part)).transpose()?;
    let inner = match h.opt_usize("feed_forward_length")? {
        Some(_) => h.dim("feed_forward_length")?,
        None => 4 * dim,
    };
    let layer = Layer {
        mixers: vec![Mixer::Attn(Attn { rope: ropes.as_ref().map(|_| 0), ..attn })],
        ffn: Ffn::Mlp { dim: inner, act: activation(h, usual.act)? },
        norms: Norms::PRE,
        parallel: false,
        residual_scale: 1.0,
        ffn_scales: FfnScales::ONE,
        laurel: None,
        lead: None,
    };
    let context = h.opt_usize("context_length")?.unwrap_or(2048);
    let s = Spec { ropes: ropes.into_iter().collect(), context, ..Spec::alike(h, arch, layer)? };
    s.with_layer_norm(h)?.tied_unless_said(h, usual.tied)
}

/// Learned positions. (Two keys of it scale the scores otherwise; few models use them.)
fn gpt2(h: &Hparams) -> Result<Spec> {
    let mut s = gpt(h, "gpt2", Usual { act: Act::GeluTanh, rotated: None, tied: true })?;
    s.positions = Some(Positions { rows: s.context, offset: 0 });
    let scaled = h.opt_bool("scale_attn_weights")?.unwrap_or(true);
    let by_layer = h.opt_bool("scale_attn_by_inverse_layer_idx")?.unwrap_or(false);
    s.each_attn(|i, a| {
        a.scale = if scaled { a.scale } else { 1.0 } / if by_layer { (i + 1) as f32 } else { 1.0 };
    });
    Ok(s)
}

/// GPT-2 whose heads share one key and value.
fn bigcode(h: &Hparams) -> Result<Spec> {
    let mut s = Spec { arch: "starcoder", ..gpt2(h)? };
    if !h.is_gguf() {
        let shared = h.opt_bool("multi_query")?.unwrap_or(true);
        s.each_attn(|_, a| a.n_kv_heads = if shared { 1 } else { a.n_heads });
    }
    Ok(s)
}

/// Rotated, with a window.
fn starcoder2(h: &Hparams) -> Result<Spec> {
    let mut s = gpt(h, "starcoder2", Usual { act: Act::GeluTanh, rotated: Some(1.0), tied: true })?;
    let window = h.opt_count("attention.sliding_window")?.filter(|&w| w > 0);
    s.each_attn(|_, a| a.window = window);
    Ok(s)
}

/// A quarter of each head rotated; the branches side by side, each with its norm, or one after the other.
fn neox(h: &Hparams) -> Result<Spec> {
    let mut s = gpt(h, "gptneox", Usual { act: Act::Gelu, rotated: Some(0.25), tied: false })?;
    if h.opt_bool("use_parallel_residual")?.unwrap_or(true) {
        s.in_parallel(2);
    }
    Ok(s)
}

/// The branches side by side behind one norm; neighbours are rotated.
fn gptj(h: &Hparams) -> Result<Spec> {
    let mut s = gpt(h, "gptj", Usual { act: Act::GeluTanh, rotated: Some(1.0), tied: false })?;
    h.shown_by_tensors(&["scale_attn_weights"]);
    super::interleave(&mut s.ropes);
    s.in_parallel(1);
    Ok(s)
}

/// ALiBi in place of positions, and a norm on the embedding.
fn bloom(h: &Hparams) -> Result<Spec> {
    let mut s = gpt(h, "bloom", Usual { act: Act::GeluTanh, rotated: None, tied: true })?;
    s.embed_norm = true;
    s.each_attn(|_, a| a.alibi = Some(Alibi { max: 8.0, factor: 1.0 }));
    Ok(s)
}

/// ALiBi or learned positions, perhaps clipped, without biases.
fn mpt(h: &Hparams) -> Result<Spec> {
    let mut s = gpt(h, "mpt", Usual { act: Act::Gelu, rotated: None, tied: true })?;
    if let Some(other) = h.opt_str("attn_type")?.filter(|t| t != "multihead_attention") {
        return Err(h.bad("attn_type", other, "multihead_attention"));
    }
    if let Some(other) = h.opt_f32("logit_scale")? {
        return Err(h.bad("logit_scale", other, "nothing: no published model scales its logits"));
    }
    if let Some(ratio) = h.opt_usize("expansion_ratio")?.filter(|&r| r != 4) {
        return Err(h.bad("expansion_ratio", ratio, "4, as in every published model"));
    }
    let max = h.opt_f32("attention.max_alibi_bias")?.unwrap_or(8.0);
    let leans = h.opt_bool("alibi")?.unwrap_or(true) && max > 0.0;
    let learned = h.opt_bool("learned_pos_emb")?.unwrap_or(true) && !leans;
    s.positions = learned.then_some(Positions { rows: s.context, offset: 0 });
    let clip = h.opt_positive("attention.clamp_kqv")?;
    s.each_attn(|_, a| {
        a.alibi = leans.then_some(Alibi { max, factor: 1.0 });
        a.clip = clip;
    });
    Ok(s)
}

/// Learned positions of which the first two are not used.
fn opt(h: &Hparams) -> Result<Spec> {
    let mut s = gpt(h, "opt", Usual { act: Act::Relu, rotated: None, tied: true })?;
    if h.opt_bool("do_layer_norm_before")? == Some(false) {
        return Err(h.bad(
            "do_layer_norm_before",
            "false",
            "true: of the published models only OPT-350M differs",
        ));
    }
    if let Some(other) = h.opt_usize("word_embed_proj_dim")?.filter(|&n| n != s.dim) {
        let expected = format!("the width {}: projected embeddings are not built", s.dim);
        return Err(h.bad("word_embed_proj_dim", other, expected));
    }
    s.positions = Some(Positions { rows: s.context.saturating_add(2), offset: 2 });
    Ok(s)
}

/// Half of each head rotated, squared ReLU; the norms' weights are stored less one.
fn nemotron(h: &Hparams) -> Result<Spec> {
    gpt(h, "nemotron", Usual { act: Act::Relu2, rotated: Some(0.5), tied: false })
}

/// Queries, keys and values lie together by head (or by the heads that share a key): all queries come first.
pub(super) fn by_part(s: &Spec, name: &str, tensor: Tensor) -> Result<Tensor> {
    let Some(Mixer::Attn(a)) = s.mixers().next() else { return Ok(tensor) };
    let (width, each) = (a.head_dim, a.n_heads / a.n_kv_heads);
    let rows = (each + 2) * width * a.n_kv_heads;
    if !name.contains(".attn_qkv.") || tensor.shape.first() != Some(&rows) {
        return Ok(tensor);
    }
    let part = |from: usize, heads: usize| {
        (0..a.n_kv_heads).flat_map(move |g| {
            let first = (g * (each + 2) + from) * width;
            first..first + heads * width
        })
    };
    let order: Vec<usize> = part(0, each).chain(part(each, 1)).chain(part(each + 1, 1)).collect();
    tensor.reordered(&order).ok_or_else(|| misfit(&tensor, "rows that can be put in another order"))
}

/// GPT-2's matrices are `[in, out]`.
fn untransposed(_: &Spec, name: &str, tensor: Tensor) -> Result<Tensor> {
    let linear = ["attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight"];
    if !linear.iter().any(|end| name.ends_with(end)) {
        return Ok(tensor);
    }
    tensor.transposed().ok_or_else(|| misfit(&tensor, "a matrix of plain numbers"))
}

fn misfit(tensor: &Tensor, expected: &str) -> Error {
    Error::Tensor {
        file: tensor.file().display().to_string(),
        tensor: tensor.name.clone(),
        found: format!("{} of shape {:?}", tensor.dtype.format().name, tensor.shape),
        expected: expected.to_string(),
    }
}
