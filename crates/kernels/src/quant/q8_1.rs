//! Q8_1: activations against formats with a minimum. `d: f16, s: f16, qs: [i8; 32]`; x = d q, and
//! s = d * sum(q), which the product with a minimum needs. No file stores weights in it.

use super::bits::{f16_at, inverse, put_f16};

/// One block -> 32 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 0);
    for (x, &q) in out[..32].iter_mut().zip(&block[4..36]) {
        *x = d * f32::from(q as i8);
    }
}

/// 32 numbers -> one block; ties are rounded away from zero.
pub fn quantize(values: &[f32], block: &mut [u8]) {
    let scale = super::search::widest(values).abs() / 127.0;
    let inv = inverse(scale);
    put_f16(block, 0, scale);
    let mut sum = 0i32;
    for (byte, x) in block[4..36].iter_mut().zip(values) {
        let q = (x * inv).round() as i8;
        sum += i32::from(q);
        *byte = q as u8;
    }
    put_f16(block, 2, scale * sum as f32);
}
