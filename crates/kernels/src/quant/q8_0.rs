//! Q8_0: 32 numbers of 8 bits and a scale. `d: f16, qs: [i8; 32]`; x = d q.

use super::bits::{f16_at, inverse, put_f16};

/// One block -> 32 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 0);
    for (x, &q) in out[..32].iter_mut().zip(&block[2..34]) {
        *x = d * f32::from(q as i8);
    }
}

/// 32 numbers -> one block; ties are rounded away from zero.
pub fn quantize(values: &[f32], block: &mut [u8]) {
    let scale = super::search::widest(values).abs() / 127.0;
    let inv = inverse(scale);
    put_f16(block, 0, scale);
    for (byte, x) in block[2..34].iter_mut().zip(values) {
        *byte = (x * inv).round() as i8 as u8;
    }
}
