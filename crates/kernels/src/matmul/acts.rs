//! Activations as int8 or bf16: what the integer kernels, and those of bf16 dot products, multiply the weights with.
//!
//! As int8, 32 columns share a scale: d = amax / 127, q = x / d rounded to nearest even. One block is one cache line
//! that also holds the sums which the formats' offsets and minima need.

use crate::alloc::{Buffer, Plain};
use crate::isa::Isa;
use crate::simd::{Kernel, Simd, dispatch};

/// 32 columns of one token.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct ActBlock {
    /// The numbers over `d`, -127..=127.
    pub q: [i8; 32],
    /// The scale.
    pub d: f32,
    /// `d` x the sum of `q`.
    pub dsum: f32,
    /// `d` x the sums of either half of `q`.
    pub dhalf: [f32; 2],
    /// What a dot product with codes less 128 starts at: [`MAGIC`] - 128 x the sum of `q`.
    pub start_wide: i32,
    /// The same for codes less 64.
    pub start: i32,
    /// The same for codes less 64 of either half.
    pub start_half: [i32; 2],
}

/// 1.5 x 2^23 as bits: an integer added to it is, read as f32, added to that number.
pub const MAGIC: i32 = 0x4b40_0000;

// SAFETY: integers and floats only; all zero is a block of zeros.
unsafe impl Plain for ActBlock {}

/// 32 columns of one token as bf16, rounded to nearest even; beyond the last column are zeros.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct PairBlock([u16; 32]);

// SAFETY: integers only; all zero is a block of zeros.
unsafe impl Plain for PairBlock {}

/// What a layer multiplies its weights with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// f32.
    Float,
    /// Blocks of int8.
    Int8,
    /// bf16.
    Bf16,
}

/// Rows of rounded activations, the buffers growing to the largest batch seen.
#[derive(Debug)]
pub struct Acts {
    blocks: Buffer<ActBlock>,
    pairs: Buffer<PairBlock>,
    rows: usize,
    cols: usize,
}

impl Default for Acts {
    fn default() -> Self {
        Acts::new()
    }
}

/// Blocks, that is cache lines, from one row to the next: an odd multiple of 16, so that a stretch of 16 blocks
/// of the six rows that are multiplied together spreads evenly over the 64 sets of the first-level cache.
fn stride(cols: usize) -> usize {
    let sixteens = (cols / 32).div_ceil(16);
    16 * (sixteens | 1)
}

impl Acts {
    /// No rows.
    pub fn new() -> Acts {
        Acts { blocks: Buffer::zeroed(0), pairs: Buffer::zeroed(0), rows: 0, cols: 0 }
    }

    /// Becomes `rows` rows of `cols` columns (a multiple of 32), what was there being lost.
    pub fn resize(&mut self, rows: usize, cols: usize) {
        assert!(cols.is_multiple_of(32), "{cols} columns are not whole blocks of 32");
        let need = rows * stride(cols);
        if self.blocks.len() < need {
            self.blocks = Buffer::zeroed(need.next_power_of_two());
        }
        (self.rows, self.cols) = (rows, cols);
    }

    /// Blocks from one row to the next.
    pub fn stride(&self) -> usize {
        stride(self.cols)
    }

    /// Rows held.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The blocks of row `i`.
    pub fn row(&self, i: usize) -> &[ActBlock] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        &self.blocks[i * stride(self.cols)..][..self.cols / 32]
    }

    /// The blocks from row `i` to the end of the last one, [`Acts::stride`] from row to row.
    pub fn rows_from(&self, i: usize) -> &[ActBlock] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        &self.blocks[i * stride(self.cols)..(self.rows - 1) * stride(self.cols) + self.cols / 32]
    }

    /// The blocks of row `i`, to be filled by [`quantize`].
    pub fn row_mut(&mut self, i: usize) -> &mut [ActBlock] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        &mut self.blocks[i * stride(self.cols)..][..self.cols / 32]
    }

    /// Rounds `x`, `[rows, cols]`, on `pool` to whatever `layers` take; f32 they take as it is.
    pub fn fill(
        &mut self,
        pool: &crate::pool::Pool,
        x: &[f32],
        cols: usize,
        layers: impl Iterator<Item = Takes> + Clone,
    ) {
        if layers.clone().any(|t| t == Takes::Int8) {
            self.quantize(pool, x, cols);
        }
        if layers.clone().any(|t| t == Takes::Bf16) {
            self.round(pool, x, cols);
        }
    }

    /// Quantizes `x`, `[rows, cols]`, on `pool`.
    pub fn quantize(&mut self, pool: &crate::pool::Pool, x: &[f32], cols: usize) {
        self.resize(x.len() / cols.max(1), cols);
        let isa = Isa::current();
        each_row(pool, x, cols, &mut self.blocks, |x, blocks| quantize(isa, x, &mut blocks[..cols / 32]));
    }

    /// Rounds `x`, `[rows, cols]`, to bf16 on `pool`.
    pub fn round(&mut self, pool: &crate::pool::Pool, x: &[f32], cols: usize) {
        let rows = x.len() / cols.max(1);
        let need = rows * stride(cols.next_multiple_of(32));
        if self.pairs.len() < need {
            self.pairs = Buffer::zeroed(need.next_power_of_two());
        }
        (self.rows, self.cols) = (rows, cols);
        each_row(pool, x, cols, &mut self.pairs, round);
    }

    /// The first pair of row `i`, and how many pairs from row to row.
    pub fn pairs_from(&self, i: usize) -> (*const f32, usize) {
        let stride = stride(self.cols.next_multiple_of(32));
        assert!(i < self.rows && self.rows * stride <= self.pairs.len(), "row {i} of {}", self.rows);
        (self.pairs[i * stride..].as_ptr().cast(), stride * 16)
    }
}

/// Runs `f` on each row of `x` and its blocks.
fn each_row<B: Plain>(
    pool: &crate::pool::Pool,
    x: &[f32],
    cols: usize,
    blocks: &mut [B],
    f: impl Fn(&[f32], &mut [B]) + Sync,
) {
    let (rows, step) = (x.len() / cols.max(1), stride(cols.next_multiple_of(32)));
    // One row is quicker done than handed over.
    let group = if rows * cols < 16384 { rows.max(1) } else { 16384usize.div_ceil(cols) };
    pool.each_piece(&mut blocks[..rows * step], step * group, |g, piece| {
        for (i, blocks) in piece.chunks_mut(step).enumerate() {
            let r = g * group + i;
            f(&x[r * cols..(r + 1) * cols], blocks);
        }
    });
}

/// One row as bf16. NaN stays NaN.
fn round(x: &[f32], out: &mut [PairBlock]) {
    for (x, out) in x.chunks(32).zip(out) {
        let mut padded = [0f32; 32];
        padded[..x.len()].copy_from_slice(x);
        for (o, x) in out.0.iter_mut().zip(padded) {
            let bits = x.to_bits();
            let even = (bits + (0x7fff + (bits >> 16 & 1))) >> 16;
            *o = if x.is_nan() { (bits >> 16 | 0x40) as u16 } else { even as u16 };
        }
        if cfg!(target_endian = "big") {
            out.0.as_chunks_mut::<2>().0.iter_mut().for_each(|pair| pair.swap(0, 1));
        }
    }
}

/// Quantizes one row; `out` has a block for each 32 columns.
pub fn quantize(isa: Isa, x: &[f32], out: &mut [ActBlock]) {
    assert_eq!(x.len(), out.len() * 32, "columns and blocks differ");
    dispatch(isa, Quantize { x, out });
}

struct Quantize<'a> {
    x: &'a [f32],
    out: &'a mut [ActBlock],
}

impl Kernel for Quantize<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (x, out) in self.x.chunks_exact(32).zip(self.out) {
            // SAFETY: 32 numbers in `x`, 32 bytes in `out.q`.
            unsafe { block(s, x.as_ptr(), out) };
        }
    }
}

/// # Safety
/// 32 numbers at `x`.
#[inline(always)]
unsafe fn block<S: Simd>(s: S, x: *const f32, out: &mut ActBlock) {
    // Magnitudes compare as integers, and so a NaN is the greatest and is not lost.
    let abs = s.isplat(0x7fff_ffff);
    let mut most = s.isplat(0);
    for i in (0..32).step_by(S::LANES) {
        // SAFETY: i + LANES <= 32.
        most = s.imax(most, s.and(s.bits(unsafe { s.load(x.add(i)) }), abs));
    }
    let mut lanes = [0i32; 16];
    // SAFETY: LANES <= 16 lanes of four bytes.
    unsafe { s.istore(lanes.as_mut_ptr().cast(), most) };
    let amax = f32::from_bits(lanes.iter().fold(0, |a, &b| a.max(b)) as u32);
    let d = amax / 127.0;
    // Below this the inverse would be infinite: such a block is zero.
    let inverse = if amax < 1e-36 { 0.0 } else { 127.0 / amax };
    let f = s.splat(inverse);
    for i in (0..32).step_by(S::LANES) {
        // SAFETY: i + LANES <= 32.
        unsafe { s.store_i8(out.q.as_mut_ptr().add(i), s.mul(s.load(x.add(i)), f)) };
    }
    let sum = |q: &[i8]| q.iter().map(|&q| i32::from(q)).sum::<i32>();
    let half = [sum(&out.q[..16]), sum(&out.q[16..])];
    let sum = half[0] + half[1];
    (out.d, out.dsum) = (d, d * sum as f32);
    out.dhalf = half.map(|h| d * h as f32);
    (out.start_wide, out.start) = (MAGIC - 128 * sum, MAGIC - 64 * sum);
    out.start_half = half.map(|h| MAGIC - 64 * h);
}
