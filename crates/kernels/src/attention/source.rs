//! How a block of the cache is read: as rows of f32, whatever it is stored as.

use super::cache::{GROUP, POSITIONS};
use crate::simd::Simd;

/// A number of the cache that needs no scale.
pub trait Number: Copy + 'static {
    /// `S::LANES` numbers.
    ///
    /// # Safety
    /// They exist.
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::F;
}

impl Number for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const f32) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { s.load(p) }
    }
}

impl Number for u16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u16) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { s.load_f16(p) }
    }
}

/// A matrix `[rows][width]`, width a multiple of 16: the keys of a block by dimension, or its values by position.
pub trait Source: Copy {
    /// Whether a read is more than a load, so that many rows of queries are better served from f32 made once.
    const NARROW: bool;

    /// Whether it has so many rows and columns.
    fn has(&self, rows: usize, width: usize) -> bool;

    /// Numbers `at..at + S::LANES` of row `k`.
    ///
    /// # Safety
    /// They exist: [`Source::has`].
    unsafe fn load<S: Simd>(self, s: S, k: usize, at: usize) -> S::F;

    /// Asks for the same place of the block that comes next: the processor's own prefetching ends with each
    /// page of 4 KB, which is a block.
    fn ahead<S: Simd>(self, s: S, k: usize, at: usize);
}

/// F32 or f16 in the cache.
#[derive(Clone, Copy)]
pub struct Plain<'a, N> {
    pub block: &'a [N],
    pub next: &'a [N],
    pub width: usize,
}

impl<N: Number> Source for Plain<'_, N> {
    const NARROW: bool = size_of::<N>() < 4;

    #[inline(always)]
    fn has(&self, rows: usize, width: usize) -> bool {
        self.width == width && self.block.len() >= rows * width
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(self, s: S, k: usize, at: usize) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { N::load(s, self.block.as_ptr().add(k * self.width + at)) }
    }

    #[inline(always)]
    fn ahead<S: Simd>(self, s: S, k: usize, at: usize) {
        s.prefetch(self.next.as_ptr().wrapping_add(k * self.width + at).cast());
    }
}

/// A block that was brought to f32.
#[derive(Clone, Copy)]
pub struct Wide<'a>(pub &'a [f32], pub usize);

impl Source for Wide<'_> {
    const NARROW: bool = false;

    #[inline(always)]
    fn has(&self, rows: usize, width: usize) -> bool {
        self.1 == width && self.0.len() >= rows * width
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(self, s: S, k: usize, at: usize) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { s.load(self.0.as_ptr().add(k * self.1 + at)) }
    }

    #[inline(always)]
    fn ahead<S: Simd>(self, _: S, _: usize, _: usize) {}
}

/// Bytes with a scale for each 32 dimensions of a position: code x scale, rounded once.
///
/// Keys have scales `[dims / 32][32 positions]`, values `[32 positions][dims / 32]`.
#[derive(Clone, Copy)]
pub struct Quant<'a, const KEYS: bool> {
    pub codes: &'a [i8],
    pub scales: &'a [f32],
    pub next: &'a [i8],
    pub width: usize,
}

impl<const KEYS: bool> Source for Quant<'_, KEYS> {
    const NARROW: bool = true;

    #[inline(always)]
    fn has(&self, rows: usize, width: usize) -> bool {
        let groups = if KEYS { rows.div_ceil(GROUP) * POSITIONS } else { rows * width.div_ceil(GROUP) };
        self.width == width
            && (!KEYS || width == POSITIONS)
            && self.codes.len() >= rows * width
            && self.scales.len() >= groups
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(self, s: S, k: usize, at: usize) -> S::F {
        // SAFETY: the caller's promise; a register of at most 16 lanes at a multiple of its width lies in one
        // group of 32.
        unsafe {
            let codes = s.to_f(s.load_i8(self.codes.as_ptr().add(k * self.width + at)));
            let scale = if KEYS {
                s.load(self.scales.as_ptr().add(k / GROUP * POSITIONS + at))
            } else {
                s.load1(self.scales.as_ptr().add(k * self.width.div_ceil(GROUP) + at / GROUP))
            };
            s.mul(codes, scale)
        }
    }

    #[inline(always)]
    fn ahead<S: Simd>(self, s: S, k: usize, at: usize) {
        s.prefetch(self.next.as_ptr().wrapping_add(k * self.width + at).cast());
    }
}
