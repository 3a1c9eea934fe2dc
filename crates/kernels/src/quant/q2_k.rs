//! Q2_K: 256 numbers of 2 bits; 16 groups of 16, each with a 4-bit scale and minimum.
//!
//! `scales: [u8; 16]` (low nibble scale, high nibble minimum), `qs: [u8; 64]`, `d: f16, dmin: f16`;
//! x = d sc q - dmin m. Numbers i, i+32, i+64, i+96 of each half share a byte, lowest bits first.

use super::bits::{f16_at, inverse, put_f16};
use super::search::{self, Fit, Loss, Plan, nearest};

/// One block -> 256 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (f16_at(block, 80), f16_at(block, 82));
    for (i, x) in out[..256].iter_mut().enumerate() {
        let group = block[i / 16];
        let (scale, min) = (d * f32::from(group & 15), dmin * f32::from(group >> 4));
        *x = scale * f32::from(two_bits(&block[16..80], i)) - min;
    }
}

/// Number `i` of 256 two-bit numbers in 64 bytes: the order that Q2_K, Q3_K and TQ2_0 share.
pub(super) fn two_bits(bytes: &[u8], i: usize) -> u8 {
    (bytes[i / 128 * 32 + i % 32] >> (2 * (i % 128 / 32))) & 3
}

/// Stores number `i` in that order; the bits were zero.
pub(super) fn put_two_bits(bytes: &mut [u8], i: usize, q: u8) {
    bytes[i / 128 * 32 + i % 32] |= q << (2 * (i % 128 / 32));
}

/// 256 numbers -> one block, each group fitted by weighted search.
pub fn quantize(values: &[f32], block: &mut [u8]) {
    block.fill(0);
    let plan = Plan { top: 3, from: -0.5, step: 0.1, steps: 15, loss: Loss::Absolute, rms: 0.0 };
    let mut fits = [Fit::default(); 16];
    for (fit, x) in fits.iter_mut().zip(values.chunks_exact(16)) {
        *fit = search::scale_and_min(x, &plan);
    }
    let levels = search::levels(&fits, 15);
    let unit = Fit { scale: put_f16(block, 80, levels.scale), min: put_f16(block, 82, levels.min) };
    for (group, x) in values[..256].chunks_exact(16).enumerate() {
        let (sc, m) = search::settle(x, &plan, unit, (levels.scales[group], levels.mins[group]), 15);
        block[group] = sc | m << 4;
        let (inv, min) = (inverse(unit.scale * f32::from(sc)), unit.min * f32::from(m));
        for (j, x) in x.iter().enumerate() {
            put_two_bits(&mut block[16..80], 16 * group + j, nearest((x + min) * inv, 0, 3) as u8);
        }
    }
}
