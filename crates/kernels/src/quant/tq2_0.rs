//! TQ2_0: 256 numbers of three values in 2 bits. `qs: [u8; 64]` in the order of Q2_K, `d: f16`; x = d (q - 1).

use super::bits::f16_at;
use super::q2_k::two_bits;

/// One block -> 256 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 64);
    for (i, x) in out[..256].iter_mut().enumerate() {
        *x = d * (f32::from(two_bits(&block[..64], i)) - 1.0);
    }
}
