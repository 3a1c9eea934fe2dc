//! Families that each differ from llama by one or two things.

use crate::Result;
use crate::arch::{AFTER_ATTENTION, Arch, FOUR_NORMS, activation, interleave, llama, row, windowed_by_period, windowed_layers};
use crate::hparams::Hparams;
use crate::spec::{Act, Ffn, Norms, Spec};

pub(super) const ARCHS: &[Arch] = &[
    Arch { gguf_interleaved: true, ..row("smollm3", &["SmolLM3ForCausalLM"], "SmolLM 3", smollm3) },
    Arch { names: FOUR_NORMS, ..row("exaone4", &["Exaone4ForCausalLM"], "EXAONE 4", exaone4) },
    Arch { gguf_names: AFTER_ATTENTION, ..row("seed_oss", &["SeedOssForCausalLM"], "Seed-OSS", seed_oss) },
    row("ernie4_5", &["Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM"], "ERNIE 4.5", ernie),
    Arch { gguf_interleaved: true, ..row("arcee", &["ArceeForCausalLM"], "Arcee AFM", arcee) },
    row("helium", &["HeliumForCausalLM"], "Helium", helium),
];

/// Llama, every fourth of whose layers is not rotated.
fn smollm3(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "smollm3")?;
    let n = s.layers.len();
    let step = h.opt_usize("no_rope_layer_interval")?.unwrap_or(4);
    let rotated = h.opt_counts("no_rope_layers")?.unwrap_or((1..=n).map(|i| usize::from(i % step != 0)).collect());
    if rotated.len() < n {
        return Err(h.bad("no_rope_layers", format!("{} entries", rotated.len()), format!("{n}, one for each layer")));
    }
    let window = h.opt_count("attention.sliding_window")?.filter(|&w| w > 0);
    let used = h.opt_bool("use_sliding_window")?.unwrap_or(false);
    h.opt_count("max_window_layers")?;
    let windowed = windowed_layers(h, n, |i| rotated[i] == 0)?;
    s.each_attn(|i, a| {
        a.rope = a.rope.filter(|_| rotated[i] != 0);
        a.window = window.filter(|_| used && windowed[i]);
    });
    s.tied = if h.is_gguf() { None } else { Some(h.opt_bool("tie_word_embeddings")?.unwrap_or(true)) };
    Ok(s)
}

/// Llama with norms after both halves instead of before, normalised heads, and in the larger model windows, where what
/// has none is not rotated.
fn exaone4(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "exaone4")?;
    let window = h.opt_count("attention.sliding_window")?.filter(|&w| w > 0);
    let windowed = windowed_by_period(h, s.layers.len(), 4)?;
    s.each_attn(|i, a| {
        a.qk_norm = llama::QK_NORM;
        a.window = window.filter(|_| windowed[i]);
        a.rope = a.rope.filter(|_| window.is_none() || windowed[i]);
    });
    let after = Norms { before_mixer: false, after_mixer: true, before_ffn: false, after_ffn: true };
    s.layers.iter_mut().for_each(|l| l.norms = after);
    Ok(s)
}

/// Llama with biases, which the tensors show.
fn seed_oss(h: &Hparams) -> Result<Spec> {
    Spec::llama(h, "seed_oss")
}

/// Llama that rotates neighbours, in every file.
fn ernie(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "ernie4_5")?;
    s.tied = if h.is_gguf() { None } else { Some(h.opt_bool("tie_word_embeddings")?.unwrap_or(true)) };
    h.shown_by_tensors(&["use_bias"]);
    interleave(&mut s.ropes);
    Ok(s)
}

/// Llama without gates, under the square of ReLU.
fn arcee(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "arcee")?;
    let ffn = Ffn::Mlp { dim: h.dim("feed_forward_length")?, act: activation(h, Act::Relu2)? };
    s.layers.iter_mut().for_each(|l| l.ffn = ffn.clone());
    Ok(s)
}

/// Llama that rotates neighbours.
fn helium(h: &Hparams) -> Result<Spec> {
    let mut s = Spec::llama(h, "helium")?;
    interleave(&mut s.ropes);
    Ok(s)
}
