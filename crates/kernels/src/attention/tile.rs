//! The inner loops of attention: some rows of queries against one split of the positions.

// Index loops, as in matmul/int8.rs.
#![allow(clippy::needless_range_loop)]

use super::cache::POSITIONS;
use super::source::{Source, Wide};
use crate::math;
use crate::simd::{Kernel, Simd, fold_sum};

/// Softmax so far and the weighted sum of values, for some rows.
#[derive(Default)]
pub struct State {
    /// Greatest score of each row.
    pub max: Vec<f32>,
    /// Sum of e^(score - max), by position modulo 32: `[rows][32]`.
    pub lanes: Vec<f32>,
    /// `[rows][stride]`.
    pub sum: Vec<f32>,
}

impl State {
    /// Nothing seen, for `rows` rows of values `stride` wide.
    pub fn clear(&mut self, rows: usize, stride: usize) {
        self.max.clear();
        self.max.resize(rows, f32::NEG_INFINITY);
        self.lanes.clear();
        self.lanes.resize(rows * POSITIONS, 0.0);
        self.sum.clear();
        self.sum.resize(rows * stride, 0.0);
    }

    /// The sum of row `r`'s weights.
    pub fn weight(&self, r: usize) -> f32 {
        let mut lanes = [0f32; POSITIONS];
        lanes.copy_from_slice(&self.lanes[r * POSITIONS..][..POSITIONS]);
        fold_sum(lanes)
    }
}

/// One block of 32 positions for rows that lie one after another.
pub struct Block<'a, K, V> {
    /// Keys, `[k_dim][32]`.
    pub k: K,
    /// Values, `[32][stride]`.
    pub v: V,
    /// Scaled queries, `[rows][k_dim]`.
    pub q: &'a [f32],
    /// Numbers of a key.
    pub k_dim: usize,
    /// Numbers of a value, filled up to 16.
    pub stride: usize,
    /// The rows of the state to treat.
    pub rows: std::ops::Range<usize>,
    /// Positions of the block each row may see: `(from, to)`.
    pub seen: &'a [(usize, usize)],
    /// Positions of the block that were written.
    pub written: usize,
    /// Scores become cap x tanh(score / cap); 0 for none.
    pub softcap: f32,
    /// What is added to each row's scores: `.1` at the block's first position and `.0` more at each next.
    /// Empty for nothing.
    pub slopes: &'a [(f32, f32)],
    /// Room for `[rows][32]` scores.
    pub scores: &'a mut [f32],
    /// Room for a block of keys and one of values as f32.
    pub unpacked: &'a mut [f32],
    /// What is brought forward.
    pub state: &'a mut State,
}

impl<K: Source, V: Source> Kernel for Block<'_, K, V> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (first, n) = (self.rows.start, self.rows.len());
        let (keys, values) = (self.k_dim * POSITIONS, self.stride * POSITIONS);
        assert!(self.k.has(self.k_dim, POSITIONS) && self.v.has(POSITIONS, self.stride));
        assert!(self.stride.is_multiple_of(16));
        assert!(self.q.len() >= self.rows.end * self.k_dim && self.scores.len() >= n * POSITIONS);
        assert!(self.seen.len() >= n && self.written <= POSITIONS && self.unpacked.len() >= keys + values);
        assert!(self.state.sum.len() >= self.rows.end * self.stride);
        self.scores[..n * POSITIONS].fill(0.0);
        // SAFETY: the asserts give every extent that the products walk over.
        unsafe {
            let q = self.q.as_ptr().add(first * self.k_dim);
            let sum = self.state.sum.as_mut_ptr().add(first * self.stride);
            let many = n > 2 * S::TILE && K::NARROW;
            let (wide_k, wide_v) = self.unpacked.split_at_mut(keys);
            if many {
                convert(s, self.k, self.k_dim, POSITIONS, wide_k);
                convert(s, self.v, POSITIONS, self.stride, wide_v);
            }
            let c = self.scores.as_mut_ptr();
            let to_scores = Product { a: q, lda: self.k_dim, k: self.k_dim, width: POSITIONS, c };
            if many {
                product(s, to_scores, Wide(wide_k, POSITIONS), n);
            } else {
                product(s, to_scores, self.k, n);
            }
            for r in 0..n {
                if self.softcap > 0.0 {
                    cap(s, &mut self.scores[r * POSITIONS..][..POSITIONS], self.softcap);
                }
                if let Some(&slope) = self.slopes.get(r) {
                    lean(&mut self.scores[r * POSITIONS..][..POSITIONS], slope);
                }
                let state = &mut *self.state;
                weigh(s, &mut self.scores[r * POSITIONS..], self.seen[r], state, first + r, self.stride);
            }
            let to_sum = Product {
                a: self.scores.as_ptr(),
                lda: POSITIONS,
                k: self.written,
                width: self.stride,
                c: sum,
            };
            if many {
                product(s, to_sum, Wide(wide_v, self.stride), n);
            } else {
                product(s, to_sum, self.v, n);
            }
        }
    }
}

/// # Safety
/// `from` and `to` have `rows` x `width` numbers, `width` a multiple of 16.
#[inline(always)]
unsafe fn convert<S: Simd, B: Source>(s: S, from: B, rows: usize, width: usize, to: &mut [f32]) {
    for k in 0..rows {
        let mut at = 0;
        while at < width {
            // SAFETY: the caller's promise.
            unsafe { s.store(to.as_mut_ptr().add(k * width + at), from.load(s, k, at)) };
            at += S::LANES;
        }
    }
}

/// c[rows][width] += a[rows][k] b[k][width], each sum in the order of k.
#[derive(Clone, Copy)]
struct Product {
    a: *const f32,
    lda: usize,
    k: usize,
    width: usize,
    c: *mut f32,
}

/// # Safety
/// The matrices of [`Product`] exist with `rows` rows; `width` is a multiple of 16.
#[inline(always)]
unsafe fn product<S: Simd, B: Source>(s: S, p: Product, b: B, rows: usize) {
    let mut r = 0;
    let mut left = rows.div_ceil(S::TILE);
    while r < rows {
        let n = (rows - r).div_ceil(left);
        // SAFETY: rows r..r + n exist.
        unsafe {
            let at = Product { a: p.a.add(r * p.lda), c: p.c.add(r * p.width), ..p };
            match (S::TILE, n) {
                (1, _) => columns::<S, B, 1, 1>(s, at, b),
                (6, 1) => columns::<S, B, 1, 2>(s, at, b),
                (6, 2) => columns::<S, B, 2, 2>(s, at, b),
                (6, 3) => columns::<S, B, 3, 2>(s, at, b),
                (6, 4) => columns::<S, B, 4, 2>(s, at, b),
                (6, 5) => columns::<S, B, 5, 2>(s, at, b),
                (6, _) => columns::<S, B, 6, 2>(s, at, b),
                (_, 1) => columns::<S, B, 1, 2>(s, at, b),
                (_, 2) => columns::<S, B, 2, 2>(s, at, b),
                (_, 3) => columns::<S, B, 3, 2>(s, at, b),
                (_, _) => columns::<S, B, 4, 2>(s, at, b),
            }
        }
        r += n;
        left -= 1;
    }
}

/// `NR` rows, `NC` registers of columns at a time.
///
/// # Safety
/// As for [`product`], with `NR` rows.
#[inline(always)]
unsafe fn columns<S: Simd, B: Source, const NR: usize, const NC: usize>(s: S, p: Product, b: B) {
    let mut at = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while at + NC * S::LANES <= p.width {
            tile::<S, B, NR, NC>(s, p, b, at);
            at += NC * S::LANES;
        }
        while at < p.width {
            tile::<S, B, NR, 1>(s, p, b, at);
            at += S::LANES;
        }
    }
}

/// # Safety
/// As for [`product`]; `at + NC x LANES <= width`.
#[inline(always)]
unsafe fn tile<S: Simd, B: Source, const NR: usize, const NC: usize>(s: S, p: Product, b: B, at: usize) {
    let mut acc = [[s.splat(0.0); NC]; NR];
    // SAFETY: the caller's promise.
    unsafe {
        for r in 0..NR {
            for c in 0..NC {
                acc[r][c] = s.load(p.c.add(r * p.width + at + c * S::LANES));
            }
        }
        for k in 0..p.k {
            let mut x = [s.splat(0.0); NC];
            b.ahead(s, k, at);
            for c in 0..NC {
                x[c] = b.load(s, k, at + c * S::LANES);
            }
            for r in 0..NR {
                let a = s.load1(p.a.add(r * p.lda + k));
                for c in 0..NC {
                    acc[r][c] = s.fma(a, x[c], acc[r][c]);
                }
            }
        }
        for r in 0..NR {
            for c in 0..NC {
                s.store(p.c.add(r * p.width + at + c * S::LANES), acc[r][c]);
            }
        }
    }
}

/// Scores of one row become cap x tanh(score / cap).
///
/// # Safety
/// There are 32.
#[inline(always)]
unsafe fn cap<S: Simd>(s: S, scores: &mut [f32], softcap: f32) {
    let p = scores.as_mut_ptr();
    let mut i = 0;
    while i < POSITIONS {
        // SAFETY: the caller's promise.
        unsafe {
            let t = math::tanh(s, s.mul(s.load(p.add(i)), s.splat(1.0 / softcap)));
            s.store(p.add(i), s.mul(t, s.splat(softcap)));
        }
        i += S::LANES;
    }
}

/// Adds what ALiBi gives each position.
#[inline(always)]
fn lean(scores: &mut [f32], (slope, first): (f32, f32)) {
    for i in 0..POSITIONS {
        scores[i] += first + slope * i as f32;
    }
}

/// Scores of one row become weights, and what was summed before is brought to the new maximum.
///
/// # Safety
/// `scores` has 32 numbers, the state row `row` of `stride`.
#[inline(always)]
unsafe fn weigh<S: Simd>(
    s: S,
    scores: &mut [f32],
    (from, to): (usize, usize),
    state: &mut State,
    row: usize,
    stride: usize,
) {
    if (from, to) != (0, POSITIONS) {
        scores[..from].fill(f32::NEG_INFINITY);
        scores[to..POSITIONS].fill(f32::NEG_INFINITY);
    }
    // Taken when the slice is no longer used: a look through the slice would end the pointer's right to it.
    let p = scores.as_mut_ptr();
    // SAFETY: 32 numbers at p, and in the lanes of the row; `stride`, a multiple of 16, in its sum.
    unsafe {
        let old = state.max[row];
        let new = greatest(s, p, old);
        let lanes = state.lanes.as_mut_ptr().add(row * POSITIONS);
        let rescale = if new == old { s.splat(1.0) } else { math::exp(s, s.splat(old - new)) };
        if new != old {
            let sum = state.sum.as_mut_ptr().add(row * stride);
            let mut i = 0;
            while i < stride {
                s.store(sum.add(i), s.mul(s.load(sum.add(i)), rescale));
                i += S::LANES;
            }
        }
        state.max[row] = new;
        let mut i = 0;
        while i < POSITIONS {
            let e = math::exp(s, s.sub(s.load(p.add(i)), s.splat(new)));
            s.store(p.add(i), e);
            s.store(lanes.add(i), s.fma(s.load(lanes.add(i)), rescale, e));
            i += S::LANES;
        }
    }
}

/// The greatest of 32 scores and `floor`; one that is no number is passed over.
///
/// # Safety
/// `scores` has 32 numbers.
#[inline(always)]
unsafe fn greatest<S: Simd>(s: S, scores: *const f32, floor: f32) -> f32 {
    let mut lanes = [floor; 16];
    let mut all = s.splat(floor);
    let mut i = 0;
    // SAFETY: the caller's promise; a register has at most 16 lanes.
    unsafe {
        while i < POSITIONS {
            all = s.max(s.load(scores.add(i)), all);
            i += S::LANES;
        }
        s.store(lanes.as_mut_ptr(), all);
    }
    let mut n = lanes.len();
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] = if lanes[i + n] > lanes[i] { lanes[i + n] } else { lanes[i] };
        }
    }
    lanes[0]
}
