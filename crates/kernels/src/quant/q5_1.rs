//! Q5_1: 32 numbers of 5 bits, a scale and a minimum. `d: f16, m: f16, qh: u32, qs: [u8; 16]`; x = d q + m.

use super::bits::{f16_at, inverse, put_f16, put_nibbles, u32_at};
use super::q5_0::{fifth_bits, number};

/// One block -> 32 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let (d, m, high) = (f16_at(block, 0), f16_at(block, 2), u32_at(block, 4));
    for (i, x) in out[..32].iter_mut().enumerate() {
        *x = d * f32::from(number(block, 8, high, i)) + m;
    }
}

/// 32 numbers -> one block that spans their range.
pub fn quantize(values: &[f32], block: &mut [u8]) {
    let (min, max) = super::search::range(values);
    let scale = (max - min) / 31.0;
    let inv = inverse(scale);
    put_f16(block, 0, scale);
    put_f16(block, 2, min);
    let q: [u8; 32] = std::array::from_fn(|i| (((values[i] - min) * inv + 0.5) as u8).min(31));
    block[4..8].copy_from_slice(&fifth_bits(&q));
    put_nibbles(&q, &mut block[8..24]);
}
