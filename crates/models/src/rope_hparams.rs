//! Reads a [`Rope`] from hyperparameters, in GGUF's spelling and both of transformers'.
//!
//! A rotary scaling that is not known is refused: leaving it out would give text that looks right for
//! a while.

use crate::hparams::Hparams;
use crate::rope::{Rope, Scaling, Yarn, yarn_mscale};
use crate::{Error, Result};

/// The rope of a model whose heads are `head_dim` wide.
pub(crate) fn rope(h: &Hparams, head_dim: usize) -> Result<Rope> {
    partial_rope(h, head_dim, 1.0)
}

/// As [`rope`], where a file that does not say it means that only this part of a head is rotated.
pub(crate) fn partial_rope(h: &Hparams, head_dim: usize, part: f32) -> Result<Rope> {
    let theta = h.opt_positive("rope.freq_base")?.unwrap_or(10_000.0);
    let partial = h.opt_positive("rope.partial")?.unwrap_or(part);
    let dim = h.opt_usize("rope.dimension_count")?.unwrap_or((head_dim as f32 * partial) as usize);
    if dim > head_dim || dim % 2 == 1 || dim == 0 {
        return Err(h.bad(
            "rope.dimension_count",
            dim,
            format!("an even number from 2 to the head's {head_dim}"),
        ));
    }
    let scaling = scaling(h, dim)?;
    Ok(Rope { scaling, ..Rope::plain(dim, theta) })
}

fn scaling(h: &Hparams, dim: usize) -> Result<Scaling> {
    let kind = h.opt_str("rope.scaling.type")?;
    match kind.as_deref() {
        // A GGUF of a longrope model names no type: the factor and two tensors stand for it.
        None if h.is_gguf() && h.opt_f32("rope.scaling.attn_factor")?.is_some() => longrope(h, dim),
        None | Some("default" | "none") => none(h),
        Some("linear") => Ok(Scaling::Linear { factor: factor(h)? }),
        Some("dynamic") => dynamic(h),
        Some("llama3") => llama3(h),
        Some("yarn") if h.opt_f32s("rope.scaling.long_factor")?.is_none() => yarn(h),
        Some("longrope" | "su" | "yarn") => longrope(h, dim),
        Some(other) => {
            Err(h.bad("rope.scaling.type", other, "default, linear, dynamic, llama3, yarn or longrope"))
        }
    }
}

/// Without a scaling, a length of the first training says nothing.
fn none(h: &Hparams) -> Result<Scaling> {
    h.opt_usize("rope.scaling.original_context_length")?;
    Ok(Scaling::None)
}

fn factor(h: &Hparams) -> Result<f32> {
    h.positive("rope.scaling.factor")
}

fn original(h: &Hparams) -> Result<usize> {
    match h.opt_usize("rope.scaling.original_context_length")? {
        Some(n) => Ok(n),
        None => h.usize("context_length"),
    }
}

/// transformers measures the growth from `max_position_embeddings`, whatever else the file says.
fn dynamic(h: &Hparams) -> Result<Scaling> {
    original(h)?;
    Ok(Scaling::Dynamic { factor: factor(h)?, original: h.usize("context_length")? })
}

fn llama3(h: &Hparams) -> Result<Scaling> {
    let low = h.positive("rope.scaling.low_freq_factor")?;
    let high = h.positive("rope.scaling.high_freq_factor")?;
    if high < low {
        return Err(h.bad("rope.scaling.high_freq_factor", high, format!("at least the low one, {low}")));
    }
    Ok(Scaling::Llama3 { factor: factor(h)?, low, high, original: original(h)? })
}

fn yarn(h: &Hparams) -> Result<Scaling> {
    let original = original(h)?;
    let factor = match h.opt_positive("rope.scaling.factor")? {
        Some(f) => f,
        None => h.usize("context_length")? as f32 / original as f32,
    };
    let (mscale, all) = (h.opt_f32("rope.scaling.mscale")?, h.opt_f32("rope.scaling.mscale_all_dim")?);
    let own = match (mscale.filter(|&m| m != 0.0), all.filter(|&m| m != 0.0)) {
        (Some(m), Some(all)) => yarn_mscale(factor, m) / yarn_mscale(factor, all),
        _ => yarn_mscale(factor, 1.0),
    };
    // GGUF's attn_factor multiplies YaRN's own factor; config.json's attention_factor replaces it.
    let given = h.opt_positive("rope.scaling.attn_factor")?;
    let attention_factor = if h.is_gguf() { own * given.unwrap_or(1.0) } else { given.unwrap_or(own) };
    Ok(Scaling::Yarn(Yarn {
        factor,
        original,
        beta_fast: h.opt_positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
        beta_slow: h.opt_positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
        truncate: h.opt_bool("rope.scaling.truncate")?.unwrap_or(true),
        attention_factor,
    }))
}

/// The divisors stand in config.json; a GGUF brings them as tensors, which the loader puts in.
fn longrope(h: &Hparams, dim: usize) -> Result<Scaling> {
    let (original, context) = (original(h)?, h.usize("context_length")?);
    let ratio = h.opt_positive("rope.scaling.factor")?.unwrap_or(context as f32 / original as f32);
    let own = if ratio <= 1.0 { 1.0 } else { (1.0 + ratio.ln() / (original as f32).ln()).sqrt() };
    let attention_factor = h.opt_positive("rope.scaling.attn_factor")?.or(one_mscale(h)?).unwrap_or(own);
    let short = divisors(h, "rope.scaling.short_factor", dim)?;
    let long = divisors(h, "rope.scaling.long_factor", dim)?;
    Ok(Scaling::LongRope { short, long, original, attention_factor })
}

/// Phi-3.5 MoE has a factor on cosines and sines for short contexts and one for long ones; in every published model
/// they are the same.
fn one_mscale(h: &Hparams) -> Result<Option<f32>> {
    let short = h.opt_positive("rope.scaling.short_mscale")?;
    match h.opt_positive("rope.scaling.long_mscale")? {
        long if long == short => Ok(short),
        long => {
            Err(h.bad("rope.scaling.long_mscale", format!("{long:?}"), format!("the short one, {short:?}")))
        }
    }
}

fn divisors(h: &Hparams, key: &str, dim: usize) -> Result<Vec<f32>> {
    match h.opt_f32s(key)? {
        None if h.is_gguf() => Ok(vec![]),
        None => Err(h.bad(key, "nothing", format!("a list of {} numbers", dim / 2))),
        Some(list) => check_divisors(list, dim).map_err(|found| {
            let expected = format!("{} numbers over 0", dim / 2);
            h.bad(key, found, expected)
        }),
    }
}

/// One divisor over zero for each pair.
pub(crate) fn check_divisors(list: Vec<f32>, dim: usize) -> std::result::Result<Vec<f32>, String> {
    if list.len() != dim / 2 {
        return Err(format!("{} numbers", list.len()));
    }
    match list.iter().find(|d| !(d.is_finite() && **d > 0.0)) {
        Some(d) => Err(format!("{d} among them")),
        None => Ok(list),
    }
}

/// Puts divisors that a GGUF brings as a tensor into the rope.
pub(crate) fn put_divisors(rope: &mut Rope, name: &str, list: Vec<f32>, file: &str) -> Result<()> {
    let expected = format!("{} numbers over 0", rope.dim / 2);
    let list = check_divisors(list, rope.dim).map_err(|found| Error::Tensor {
        file: file.to_string(),
        tensor: name.to_string(),
        found,
        expected,
    })?;
    match (&mut rope.scaling, name) {
        (Scaling::LongRope { short, .. }, "rope_factors_short.weight") => *short = list,
        (Scaling::LongRope { long, .. }, "rope_factors_long.weight") => *long = list,
        (scaling, _) => *scaling = Scaling::Factors(list),
    }
    Ok(())
}
