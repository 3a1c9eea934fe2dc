//! RWKV 4 and 7, and RecurrentGemma: recurrences of their own kinds.

use crate::Result;
use crate::arch::{Arch, activation, attention, row};
use crate::convert::{Form, Rule};
use crate::hparams::Hparams;
use crate::mixers::{Attn, ChannelMix, Mixer, RgLru, TimeMix4, TimeMix7};
use crate::rope_hparams::partial_rope;
use crate::spec::{Act, Ffn, Norm, NormKind, Spec};

pub(super) const ARCHS: &[Arch] = &[
    Arch { names: RWKV4, ours: true, ..row("rwkv4", &["RwkvForCausalLM"], "RWKV 4", rwkv4) },
    Arch {
        names: RWKV7,
        gguf_names: &[("attn_norm_2", "ffn_norm")],
        to_gguf: TO_RWKV7,
        ..row("rwkv7", &["RWKV7ForCausalLM", "Rwkv7ForCausalLM"], "RWKV 7", rwkv7)
    },
    Arch {
        names: GRIFFIN,
        ours: true,
        norm_less_one: true,
        ..row("recurrentgemma", &["RecurrentGemmaForCausalLM"], "RecurrentGemma", recurrent_gemma)
    },
];

const RWKV4: &[(&str, &str)] = &[
    ("embeddings", "token_embd"),
    ("ln_out", "output_norm"),
    ("head", "output"),
    ("pre_ln", "token_embd_norm"),
    ("ln1", "attn_norm"),
    ("ln2", "ffn_norm"),
    ("attention.time_decay", "time_mix_decay"),
    ("attention.time_first", "time_mix_first"),
    ("attention.time_mix_key", "time_mix_key_share"),
    ("attention.time_mix_value", "time_mix_value_share"),
    ("attention.time_mix_receptance", "time_mix_receptance_share"),
    ("attention.key", "time_mix_key"),
    ("attention.value", "time_mix_value"),
    ("attention.receptance", "time_mix_receptance"),
    ("attention.output", "time_mix_output"),
    ("feed_forward.time_mix_key", "channel_mix_key_share"),
    ("feed_forward.time_mix_receptance", "channel_mix_receptance_share"),
    ("feed_forward.key", "channel_mix_key"),
    ("feed_forward.receptance", "channel_mix_receptance"),
    ("feed_forward.value", "channel_mix_value"),
];

/// As the published checkpoints in safetensors name them (flash-linear-attention).
const RWKV7: &[(&str, &str)] = &[
    ("embeddings", "token_embd"),
    ("pre_norm", "token_embd_norm"),
    ("attn_norm", "attn_norm"),
    ("ffn_norm", "ffn_norm"),
    ("attn.x_r", "time_mix_lerp_r.weight"),
    ("attn.x_w", "time_mix_lerp_w.weight"),
    ("attn.x_k", "time_mix_lerp_k.weight"),
    ("attn.x_v", "time_mix_lerp_v.weight"),
    ("attn.x_a", "time_mix_lerp_a.weight"),
    ("attn.x_g", "time_mix_lerp_g.weight"),
    ("attn.k_k", "time_mix_k_k.weight"),
    ("attn.k_a", "time_mix_k_a.weight"),
    ("attn.r_k", "time_mix_r_k.weight"),
    ("attn.r_proj", "time_mix_receptance"),
    ("attn.k_proj", "time_mix_key"),
    ("attn.v_proj", "time_mix_value"),
    ("attn.o_proj", "time_mix_output"),
    ("attn.g_norm", "time_mix_ln"),
    ("attn.w_lora.lora.0", "time_mix_w1"),
    ("attn.w_lora.lora.2.weight", "time_mix_w2.weight"),
    ("attn.w_lora.lora.2.bias", "time_mix_w0.weight"),
    ("attn.a_lora.lora.0", "time_mix_a1"),
    ("attn.a_lora.lora.2.weight", "time_mix_a2.weight"),
    ("attn.a_lora.lora.2.bias", "time_mix_a0.weight"),
    ("attn.v_lora.lora.0", "time_mix_v1"),
    ("attn.v_lora.lora.2.weight", "time_mix_v2.weight"),
    ("attn.v_lora.lora.2.bias", "time_mix_v0.weight"),
    ("attn.g_lora.lora.0", "time_mix_g1"),
    ("attn.g_lora.lora.2", "time_mix_g2"),
    ("ffn.x_k", "channel_mix_lerp_k.weight"),
    ("ffn.key", "channel_mix_key"),
    ("ffn.value", "channel_mix_value"),
];

/// The first layer has what it does not use, and not the norm of the embedding.
const TO_RWKV7: &[Rule] = &[
    ("token_embd_norm.weight", &[("/token_embd_norm.weight", &[])]),
    ("token_embd_norm.bias", &[("/token_embd_norm.bias", &[])]),
    ("time_mix_k_k.weight", &[("time_mix_k_k.weight", &[Form::Row(0)])]),
    ("time_mix_k_a.weight", &[("time_mix_k_a.weight", &[Form::Row(0)])]),
    ("time_mix_r_k.weight", &[("time_mix_r_k.weight", &[Form::Row(0)])]),
    ("channel_mix_lerp_k.weight", &[("channel_mix_lerp_k.weight", &[Form::Row(2)])]),
    ("time_mix_a0.weight", &[("time_mix_a0.weight", &[]), ("time_mix_v0.weight", &[Form::InFirst])]),
    ("time_mix_a1.weight", &[("time_mix_a1.weight", &[]), ("time_mix_v1.weight", &[Form::InFirst])]),
    ("time_mix_a2.weight", &[("time_mix_a2.weight", &[]), ("time_mix_v2.weight", &[Form::InFirst])]),
];

const GRIFFIN: &[(&str, &str)] = &[
    ("final_norm", "output_norm"),
    ("temporal_pre_norm", "attn_norm"),
    ("channel_pre_norm", "ffn_norm"),
    ("temporal_block.q_proj", "attn_q"),
    ("temporal_block.k_proj", "attn_k"),
    ("temporal_block.v_proj", "attn_v"),
    ("temporal_block.o_proj", "attn_output"),
    ("temporal_block.linear_x", "lru_x"),
    ("temporal_block.linear_y", "lru_y"),
    ("temporal_block.linear_out", "lru_out"),
    ("temporal_block.conv_1d", "lru_conv"),
    ("temporal_block.rg_lru.recurrent_param", "lru_rate"),
    ("temporal_block.rg_lru.input_gate_weight", "lru_input_gate.weight"),
    ("temporal_block.rg_lru.input_gate_bias", "lru_input_gate.bias"),
    ("temporal_block.rg_lru.recurrent_gate_weight", "lru_recurrent_gate.weight"),
    ("temporal_block.rg_lru.recurrent_gate_bias", "lru_recurrent_gate.bias"),
    ("mlp_block.gate_proj", "ffn_gate"),
    ("mlp_block.up_proj", "ffn_up"),
    ("mlp_block.down_proj", "ffn_down"),
];

/// A stem whose norms have means and biases, of the embedding too. The context is not bounded.
fn rwkv(h: &Hparams, arch: &'static str) -> Result<Spec> {
    let mut s = Spec::stem(h, arch, h.layers()?, h.opt_usize("context_length")?.unwrap_or(1 << 20))?;
    let eps = h.opt_positive("attention.layer_norm_epsilon")?.unwrap_or(1e-5);
    s.norm = Norm { kind: NormKind::Layer, eps, affine: true };
    s.embed_norm = true;
    Ok(s)
}

/// Halving the stream every few layers (`rescale_every`) keeps half precision from overflowing; the halves cancel.
fn rwkv4(h: &Hparams) -> Result<Spec> {
    let mut s = rwkv(h, "rwkv4")?;
    h.opt_count("rescale_every")?;
    let inner = h.opt_usize("attention_hidden_size")?.unwrap_or(s.dim);
    let width = h.opt_usize("feed_forward_length")?.unwrap_or(4 * s.dim);
    if inner > 1 << 30 || width > 1 << 30 {
        return Err(h.bad("feed_forward_length", width, "a width that can be"));
    }
    for layer in &mut s.layers {
        layer.mixers = vec![Mixer::TimeMix4(TimeMix4 { dim: s.dim, inner })];
        layer.ffn =
            Ffn::Mixer(Box::new(Mixer::ChannelMix(ChannelMix { dim: s.dim, inner: width, gated: true })));
    }
    Ok(s)
}

fn rwkv7(h: &Hparams) -> Result<Spec> {
    let mut s = rwkv(h, "rwkv7")?;
    // Said in the files, and not used by the model.
    h.shown_by_tensors(&["attention.head_count", "ssm.time_step_rank", "token_shift_count", "norm_bias"]);
    match h.opt_str("hidden_act")?.as_deref() {
        None | Some("sqrelu" | "relu2") => {}
        Some(other) => return Err(h.bad("hidden_act", other, "sqrelu")),
    }
    if h.opt_bool("norm_first")? == Some(false) {
        return Err(h.bad("norm_first", false, "true: no published model is without"));
    }
    let size = h.dim(if h.is_gguf() { "wkv.head_size" } else { "attention.key_length" })?;
    if !s.dim.is_multiple_of(size) {
        return Err(h.bad("wkv.head_size", size, format!("a divisor of the width {}", s.dim)));
    }
    let rank = |kind: &str| h.dim(&format!("attention.{kind}_lora_rank"));
    let ranks = [rank("decay")?, rank("iclr")?, rank("value_residual_mix")?, rank("gate")?];
    let inner = h.opt_usize("feed_forward_length")?.unwrap_or(4 * s.dim);
    if inner > 1 << 30 {
        return Err(h.bad("feed_forward_length", inner, "a width that can be"));
    }
    let eps = s.norm.eps * size as f32;
    let mix = TimeMix7 { heads: s.dim / size, head_dim: size, ranks, eps, first: false };
    for (i, layer) in s.layers.iter_mut().enumerate() {
        layer.mixers = vec![Mixer::TimeMix7(TimeMix7 { first: i == 0, ..mix })];
        layer.ffn = Ffn::Mixer(Box::new(Mixer::ChannelMix(ChannelMix { dim: s.dim, inner, gated: false })));
    }
    Ok(s)
}

/// Gemma with two recurrent blocks to one attention over a window, half of each head rotated.
fn recurrent_gemma(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::stem(h, "recurrentgemma", h.layers()?, h.opt_usize("context_length")?.unwrap_or(8192))?;
    h.shown_by_tensors(&["attention_bias"]);
    s.tied = Some(h.opt_bool("tie_word_embeddings")?.unwrap_or(true));
    // The published factor has bfloat16's precision.
    let root = (s.dim as f32).sqrt().to_bits();
    s.embed_scale = f32::from_bits((root + 0x7fff + (root >> 16 & 1)) & 0xffff_0000);
    s.logit_softcap = h.opt_positive("final_logit_softcapping")?.or(Some(30.0));
    let window = h.opt_usize("attention.sliding_window")?.or(Some(2048));
    let attn = Attn { window, ..attention(h, s.dim)? };
    s.ropes = vec![partial_rope(h, attn.head_dim, 0.5)?];
    let inner = h.opt_usize("lru_width")?.unwrap_or(s.dim);
    let conv_kernel = h.opt_usize("ssm.conv_kernel")?.unwrap_or(4);
    if !inner.is_multiple_of(attn.n_heads) || inner > 1 << 30 || conv_kernel > 1 << 16 {
        return Err(h.bad("lru_width", inner, format!("a multiple of the {} heads", attn.n_heads)));
    }
    let act = activation(h, Act::GeluTanh)?;
    let block = RgLru { inner, blocks: attn.n_heads, conv_kernel, act };
    let kinds = h
        .opt_strs("block_types")?
        .unwrap_or_else(|| ["recurrent", "recurrent", "attention"].map(Into::into).into());
    let width = h.dim("feed_forward_length")?;
    for (i, layer) in s.layers.iter_mut().enumerate() {
        layer.ffn = Ffn::Glu { dim: width / 2, act };
        layer.mixers = match kinds.get(i % kinds.len().max(1)).map(String::as_str) {
            Some("attention") => vec![Mixer::Attn(attn.clone())],
            Some("recurrent") => vec![Mixer::RgLru(block.clone())],
            other => return Err(h.bad("block_types", other.unwrap_or("nothing"), "recurrent or attention")),
        };
    }
    Ok(s)
}
