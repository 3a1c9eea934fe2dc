//! IQ2_XS: 256 numbers as 32 entries of a grid of 512, with signs; a 4-bit scale per 16 numbers.
//!
//! `d: f16, qs: [u16; 32]` (9 bits index, 7 bits signs), `scales: [u8; 8]`; x = d (s + 1/2) / 4 * GRID * sign.

use super::bits::{f16_at, u16_at};
use super::grids::IQ2_XS_CODES;
use super::iq2_xxs::LEVELS;
use super::signs::{even_signs, nibble, signed, spread};

/// Entries of eight magnitudes.
pub static GRID: [[i8; 8]; 512] = spread(&IQ2_XS_CODES, 2, &LEVELS);

/// One block -> 256 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 0);
    for (k, out) in out[..256].chunks_exact_mut(8).enumerate() {
        let q = u16_at(block, 2 + 2 * k);
        let scale = d * (0.5 + nibble(&block[66..74], k / 2)) * 0.25;
        signed(out, scale, &GRID[usize::from(q & 511)], even_signs(u32::from(q >> 9)));
    }
}
