//! Numbers that the Hub's safetensors pack in ways of their own, made into plain ones (or into a format of ggml's) when they
//! are fetched.
//!
//! `checkpoint.rs` reads from `quantization_config` which way it is; `tensors.rs` asks here for each tensor. Only weights are
//! unpacked: where a published model also rounds activations to 8 bits, they stay as they are here, which is nearer to what
//! was packed.

mod config;
mod fp8;

use weights::Tensor;

use crate::Result;
use crate::tensors::Tensors;

/// How a folder's tensors are packed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Packing {
    /// Plain, but for blocks and exponents apart (gpt-oss).
    Mxfp4,
    /// Numbers of 8 bits, and a factor for each block of so many rows and columns, or for all.
    Fp8 {
        /// `[rows, columns]`.
        block: Option<[usize; 2]>,
    },
}

/// What belongs to a packed weight: ends of names that stand where `weight` does.
const BESIDE: &[&str] = &["weight_scale_inv"];

/// What belongs to it and is not needed: how activations are to be rounded.
const ASIDE: &[&str] = &["activation_scale"];

/// What a tensor of the Hub that belongs to a packed weight is called here, if it is one. `own` says it of the weight.
pub(crate) fn beside(hub: &str, own: impl Fn(&str) -> Option<String>) -> Option<String> {
    let (stem, end) = hub.rsplit_once('.')?;
    if !BESIDE.contains(&end) {
        return None;
    }
    Some(format!("{}.{end}", own(&format!("{stem}.weight"))?.strip_suffix(".weight")?))
}

impl Packing {
    /// Whether a tensor of the Hub says nothing about weights.
    pub fn aside(&self, hub: &str) -> bool {
        *self != Packing::Mxfp4 && hub.rsplit_once('.').is_some_and(|(_, end)| ASIDE.contains(&end))
    }

    /// The shape of `name` once it is unpacked, if it is packed.
    pub fn shape(&self, tensors: &Tensors, name: &str) -> Option<Vec<usize>> {
        match self {
            Packing::Mxfp4 => None,
            Packing::Fp8 { .. } => tensors.bytes(name, "F8_E4M3").map(|t| t.shape.clone()),
        }
    }

    /// The tensor `name` unpacked, if it is packed.
    ///
    /// # Errors
    /// What belongs to it is missing or does not fit.
    pub fn unpack(&self, tensors: &Tensors, name: &str) -> Result<Option<Tensor>> {
        match self {
            Packing::Mxfp4 => Ok(None),
            Packing::Fp8 { block } => fp8::unpack(tensors, name, *block),
        }
    }
}
