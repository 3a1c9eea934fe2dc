//! Q2_0: 64 numbers of 2 bits and a scale. `d: f16, qs: [u8; 16]`, four successive numbers to a byte, lowest
//! bits first; x = d (q - 1).

use super::bits::f16_at;

/// One block -> 64 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 0);
    for (i, x) in out[..64].iter_mut().enumerate() {
        *x = d * (f32::from((block[2 + i / 4] >> (2 * (i % 4))) & 3) - 1.0);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn four_successive_numbers_share_a_byte() {
        let mut block = [0; 18];
        block[..2].copy_from_slice(&half::f16::from_f32(0.5).to_le_bytes());
        (block[2], block[17]) = (0b11_10_01_00, 0b11_00_00_00);
        let mut out = [0.0; 64];
        super::unpack(&block, &mut out);
        assert_eq!(out[..5], [-0.5, 0.0, 0.5, 1.0, -0.5]);
        assert_eq!((out[62], out[63]), (-0.5, 1.0));
    }
}
