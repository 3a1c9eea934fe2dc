//! Q1_0: 128 numbers that are all of one magnitude. `d: f16, signs: [u8; 16]`; x = d where the bit is set, -d
//! where it is not.

use super::bits::f16_at;

/// One block -> 128 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 0);
    for (i, x) in out[..128].iter_mut().enumerate() {
        *x = if (block[2 + i / 8] >> (i % 8)) & 1 == 1 { d } else { -d };
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn bits_are_signs_lowest_first() {
        let mut block = [0; 18];
        block[..2].copy_from_slice(&half::f16::from_f32(0.5).to_le_bytes());
        (block[2], block[17]) = (0b101, 0x80);
        let mut out = [0.0; 128];
        super::unpack(&block, &mut out);
        assert_eq!(out[..4], [0.5, -0.5, 0.5, -0.5]);
        assert_eq!((out[126], out[127]), (-0.5, 0.5));
    }
}
