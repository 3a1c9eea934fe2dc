//! Plain weights (F32, F16, BF16, and whatever is unpacked to f32) x f32 activations; and BF16 weights x activations
//! rounded to bf16, where the machine has an instruction for that.
//!
//! For an output, whatever the tiling: one sum, by fma in the order of the columns. Dot products of bf16 take two
//! columns at a time, the odd one first, as `vdpbf16ps` does. Rows are lanes, as for integer weights.

#![allow(clippy::needless_range_loop)] // as in int8.rs

use super::sums::{Sums, Target};
use crate::pack::layout::PANEL;
use crate::simd::{Kernel, Simd};

/// Tokens of the widest tile of 512-bit registers: blocks of tokens are multiples of it. Rows of f32 get six: they may be a
/// power of two apart, so that all fall on the same sets of the first-level cache.
pub const WIDE: usize = 12;
/// How far ahead of a stream from memory lines are asked for.
const AHEAD: usize = 4096;
/// f32 of weights that are unpacked, or just read, for all tokens in turn: 16 KB, so that they stay in the first-level
/// cache beside the activations.
pub const SCRATCH: usize = 4096;

/// Weights of a panel, two successive columns a step.
pub trait Plain {
    /// Bytes of a step's 32 rows.
    const BYTES: usize;
    /// The weights are unpacked before they meet many tokens.
    const UNPACKED: bool = true;
    /// Activations are pairs of bf16, 4 bytes a step, in place of two f32.
    const PAIRS: bool = false;
    /// Columns of [`SCRATCH`].
    const STRETCH: usize = SCRATCH / PANEL * if Self::PAIRS { 2 } else { 1 };
    /// The weights of step `i`, of the rows from `row` on; the second column need not be there when `both` is false.
    ///
    /// # Safety
    /// The panel has these columns, `row + S::LANES <= 32`.
    unsafe fn weights<S: Simd>(s: S, panel: *const u8, i: usize, row: usize, both: bool) -> [S::F; 2];
    /// `acc` plus the products of a step; `x` has the activations.
    #[inline(always)]
    fn add<S: Simd>(s: S, acc: S::F, w: [S::F; 2], x: [S::F; 2]) -> S::F {
        s.fma(x[1], w[1], s.fma(x[0], w[0], acc))
    }
}

/// `[cols][32]` f32.
pub struct F32;
/// `[cols][32]` f16.
pub struct F16;
/// `[cols / 2][32][2]` bf16.
pub struct BF16;
/// As [`BF16`], multiplied by bf16.
pub struct Dots;

impl Plain for F32 {
    const BYTES: usize = 8 * PANEL;
    const UNPACKED: bool = false;
    #[inline(always)]
    unsafe fn weights<S: Simd>(s: S, p: *const u8, i: usize, row: usize, both: bool) -> [S::F; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let p = p.cast::<f32>().add(2 * i * PANEL + row);
            [s.load(p), if both { s.load(p.add(PANEL)) } else { s.splat(0.0) }]
        }
    }
}

impl Plain for F16 {
    const BYTES: usize = 4 * PANEL;
    #[inline(always)]
    unsafe fn weights<S: Simd>(s: S, p: *const u8, i: usize, row: usize, both: bool) -> [S::F; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let p = p.cast::<u16>().add(2 * i * PANEL + row);
            [s.load_f16(p), if both { s.load_f16(p.add(PANEL)) } else { s.splat(0.0) }]
        }
    }
}

impl Plain for BF16 {
    const BYTES: usize = 4 * PANEL;
    #[inline(always)]
    unsafe fn weights<S: Simd>(s: S, p: *const u8, i: usize, row: usize, _both: bool) -> [S::F; 2] {
        // SAFETY: the caller's promise.
        let v = unsafe { s.iload(p.add((i * PANEL + row) * 4)) };
        let (low, high) = (s.shl(v, 16), s.and(v, s.isplat(0xffff_0000u32 as i32)));
        let (even, odd) = if cfg!(target_endian = "little") { (low, high) } else { (high, low) };
        [s.as_float(even), s.as_float(odd)]
    }
}

impl Plain for Dots {
    const BYTES: usize = 4 * PANEL;
    const UNPACKED: bool = false;
    const PAIRS: bool = true;
    #[inline(always)]
    unsafe fn weights<S: Simd>(s: S, p: *const u8, i: usize, row: usize, _both: bool) -> [S::F; 2] {
        // SAFETY: the caller's promise.
        [s.as_float(unsafe { s.iload(p.add((i * PANEL + row) * 4)) }), s.splat(0.0)]
    }
    #[inline(always)]
    fn add<S: Simd>(s: S, acc: S::F, w: [S::F; 2], x: [S::F; 2]) -> S::F {
        s.dot_bf16(acc, s.bits(w[0]), s.bits(x[0]))
    }
}

/// One panel of weights x some tokens.
pub struct Panel<'a, P> {
    /// The panel.
    pub weights: &'a [u8],
    /// The first token's first column (or pair of columns).
    pub x: *const f32,
    /// Columns (or pairs) from one token to the next.
    pub stride: usize,
    /// Tokens.
    pub tokens: usize,
    /// Columns.
    pub cols: usize,
    /// Room for an unpacked stretch, [`SCRATCH`].
    pub scratch: &'a mut [f32],
    /// `[tokens][32]`: the sums.
    pub out: &'a mut [f32],
    /// Where the sums go when they are complete, if not to `out`.
    pub to: Option<Target>,
    /// The format.
    pub format: std::marker::PhantomData<P>,
}

#[derive(Clone, Copy)]
struct Walk {
    weights: *const u8,
    x: *const f32,
    stride: usize,
    /// Columns, whole steps but for the last.
    cols: usize,
    sums: Sums,
    /// Weights that will be needed, and how many cache lines of them each [`LINE`] of steps asks for.
    ahead: *const u8,
    share: usize,
    /// The tiles share them out among each other.
    together: bool,
}

impl<P: Plain> Kernel for Panel<'_, P> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let steps = if P::PAIRS { self.cols.div_ceil(2) } else { self.cols / 2 };
        let half = if P::PAIRS { 0 } else { self.cols % 2 * P::BYTES / 2 };
        assert!(self.weights.len() >= steps * P::BYTES + half && self.scratch.len() >= SCRATCH);
        assert!(self.out.len() >= self.tokens * PANEL);
        let sums = Sums { out: self.out.as_mut_ptr(), first: true, to: self.to };
        // A pair of activations is complete, its second number perhaps zero, as that of the weights.
        let cols = if P::PAIRS { 2 * steps } else { self.cols };
        let (weights, tokens) = (self.weights.as_ptr(), self.tokens);
        let (ahead, share) = (weights.wrapping_add(AHEAD), P::BYTES * LINE / 64);
        let (x, stride) = (self.x, self.stride);
        let w = Walk { weights, x, stride, cols, sums, ahead, share, together: false };
        // SAFETY: the asserts; the caller's activations have `tokens` rows of `cols` columns.
        unsafe {
            if tokens <= widest::<S, P>() {
                return tiles::<S, P>(s, w, tokens);
            }
            let lines = P::STRETCH / 2 / LINE * tokens.div_ceil(widest::<S, P>());
            let w = Walk { share: (P::STRETCH / 2 * P::BYTES / 64).div_ceil(lines), together: true, ..w };
            for k in (0..cols).step_by(P::STRETCH) {
                let part = w.part::<P>(k, P::STRETCH.min(cols - k));
                if P::UNPACKED {
                    let to = self.scratch.as_mut_ptr();
                    unpack::<S, P>(s, part.weights, part.cols, to);
                    tiles::<S, F32>(s, Walk { weights: to.cast(), ..part }, tokens);
                } else {
                    tiles::<S, P>(s, part, tokens);
                }
            }
        }
    }
}

/// Steps whose activations are a cache line of f32.
const LINE: usize = 8;

/// Tokens of the widest tile.
const fn widest<S: Simd, P: Plain>() -> usize {
    match S::TILE {
        6 if P::PAIRS => WIDE,
        tile => tile,
    }
}

impl Walk {
    /// The columns from `k` (even) on.
    ///
    /// # Safety
    /// There are `cols` of them.
    #[inline(always)]
    unsafe fn part<P: Plain>(self, k: usize, cols: usize) -> Walk {
        let to = self.sums.to.filter(|_| k + cols == self.cols);
        let sums = Sums { first: k == 0, to, ..self.sums };
        // SAFETY: the caller's promise.
        let (weights, x) =
            unsafe { (self.weights.add(k / 2 * P::BYTES), self.x.add(if P::PAIRS { k / 2 } else { k })) };
        Walk { weights, x, cols, sums, ahead: weights.wrapping_add(P::STRETCH / 2 * P::BYTES), ..self }
    }
}

/// # Safety
/// `weights` has `cols` columns, `to` room for them.
#[inline(always)]
unsafe fn unpack<S: Simd, P: Plain>(s: S, weights: *const u8, cols: usize, to: *mut f32) {
    for i in 0..cols.div_ceil(2) {
        let both = 2 * i + 1 < cols;
        for row in (0..PANEL).step_by(S::LANES) {
            // SAFETY: this step exists; the second column is stored only if it does.
            unsafe {
                let [a, b] = P::weights(s, weights, i, row, both);
                s.store(to.add(2 * i * PANEL + row), a);
                if both {
                    s.store(to.add((2 * i + 1) * PANEL + row), b);
                }
            }
        }
    }
}

/// All tokens, in the widest tiles that there are enough tokens for.
///
/// # Safety
/// As for [`Panel::run`].
#[inline(always)]
unsafe fn tiles<S: Simd, P: Plain>(s: S, w: Walk, tokens: usize) {
    let (mut t, mut ahead) = (0, w.ahead);
    while t < tokens {
        // SAFETY: tokens t..t + n exist.
        unsafe {
            let at = Walk { x: w.x.add(t * w.stride), sums: w.sums.from(t), ahead, ..w };
            if w.together {
                ahead = ahead.wrapping_add(w.cols / 2 / LINE * w.share * 64);
            }
            t += match (S::TILE, tokens - t) {
                (1, _) => tile::<S, P, 1, 1>(s, at),
                (6, WIDE..) if P::PAIRS => tile::<S, P, WIDE, 2>(s, at),
                (6, 8..) if P::PAIRS => tile::<S, P, 8, 2>(s, at),
                (6, 6..) => tile::<S, P, 6, 2>(s, at),
                (6, 4..) => tile::<S, P, 4, 2>(s, at),
                (6, 2..) => tile::<S, P, 2, 2>(s, at),
                (6, _) => tile::<S, P, 1, 2>(s, at),
                (_, 4..) => tile::<S, P, 4, 2>(s, at),
                (_, 2..) => tile::<S, P, 2, 2>(s, at),
                (_, _) => tile::<S, P, 1, 4>(s, at),
            };
        }
    }
}

/// `NT` tokens x the panel, `RT` registers of rows at a time. Says how many tokens.
///
/// # Safety
/// As for [`Panel::run`], with `NT` tokens.
#[inline(always)]
unsafe fn tile<S: Simd, P: Plain, const NT: usize, const RT: usize>(s: S, w: Walk) -> usize {
    let steps = w.cols / 2;
    let mut row = 0;
    while row < PANEL {
        let mut acc = [[s.splat(0.0); RT]; NT];
        // SAFETY: `out` has NT x 32, `x` NT rows of `cols`, the panel `cols` columns.
        unsafe {
            w.sums.begin(s, row, &mut acc);
            for from in (0..steps).step_by(LINE) {
                if w.together {
                    // The next tile's activations come from the second level.
                    for t in NT..2 * NT {
                        s.prefetch(w.x.wrapping_add(t * w.stride + activation::<P>(from)).cast());
                    }
                }
                let ahead = w.ahead.wrapping_add(from / LINE * w.share * 64);
                for i in 0..w.share % LINE {
                    s.prefetch(ahead.wrapping_add(i * 64));
                }
                for i in from..steps.min(from + LINE) {
                    // Not all at once: that would fill the buffers of the first-level cache.
                    for j in 0..w.share / LINE {
                        s.prefetch(
                            ahead.wrapping_add((w.share % LINE + (i - from) * (w.share / LINE) + j) * 64),
                        );
                    }
                    step::<S, P, NT, RT>(s, &w, i, row, true, &mut acc);
                }
            }
            if w.cols % 2 == 1 {
                step::<S, P, NT, RT>(s, &w, steps, row, false, &mut acc);
            }
            w.sums.end(s, row, &acc);
        }
        row += RT * S::LANES;
    }
    NT
}

/// Where the activations of step `i` begin, in a row of them.
#[inline(always)]
const fn activation<P: Plain>(i: usize) -> usize {
    if P::PAIRS { i } else { 2 * i }
}

/// Adds step `i`.
///
/// # Safety
/// As for [`tile`]; the step's second column need not exist unless `both`.
#[inline(always)]
unsafe fn step<S: Simd, P: Plain, const NT: usize, const RT: usize>(
    s: S,
    w: &Walk,
    i: usize,
    row: usize,
    both: bool,
    acc: &mut [[S::F; RT]; NT],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut weights = [[s.splat(0.0); 2]; RT];
        for r in 0..RT {
            weights[r] = P::weights(s, w.weights, i, row + r * S::LANES, both);
        }
        for t in 0..NT {
            let x = w.x.add(t * w.stride + activation::<P>(i));
            let second = if both && !P::PAIRS { s.load1(x.add(1)) } else { s.splat(0.0) };
            let x = [s.load1(x), second];
            for r in 0..RT {
                acc[t][r] = P::add(s, acc[t][r], weights[r], x);
            }
        }
    }
}
