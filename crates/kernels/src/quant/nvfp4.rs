//! NVFP4: 64 numbers of 4 bits (E2M1); 4 groups of 16, each with an 8-bit float (unsigned E4M3) as scale.
//!
//! `scales: [u8; 4], qs: [u8; 32]`; x = scale E2M1[q], kept as half the scale times twice the level. A group's
//! eight bytes hold its first eight numbers in the low nibbles, its last eight in the high ones.

use super::mxfp4::level;

/// One block -> 64 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    for (group, out) in out[..64].chunks_exact_mut(16).enumerate() {
        let d = 0.5 * e4m3(block[group]);
        for (j, &byte) in block[4 + 8 * group..][..8].iter().enumerate() {
            out[j] = d * level(byte & 15);
            out[j + 8] = d * level(byte >> 4);
        }
    }
}

/// A float of 4 exponent bits (bias 7) and 3 mantissa bits; the sign is not looked at, and 0x7f, which E4M3
/// has for NaN, is zero.
fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = ((byte >> 3) & 15, f32::from(byte & 7));
    match (byte, exponent) {
        (0x7f, _) => 0.0,
        (_, 0) => mantissa / 512.0,
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(i32::from(exponent) - 7),
    }
}
