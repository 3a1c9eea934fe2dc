//! MXFP4: 32 numbers of 4 bits (E2M1) and a power of two (OCP Microscaling Formats, v1.0).
//!
//! `e: u8, qs: [u8; 16]`; x = 2^(e-127) E2M1[q], kept here as half that power times [`LEVELS`], as ggml has it.

use super::bits::put_nibbles;
use super::search::widest;

/// Twice the values of E2M1; the upper eight are the lower ones negated.
pub const LEVELS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// One block -> 32 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let d = half_power(block[0]);
    for (j, &byte) in block[1..17].iter().enumerate() {
        out[j] = d * level(byte & 15);
        out[j + 16] = d * level(byte >> 4);
    }
}

/// The level of a nibble.
pub(super) fn level(q: u8) -> f32 {
    f32::from(LEVELS[usize::from(q)])
}

/// 2^(e-128): the exponent's bits in place, and the two subnormal cases.
fn half_power(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 })
}

/// 32 numbers -> one block. The power is the one of the specification: that of the widest number less E2M1's
/// own largest exponent, 2.
pub fn quantize(values: &[f32], block: &mut [u8]) {
    let exponent = (widest(values).abs().to_bits() >> 23) as u8;
    block[0] = exponent.saturating_sub(2);
    let d = half_power(block[0]);
    let q: [u8; 32] = std::array::from_fn(|i| closest(values[i], d));
    put_nibbles(&q, &mut block[1..17]);
}

/// The nearest level, the first one where two are as near.
fn closest(x: f32, d: f32) -> u8 {
    let mut best = (0, x.abs());
    for q in 1..16 {
        let error = (d * level(q) - x).abs();
        if error < best.1 {
            best = (q, error);
        }
    }
    best.0
}
