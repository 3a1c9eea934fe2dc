//! Little-endian fields of a block. Blocks are as short as two bytes and lie anywhere: nothing is aligned.

use half::f16;

/// The two bytes at `i`.
pub(crate) fn u16_at(block: &[u8], i: usize) -> u16 {
    u16::from_le_bytes([block[i], block[i + 1]])
}

/// The four bytes at `i`.
pub(crate) fn u32_at(block: &[u8], i: usize) -> u32 {
    u32::from_le_bytes([block[i], block[i + 1], block[i + 2], block[i + 3]])
}

/// The half-precision number at `i`, exactly.
pub(crate) fn f16_at(block: &[u8], i: usize) -> f32 {
    f16::from_bits(u16_at(block, i)).to_f32()
}

/// Stores `x` in half precision (to nearest, ties to even) at `i`, and returns the number stored.
pub(crate) fn put_f16(block: &mut [u8], i: usize, x: f32) -> f32 {
    let h = f16::from_f32(x);
    block[i..i + 2].copy_from_slice(&h.to_le_bytes());
    h.to_f32()
}

/// 1 / x, and 0 for 0: a block of zeros has scale 0.
pub(crate) fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// Nibbles are stored low half first: byte `j` holds numbers `j` (low) and `j + n/2` (high).
pub(crate) fn put_nibbles(numbers: &[u8], bytes: &mut [u8]) {
    let (low, high) = numbers.split_at(bytes.len());
    for ((byte, low), high) in bytes.iter_mut().zip(low).zip(high) {
        *byte = (low & 15) | (high << 4);
    }
}
