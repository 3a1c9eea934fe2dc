//! Q5_K: 256 numbers of 5 bits; 8 groups of 32, each with a 6-bit scale and minimum.
//!
//! `d: f16, dmin: f16, scales: [u8; 12]` as in Q4_K, `qh: [u8; 32]` (bit g of byte j is the fifth bit of number
//! j of group g), `qs: [u8; 128]`; x = d sc q - dmin m.

use super::bits::f16_at;
use super::q4_k::{fit, nibble, scale_min};
use super::search::{Loss, Plan};

/// One block -> 256 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    for (i, x) in out[..256].iter_mut().enumerate() {
        let (sc, m) = scale_min(&block[4..16], i / 32);
        let q = nibble(&block[48..176], i) | ((block[16 + i % 32] >> (i / 32)) & 1) << 4;
        *x = (d * f32::from(sc)) * f32::from(q) - dmin * f32::from(m);
    }
}

/// 256 numbers -> one block, each group fitted by weighted search.
pub fn quantize(values: &[f32], block: &mut [u8]) {
    let plan = Plan { top: 31, from: -0.5, step: 0.1, steps: 15, loss: Loss::Square, rms: 1.0 };
    let q = fit(values, &mut block[..16], &plan);
    block[16..176].fill(0);
    for (i, q) in q.into_iter().enumerate() {
        block[16 + i % 32] |= (q >> 4) << (i / 32);
        block[48 + i / 64 * 32 + i % 32] |= (q & 15) << (4 * (i % 64 / 32));
    }
}
