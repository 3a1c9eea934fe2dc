//! How packed weights lie: panels of 32 rows, each one strictly sequential stream of units.
//!
//! A unit is 32 rows x 32 or 256 columns: first the scales of all 32 rows, then the codes, block by block
//! of 32 columns. Codes are unsigned (value = code - offset) and lie so that one register holds, for each
//! of its lanes (rows), four successive columns (a *k-group*); a block has eight k-groups. A *line* is the
//! 128 bytes of 32 rows x one k-group:
//!
//! | codes | lines of a block |
//! |---|---|
//! | 8 bits | 8: line g is k-group g |
//! | 4 bits | 4: line g has k-group g in the low nibbles, g + 4 in the high ones |
//! | 2 bits | 2: line g / 4 has k-group g in bits 2 (g mod 4) and the next |
//! | 1 bit | 1: bit g is k-group g |
//!
//! 5 and 6 bits are 4 + 1 and 4 + 2, 3 bits are 2 + 1. No format grows by this, but for what
//! [`super`] says.

use crate::simd::Simd;

/// Rows of a panel.
pub const PANEL: usize = 32;
/// Columns of a block.
pub const BLOCK: usize = 32;
/// Bytes of a line.
pub const LINE: usize = 4 * PANEL;

/// What one row has in one unit, before it is packed.
#[derive(Clone)]
pub struct RowUnit {
    /// Codes in column order (the first 32 when the unit is one block).
    pub codes: [u8; 256],
    /// f16 bits of the scale, or of the super-block's; an exponent byte for MXFP4.
    pub d: u16,
    /// f16 bits of the (super-block's) minimum.
    pub m: u16,
    /// Scales of the groups.
    pub scales: [u8; 16],
    /// Minima of the groups.
    pub mins: [u8; 16],
}

impl Default for RowUnit {
    fn default() -> RowUnit {
        RowUnit { codes: [0; 256], d: 0, m: 0, scales: [0; 16], mins: [0; 16] }
    }
}

/// How the codes of a block lie.
pub trait Codes {
    /// Bytes of a block of 32 rows x 32 columns.
    const BYTES: usize;
    /// Codes may exceed 127 (which AVX2 must know).
    const WIDE: bool = false;
    /// Writes the codes of one row.
    fn put(block: &mut [u8], row: usize, codes: &[u8]);
    /// k-group `G` of the rows from `row` on.
    ///
    /// # Safety
    /// `block` has `BYTES` bytes, `row + S::LANES <= 32`, `G < 8`.
    unsafe fn get<S: Simd, const G: usize>(s: S, block: *const u8, row: usize) -> S::I;
}

/// How the scales of a unit lie, and what they make.
pub trait Scales {
    /// Blocks of a unit.
    const SUPER: usize;
    /// Bytes of the scales of 32 rows.
    const HEAD: usize;
    /// One scale for each 16 columns, not 32.
    const HALF: bool = false;
    /// There is a minimum to add.
    const MIN: bool = false;
    /// Writes the scales of one row.
    fn put(head: &mut [u8], row: usize, unit: &RowUnit);
    /// The scale of block `sub`, half `half` (0 unless `HALF`).
    ///
    /// # Safety
    /// `head` has `HEAD` bytes, `row + S::LANES <= 32`, `sub < SUPER`.
    unsafe fn scale<S: Simd>(s: S, head: *const u8, sub: usize, half: usize, row: usize) -> S::F;
    /// What is added to every number of the group.
    ///
    /// # Safety
    /// As for `scale`.
    #[inline(always)]
    unsafe fn min<S: Simd>(s: S, _head: *const u8, _sub: usize, _half: usize, _row: usize) -> S::F {
        s.splat(0.0)
    }
    /// `scale` x -1.5 x 2^23: what takes the integers' start away again (see `matmul/int8.rs`).
    ///
    /// # Safety
    /// As for `scale`, of which it is the result (for `sub` 0).
    #[inline(always)]
    unsafe fn less<S: Simd>(s: S, _head: *const u8, scale: S::F, _half: usize, _row: usize) -> S::F {
        s.mul(scale, s.splat(MINUS_MAGIC))
    }
}

/// -1.5 x 2^23
const MINUS_MAGIC: f32 = -12_582_912.0;

/// A packed format: scales, then codes.
pub trait Format {
    /// The codes.
    type C: Codes;
    /// The scales.
    type S: Scales;
    /// Bytes of a unit of 32 rows.
    const UNIT: usize = Self::S::HEAD + Self::S::SUPER * Self::C::BYTES;
}

/// Eight-bit codes.
pub struct C8;
/// Eight-bit codes that never exceed 127.
pub struct C8Narrow;
/// Nibbles.
pub struct C4;
/// Nibbles and one bit more.
pub struct C5;
/// Nibbles and two bits more.
pub struct C6;
/// Two bits.
pub struct C2;
/// Two bits and one more.
pub struct C3;
/// Nibbles that choose from IQ4's 16 values (+ 128).
pub struct CIq4;
/// Nibbles that choose from FP4's 16 values, doubled (+ 12).
pub struct CFp4;

/// The 16 values of IQ4_NL and IQ4_XS, plus 128.
pub const IQ4: [u8; 16] = [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241];
/// The 16 values of FP4 (e2m1), doubled, plus 12.
pub const FP4: [u8; 16] = [12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0];

fn put_nibbles(block: &mut [u8], row: usize, codes: &[u8]) {
    for (k, &c) in codes.iter().enumerate() {
        let at = (k / 4 % 4) * LINE + row * 4 + k % 4;
        block[at] |= (c & 15) << (4 * (k / 16));
    }
}

fn put_pairs(block: &mut [u8], row: usize, codes: &[u8], shift: u32) {
    for (k, &c) in codes.iter().enumerate() {
        let g = k / 4;
        block[(g / 4) * LINE + row * 4 + k % 4] |= ((c >> shift) & 3) << (2 * (g % 4));
    }
}

fn put_bits(block: &mut [u8], row: usize, codes: &[u8], shift: u32) {
    for (k, &c) in codes.iter().enumerate() {
        block[row * 4 + k % 4] |= ((c >> shift) & 1) << (k / 4);
    }
}

/// # Safety
/// 512 bytes at `p`, `row + S::LANES <= 32`.
#[inline(always)]
unsafe fn nibbles<S: Simd, const G: usize>(s: S, p: *const u8, row: usize) -> S::I {
    // SAFETY: line `G % 4` of four.
    let v = unsafe { s.iload(p.add((G % 4) * LINE + row * 4)) };
    s.and(if G < 4 { v } else { s.shr(v, 4) }, s.isplat(0x0f0f_0f0f))
}

/// The `width` (1 or 2) bits from bit `from` of each byte, moved to bit `to`.
#[inline(always)]
fn moved<S: Simd>(s: S, v: S::I, from: usize, to: usize, width: u32) -> S::I {
    let v = if from < to { s.shl(v, (to - from) as u32) } else { s.shr(v, (from - to) as u32) };
    s.and(v, s.isplat(0x0101_0101 * (((1 << width) - 1) << to)))
}

/// # Safety
/// 256 bytes at `p`, `row + S::LANES <= 32`.
#[inline(always)]
unsafe fn pairs<S: Simd, const G: usize>(s: S, p: *const u8, row: usize, to: usize) -> S::I {
    // SAFETY: line `G / 4` of two.
    let v = unsafe { s.iload(p.add((G / 4) * LINE + row * 4)) };
    moved(s, v, 2 * (G % 4), to, 2)
}

/// # Safety
/// 128 bytes at `p`, `row + S::LANES <= 32`.
#[inline(always)]
unsafe fn bits<S: Simd, const G: usize>(s: S, p: *const u8, row: usize, to: usize) -> S::I {
    // SAFETY: the one line.
    let v = unsafe { s.iload(p.add(row * 4)) };
    moved(s, v, G, to, 1)
}

macro_rules! codes {
    ($t:ty, $bytes:expr, wide $wide:expr, put($b:ident, $r:ident, $c:ident) $put:expr, get($s:ident, $p:ident) $get:expr) => {
        impl Codes for $t {
            const BYTES: usize = $bytes;
            const WIDE: bool = $wide;
            fn put($b: &mut [u8], $r: usize, $c: &[u8]) {
                $put
            }
            #[inline(always)]
            unsafe fn get<S: Simd, const G: usize>($s: S, $p: *const u8, $r: usize) -> S::I {
                // SAFETY: the caller's block has all lines of these codes.
                unsafe { $get }
            }
        }
    };
}

fn put_bytes(block: &mut [u8], row: usize, codes: &[u8]) {
    for (k, &c) in codes.iter().enumerate() {
        block[(k / 4) * LINE + row * 4 + k % 4] = c;
    }
}

codes!(C8, 8 * LINE, wide true, put(b, row, c) put_bytes(b, row, c), get(s, p) s.iload(p.add(G * LINE + row * 4)));
codes!(C8Narrow, 8 * LINE, wide false, put(b, row, c) put_bytes(b, row, c),
    get(s, p) s.iload(p.add(G * LINE + row * 4)));
codes!(C4, 4 * LINE, wide false, put(b, row, c) put_nibbles(b, row, c), get(s, p) nibbles::<S, G>(s, p, row));
codes!(C5, 5 * LINE, wide false,
    put(b, row, c) { put_nibbles(b, row, c); put_bits(&mut b[4 * LINE..], row, c, 4) },
    get(s, p) s.or(nibbles::<S, G>(s, p, row), bits::<S, G>(s, p.add(4 * LINE), row, 4)));
codes!(C6, 6 * LINE, wide false,
    put(b, row, c) { put_nibbles(b, row, c); put_pairs(&mut b[4 * LINE..], row, c, 4) },
    get(s, p) s.or(nibbles::<S, G>(s, p, row), pairs::<S, G>(s, p.add(4 * LINE), row, 4)));
codes!(C2, 2 * LINE, wide false, put(b, row, c) put_pairs(b, row, c, 0), get(s, p) pairs::<S, G>(s, p, row, 0));
codes!(C3, 3 * LINE, wide false,
    put(b, row, c) { put_pairs(b, row, c, 0); put_bits(&mut b[2 * LINE..], row, c, 2) },
    get(s, p) s.or(pairs::<S, G>(s, p, row, 0), bits::<S, G>(s, p.add(2 * LINE), row, 2)));
codes!(CIq4, 4 * LINE, wide true, put(b, row, c) put_nibbles(b, row, c),
    get(s, p) s.lut(&IQ4, nibbles::<S, G>(s, p, row)));
codes!(CFp4, 4 * LINE, wide false, put(b, row, c) put_nibbles(b, row, c),
    get(s, p) s.lut(&FP4, nibbles::<S, G>(s, p, row)));

/// One f16 scale per block.
pub struct F16;
/// An f16 scale and an f16 minimum per block.
pub struct F16Min;
/// Q4_K, Q5_K: f16 scale and minimum of 256 columns, six bits of each per 32.
pub struct K6;
/// Q2_K: f16 scale and minimum of 256 columns, four bits of each per 16.
pub struct K4;
/// Q3_K, Q6_K: an f16 scale of 256 columns, an i8 per 16.
pub struct I8Half;
/// IQ4_XS: an f16 scale of 256 columns, an i8 per 32.
pub struct I8Block;
/// MXFP4: a power of two per block, e: 2^(e - 128); 0 is zero.
pub struct E8;
/// TQ1_0, TQ2_0: one f16 scale for 256 columns.
pub struct F16Super;

/// Bytes of 32 f16.
const H: usize = 2 * PANEL;

fn put_f16(head: &mut [u8], row: usize, bits: u16) {
    // In the machine's own order: packed weights never leave the process.
    head[2 * row..2 * row + 2].copy_from_slice(&bits.to_ne_bytes());
}

macro_rules! scales {
    ($t:ty, super $super:expr, head $head:expr, half $half:expr, min $min:expr,
     put($h:ident, $row:ident, $u:ident) $put:expr,
     get($s:ident, $p:ident, $sub:ident, $hf:ident) $scale:expr $(, $m:expr)?) => {
        impl Scales for $t {
            const SUPER: usize = $super;
            const HEAD: usize = $head;
            const HALF: bool = $half;
            const MIN: bool = $min;
            fn put($h: &mut [u8], $row: usize, $u: &RowUnit) {
                $put
            }
            #[inline(always)]
            #[allow(unused_variables)]
            unsafe fn scale<S: Simd>($s: S, $p: *const u8, $sub: usize, $hf: usize, $row: usize) -> S::F {
                // SAFETY: within the caller's head.
                unsafe { $scale }
            }
            $(#[inline(always)]
            #[allow(unused_variables)]
            unsafe fn min<S: Simd>($s: S, $p: *const u8, $sub: usize, $hf: usize, $row: usize) -> S::F {
                // SAFETY: within the caller's head.
                unsafe { $m }
            })?
        }
    };
}

/// # Safety
/// 32 f16 at `p`, `row + S::LANES <= 32`.
#[inline(always)]
unsafe fn f16s<S: Simd>(s: S, p: *const u8, row: usize) -> S::F {
    // SAFETY: the caller's promise.
    unsafe { s.load_f16(p.cast::<u16>().add(row)) }
}

/// -d x m: exact in f32, as both have few bits.
#[inline(always)]
fn negated_product<S: Simd>(s: S, d: S::F, m: S::I) -> S::F {
    s.sub(s.splat(0.0), s.mul(d, s.to_f(m)))
}

scales!(F16, super 1, head H, half false, min false,
    put(h, row, u) put_f16(h, row, u.d),
    get(s, p, sub, half) f16s(s, p, row));
scales!(F16Min, super 1, head 2 * H, half false, min true,
    put(h, row, u) { put_f16(h, row, u.d); put_f16(&mut h[H..], row, u.m) },
    get(s, p, sub, half) f16s(s, p, row), f16s(s, p.add(H), row));
// Bytes a[sub] hold the scale's six bits and the minimum's two lowest, nibbles b[sub / 2] its four others.
scales!(K6, super 8, head 2 * H + 12 * PANEL, half false, min true,
put(h, row, u) {
    put_f16(h, row, u.d);
    put_f16(&mut h[H..], row, u.m);
    for sub in 0..8 {
        h[2 * H + sub * PANEL + row] = (u.scales[sub] & 63) | (u.mins[sub] & 3) << 6;
        h[2 * H + (8 + sub / 2) * PANEL + row] |= ((u.mins[sub] >> 2) & 15) << (4 * (sub % 2));
    }
},
get(s, p, sub, half) {
    let a = s.load_u8(p.add(2 * H + sub * PANEL + row));
    s.mul(f16s(s, p, row), s.to_f(s.and(a, s.isplat(63))))
}, {
    let a = s.shr(s.load_u8(p.add(2 * H + sub * PANEL + row)), 6);
    let b = s.load_u8(p.add(2 * H + (8 + sub / 2) * PANEL + row));
    let b = s.and(s.shr(b, 4 * (sub % 2) as u32), s.isplat(15));
    negated_product(s, f16s(s, p.add(H), row), s.or(a, s.shl(b, 2)))
});
scales!(K4, super 8, head 2 * H + 16 * PANEL, half true, min true,
put(h, row, u) {
    put_f16(h, row, u.d);
    put_f16(&mut h[H..], row, u.m);
    for g in 0..16 {
        h[2 * H + g * PANEL + row] = (u.scales[g] & 15) | u.mins[g] << 4;
    }
},
get(s, p, sub, half) {
    let a = s.load_u8(p.add(2 * H + (2 * sub + half) * PANEL + row));
    s.mul(f16s(s, p, row), s.to_f(s.and(a, s.isplat(15))))
}, {
    let a = s.load_u8(p.add(2 * H + (2 * sub + half) * PANEL + row));
    negated_product(s, f16s(s, p.add(H), row), s.shr(a, 4))
});
scales!(I8Half, super 8, head H + 16 * PANEL, half true, min false,
    put(h, row, u) {
        put_f16(h, row, u.d);
        for g in 0..16 { h[H + g * PANEL + row] = u.scales[g]; }
    },
    get(s, p, sub, half)
        s.mul(f16s(s, p, row), s.to_f(s.load_i8(p.add(H + (2 * sub + half) * PANEL + row).cast()))));
scales!(I8Block, super 8, head H + 8 * PANEL, half false, min false,
    put(h, row, u) {
        put_f16(h, row, u.d);
        for g in 0..8 { h[H + g * PANEL + row] = u.scales[g]; }
    },
    get(s, p, sub, half) s.mul(f16s(s, p, row), s.to_f(s.load_i8(p.add(H + sub * PANEL + row).cast()))));
scales!(E8, super 1, head PANEL, half false, min false,
    put(h, row, u) h[row] = u.d as u8,
    get(s, p, sub, half) s.mul(s.as_float(s.shl(s.load_u8(p.add(row)), 23)), s.splat(0.5)));
scales!(F16Super, super 8, head H, half false, min false,
    put(h, row, u) put_f16(h, row, u.d),
    get(s, p, sub, half) f16s(s, p, row));

/// Scales unpacked to f32, for a tile of weights that many tokens will use: per block, each half's scales,
/// then each half's scales x -1.5 x 2^23, then (if `MIN`) each half's minima.
pub struct Flat<const HALF: bool, const MIN: bool>;

impl<const HALF: bool, const MIN: bool> Flat<HALF, MIN> {
    /// Groups of a block.
    pub const GROUPS: usize = if HALF { 2 } else { 1 };
}

impl<const HALF: bool, const MIN: bool> Scales for Flat<HALF, MIN> {
    const SUPER: usize = 1;
    const HEAD: usize = Self::GROUPS * PANEL * 4 * if MIN { 3 } else { 2 };
    const HALF: bool = HALF;
    const MIN: bool = MIN;
    fn put(_: &mut [u8], _: usize, _: &RowUnit) {}
    #[inline(always)]
    unsafe fn scale<S: Simd>(s: S, head: *const u8, _sub: usize, half: usize, row: usize) -> S::F {
        // SAFETY: within the caller's head.
        unsafe { s.load(head.cast::<f32>().add(half * PANEL + row)) }
    }
    #[inline(always)]
    unsafe fn min<S: Simd>(s: S, head: *const u8, _sub: usize, half: usize, row: usize) -> S::F {
        // SAFETY: within the caller's head.
        unsafe { s.load(head.cast::<f32>().add((2 * Self::GROUPS + half) * PANEL + row)) }
    }
    #[inline(always)]
    unsafe fn less<S: Simd>(s: S, head: *const u8, _: S::F, half: usize, row: usize) -> S::F {
        // SAFETY: within the caller's head.
        unsafe { s.load(head.cast::<f32>().add((Self::GROUPS + half) * PANEL + row)) }
    }
}

impl<C: Codes, S: Scales> Format for (C, S) {
    type C = C;
    type S = S;
}
