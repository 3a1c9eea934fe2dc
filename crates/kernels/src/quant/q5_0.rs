//! Q5_0: 32 numbers of 5 bits and a scale. `d: f16, qh: u32, qs: [u8; 16]`; bit i of qh is the fifth bit of
//! number i; x = d (q - 16).

use super::bits::{f16_at, inverse, put_f16, put_nibbles, u32_at};

/// One block -> 32 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let (d, high) = (f16_at(block, 0), u32_at(block, 2));
    for (i, x) in out[..32].iter_mut().enumerate() {
        *x = d * (f32::from(number(block, 6, high, i)) - 16.0);
    }
}

/// Number `i` of a block whose nibbles begin at `at`; shared with Q5_1.
pub(super) fn number(block: &[u8], at: usize, high: u32, i: usize) -> u8 {
    let low = (block[at + i % 16] >> (4 * (i / 16))) & 15;
    low | (((high >> i) & 1) as u8) << 4
}

/// The fifth bits of 32 numbers; shared with Q5_1.
pub(super) fn fifth_bits(q: &[u8; 32]) -> [u8; 4] {
    q.iter().enumerate().fold(0u32, |bits, (i, &q)| bits | u32::from((q >> 4) & 1) << i).to_le_bytes()
}

/// 32 numbers -> one block. The number of largest magnitude becomes q = 0 exactly.
pub fn quantize(values: &[f32], block: &mut [u8]) {
    let scale = super::search::widest(values) / -16.0;
    let inv = inverse(scale);
    put_f16(block, 0, scale);
    let q: [u8; 32] = std::array::from_fn(|i| ((values[i] * inv + 16.5) as u8).min(31));
    block[2..6].copy_from_slice(&fifth_bits(&q));
    put_nibbles(&q, &mut block[6..22]);
}
