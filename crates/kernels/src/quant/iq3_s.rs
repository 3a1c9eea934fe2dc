//! IQ3_S: 256 numbers as 64 entries of a grid of 512, with a sign each; a 4-bit scale per 32 numbers.
//!
//! `d: f16, qs: [u8; 64], qh: [u8; 8]` (a ninth index bit each), `signs: [u8; 32], scales: [u8; 4]`;
//! x = d (2 s + 1) * GRID * sign.

use super::bits::f16_at;
use super::grids::IQ3_S_CODES;
use super::signs::{nibble, signed, spread};

/// Entries of four magnitudes.
pub static GRID: [[i8; 4]; 512] = spread(&IQ3_S_CODES, 3, &[1, 3, 5, 7, 9, 11, 13, 15]);

/// One block -> 256 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 0);
    for (k, out) in out[..256].chunks_exact_mut(4).enumerate() {
        let high = (block[66 + k / 8] >> (k % 8)) & 1;
        let entry = usize::from(block[2 + k]) | usize::from(high) << 8;
        let scale = d * (1.0 + 2.0 * nibble(&block[106..110], k / 8));
        signed(out, scale, &GRID[entry], block[74 + k / 2] >> (4 * (k % 2)));
    }
}
