//! TQ1_0: 256 numbers of three values, five to a byte. `qs: [u8; 48], qh: [u8; 4], d: f16`; x = d (t - 1).
//!
//! A byte holds five digits of base 3 as a fraction of 256: times 3^n, modulo 256, the digit n stands on top.

use super::bits::f16_at;

/// One block -> 256 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 52);
    for (i, x) in out[..256].iter_mut().enumerate() {
        // Five digits each in 32 bytes, five in 16, four in 4.
        let (byte, digit) = match i {
            0..160 => (i % 32, i / 32),
            160..240 => (32 + i % 16, (i - 160) / 16),
            _ => (48 + i % 4, (i - 240) / 4),
        };
        let shifted = block[byte].wrapping_mul([1, 3, 9, 27, 81][digit]);
        *x = d * (((u16::from(shifted) * 3) >> 8) as f32 - 1.0);
    }
}
