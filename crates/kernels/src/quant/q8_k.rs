//! Q8_K: activations against the K formats. `d: f32, qs: [i8; 256], bsums: [i16; 16]`; x = d q, and bsums are
//! the sums of 16 q each, which the product with minimums needs. No file stores weights in it.

use super::bits::{inverse, u32_at};
use super::search::nearest;

/// One block -> 256 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let d = f32::from_bits(u32_at(block, 0));
    for (x, &q) in out[..256].iter_mut().zip(&block[4..260]) {
        *x = d * f32::from(q as i8);
    }
}

/// 256 numbers -> one block; the number of largest magnitude becomes -127.
pub fn quantize(values: &[f32], block: &mut [u8]) {
    let inv = -127.0 * inverse(super::search::widest(values));
    block[..4].copy_from_slice(&inverse(inv).to_le_bytes());
    for (byte, x) in block[4..260].iter_mut().zip(values) {
        *byte = nearest(x * inv, -127, 127) as i8 as u8;
    }
    for group in 0..16 {
        let sum: i16 = block[4 + 16 * group..][..16].iter().map(|&q| i16::from(q as i8)).sum();
        block[260 + 2 * group..][..2].copy_from_slice(&sum.to_le_bytes());
    }
}
