//! Q4_0: 32 numbers of 4 bits and a scale. `d: f16, qs: [u8; 16]`; x = d (q - 8).

use super::bits::{f16_at, inverse, put_f16, put_nibbles};

/// One block -> 32 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 0);
    for (j, &byte) in block[2..18].iter().enumerate() {
        out[j] = d * (f32::from(byte & 15) - 8.0);
        out[j + 16] = d * (f32::from(byte >> 4) - 8.0);
    }
}

/// 32 numbers -> one block. The number of largest magnitude, whatever its sign, becomes q = 0 exactly: the
/// grid reaches one step further below zero than above.
pub fn quantize(values: &[f32], block: &mut [u8]) {
    let scale = super::search::widest(values) / -8.0;
    let inv = inverse(scale);
    put_f16(block, 0, scale);
    let q: [u8; 32] = std::array::from_fn(|i| ((values[i] * inv + 8.5) as u8).min(15));
    put_nibbles(&q, &mut block[2..18]);
}
