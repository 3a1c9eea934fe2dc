//! IQ4_XS: 256 numbers on the curve of IQ4_NL; 8 groups of 32, each with a 6-bit signed scale.
//!
//! `d: f16, scales_h: u16, scales_l: [u8; 4], qs: [u8; 128]`; x = d (sc - 32) CURVE[q].

use super::bits::{f16_at, u16_at};
use super::iq4_nl::level;

/// One block -> 256 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let (d, high) = (f16_at(block, 0), u16_at(block, 2));
    for (group, out) in out[..256].chunks_exact_mut(32).enumerate() {
        let low = (block[4 + group / 2] >> (4 * (group % 2))) & 15;
        let sc = low | ((high >> (2 * group) & 3) as u8) << 4;
        let scale = d * (f32::from(sc) - 32.0);
        for (j, &byte) in block[8 + 16 * group..][..16].iter().enumerate() {
            out[j] = scale * level(byte & 15);
            out[j + 16] = scale * level(byte >> 4);
        }
    }
}
