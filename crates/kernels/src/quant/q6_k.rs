//! Q6_K: 256 numbers of 6 bits; 16 groups of 16, each with an 8-bit signed scale.
//!
//! `ql: [u8; 128]` (low nibbles), `qh: [u8; 64]` (high pairs), `scales: [i8; 16]`, `d: f16`; x = d sc (q - 32).
//! In each half of 128 numbers, i and i+64 share a byte of ql; i, i+32, i+64, i+96 one of qh.

use super::bits::{f16_at, inverse, put_f16};
use super::search::{self, nearest};

/// One block -> 256 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 208);
    for (i, x) in out[..256].iter_mut().enumerate() {
        let low = (block[i / 128 * 64 + i % 64] >> (4 * (i % 128 / 64))) & 15;
        let high = (block[128 + i / 128 * 32 + i % 32] >> (2 * (i % 128 / 32))) & 3;
        let scale = d * f32::from(block[192 + i / 16] as i8);
        *x = scale * (f32::from(low | high << 4) - 32.0);
    }
}

/// 256 numbers -> one block, each group's scale fitted by weighted search.
pub fn quantize(values: &[f32], block: &mut [u8]) {
    block.fill(0);
    let mut scales = [0f32; 16];
    for (scale, x) in scales.iter_mut().zip(values.chunks_exact(16)) {
        *scale = search::scale(x, 32);
    }
    let inv = -128.0 * inverse(search::widest(&scales));
    let d = put_f16(block, 208, inverse(inv));
    for (group, x) in values[..256].chunks_exact(16).enumerate() {
        let sc = nearest(inv * scales[group], -128, 127);
        let sc = search::settle_scale(x, d, sc, 32, (-128, 127));
        block[192 + group] = sc as i8 as u8;
        let inv = inverse(d * sc as f32);
        for (j, x) in x.iter().enumerate() {
            let (i, q) = (16 * group + j, (nearest(x * inv, -32, 31) + 32) as u8);
            block[i / 128 * 64 + i % 64] |= (q & 15) << (4 * (i % 128 / 64));
            block[128 + i / 128 * 32 + i % 32] |= (q >> 4) << (2 * (i % 128 / 32));
        }
    }
}
