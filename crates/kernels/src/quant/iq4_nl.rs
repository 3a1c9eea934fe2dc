//! IQ4_NL: 32 numbers of 4 bits on a curve that is denser near zero. `d: f16, qs: [u8; 16]`; x = d CURVE[q].

use super::bits::{f16_at, inverse, put_f16, put_nibbles};
use super::search::{nearest, widest};

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

/// 32 numbers -> one block. Scales that put the widest number on or near either outermost level are tried, and
/// the one of least squares, weighted by x^2, is kept.
pub fn quantize(values: &[f32], block: &mut [u8]) {
    let widest = inverse(widest(values));
    let (mut scale, mut best) = (0.0, 0.0);
    for step in -7..=7 {
        for end in [CURVE[0], CURVE[15]] {
            let (xq, qq) = sums(values, (f32::from(end) + step as f32) * widest);
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

/// The level nearest to `x`. Midpoints of levels are multiples of a half, so the half `x` lies in decides.
fn closest(x: f32) -> u8 {
    CLOSEST[(nearest(2.0 * x - 0.5, -256, 255) + 256) as usize]
}

/// Per half from -128 up: the number of midpoints at or below it.
static CLOSEST: [u8; 512] = {
    let mut table = [0; 512];
    let mut half = 0;
    while half < 512 {
        let mut q = 0;
        while q < 15 {
            table[half] += (half as i32 - 256 >= CURVE[q] as i32 + CURVE[q + 1] as i32) as u8;
            q += 1;
        }
        half += 1;
    }
    table
};
