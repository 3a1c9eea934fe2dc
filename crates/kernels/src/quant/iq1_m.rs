//! IQ1_M: 256 numbers as 32 entries of IQ1_S's grid, each with its own shift; a 3-bit scale per 16 numbers.
//!
//! `qs: [u8; 32], qh: [u8; 16]` (per entry three index bits and the shift's sign), `scales: [u16; 4]` (four
//! 3-bit scales each; the top nibbles together are `d: f16`); x = d (2 s + 1) (GRID +- 1/8).

use super::bits::u16_at;
use super::iq1_s::shifted;
use half::f16;

/// One block -> 256 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let word = |i: usize| u16_at(block, 48 + 2 * i);
    let d = f16::from_bits((0..4).fold(0, |d, i| d | (word(i) >> 12) << (4 * i))).to_f32();
    for (k, out) in out[..256].chunks_exact_mut(8).enumerate() {
        let high = block[32 + k / 2] >> (4 * (k % 2));
        let entry = usize::from(block[k]) | usize::from(high & 7) << 8;
        let scale = (word(k / 8) >> (3 * (k / 2 % 4))) & 7;
        shifted(out, d * f32::from(2 * scale + 1), entry, high & 8 != 0);
    }
}
