//! Falcon: three shapes of one name.

use crate::Result;
use crate::arch::gpt::{NAMES, Usual, by_part, gpt};
use crate::arch::{Arch, row};
use crate::hparams::Hparams;
use crate::mixers::Alibi;
use crate::spec::{Act, Spec};

pub(super) const ARCHS: &[Arch] = &[Arch {
    names: NAMES,
    edit: Some(by_part),
    ..row("falcon", &["FalconForCausalLM", "RWForCausalLM"], "Falcon", falcon)
}];

/// The 7B: one key and value for all heads, the branches side by side behind one norm. The "new" ones: grouped keys,
/// each branch with its norm (the 11B again with one). The RW ones: ALiBi, one branch after the other.
fn falcon(h: &Hparams) -> Result<Spec> {
    let leans = h.opt_bool("alibi")?.unwrap_or(false);
    let rotated = (!leans).then_some(1.0);
    if leans {
        h.shown_by_tensors(&["rope.freq_base", "rope.scaling.type"]);
    }
    let mut s = gpt(h, "falcon", Usual { act: Act::Gelu, rotated, tied: true })?;
    if h.is_gguf() {
        s.in_parallel(if h.has_tensor("blk.0.attn_norm_2.weight") { 2 } else { 1 });
        return Ok(s);
    }
    let new = h.opt_bool("new_decoder_architecture")?.unwrap_or(false);
    let shared = h.opt_bool("multi_query")?.unwrap_or(true);
    s.each_attn(|_, a| {
        if !new {
            a.n_kv_heads = if shared { 1 } else { a.n_heads };
        }
        // The biases are added to the scores before those are scaled.
        a.alibi = leans.then_some(Alibi { max: 8.0, factor: a.scale });
    });
    let norms = h.opt_count("num_ln_in_parallel_attn")?;
    match h.opt_bool("parallel_attn")?.unwrap_or(true) {
        true => s.in_parallel(if new { norms.unwrap_or(2) } else { 1 }),
        false if new => return Err(h.bad("parallel_attn", "false", "true in the new architecture")),
        false => {}
    }
    Ok(s)
}
