//! Llama and Qwen with experts.

use crate::Result;
use crate::arch::{Arch, activation, llama, row};
use crate::hparams::Hparams;
use crate::moe::{Moe, Routing, Shared};
use crate::spec::{Act, Ffn, Spec};

pub(super) const ARCHS: &[Arch] = &[
    Arch {
        gguf_interleaved: true,
        names: MIXTRAL,
        ..row("llama", &["MixtralForCausalLM"], "Mixtral", mixtral)
    },
    row("qwen2moe", &["Qwen2MoeForCausalLM"], "Qwen 2 MoE", qwen2moe),
    row("qwen3moe", &["Qwen3MoeForCausalLM"], "Qwen 3 MoE", qwen3moe),
];

const MIXTRAL: &[(&str, &str)] = &[
    ("block_sparse_moe.gate", "ffn_gate_inp"),
    ("block_sparse_moe.experts.w1", "ffn_gate"),
    ("block_sparse_moe.experts.w2", "ffn_down"),
    ("block_sparse_moe.experts.w3", "ffn_up"),
];

/// Mistral with experts. (A GGUF of it is of the architecture `llama`, which asks here too.)
pub(super) fn mixtral(h: &Hparams) -> Result<Spec> {
    let mut s = Spec { arch: "llama", ..llama::mistral(h)? };
    let routing = Routing { normalise: true, ..Routing::SOFTMAX };
    let moe = Moe { routing, ..Moe::of(h, h.dim("feed_forward_length")?, activation(h, Act::Silu)?)? };
    s.layers.iter_mut().for_each(|l| l.ffn = Ffn::Moe(Box::new(moe.clone())));
    Ok(s)
}

/// Qwen 2 with experts and a gated one for all.
fn qwen2moe(h: &Hparams) -> Result<Spec> {
    let mut s = Spec { arch: "qwen2moe", ..llama::qwen2(h)? };
    let shared = h.dim("expert_shared_feed_forward_length")?;
    sparse(
        h,
        &mut s,
        Some(Shared { dim: shared, gate: true }),
        h.opt_bool("expert_weights_norm")?.unwrap_or(false),
    )?;
    Ok(s)
}

/// Qwen 3 with experts.
fn qwen3moe(h: &Hparams) -> Result<Spec> {
    let mut s = Spec { arch: "qwen3moe", ..llama::qwen3(h)? };
    h.must_be("use_qk_norm", true)?;
    if let Some(shared) = h.opt_count("expert_shared_feed_forward_length")?.filter(|&n| n > 0) {
        return Err(h.bad("expert_shared_feed_forward_length", shared, 0));
    }
    // Every published model normalises, and a GGUF does not say it.
    let normalise = h.opt_bool("expert_weights_norm")?.unwrap_or(h.is_gguf());
    sparse(h, &mut s, None, normalise)?;
    Ok(s)
}

/// Experts in the layers that are not said to do without.
fn sparse(h: &Hparams, s: &mut Spec, shared: Option<Shared>, normalise: bool) -> Result<()> {
    let step = h.opt_usize("decoder_sparse_step")?.unwrap_or(1);
    let dense = h.opt_counts("mlp_only_layers")?.unwrap_or_default();
    let dim = h.dim("expert_feed_forward_length")?;
    let routing = Routing { normalise, ..Routing::SOFTMAX };
    let moe = Moe { routing, shared, ..Moe::of(h, dim, activation(h, Act::Silu)?)? };
    for (i, layer) in s.layers.iter_mut().enumerate() {
        if (i + 1).is_multiple_of(step) && !dense.contains(&i) {
            layer.ffn = Ffn::Moe(Box::new(moe.clone()));
        }
    }
    Ok(())
}
