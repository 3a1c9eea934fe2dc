//! Packing at the speed of memory: whole panels, a register of rows at a time.
//!
//! A packed line has one word of four successive columns from each of 32 rows; the file has these words one
//! after the other in each row. Packing is therefore mostly turning 4 x 4 words ([`Simd::columns`]), and what
//! is left is moving nibbles, pairs and bits within words, the same way in all rows. Each format yields what
//! the readers of [`super::read`] and the writers of [`super::layout`] define byte by byte; they do the panels
//! that this file does not: those of less than 32 rows.

// Index loops, as in matmul/int8.rs.
#![allow(clippy::needless_range_loop)]

use std::array::from_fn;

use super::layout::*;
use crate::isa::Isa;
use crate::quant::DType;
use crate::simd::{Kernel, Simd, dispatch};

/// Bytes of 32 f16.
const H: usize = 2 * PANEL;
/// A word of each row.
type Words = [u32; PANEL];

/// Packs `rows`, 32 rows of the file's bytes, as `panel`. False, with nothing done, when this file has no way
/// to do it.
pub fn pack_panel(isa: Isa, dtype: DType, panel: &mut [u8], rows: &[u8], row_bytes: usize) -> bool {
    let whole = row_bytes > 0 && rows.len() == row_bytes * PANEL;
    whole && cfg!(target_endian = "little") && dispatch(isa, Panel { dtype, panel, rows, row_bytes })
}

struct Panel<'a> {
    dtype: DType,
    panel: &'a mut [u8],
    rows: &'a [u8],
    row_bytes: usize,
}

impl Kernel for Panel<'_> {
    type Output = bool;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> bool {
        // A way is called by its name: one that is handed over as a value is not inlined, and its registers then go
        // through memory.
        macro_rules! units {
            ($bytes:expr, $unit:expr, $way:ident) => {{
                const BYTES: usize = $bytes;
                const UNIT: usize = $unit;
                if !self.row_bytes.is_multiple_of(BYTES) {
                    return false;
                }
                assert!(self.rows.len() == PANEL * self.row_bytes);
                assert!(self.panel.len() == self.row_bytes / BYTES * UNIT);
                let (units, _) = self.panel.as_chunks_mut::<UNIT>();
                for (i, unit) in units.iter_mut().enumerate() {
                    let at = i * BYTES;
                    $way(&mut Block::<S, BYTES, UNIT> {
                        s,
                        rows: self.rows,
                        at,
                        stride: self.row_bytes,
                        unit,
                    });
                }
                true
            }};
        }
        match self.dtype {
            DType::Q4_0 | DType::IQ4_NL => units!(18, unit::<(C4, F16)>(), q4_0),
            DType::Q4_1 => units!(20, unit::<(C4, F16Min)>(), q4_1),
            DType::Q5_0 => units!(22, unit::<(C5, F16)>(), q5_0),
            DType::Q5_1 => units!(24, unit::<(C5, F16Min)>(), q5_1),
            DType::Q8_0 => units!(34, unit::<(C8, F16)>(), q8_0),
            DType::Q2_K => units!(84, unit::<(C2, K4)>(), q2_k),
            DType::Q3_K => units!(110, unit::<(C3, I8Half)>(), q3_k),
            DType::Q4_K => units!(144, unit::<(C4, K6)>(), q4_k),
            DType::Q5_K => units!(176, unit::<(C5, K6)>(), q5_k),
            DType::Q6_K => units!(210, unit::<(C6, I8Half)>(), q6_k),
            DType::IQ4_XS => units!(136, unit::<(CIq4, I8Block)>(), iq4_xs),
            DType::MXFP4 => units!(17, unit::<(CFp4, E8)>(), mxfp4),
            DType::TQ2_0 => units!(66, unit::<(C2, F16Super)>(), tq2_0),
            DType::F32 | DType::BF16 => units!(16, 4 * LINE, words),
            DType::F16 => units!(16, 4 * LINE, halves),
            _ => false,
        }
    }
}

const fn unit<F: Format>() -> usize {
    F::UNIT
}

/// A block of 32 rows, and the unit that it becomes.
struct Block<'a, S, const BYTES: usize, const UNIT: usize> {
    s: S,
    /// 32 rows of `stride` bytes.
    rows: &'a [u8],
    /// Where the block begins in each row; `at + BYTES <= stride`.
    at: usize,
    stride: usize,
    unit: &'a mut [u8; UNIT],
}

// The asserts below are about constants and vanish.
impl<S: Simd, const BYTES: usize, const UNIT: usize> Block<'_, S, BYTES, UNIT> {
    /// The four words from byte `from` of the block, of the rows from `row` on.
    #[inline(always)]
    fn turned(&self, from: usize, row: usize) -> [S::I; 4] {
        assert!(from + 16 <= BYTES && row + S::LANES <= PANEL);
        // SAFETY: rows up to row + LANES - 1 <= 31 are in `rows`, each with BYTES bytes from `at` on.
        unsafe { self.s.columns(self.rows.as_ptr().add(row * self.stride + self.at + from), self.stride) }
    }

    /// Eight words.
    #[inline(always)]
    fn turned8(&self, from: usize, row: usize) -> [S::I; 8] {
        let ([a, b, c, d], [e, f, g, h]) = (self.turned(from, row), self.turned(from + 16, row));
        [a, b, c, d, e, f, g, h]
    }

    /// Four words of all rows.
    #[inline(always)]
    fn table(&self, from: usize) -> [Words; 4] {
        let mut table = [[0u32; PANEL]; 4];
        for row in (0..PANEL).step_by(S::LANES) {
            let turned = self.turned(from, row);
            for i in 0..4 {
                // SAFETY: row + LANES <= PANEL words.
                unsafe { self.s.istore(table[i].as_mut_ptr().add(row).cast(), turned[i]) }
            }
        }
        table
    }

    /// Writes `lines` of the rows from `row` on, the first at byte `to` of the unit.
    #[inline(always)]
    fn put<const N: usize>(&mut self, to: usize, row: usize, lines: [S::I; N]) {
        assert!(to + N * LINE <= UNIT && row + S::LANES <= PANEL);
        for i in 0..N {
            // SAFETY: line i ends within the unit, and the rows within the line.
            unsafe { self.s.istore(self.unit.as_mut_ptr().add(to + i * LINE + 4 * row), lines[i]) }
        }
    }

    /// Four lines that are the file's own words.
    #[inline(always)]
    fn copy_lines(&mut self, from: usize, to: usize) {
        for row in (0..PANEL).step_by(S::LANES) {
            self.put(to, row, self.turned(from, row));
        }
    }

    /// Bytes `shift / 8` of the words.
    #[inline(always)]
    fn put_bytes(&mut self, to: usize, words: &Words, shift: u32) {
        let out: &mut [u8; PANEL] = from_mut(self.unit, to);
        *out = from_fn(|r| (words[r] >> shift) as u8);
    }

    /// The halves of the words from bit `shift` on.
    #[inline(always)]
    fn put_halves(&mut self, to: usize, words: &Words, shift: u32) {
        let out: &mut [u8; H] = from_mut(self.unit, to);
        for (r, out) in out.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            *out = ((words[r] >> shift) as u16).to_le_bytes();
        }
    }

    #[inline(always)]
    fn put_words(&mut self, to: usize, words: &Words) {
        let out: &mut [u8; LINE] = from_mut(self.unit, to);
        for (r, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *out = words[r].to_le_bytes();
        }
    }
}

/// The `N` bytes from `at` on.
#[inline(always)]
fn from_mut<const N: usize, const UNIT: usize>(unit: &mut [u8; UNIT], at: usize) -> &mut [u8; N] {
    assert!(at + N <= UNIT);
    // SAFETY: within the unit, as has just been seen.
    unsafe { &mut *unit.as_mut_ptr().add(at).cast::<[u8; N]>() }
}

/// The nibbles of eight words of columns, low ones and high ones, as four lines each.
#[inline(always)]
fn nibble_lines<S: Simd>(s: S, w: [S::I; 8]) -> [[S::I; 4]; 2] {
    let (low, high) = (s.isplat(0x0f0f_0f0f), s.isplat(0xf0f0_f0f0_u32 as i32));
    let mut lines = [[low; 4]; 2];
    for i in 0..4 {
        lines[0][i] = s.or(s.and(w[i], low), s.shl(s.and(w[i + 4], low), 4));
        lines[1][i] = s.or(s.and(s.shr(w[i], 4), low), s.and(w[i + 4], high));
    }
    lines
}

/// Pair `j` of each byte of eight words, as two lines.
#[inline(always)]
fn pair_lines<S: Simd>(s: S, w: &[S::I; 8], j: usize) -> [S::I; 2] {
    let mut lines = [s.isplat(0); 2];
    for i in 0..8 {
        let pair = s.and(s.shr(w[i], 2 * j as u32), s.isplat(0x0303_0303));
        lines[i / 4] = s.or(lines[i / 4], s.shl(pair, 2 * (i % 4) as u32));
    }
    lines
}

/// Bit `j` of each byte of eight words, as a line.
#[inline(always)]
fn bit_line<S: Simd>(s: S, w: &[S::I; 8], j: usize) -> S::I {
    let mut line = s.isplat(0);
    for i in 0..8 {
        let bit = s.and(s.shr(w[i], j as u32), s.isplat(0x0101_0101));
        line = s.or(line, s.shl(bit, i as u32));
    }
    line
}

/// Bit 4 g + j goes to 8 j + g: even bits to the low half and odd ones to the high half, twice.
#[inline(always)]
fn bits_by_column(x: u32) -> u32 {
    let swap = |x: u32, n: u32, mask: u32| {
        let t = (x ^ (x >> n)) & mask;
        x ^ t ^ (t << n)
    };
    let apart = |x| {
        let x = swap(swap(x, 1, 0x2222_2222), 2, 0x0c0c_0c0c);
        swap(swap(x, 4, 0x00f0_00f0), 8, 0x0000_ff00)
    };
    apart(apart(x))
}

macro_rules! formats {
    ($($(#[$doc:meta])* $name:ident($b:ident, $s:ident) $body:block)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        fn $name<S: Simd, const B: usize, const U: usize>($b: &mut Block<'_, S, B, U>) {
            let $s = $b.s;
            $body
        }
    )*};
}

formats! {
    /// Four words are four lines.
    words(b, _s) {
        b.copy_lines(0, 0);
    }

    /// Eight columns of 32 halves.
    halves(b, _s) {
        for (i, w) in b.table(0).iter().enumerate() {
            b.put_halves(2 * i * H, w, 0);
            b.put_halves((2 * i + 1) * H, w, 16);
        }
    }

    q4_0(b, _s) {
        b.put_halves(0, &b.table(0)[0], 0);
        b.copy_lines(2, H);
    }

    q4_1(b, _s) {
        let head = b.table(0)[0];
        b.put_halves(0, &head, 0);
        b.put_halves(H, &head, 16);
        b.copy_lines(4, 2 * H);
    }

    q5_0(b, _s) {
        let [w0, w1, ..] = b.table(0);
        b.put_halves(0, &w0, 0);
        b.copy_lines(6, H);
        b.put_words(H + 4 * LINE, &from_fn(|r| bits_by_column(w0[r] >> 16 | w1[r] << 16)));
    }

    q5_1(b, _s) {
        let [w0, w1, ..] = b.table(0);
        b.put_halves(0, &w0, 0);
        b.put_halves(H, &w0, 16);
        b.copy_lines(8, 2 * H);
        b.put_words(2 * H + 4 * LINE, &w1.map(bits_by_column));
    }

    /// Signs are flipped, by addition: what a byte carries into the next is masked away.
    q8_0(b, s) {
        b.put_halves(0, &b.table(0)[0], 0);
        let (sign, rest) = (s.isplat(0x8080_8080_u32 as i32), s.isplat(0x7f7f_7f7f));
        for row in (0..PANEL).step_by(S::LANES) {
            let mut w = b.turned8(2, row);
            for i in 0..8 {
                w[i] = s.or(s.and(w[i], rest), s.and(s.iadd(s.and(w[i], sign), sign), sign));
            }
            b.put(H, row, w);
        }
    }

    q2_k(b, s) {
        for (i, w) in b.table(0).iter().enumerate() {
            for j in 0..4 {
                b.put_bytes(2 * H + (4 * i + j) * PANEL, w, 8 * j as u32);
            }
        }
        let ends = b.table(68)[3];
        b.put_halves(0, &ends, 0);
        b.put_halves(H, &ends, 16);
        put_pairs(b, s, 16, 2 * H + 16 * PANEL, 2 * LINE);
    }

    q3_k(b, s) {
        let [w0, w1, w2, w3] = b.table(94);
        b.put_halves(0, &w3, 16);
        let word = |low: &Words, high: &Words| -> Words { from_fn(|r| low[r] >> 16 | high[r] << 16) };
        let (a, c, high) = (word(&w0, &w1), word(&w1, &w2), word(&w2, &w3));
        for i in 0..4 {
            let low = if i % 2 == 0 { &a } else { &c };
            let scale = |r: usize| {
                let low = (low[r] >> (4 * (i / 2))) & 0x0f0f_0f0f;
                // Six bits less 32: the fifth bit is flipped and goes up to the eighth.
                let six = (low | ((high[r] >> (2 * i)) & 0x0303_0303) << 4) ^ 0x2020_2020;
                six | (six & 0x2020_2020) << 1 | (six & 0x2020_2020) << 2
            };
            let scales: Words = from_fn(scale);
            for j in 0..4 {
                b.put_bytes(H + (4 * i + j) * PANEL, &scales, 8 * j as u32);
            }
        }
        put_pairs(b, s, 32, H + 16 * PANEL, 3 * LINE);
        put_bits(b, s, 0, H + 16 * PANEL + 2 * LINE, 3 * LINE);
    }

    q4_k(b, s) {
        k6_head(b);
        put_nibbles64(b, s, 16, 2 * H + 12 * PANEL, 4 * LINE);
    }

    q5_k(b, s) {
        k6_head(b);
        put_nibbles64(b, s, 48, 2 * H + 12 * PANEL, 5 * LINE);
        put_bits(b, s, 16, 2 * H + 12 * PANEL + 4 * LINE, 5 * LINE);
    }

    q6_k(b, s) {
        for (i, w) in b.table(192).iter().enumerate() {
            for j in 0..4 {
                b.put_bytes(H + (4 * i + j) * PANEL, w, 8 * j as u32);
            }
        }
        b.put_halves(0, &b.table(194)[3], 16);
        let codes = H + 16 * PANEL;
        for row in (0..PANEL).step_by(S::LANES) {
            for (half, i) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let [low, high] = nibble_lines(s, b.turned8(64 * half + 32 * i, row));
                b.put(codes + (4 * half + i) * 6 * LINE, row, low);
                b.put(codes + (4 * half + i + 2) * 6 * LINE, row, high);
            }
        }
        put_pairs(b, s, 128, codes + 4 * LINE, 6 * LINE);
    }

    iq4_xs(b, _s) {
        let [w0, w1, ..] = b.table(0);
        b.put_halves(0, &w0, 0);
        for j in 0..8 {
            let scale = |r: usize| {
                let (low, high) = ((w1[r] >> (4 * j)) & 15, (w0[r] >> (16 + 2 * j)) & 3);
                (low | high << 4).wrapping_sub(32)
            };
            b.put_bytes(H + j * PANEL, &from_fn(scale), 0);
            b.copy_lines(8 + 16 * j, H + 8 * PANEL + j * 4 * LINE);
        }
    }

    mxfp4(b, _s) {
        b.put_bytes(0, &b.table(0)[0], 0);
        b.copy_lines(1, PANEL);
    }

    tq2_0(b, s) {
        b.put_halves(0, &b.table(50)[3], 16);
        put_pairs(b, s, 0, H, 2 * LINE);
    }

    /// The head of Q4_K and Q5_K, a row's 16 bytes at once: see `read::scale_min_k4` and `K6`.
    k6_head(b, _s) {
        let [w0, w1, w2, w3] = b.table(0);
        b.put_halves(0, &w0, 0);
        b.put_halves(H, &w0, 16);
        let (nibbles, pairs) = (0x0f0f_0f0f, 0x0303_0303);
        let a: [Words; 2] = [
            from_fn(|r| w1[r] & 0x3f3f_3f3f | (w2[r] & pairs) << 6),
            from_fn(|r| w3[r] & nibbles | (w1[r] >> 6 & pairs) << 4 | (w3[r] >> 4 & pairs) << 6),
        ];
        // Four bits of each minimum, then two of them in a byte.
        let rest: [Words; 2] = [
            from_fn(|r| w2[r] >> 2 & nibbles),
            from_fn(|r| w3[r] >> 6 & pairs | (w2[r] >> 6 & pairs) << 2),
        ];
        for (i, (a, rest)) in a.iter().zip(&rest).enumerate() {
            for j in 0..4 {
                b.put_bytes(2 * H + (4 * i + j) * PANEL, a, 8 * j as u32);
            }
            let two: Words = from_fn(|r| rest[r] | rest[r] >> 4);
            b.put_bytes(2 * H + (8 + 2 * i) * PANEL, &two, 0);
            b.put_bytes(2 * H + (9 + 2 * i) * PANEL, &two, 16);
        }
    }
}

/// Columns in pairs of blocks, whose nibbles share 32 bytes; blocks `step` apart.
#[inline(always)]
fn put_nibbles64<S: Simd, const B: usize, const U: usize>(
    b: &mut Block<'_, S, B, U>,
    s: S,
    from: usize,
    to: usize,
    step: usize,
) {
    for row in (0..PANEL).step_by(S::LANES) {
        for i in 0..4 {
            let [low, high] = nibble_lines(s, b.turned8(from + 32 * i, row));
            b.put(to + 2 * i * step, row, low);
            b.put(to + (2 * i + 1) * step, row, high);
        }
    }
}

/// The pairs of eight blocks, four in each 32 bytes; blocks `step` apart.
#[inline(always)]
fn put_pairs<S: Simd, const B: usize, const U: usize>(
    b: &mut Block<'_, S, B, U>,
    s: S,
    from: usize,
    to: usize,
    step: usize,
) {
    for row in (0..PANEL).step_by(S::LANES) {
        for half in 0..2 {
            let w = b.turned8(from + 32 * half, row);
            for j in 0..4 {
                b.put(to + (4 * half + j) * step, row, pair_lines(s, &w, j));
            }
        }
    }
}

/// The bits of eight blocks, all in the same 32 bytes; blocks `step` apart.
#[inline(always)]
fn put_bits<S: Simd, const B: usize, const U: usize>(
    b: &mut Block<'_, S, B, U>,
    s: S,
    from: usize,
    to: usize,
    step: usize,
) {
    for row in (0..PANEL).step_by(S::LANES) {
        let w = b.turned8(from, row);
        for j in 0..8 {
            b.put(to + j * step, row, [bit_line(s, &w, j)]);
        }
    }
}
