//! IQ1_S: 256 numbers as 32 entries of a grid of 2048; a 3-bit scale and a shift's sign per 32 numbers.
//!
//! `d: f16, qs: [u8; 32], qh: [u16; 8]` (four times three index bits, scale s, sign of the shift on top);
//! x = d (2 s + 1) (GRID +- 1/8), GRID of -1, 0, 1.

use super::bits::{f16_at, u16_at};
use super::grids::IQ1_CODES;
use super::signs::spread;

/// Entries of eight numbers; IQ1_M has the same.
pub static GRID: [[i8; 8]; 2048] = spread(&IQ1_CODES, 2, &[-1, 0, 1]);

/// How far an entry is shifted.
const SHIFT: f32 = 0.125;

/// One block -> 256 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 0);
    for (k, out) in out[..256].chunks_exact_mut(8).enumerate() {
        let high = u16_at(block, 34 + 2 * (k / 4));
        let entry = usize::from(block[2 + k]) | usize::from((high >> (3 * (k % 4))) & 7) << 8;
        let scale = d * f32::from(2 * ((high >> 12) & 7) + 1);
        shifted(out, scale, entry, high & 0x8000 != 0);
    }
}

/// Writes an entry, shifted up or down and scaled; shared with IQ1_M.
pub(super) fn shifted(out: &mut [f32], scale: f32, entry: usize, down: bool) {
    let shift = if down { -SHIFT } else { SHIFT };
    for (x, &g) in out.iter_mut().zip(&GRID[entry]) {
        *x = scale * (f32::from(g) + shift);
    }
}
