//! What `influence quantize -q TYPE` means: which type each tensor of a model gets, and the numbers put into it.
//!
//! The mixes are those of llama.cpp's `llama-quantize`, so that a file of the same name has the same types:
//! matrices that cost most when they are rough (the output, half of the values' and the down projections)
//! get more bits; rows that are no whole blocks fall back to a type of smaller blocks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use kernels::pool::Pool;

use crate::DType;

/// A row of [`TARGETS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// What `-q` calls it.
    pub name: &'static str,
    /// GGUF's `general.file_type` (`enum llama_ftype`).
    pub file_type: u32,
    /// The type of most tensors.
    pub dtype: DType,
}

const fn row(name: &'static str, file_type: u32, dtype: DType) -> Target {
    Target { name, file_type, dtype }
}

/// Every type and mix, of each file type the usual name first.
#[rustfmt::skip]
pub const TARGETS: &[Target] = &[
    row("f32", 0, DType::F32),
    row("f16", 1, DType::F16),
    row("bf16", 32, DType::BF16),
    row("q8_0", 7, DType::Q8_0),
    row("q6_k", 18, DType::Q6_K),
    row("q5_k_m", 17, DType::Q5_K),
    row("q5_k", 17, DType::Q5_K),
    row("q5_k_s", 16, DType::Q5_K),
    row("q5_0", 8, DType::Q5_0),
    row("q5_1", 9, DType::Q5_1),
    row("q4_k_m", 15, DType::Q4_K),
    row("q4_k", 15, DType::Q4_K),
    row("q4_k_s", 14, DType::Q4_K),
    row("q4_0", 2, DType::Q4_0),
    row("q4_1", 3, DType::Q4_1),
    row("iq4_nl", 25, DType::IQ4_NL),
    row("q3_k_l", 13, DType::Q3_K),
    row("q3_k_m", 12, DType::Q3_K),
    row("q3_k", 12, DType::Q3_K),
    row("q3_k_s", 11, DType::Q3_K),
    row("q2_k", 10, DType::Q2_K),
    row("q2_k_s", 21, DType::Q2_K),
];

impl Target {
    /// The row of this name, in any case.
    pub fn from_name(name: &str) -> Option<&'static Target> {
        TARGETS.iter().find(|t| t.name.eq_ignore_ascii_case(name))
    }
}

/// What of a model the mixes look at.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Layers.
    pub layers: usize,
    /// Query heads to a key-value head.
    pub heads_per_kv: usize,
    /// Experts of a layer; 0 or 1 is none.
    pub experts: usize,
    /// Whether the embedding serves as output matrix too.
    pub tied: bool,
    /// Give every matrix the target's own type, whatever it costs.
    pub pure: bool,
}

/// The type of tensor `name` of `shape` (outermost first) in a model of `target`.
pub fn tensor_type(target: &Target, model: &Shape, name: &str, shape: &[usize]) -> DType {
    if !is_matrix(name, shape) {
        return DType::F32;
    }
    if target.dtype.format().block_len == 1 {
        return target.dtype;
    }
    let columns = shape.last().copied().unwrap_or(1);
    let wanted = if model.pure { target.dtype } else { mixed(target, model, name, columns) };
    fit(wanted, columns)
}

/// Tensors that are few numbers or steer many: they stay as they are.
const KEPT: &[&str] = &["_norm.weight", "ffn_gate_inp", "ssm_conv1d", "shortconv.conv", "position_embd"];

/// Two dimensions that are more than one: ggml does not count others.
fn is_matrix(name: &str, shape: &[usize]) -> bool {
    let rows: usize = shape.iter().rev().skip(1).product();
    rows > 1 && name.ends_with(".weight") && !KEPT.iter().any(|part| name.contains(part))
}

/// The type that is nearest and has blocks that the rows are whole ones of.
fn fit(dtype: DType, columns: usize) -> DType {
    let fits = |dtype: DType| columns.is_multiple_of(dtype.format().block_len);
    let next = match dtype {
        dtype if fits(dtype) => return dtype,
        DType::Q2_K | DType::Q3_K => DType::Q4_0,
        DType::Q4_K => DType::Q5_0,
        DType::Q5_K => DType::Q5_1,
        DType::Q6_K => DType::Q8_0,
        _ => DType::F16,
    };
    if fits(next) { next } else { DType::F16 }
}

/// The mix, by the part of the model that the tensor is.
fn mixed(target: &Target, model: &Shape, name: &str, columns: usize) -> DType {
    if name == "output.weight" || (model.tied && name == "token_embd.weight") {
        let rough = !columns.is_multiple_of(target.dtype.format().block_len);
        return if rough || target.dtype == DType::Q8_0 { DType::Q8_0 } else { DType::Q6_K };
    }
    let layer = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse().ok());
    let at = At { layer: layer.unwrap_or(0), layers: model.layers };
    let part = |p: &str| name.contains(p);
    let more = if part("attn_v.weight") || part("attn_qkv.weight") || part("attn_kv_b.weight") {
        Some(values(target, model, at))
    } else if part("attn_k.weight") {
        (model.experts == 8).then_some(DType::Q8_0)
    } else if part("ffn_down") {
        down(target.name, at)
    } else if part("attn_output.weight") {
        attention_output(target.name, model)
    } else {
        None
    };
    more.unwrap_or(target.dtype)
}

/// A layer of so many.
#[derive(Clone, Copy)]
struct At {
    layer: usize,
    layers: usize,
}

impl At {
    fn in_first(self, share: usize) -> bool {
        self.layer < self.layers / share
    }

    /// The layers at both ends, and every third between.
    fn sensitive(self) -> bool {
        let (i, n) = (self.layer, self.layers);
        i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2
    }
}

/// The values' projection, alone or fused with the others.
fn values(target: &Target, model: &Shape, at: At) -> DType {
    let shared = model.heads_per_kv >= 4;
    let dtype = match target.name {
        "q2_k" if !shared => DType::Q3_K,
        "q2_k" | "q2_k_s" if shared => DType::Q4_K,
        "q3_k" | "q3_k_m" if at.layer < 2 => DType::Q5_K,
        "q3_k" | "q3_k_m" => DType::Q4_K,
        "q3_k_l" => DType::Q5_K,
        "iq4_nl" if shared => DType::Q5_K,
        "q4_k" | "q4_k_m" | "q5_k" | "q5_k_m" if at.sensitive() => DType::Q6_K,
        "q4_k_s" if at.layer < 4 => DType::Q5_K,
        _ => target.dtype,
    };
    match dtype {
        _ if model.experts == 8 => DType::Q8_0,
        // The 70B models share the values among eight heads: they are small and weigh much.
        DType::Q3_K | DType::Q4_K if model.layers == 80 => DType::Q5_K,
        dtype => dtype,
    }
}

fn down(target: &str, at: At) -> Option<DType> {
    match target {
        "q2_k" => Some(DType::Q3_K),
        "q2_k_s" if at.in_first(8) => Some(DType::Q4_K),
        "q3_k" | "q3_k_m" if at.in_first(16) => Some(DType::Q5_K),
        "q3_k" | "q3_k_m" => Some(DType::Q4_K),
        "q3_k_l" => Some(DType::Q5_K),
        "q4_k" | "q4_k_m" | "q5_k" | "q5_k_m" if at.sensitive() => Some(DType::Q6_K),
        "iq4_nl" | "q4_k_s" if at.in_first(8) => Some(DType::Q5_K),
        _ => None,
    }
}

fn attention_output(target: &str, model: &Shape) -> Option<DType> {
    match target {
        "q2_k" | "q3_k" | "q3_k_m" | "q3_k_s" | "iq4_nl" | "q4_k" | "q4_k_m" | "q4_k_s"
            if model.experts == 8 =>
        {
            Some(DType::Q5_K)
        }
        _ if model.experts == 8 => None,
        "q2_k" => Some(DType::Q3_K),
        "q3_k" | "q3_k_m" => Some(DType::Q4_K),
        "q3_k_l" => Some(DType::Q5_K),
        _ => None,
    }
}

/// Numbers that one piece of work has: what threads take in turn, and what is in memory unpacked at once.
const PIECE: usize = 1 << 17;
/// Pieces between two reports.
const PIECES: usize = 32;

/// Fills rows of `columns` numbers from `read` (row, its numbers) and hands their bytes as `dtype` to `write`,
/// in order, some rows at a time. Returns whether a number was not finite.
///
/// # Errors
/// Those of `read` and `write`.
pub fn quantize_rows<E: Send>(
    pool: &Pool,
    dtype: DType,
    (rows, columns): (usize, usize),
    read: impl Fn(usize, &mut [f32]) -> Result<(), E> + Sync,
    mut write: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<bool, E> {
    let row_bytes = dtype.bytes(columns).unwrap_or(0);
    if rows == 0 || row_bytes == 0 {
        return Ok(false);
    }
    let per_piece = (PIECE / columns).max(1);
    let strange = AtomicBool::new(false);
    let failed = Mutex::new(None);
    let mut bytes = vec![0; row_bytes * rows.min(per_piece * PIECES)];
    for first in (0..rows).step_by(per_piece * PIECES) {
        let now = (rows - first).min(per_piece * PIECES);
        let bytes = &mut bytes[..now * row_bytes];
        pool.each_piece(bytes, per_piece * row_bytes, |piece, out| {
            let mut values = vec![0.0; columns];
            for (i, out) in out.chunks_exact_mut(row_bytes).enumerate() {
                if let Err(error) = read(first + piece * per_piece + i, &mut values) {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return;
                }
                if values.iter().any(|v| !v.is_finite()) {
                    strange.store(true, Ordering::Relaxed);
                }
                // Every type of the table above has a quantizer (a test goes through them).
                let _ = dtype.quantize_row(&values, out);
            }
        });
        if let Some(error) = failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        write(bytes)?;
    }
    Ok(strange.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: Shape = Shape { layers: 16, heads_per_kv: 4, experts: 0, tied: false, pure: false };

    fn kind(target: &str, name: &str, shape: &[usize]) -> DType {
        tensor_type(Target::from_name(target).unwrap(), &MODEL, name, shape)
    }

    #[test]
    fn every_type_that_a_mix_gives_can_be_written() {
        for target in TARGETS {
            for (name, columns) in [("blk.0.attn_v", 2048), ("blk.1.ffn_down", 96), ("output", 2048)] {
                let name = format!("{name}.weight");
                let dtype = tensor_type(target, &MODEL, &name, &[8, columns]);
                assert!(dtype.format().quantize.is_some(), "{} {name}: {dtype:?}", target.name);
            }
        }
    }

    #[test]
    fn q4_k_m_is_as_llama_cpp_mixes_it() {
        let down: Vec<usize> = (0..16)
            .filter(|i| kind("q4_k_m", &format!("blk.{i}.ffn_down.weight"), &[2048, 8192]) == DType::Q6_K)
            .collect();
        // Llama-3.2-1B as published: these layers' down projections are Q6_K.
        assert_eq!(down, [0, 1, 4, 7, 10, 13, 14, 15]);
        assert_eq!(kind("q4_k_m", "blk.3.attn_q.weight", &[2048, 2048]), DType::Q4_K);
        assert_eq!(kind("q4_k_m", "output.weight", &[512, 2048]), DType::Q6_K);
        assert_eq!(kind("q4_k_m", "token_embd.weight", &[512, 2048]), DType::Q4_K);
        assert_eq!(kind("q4_k_m", "blk.0.attn_norm.weight", &[2048]), DType::F32);
        assert_eq!(kind("q4_k_m", "blk.0.attn_q.bias", &[2048]), DType::F32);
        assert_eq!(kind("Q4_K_S", "blk.3.attn_v.weight", &[512, 2048]), DType::Q5_K);
        let tied = Shape { tied: true, ..MODEL };
        let target = Target::from_name("q4_k_m").unwrap();
        assert_eq!(tensor_type(target, &tied, "token_embd.weight", &[512, 2048]), DType::Q6_K);
        let pure = Shape { pure: true, ..tied };
        assert_eq!(tensor_type(target, &pure, "token_embd.weight", &[512, 2048]), DType::Q4_K);
    }

    #[test]
    fn rows_that_are_no_whole_blocks_fall_back() {
        for (target, wide, odd) in [
            ("q4_k_s", DType::Q5_0, DType::F16),
            ("q5_k_s", DType::Q5_1, DType::F16),
            ("q6_k", DType::Q8_0, DType::F16),
            ("q3_k_s", DType::Q4_0, DType::F16),
            ("q8_0", DType::Q8_0, DType::F16),
            ("f16", DType::F16, DType::F16),
            ("f32", DType::F32, DType::F32),
        ] {
            assert_eq!(kind(target, "blk.9.attn_q.weight", &[64, 96]), wide, "{target}");
            assert_eq!(kind(target, "blk.9.attn_q.weight", &[64, 50]), odd, "{target}");
        }
    }

    #[test]
    fn rows_come_out_in_order_whatever_the_threads() {
        let pool = Pool::new(3);
        let (rows, columns) = (2001, 4096);
        let read = |row: usize, out: &mut [f32]| -> Result<(), ()> {
            out.fill(row as f32);
            Ok(())
        };
        let mut found = vec![];
        let write = |bytes: &[u8]| -> Result<(), ()> {
            let firsts = bytes.chunks_exact(columns * 4);
            found.extend(firsts.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            Ok(())
        };
        assert_eq!(quantize_rows(&pool, DType::F32, (rows, columns), read, write), Ok(false));
        assert!(found.iter().enumerate().all(|(i, &v)| v == i as f32) && found.len() == rows);
        let fails = |row: usize, _: &mut [f32]| if row == 1700 { Err(row) } else { Ok(()) };
        assert_eq!(quantize_rows(&pool, DType::Q8_0, (rows, columns), fails, |_| Ok(())), Err(1700));
        let strange = |_: usize, out: &mut [f32]| -> Result<(), ()> {
            out[7] = f32::NAN;
            Ok(())
        };
        assert_eq!(quantize_rows(&pool, DType::Q4_0, (2, 32), strange, |_| Ok(())), Ok(true));
    }
}
