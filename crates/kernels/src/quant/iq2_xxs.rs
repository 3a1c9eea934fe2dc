//! IQ2_XXS: 256 numbers as 32 entries of a grid of 256; signs and a 4-bit scale per 32 numbers.
//!
//! `d: f16`, then per group of 32 numbers four grid indices (bytes) and a `u32` of four 7-bit sign sets with the
//! scale s on top; x = d (s + 1/2) / 4 * GRID * sign.

use super::bits::{f16_at, u32_at};
use super::grids::IQ2_XXS_CODES;
use super::signs::{even_signs, signed, spread};

/// The magnitudes that the IQ2 formats use.
pub(super) const LEVELS: [i8; 3] = [8, 25, 43];

/// Entries of eight magnitudes.
pub static GRID: [[i8; 8]; 256] = spread(&IQ2_XXS_CODES, 2, &LEVELS);

/// One block -> 256 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 0);
    for (group, out) in out[..256].chunks_exact_mut(32).enumerate() {
        let entries = &block[2 + 8 * group..][..4];
        let word = u32_at(block, 6 + 8 * group);
        let scale = d * (0.5 + (word >> 28) as f32) * 0.25;
        for (k, out) in out.chunks_exact_mut(8).enumerate() {
            signed(out, scale, &GRID[usize::from(entries[k])], even_signs(word >> (7 * k)));
        }
    }
}
