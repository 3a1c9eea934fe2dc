//! From ggml's block layouts to the codes and scales that are packed: one function per format.
//!
//! The layouts are those of `ggml-common.h` and `ggml-quants.c`; each function takes one block's bytes.

use super::layout::RowUnit;

fn f16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}

/// Columns 0..16 in the low nibbles, 16..32 in the high ones.
fn nibbles32(qs: &[u8], codes: &mut [u8]) {
    for (j, &q) in qs[..16].iter().enumerate() {
        codes[j] = q & 15;
        codes[j + 16] = q >> 4;
    }
}

fn high_bits32(qh: &[u8], codes: &mut [u8]) {
    let h = u32::from_le_bytes([qh[0], qh[1], qh[2], qh[3]]);
    for (j, c) in codes[..32].iter_mut().enumerate() {
        *c |= ((h >> j) as u8 & 1) << 4;
    }
}

/// d, 16 bytes of nibbles.
pub fn q4_0(b: &[u8], u: &mut RowUnit) {
    u.d = f16_at(b, 0);
    nibbles32(&b[2..], &mut u.codes);
}

/// d, m, 16 bytes of nibbles.
pub fn q4_1(b: &[u8], u: &mut RowUnit) {
    (u.d, u.m) = (f16_at(b, 0), f16_at(b, 2));
    nibbles32(&b[4..], &mut u.codes);
}

/// d, 32 high bits, 16 bytes of nibbles.
pub fn q5_0(b: &[u8], u: &mut RowUnit) {
    u.d = f16_at(b, 0);
    nibbles32(&b[6..], &mut u.codes);
    high_bits32(&b[2..], &mut u.codes);
}

/// d, m, 32 high bits, 16 bytes of nibbles.
pub fn q5_1(b: &[u8], u: &mut RowUnit) {
    (u.d, u.m) = (f16_at(b, 0), f16_at(b, 2));
    nibbles32(&b[8..], &mut u.codes);
    high_bits32(&b[4..], &mut u.codes);
}

/// d, 32 i8.
pub fn q8_0(b: &[u8], u: &mut RowUnit) {
    u.d = f16_at(b, 0);
    for (c, &q) in u.codes.iter_mut().zip(&b[2..34]) {
        *c = q ^ 0x80;
    }
}

/// Six-bit scale and minimum `j` of the 12 bytes that Q4_K and Q5_K share.
fn scale_min_k4(j: usize, q: &[u8]) -> (u8, u8) {
    if j < 4 {
        (q[j] & 63, q[j + 4] & 63)
    } else {
        ((q[j + 4] & 15) | (q[j - 4] >> 6) << 4, (q[j + 4] >> 4) | (q[j] >> 6) << 4)
    }
}

/// d, dmin, 12 bytes of scales and minima, 128 bytes of nibbles: 32 bytes hold 64 columns.
pub fn q4_k(b: &[u8], u: &mut RowUnit) {
    (u.d, u.m) = (f16_at(b, 0), f16_at(b, 2));
    for j in 0..8 {
        (u.scales[j], u.mins[j]) = scale_min_k4(j, &b[4..16]);
    }
    nibbles64(&b[16..144], &mut u.codes);
}

/// 32 bytes hold 64 columns: low nibbles the first 32, high ones the others.
fn nibbles64(qs: &[u8], codes: &mut [u8; 256]) {
    for (i, &q) in qs.iter().enumerate() {
        let at = i / 32 * 64 + i % 32;
        codes[at] = q & 15;
        codes[at + 32] = q >> 4;
    }
}

/// As Q4_K, with 32 bytes of high bits before the nibbles: bit j of byte l is column 32 j + l.
pub fn q5_k(b: &[u8], u: &mut RowUnit) {
    (u.d, u.m) = (f16_at(b, 0), f16_at(b, 2));
    for j in 0..8 {
        (u.scales[j], u.mins[j]) = scale_min_k4(j, &b[4..16]);
    }
    nibbles64(&b[48..176], &mut u.codes);
    for (k, c) in u.codes.iter_mut().enumerate() {
        *c |= ((b[16 + k % 32] >> (k / 32)) & 1) << 4;
    }
}

/// 128 bytes of low nibbles, 64 of high pairs, 16 i8 scales, d. Each half of 128 columns: byte l of 64 has
/// columns l and l + 64 as nibbles, byte l of 32 has the pairs of l, l + 32, l + 64, l + 96.
pub fn q6_k(b: &[u8], u: &mut RowUnit) {
    for (k, c) in u.codes.iter_mut().enumerate() {
        let (half, l) = (k / 128, k % 128);
        let low = b[64 * half + l % 64] >> (4 * (l / 64));
        let high = b[128 + 32 * half + l % 32] >> (2 * (l / 32));
        *c = (low & 15) | (high & 3) << 4;
    }
    u.scales.copy_from_slice(&b[192..208]);
    u.d = f16_at(b, 208);
}

/// Two bits: each half of 128 columns has 32 bytes, pair j of byte l is column 32 j + l.
fn pairs128(qs: &[u8], codes: &mut [u8; 256]) {
    for (k, c) in codes.iter_mut().enumerate() {
        let (half, l) = (k / 128, k % 128);
        *c = (qs[32 * half + l % 32] >> (2 * (l / 32))) & 3;
    }
}

/// 16 bytes of scale and minimum nibbles, 64 bytes of pairs, d, dmin.
pub fn q2_k(b: &[u8], u: &mut RowUnit) {
    for (j, &x) in b[..16].iter().enumerate() {
        (u.scales[j], u.mins[j]) = (x & 15, x >> 4);
    }
    pairs128(&b[16..80], &mut u.codes);
    (u.d, u.m) = (f16_at(b, 80), f16_at(b, 82));
}

/// 32 bytes of high bits, 64 of pairs, 12 of six-bit scales (less 32), d.
pub fn q3_k(b: &[u8], u: &mut RowUnit) {
    pairs128(&b[32..96], &mut u.codes);
    for (k, c) in u.codes.iter_mut().enumerate() {
        *c |= ((b[k % 32] >> (k / 32)) & 1) << 2;
    }
    let s = &b[96..108];
    for j in 0..16 {
        let low = if j < 8 { s[j] & 15 } else { s[j - 8] >> 4 };
        let high = (s[8 + j % 4] >> (2 * (j / 4))) & 3;
        u.scales[j] = (low | high << 4).wrapping_sub(32);
    }
    u.d = f16_at(b, 108);
}

/// d, 16 bits of high scale pairs, 4 bytes of low scale nibbles, 8 x 16 bytes of nibbles.
pub fn iq4_xs(b: &[u8], u: &mut RowUnit) {
    u.d = f16_at(b, 0);
    let high = f16_at(b, 2);
    for j in 0..8 {
        let low = (b[4 + j / 2] >> (4 * (j % 2))) & 15;
        u.scales[j] = (low | ((high >> (2 * j)) as u8 & 3) << 4).wrapping_sub(32);
        nibbles32(&b[8 + 16 * j..], &mut u.codes[32 * j..]);
    }
}

/// An exponent byte, 16 bytes of nibbles.
pub fn mxfp4(b: &[u8], u: &mut RowUnit) {
    u.d = u16::from(b[0]);
    nibbles32(&b[1..], &mut u.codes);
}

/// 64 bytes of pairs (0, 1, 2 for -1, 0, 1), d.
pub fn tq2_0(b: &[u8], u: &mut RowUnit) {
    pairs128(&b[..64], &mut u.codes);
    u.d = f16_at(b, 64);
}
