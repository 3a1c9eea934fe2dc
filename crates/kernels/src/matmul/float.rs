//! Plain weights (F32, F16, BF16, and whatever is unpacked to f32) x f32 activations.
//!
//! For an output, whatever the tiling: even columns in one sum, odd ones in another, each by fma in order,
//! the two added at the end. Rows are lanes, as for integer weights.

#![allow(clippy::needless_range_loop)] // as in int8.rs

use crate::pack::layout::PANEL;
use crate::simd::{Kernel, Simd};

/// Tokens that are done without unpacking to memory.
const DIRECT: usize = 4;
/// How far ahead of a stream from memory lines are asked for.
const AHEAD: usize = 4096;
/// Columns unpacked at a time: 16 KB, since rows of activations whose length is a power of two fall on the same
/// cache sets and need the rest.
pub const STRETCH: usize = 128;
/// f32 of an unpacked stretch.
pub const SCRATCH: usize = STRETCH * PANEL;

/// How two successive columns of a panel become two registers of rows.
pub trait Plain {
    /// Bytes of one column of 32 rows.
    const COLUMN: usize;
    /// Columns 2 `pair` and the next one, of the rows from `row` on; the second need not be given when
    /// `both` is false.
    ///
    /// # Safety
    /// The panel has these columns, `row + S::LANES <= 32`.
    unsafe fn pair<S: Simd>(s: S, panel: *const u8, pair: usize, row: usize, both: bool) -> (S::F, S::F);
}

/// `[cols][32]` f32.
pub struct F32;
/// `[cols][32]` f16.
pub struct F16;
/// `[cols / 2][32][2]` bf16.
pub struct BF16;

impl Plain for F32 {
    const COLUMN: usize = 4 * PANEL;
    #[inline(always)]
    unsafe fn pair<S: Simd>(s: S, p: *const u8, pair: usize, row: usize, both: bool) -> (S::F, S::F) {
        // SAFETY: the caller's promise.
        unsafe {
            let p = p.cast::<f32>().add(2 * pair * PANEL + row);
            (s.load(p), if both { s.load(p.add(PANEL)) } else { s.splat(0.0) })
        }
    }
}

impl Plain for F16 {
    const COLUMN: usize = 2 * PANEL;
    #[inline(always)]
    unsafe fn pair<S: Simd>(s: S, p: *const u8, pair: usize, row: usize, both: bool) -> (S::F, S::F) {
        // SAFETY: the caller's promise.
        unsafe {
            let p = p.cast::<u16>().add(2 * pair * PANEL + row);
            (s.load_f16(p), if both { s.load_f16(p.add(PANEL)) } else { s.splat(0.0) })
        }
    }
}

impl Plain for BF16 {
    const COLUMN: usize = 2 * PANEL;
    #[inline(always)]
    unsafe fn pair<S: Simd>(s: S, p: *const u8, pair: usize, row: usize, _both: bool) -> (S::F, S::F) {
        // SAFETY: the caller's promise.
        let v = unsafe { s.iload(p.add((pair * PANEL + row) * 4)) };
        let (low, high) = (s.shl(v, 16), s.and(v, s.isplat(0xffff_0000u32 as i32)));
        let (even, odd) = if cfg!(target_endian = "little") { (low, high) } else { (high, low) };
        (s.as_float(even), s.as_float(odd))
    }
}

/// One panel of weights x some tokens, columns `from..from + cols` of the activations.
pub struct Panel<'a, P> {
    /// The panel from that column on.
    pub weights: &'a [u8],
    /// The first token's first column.
    pub x: *const f32,
    /// Numbers from one token to the next.
    pub stride: usize,
    /// Tokens.
    pub tokens: usize,
    /// Columns.
    pub cols: usize,
    /// Room for an unpacked stretch.
    pub scratch: &'a mut [f32],
    /// `[tokens][2][32]`: even and odd sums, added to.
    pub sums: &'a mut [f32],
    /// The format.
    pub format: std::marker::PhantomData<P>,
}

#[derive(Clone, Copy)]
struct Walk {
    weights: *const u8,
    x: *const f32,
    stride: usize,
    cols: usize,
    sums: *mut f32,
}

impl<P: Plain> Kernel for Panel<'_, P> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        assert!(self.weights.len() >= self.cols * P::COLUMN && self.scratch.len() >= SCRATCH);
        assert!(self.sums.len() >= self.tokens * 2 * PANEL);
        let sums = self.sums.as_mut_ptr();
        let w =
            Walk { weights: self.weights.as_ptr(), x: self.x, stride: self.stride, cols: self.cols, sums };
        // SAFETY: the asserts; the caller's activations have `tokens` rows of `cols` columns.
        unsafe {
            if self.tokens <= DIRECT {
                return tiles::<S, P>(s, w, self.tokens);
            }
            for k in (0..self.cols).step_by(STRETCH) {
                let cols = STRETCH.min(self.cols - k);
                let weights = w.weights.add(k * P::COLUMN);
                let part = Walk { weights, x: w.x.add(k), cols, ..w };
                if P::COLUMN == F32::COLUMN {
                    tiles::<S, P>(s, part, self.tokens);
                } else {
                    let to = self.scratch.as_mut_ptr();
                    unpack::<S, P>(s, weights, cols, to);
                    tiles::<S, F32>(s, Walk { weights: to.cast(), ..part }, self.tokens);
                }
            }
        }
    }
}

/// # Safety
/// `weights` has `cols` columns, `to` room for them.
#[inline(always)]
unsafe fn unpack<S: Simd, P: Plain>(s: S, weights: *const u8, cols: usize, to: *mut f32) {
    for pair in 0..cols.div_ceil(2) {
        let both = 2 * pair + 1 < cols;
        for row in (0..PANEL).step_by(S::LANES) {
            // SAFETY: this pair exists; the second column is stored only if it does.
            unsafe {
                let (a, b) = P::pair(s, weights, pair, row, both);
                s.store(to.add(2 * pair * PANEL + row), a);
                if both {
                    s.store(to.add((2 * pair + 1) * PANEL + row), b);
                }
            }
        }
    }
}

/// # Safety
/// As for [`Panel::run`].
#[inline(always)]
unsafe fn tiles<S: Simd, P: Plain>(s: S, w: Walk, tokens: usize) {
    let (mut t, mut left) = (0, tokens.div_ceil(S::TILE));
    while t < tokens {
        let n = (tokens - t).div_ceil(left);
        // SAFETY: tokens t..t + n exist.
        unsafe {
            let at = Walk { x: w.x.add(t * w.stride), sums: w.sums.add(t * 2 * PANEL), ..w };
            match (S::TILE, n) {
                (1, _) => tile::<S, P, 1, 1>(s, at),
                (6, 1) => tile::<S, P, 1, 2>(s, at),
                (6, 2) => tile::<S, P, 2, 2>(s, at),
                (6, 3) => tile::<S, P, 3, 2>(s, at),
                (6, 4) => tile::<S, P, 4, 2>(s, at),
                (6, 5) => tile::<S, P, 5, 2>(s, at),
                (6, _) => tile::<S, P, 6, 2>(s, at),
                (_, 1) => tile::<S, P, 1, 4>(s, at),
                (_, 2) => tile::<S, P, 2, 2>(s, at),
                (_, 3) => tile::<S, P, 3, 1>(s, at),
                (_, _) => tile::<S, P, 4, 1>(s, at),
            }
        }
        t += n;
        left -= 1;
    }
}

/// `NT` tokens x the panel, `RT` registers of rows at a time.
///
/// # Safety
/// As for [`Panel::run`], with `NT` tokens.
#[inline(always)]
unsafe fn tile<S: Simd, P: Plain, const NT: usize, const RT: usize>(s: S, w: Walk) {
    let mut row = 0;
    while row < PANEL {
        let mut even = [[s.splat(0.0); RT]; NT];
        let mut odd = [[s.splat(0.0); RT]; NT];
        // SAFETY: `sums` has NT x 64, `x` NT rows of `cols`, the panel `cols` columns.
        unsafe {
            for t in 0..NT {
                for r in 0..RT {
                    even[t][r] = s.load(w.sums.add(t * 2 * PANEL + row + r * S::LANES));
                    odd[t][r] = s.load(w.sums.add((t * 2 + 1) * PANEL + row + r * S::LANES));
                }
            }
            for pair in 0..w.cols / 2 {
                if NT < DIRECT {
                    // As in int8.rs: the stream from memory is asked for ahead of the arithmetic.
                    let mut ahead = 0;
                    while ahead < 2 * P::COLUMN {
                        s.prefetch(w.weights.wrapping_add(2 * pair * P::COLUMN + AHEAD + ahead));
                        ahead += 64;
                    }
                }
                let mut a = [s.splat(0.0); RT];
                let mut b = [s.splat(0.0); RT];
                for r in 0..RT {
                    (a[r], b[r]) = P::pair(s, w.weights, pair, row + r * S::LANES, true);
                }
                for t in 0..NT {
                    let x = w.x.add(t * w.stride + 2 * pair);
                    let (xe, xo) = (s.load1(x), s.load1(x.add(1)));
                    for r in 0..RT {
                        even[t][r] = s.fma(xe, a[r], even[t][r]);
                        odd[t][r] = s.fma(xo, b[r], odd[t][r]);
                    }
                }
            }
            if w.cols % 2 == 1 {
                for r in 0..RT {
                    let (a, _) = P::pair(s, w.weights, w.cols / 2, row + r * S::LANES, false);
                    for t in 0..NT {
                        even[t][r] = s.fma(s.load1(w.x.add(t * w.stride + w.cols - 1)), a, even[t][r]);
                    }
                }
            }
            for t in 0..NT {
                for r in 0..RT {
                    s.store(w.sums.add(t * 2 * PANEL + row + r * S::LANES), even[t][r]);
                    s.store(w.sums.add((t * 2 + 1) * PANEL + row + r * S::LANES), odd[t][r]);
                }
            }
        }
        row += RT * S::LANES;
    }
}
