//! Zyphra's Zamba 2: Mamba-2 everywhere, and a few transformer blocks that several layers share.

use crate::Result;
use crate::arch::{Arch, activation, attention, kinds, row};
use crate::hparams::Hparams;
use crate::lead::Lead;
use crate::mixers::mamba2::GatedNorm;
use crate::mixers::{Attn, Mamba2, Mixer};
use crate::rope_hparams::rope;
use crate::spec::{Act, Norms, Spec};

pub(super) const ARCHS: &[Arch] =
    &[Arch { names: NAMES, ours: true, ..row("zamba2", &["Zamba2ForCausalLM"], "Zamba 2", zamba2) }];

const NAMES: &[(&str, &str)] = &[
    ("final_layernorm", "output_norm"),
    ("linear", "lead_out"),
    ("mamba_decoder.input_layernorm", "attn_norm"),
    ("mamba_decoder.mamba.in_proj", "ssm_in"),
    ("mamba_decoder.mamba.conv1d", "ssm_conv1d"),
    ("mamba_decoder.mamba.dt_bias", "ssm_dt.bias"),
    ("mamba_decoder.mamba.A_log", "ssm_a_log"),
    ("mamba_decoder.mamba.D", "ssm_d"),
    ("mamba_decoder.mamba.norm", "ssm_norm"),
    ("mamba_decoder.mamba.out_proj", "ssm_out"),
    ("shared_transformer.input_layernorm", "lead_norm"),
    ("shared_transformer.pre_ff_layernorm", "lead_ffn_norm"),
    ("shared_transformer.self_attn.q_proj", "lead_q"),
    ("shared_transformer.self_attn.k_proj", "lead_k"),
    ("shared_transformer.self_attn.v_proj", "lead_v"),
    ("shared_transformer.self_attn.o_proj", "lead_output"),
    ("shared_transformer.self_attn.linear_q_adapter_list", "lead_q_beside"),
    ("shared_transformer.self_attn.linear_k_adapter_list", "lead_k_beside"),
    ("shared_transformer.self_attn.linear_v_adapter_list", "lead_v_beside"),
    ("shared_transformer.feed_forward.gate_up_proj", "lead_up"),
    ("shared_transformer.feed_forward.gate_up_proj_adapter_list", "lead_up_beside"),
    ("shared_transformer.feed_forward.down_proj", "lead_down"),
];

/// Mamba-2, led in some layers by one of a few transformer blocks in turn (arXiv:2411.15242).
fn zamba2(h: &Hparams) -> Result<Spec> {
    let mut s =
        Spec::stem(h, "zamba2", h.layers()?, h.usize("context_length")?)?.tied_unless_said(h, true)?;
    h.shown_by_tensors(&["add_bias_linear"]);
    if h.opt_bool("use_long_context")? == Some(true) {
        return Err(h.bad("use_long_context", true, "false: no published model says how it rotates"));
    }
    // transformers holds steps above `time_step_min`; what the models were trained by does not, and is followed.
    let mamba = Mamba2::of(h, s.dim)?;
    let mamba = Mamba2 { gated_norm: GatedNorm::After { groups: mamba.n_groups, eps: 1e-5 }, ..mamba };
    let blocks = h.opt_usize("num_mem_blocks")?.unwrap_or(1);
    let lead = lead(h, &mut s)?;
    let mut homes: Vec<usize> = vec![];
    let mut turn = 0;
    let led = led_layers(h, s.layers.len())?;
    for (i, layer) in s.layers.iter_mut().enumerate() {
        layer.mixers = vec![Mixer::Mamba2(mamba.clone())];
        layer.norms = Norms { before_ffn: false, ..Norms::PRE };
        if led[i] {
            if homes.len() < blocks {
                homes.push(i);
            }
            layer.lead = Some(Box::new(Lead { home: homes[turn % homes.len()], turn, ..lead.clone() }));
            turn += 1;
        }
    }
    Ok(s)
}

/// Attention over the stream beside the embedding, of scores scaled as if heads were half as wide.
fn lead(h: &Hparams, s: &mut Spec) -> Result<Lead> {
    let width = 2 * s.dim;
    if h.opt_usize("attention_hidden_size")?.is_some_and(|n| n != width) {
        return Err(h.bad("attention_hidden_size", "another width", format!("twice the stream's, {width}")));
    }
    let attn = attention(h, width)?;
    let heads = attn.n_heads.checked_mul(attn.head_dim);
    if heads != Some(width) {
        return Err(h.bad("attention.key_length", attn.head_dim, format!("heads that make {width}")));
    }
    let rope = rope(h, attn.head_dim)?;
    let rotated = h.opt_bool("use_mem_rope")?.unwrap_or(false);
    s.ropes = if rotated { vec![rope] } else { vec![] };
    let scale = (attn.head_dim as f32 / 2.0).powf(-0.5);
    let width_or = |key: &str, usual: usize| if h.has(key) { h.dim(key) } else { Ok(usual) };
    let rank = width_or("adapter_rank", 128)?;
    let beside = h.opt_bool("use_shared_attention_adapter")?.unwrap_or(false);
    Ok(Lead {
        attn: Mixer::Attn(Attn { scale, rope: rotated.then_some(0), ..attn }),
        dim: width_or("feed_forward_length", 4 * s.dim)?,
        act: activation(h, Act::Gelu)?,
        home: 0,
        turn: 0,
        attn_rank: beside.then_some(rank),
        rank,
    })
}

/// Which layers are led: as words or as numbers.
fn led_layers(h: &Hparams, n: usize) -> Result<Vec<bool>> {
    let words = [("mamba", false), ("linear_attention", false), ("hybrid", true)];
    let ids = h.opt_counts("hybrid_layer_ids")?;
    match (kinds(h, n, &words)?, ids) {
        (Some(kinds), _) => Ok(kinds),
        (None, Some(ids)) => Ok((0..n).map(|i| ids.contains(&i)).collect()),
        (None, None) => Err(h.bad("layer_types", "nothing", "mamba or hybrid for each layer")),
    }
}
