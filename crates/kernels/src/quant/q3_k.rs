//! Q3_K: 256 numbers of 3 bits; 16 groups of 16, each with a 6-bit signed scale.
//!
//! `hmask: [u8; 32]`, `qs: [u8; 64]` (low two bits, in the order of Q2_K), `scales: [u8; 12]`, `d: f16`;
//! x = d (sc - 32) q, where q = low bits - 4, or low bits if the mask's bit is set.

use super::bits::{f16_at, inverse, put_f16};
use super::q2_k::{put_two_bits, two_bits};
use super::search::{self, nearest};

/// One block -> 256 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 108);
    for (i, x) in out[..256].iter_mut().enumerate() {
        let scale = d * (f32::from(scale(&block[96..108], i / 16)) - 32.0);
        let above = (block[i % 32] >> (i / 32)) & 1;
        *x = scale * (f32::from(two_bits(&block[32..96], i) + 4 * above) - 4.0);
    }
}

/// The scale of a group, still with 32 added: low nibbles in bytes 0 to 7, high pairs in bytes 8 to 11.
fn scale(scales: &[u8], group: usize) -> u8 {
    let low = (scales[group % 8] >> (4 * (group / 8))) & 15;
    let high = (scales[8 + group % 4] >> (2 * (group / 4))) & 3;
    low | high << 4
}

fn put_scale(scales: &mut [u8], group: usize, sc: u8) {
    scales[group % 8] |= (sc & 15) << (4 * (group / 8));
    scales[8 + group % 4] |= (sc >> 4) << (2 * (group / 4));
}

/// 256 numbers -> one block, each group's scale fitted by weighted search.
pub fn quantize(values: &[f32], block: &mut [u8]) {
    block.fill(0);
    let mut scales = [0f32; 16];
    for (scale, x) in scales.iter_mut().zip(values.chunks_exact(16)) {
        *scale = search::scale(x, 4);
    }
    let inv = -32.0 * inverse(search::widest(&scales));
    let d = put_f16(block, 108, inverse(inv));
    for (group, x) in values[..256].chunks_exact(16).enumerate() {
        let sc = nearest(inv * scales[group], -32, 31);
        let sc = search::settle_scale(x, d, sc, 4, (-32, 31));
        put_scale(&mut block[96..108], group, (sc + 32) as u8);
        let inv = inverse(d * sc as f32);
        for (j, x) in x.iter().enumerate() {
            let (i, q) = (16 * group + j, (nearest(x * inv, -4, 3) + 4) as u8);
            block[i % 32] |= (q >> 2) << (i / 32);
            put_two_bits(&mut block[32..96], i, q & 3);
        }
    }
}
