//! IQ4_NL: 32 numbers of 4 bits on a curve that is denser near zero. `d: f16, qs: [u8; 16]`; x = d CURVE[q].

use super::bits::{f16_at, inverse, put_f16, put_nibbles};
use super::search::widest;

/// The sixteen levels (`kvalues_iq4nl` of ggml).
pub const CURVE: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// One block -> 32 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 0);
    for (j, &byte) in block[2..18].iter().enumerate() {
        out[j] = d * level(byte & 15);
        out[j + 16] = d * level(byte >> 4);
    }
}

/// The level of a nibble.
pub(super) fn level(q: u8) -> f32 {
    f32::from(CURVE[usize::from(q)])
}

/// 32 numbers -> one block. Scales that put the widest number on or near the outermost level are tried, and
/// the one of least squares, weighted by x^2, is kept.
pub fn quantize(values: &[f32], block: &mut [u8]) {
    let mut scale = 0.0;
    let mut best = 0.0;
    for step in -7..=7 {
        let inv = (f32::from(CURVE[0]) + step as f32) * inverse(widest(values));
        for inv in [inv, -inv] {
            let (xq, qq) = sums(values, inv);
            if qq > 0.0 && xq * xq > best * qq {
                (scale, best) = (xq / qq, xq * xq / qq);
            }
        }
    }
    let inv = inverse(put_f16(block, 0, scale));
    let q: [u8; 32] = std::array::from_fn(|i| closest(values[i] * inv));
    put_nibbles(&q, &mut block[2..18]);
}

/// Weighted sums of x q and q q when x is scaled by `inv`.
fn sums(values: &[f32], inv: f32) -> (f32, f32) {
    values.iter().fold((0.0, 0.0), |(xq, qq), &x| {
        let q = level(closest(x * inv));
        (xq + x * x * x * q, qq + x * x * q * q)
    })
}

/// The level nearest to `x`: the number of midpoints below it.
fn closest(x: f32) -> u8 {
    CURVE.windows(2).filter(|pair| x > (f32::from(pair[0]) + f32::from(pair[1])) * 0.5).count() as u8
}
