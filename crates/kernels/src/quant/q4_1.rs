//! Q4_1: 32 numbers of 4 bits, a scale and a minimum. `d: f16, m: f16, qs: [u8; 16]`; x = d q + m.

use super::bits::{f16_at, inverse, put_f16, put_nibbles};

/// One block -> 32 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    for (j, &byte) in block[4..20].iter().enumerate() {
        out[j] = d * f32::from(byte & 15) + m;
        out[j + 16] = d * f32::from(byte >> 4) + m;
    }
}

/// 32 numbers -> one block that spans their range.
pub fn quantize(values: &[f32], block: &mut [u8]) {
    let (min, max) = super::search::range(values);
    let scale = (max - min) / 15.0;
    let inv = inverse(scale);
    put_f16(block, 0, scale);
    put_f16(block, 2, min);
    let q: [u8; 32] = std::array::from_fn(|i| (((values[i] - min) * inv + 0.5) as u8).min(15));
    put_nibbles(&q, &mut block[4..20]);
}
