//! IQ2_S: 256 numbers as 32 entries of a grid of 1024, with eight signs each; a 4-bit scale per 16 numbers.
//!
//! `d: f16, qs: [u8; 32], signs: [u8; 32], qh: [u8; 8]` (two more index bits each), `scales: [u8; 8]`;
//! x = d (s + 1/2) / 4 * GRID * sign.

use super::bits::f16_at;
use super::grids::IQ2_S_CODES;
use super::iq2_xxs::LEVELS;
use super::signs::{nibble, signed, spread};

/// Entries of eight magnitudes.
pub static GRID: [[i8; 8]; 1024] = spread(&IQ2_S_CODES, 2, &LEVELS);

/// One block -> 256 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 0);
    for (k, out) in out[..256].chunks_exact_mut(8).enumerate() {
        let high = (block[66 + k / 4] >> (2 * (k % 4))) & 3;
        let entry = usize::from(block[2 + k]) | usize::from(high) << 8;
        let scale = d * (0.5 + nibble(&block[74..82], k / 2)) * 0.25;
        signed(out, scale, &GRID[entry], block[34 + k]);
    }
}
