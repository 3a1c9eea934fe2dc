//! IQ3_XXS: 256 numbers as 64 entries of a grid of 256; signs and a 4-bit scale per 32 numbers.
//!
//! `d: f16, qs: [u8; 64]`, then per group of 32 a `u32` of four 7-bit sign sets with the scale s on top;
//! x = d (s + 1/2) / 2 * GRID * sign.

use super::bits::{f16_at, u32_at};
use super::grids::IQ3_XXS_CODES;
use super::signs::{even_signs, signed, spread};

/// Entries of four magnitudes.
pub static GRID: [[i8; 4]; 256] = spread(&IQ3_XXS_CODES, 3, &[4, 12, 20, 28, 36, 44, 52, 62]);

/// One block -> 256 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 0);
    for (k, out) in out[..256].chunks_exact_mut(8).enumerate() {
        let word = u32_at(block, 66 + 4 * (k / 4));
        let scale = d * (0.5 + (word >> 28) as f32) * 0.5;
        let signs = even_signs(word >> (7 * (k % 4)));
        let (low, high) = out.split_at_mut(4);
        signed(low, scale, &GRID[usize::from(block[2 + 2 * k])], signs);
        signed(high, scale, &GRID[usize::from(block[3 + 2 * k])], signs >> 4);
    }
}
