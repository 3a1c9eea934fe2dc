//! Integer weights x int8 activations: the loop in which a model spends its time.
//!
//! For an output (row r, token t), in this order on every ISA, for every number of tokens, in GEMV and GEMM:
//! ```text
//! for each group g of 32 (or 16) columns:
//!     dot = sum of (code - offset) x q            exact in i32
//!     acc = fma(f32(dot x scale[r, g]), d[t, g], acc)
//!     acc = fma(minimum[r, g], d[t, g] x sum(q), acc)      if the format has minima
//! ```
//! Rows are lanes, so nothing is ever added across lanes. The integer accumulator starts at
//! `MAGIC - offset x sum(q)`: read as f32 it is then 1.5 x 2^23 + dot, and `fma(it, scale, -1.5 x 2^23 scale)`
//! is dot x scale rounded once: conversion and product in one instruction (scales have at most 17
//! significant bits, so the subtracted product is exact).
//!
//! Up to [`DIRECT`] tokens unpack the codes in registers; more have a stretch of weights unpacked once into
//! the first-level cache for all of them.

// Index loops only: adapters of iterators are functions that are not always inlined, and registers then
// go through memory.
#![allow(clippy::needless_range_loop)]

use super::acts::ActBlock;
use crate::isa::Isa;
use crate::pack::layout::{BLOCK, C8, C8Narrow, Codes, Flat, Format, PANEL, Scales};
use crate::simd::{Kernel, Simd, dispatch};
use std::marker::PhantomData;

/// Tokens that are done without unpacking to memory.
pub const DIRECT: usize = 4;
/// Columns unpacked at a time: 32 rows of them and their scales stay in the first-level cache.
const STRETCH: usize = 512;
/// Bytes of an unpacked stretch, with two scales and two minima per block.
pub const SCRATCH: usize = STRETCH / BLOCK * (32 * 32 + 4 * PANEL * 4);

/// How far ahead of a stream from memory lines are asked for: the processor's own prefetch does not look
/// past a page, and the arithmetic between two lines leaves it idle.
const AHEAD: usize = 4096;

/// 1.5 x 2^23 as bits, and its negative as a number.
const MAGIC: i32 = 0x4b40_0000;
const MINUS_MAGIC: f32 = -12_582_912.0;

/// Packed weights x a few tokens, codes unpacked in registers; or an unpacked stretch x many tokens.
/// Results are added to `out`.
pub struct Panel<'a, F, const DIRECTLY: bool> {
    /// The units.
    pub units: &'a [u8],
    /// What is subtracted from codes.
    pub offset: i32,
    /// The first token's first block.
    pub acts: *const ActBlock,
    /// Blocks from one token to the next.
    pub stride: usize,
    /// Tokens.
    pub tokens: usize,
    /// Blocks of a row.
    pub blocks: usize,
    /// `[tokens][32]`: the results.
    pub out: &'a mut [f32],
    /// The format.
    pub format: PhantomData<F>,
}

impl<F: Format, const DIRECTLY: bool> Kernel for Panel<'_, F, DIRECTLY> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        assert!(self.out.len() >= self.tokens * PANEL && self.blocks.is_multiple_of(F::S::SUPER));
        assert!(self.units.len() >= self.blocks / F::S::SUPER * F::UNIT);
        let walk = Walk {
            units: self.units.as_ptr(),
            offset: self.offset,
            acts: self.acts,
            stride: self.stride,
            blocks: self.blocks,
            out: self.out.as_mut_ptr(),
        };
        // SAFETY: the asserts above; the caller's activations have `tokens` rows of `blocks` blocks.
        unsafe {
            if DIRECTLY {
                few::<S, F>(s, walk, self.tokens);
            } else {
                many::<S, F>(s, walk, self.tokens);
            }
        }
    }
}

/// Where a tile reads and writes.
#[derive(Clone, Copy)]
struct Walk {
    units: *const u8,
    offset: i32,
    acts: *const ActBlock,
    stride: usize,
    blocks: usize,
    out: *mut f32,
}

/// A whole panel x any number of tokens; `out` is `[tokens][32]` and is replaced.
pub fn panel<F: Format>(isa: Isa, p: Panel<'_, F, true>, scratch: &mut [u8]) {
    p.out[..p.tokens * PANEL].fill(0.0);
    if p.tokens <= DIRECT {
        return dispatch(isa, p);
    }
    let step = STRETCH / BLOCK;
    for b in (0..p.blocks).step_by(step) {
        let n = step.min(p.blocks - b);
        let units = &p.units[b / F::S::SUPER * F::UNIT..];
        dispatch(isa, Unpack::<F> { units, blocks: n, to: scratch, format: PhantomData });
        // SAFETY: block b of the first token exists.
        let acts = unsafe { p.acts.add(b) };
        let p = Panel { units: &scratch[..], acts, blocks: n, out: &mut *p.out, ..p };
        match (F::S::HALF, F::S::MIN, F::C::WIDE) {
            (false, false, true) => flat::<(C8, Flat<false, false>), F>(isa, p),
            (false, false, false) => flat::<(C8Narrow, Flat<false, false>), F>(isa, p),
            (false, true, _) => flat::<(C8Narrow, Flat<false, true>), F>(isa, p),
            (true, false, _) => flat::<(C8Narrow, Flat<true, false>), F>(isa, p),
            (true, true, _) => flat::<(C8Narrow, Flat<true, true>), F>(isa, p),
        }
    }
}

/// Runs an unpacked stretch, whose type says nothing of where it came from.
fn flat<T: Format, F: Format>(isa: Isa, p: Panel<'_, F, true>) {
    let Panel { units, offset, acts, stride, tokens, blocks, out, .. } = p;
    dispatch(
        isa,
        Panel::<T, false> { units, offset, acts, stride, tokens, blocks, out, format: PhantomData },
    );
}

/// Unpacks a stretch of packed weights.
struct Unpack<'a, F> {
    units: &'a [u8],
    blocks: usize,
    to: &'a mut [u8],
    format: PhantomData<F>,
}

impl<F: Format> Kernel for Unpack<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        assert!(self.blocks * BLOCK <= STRETCH && self.to.len() >= SCRATCH);
        assert!(
            self.blocks.is_multiple_of(F::S::SUPER)
                && self.units.len() >= self.blocks / F::S::SUPER * F::UNIT
        );
        // SAFETY: the asserts.
        unsafe { unpack::<S, F>(s, self.units.as_ptr(), self.blocks, self.to.as_mut_ptr()) }
    }
}

/// Eight-bit codes and f32 scales of `blocks` blocks.
///
/// # Safety
/// `units` has the blocks, `to` has room for them.
#[inline(always)]
unsafe fn unpack<S: Simd, F: Format>(s: S, units: *const u8, blocks: usize, to: *mut u8) {
    let groups = if F::S::HALF { 2 } else { 1 };
    let head_bytes = groups * PANEL * 4 * if F::S::MIN { 2 } else { 1 };
    for b in 0..blocks {
        // SAFETY: block b of the units, and its place in `to`.
        unsafe {
            let unit = units.add(b / F::S::SUPER * F::UNIT);
            let sub = b % F::S::SUPER;
            let codes = unit.add(F::S::HEAD + sub * F::C::BYTES);
            let head = to.add(b * (head_bytes + 1024));
            let scales = head.cast::<f32>();
            let mut row = 0;
            while row < PANEL {
                for half in 0..groups {
                    s.store(scales.add(half * PANEL + row), F::S::scale(s, unit, sub, half, row));
                    if F::S::MIN {
                        s.store(
                            scales.add((groups + half) * PANEL + row),
                            F::S::min(s, unit, sub, half, row),
                        );
                    }
                }
                let line = head.add(head_bytes + 4 * row);
                macro_rules! group {
                    ($($g:literal)*) => {$(
                        s.istore(line.add($g * 128), F::C::get::<S, $g>(s, codes, row));
                    )*};
                }
                group!(0 1 2 3 4 5 6 7);
                row += S::LANES;
            }
        }
    }
}

/// All tokens, in equal tiles that the ISA's registers hold. The tiling has no influence on any result.
///
/// # Safety
/// As for [`Panel::run`].
#[inline(always)]
unsafe fn many<S: Simd, F: Format>(s: S, w: Walk, tokens: usize) {
    let (mut t, mut left) = (0, tokens.div_ceil(S::TILE));
    while t < tokens {
        let n = (tokens - t).div_ceil(left);
        // SAFETY: tokens t..t + n exist.
        unsafe {
            let at = Walk { acts: w.acts.add(t * w.stride), out: w.out.add(t * PANEL), ..w };
            match (S::TILE, n) {
                (1, _) => tile::<S, F, 1, 1, 0>(s, at),
                (6, 1) => tile::<S, F, 1, 2, 0>(s, at),
                (6, 2) => tile::<S, F, 2, 2, 0>(s, at),
                (6, 3) => tile::<S, F, 3, 2, 0>(s, at),
                (6, 4) => tile::<S, F, 4, 2, 0>(s, at),
                (6, 5) => tile::<S, F, 5, 2, 0>(s, at),
                (6, _) => tile::<S, F, 6, 2, 0>(s, at),
                (_, 1) => tile::<S, F, 1, 4, 0>(s, at),
                (_, 2) => tile::<S, F, 2, 2, 0>(s, at),
                (_, 3) => tile::<S, F, 3, 1, 0>(s, at),
                (_, _) => tile::<S, F, 4, 1, 0>(s, at),
            }
        }
        t += n;
        left -= 1;
    }
}

/// At most [`DIRECT`] tokens, by fours, twos and ones: fewer shapes to compile for each format.
///
/// # Safety
/// As for [`Panel::run`].
#[inline(always)]
unsafe fn few<S: Simd, F: Format>(s: S, w: Walk, tokens: usize) {
    let mut t = 0;
    while t < tokens {
        let n = match tokens - t {
            _ if S::TILE == 1 => 1,
            4.. => 4,
            2 | 3 => 2,
            _ => 1,
        };
        // SAFETY: tokens t..t + n exist.
        unsafe {
            let at = Walk { acts: w.acts.add(t * w.stride), out: w.out.add(t * PANEL), ..w };
            match (S::TILE, n) {
                (1, _) => tile::<S, F, 1, 1, AHEAD>(s, at),
                (6, 1) => tile::<S, F, 1, 2, AHEAD>(s, at),
                (6, 2) => tile::<S, F, 2, 2, AHEAD>(s, at),
                (6, _) => tile::<S, F, 4, 2, AHEAD>(s, at),
                (_, 1) => tile::<S, F, 1, 4, AHEAD>(s, at),
                (_, 2) => tile::<S, F, 2, 2, AHEAD>(s, at),
                (_, _) => tile::<S, F, 4, 1, AHEAD>(s, at),
            }
        }
        t += n;
    }
}

/// `NT` tokens x the panel, `RT` registers of rows at a time, added to what `out` holds; lines
/// `FAR` bytes ahead are prefetched.
///
/// # Safety
/// As for [`Panel::run`], with `NT` tokens.
#[inline(always)]
unsafe fn tile<S: Simd, F: Format, const NT: usize, const RT: usize, const FAR: usize>(s: S, w: Walk) {
    let mut row = 0;
    while row < PANEL {
        let mut acc = [[s.splat(0.0); RT]; NT];
        // SAFETY: `out` has NT x 32; units and activations have `blocks` blocks.
        unsafe {
            for t in 0..NT {
                for r in 0..RT {
                    acc[t][r] = s.load(w.out.add(t * PANEL + row + r * S::LANES));
                }
            }
            for u in 0..w.blocks / F::S::SUPER {
                let unit = w.units.add(u * F::UNIT);
                if FAR > 0 {
                    let mut ahead = 0;
                    while ahead < F::UNIT {
                        s.prefetch(unit.wrapping_add(FAR + ahead));
                        ahead += 64;
                    }
                }
                for sub in 0..F::S::SUPER {
                    let acts = w.acts.add(u * F::S::SUPER + sub);
                    if FAR == 0 {
                        // Activations come from the second level: ask for them two blocks ahead.
                        for t in 0..NT {
                            s.prefetch(acts.wrapping_add(t * w.stride + 2).cast());
                        }
                    }
                    block::<S, F, NT, RT>(s, unit, sub, row, acts, w.stride, w.offset, &mut acc);
                }
            }
            for t in 0..NT {
                for r in 0..RT {
                    s.store(w.out.add(t * PANEL + row + r * S::LANES), acc[t][r]);
                }
            }
        }
        row += RT * S::LANES;
    }
}

/// One block of 32 columns: see the head of this file.
///
/// # Safety
/// `unit` has block `sub`; `acts` has a block for each of `NT` tokens, `stride` apart.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // the operands of one inlined loop body
unsafe fn block<S: Simd, F: Format, const NT: usize, const RT: usize>(
    s: S,
    unit: *const u8,
    sub: usize,
    row: usize,
    acts: *const ActBlock,
    stride: usize,
    offset: i32,
    acc: &mut [[S::F; RT]; NT],
) {
    // SAFETY: the caller's promise; k-groups 0..8 lie in the block.
    unsafe {
        let codes = unit.add(F::S::HEAD + sub * F::C::BYTES);
        let mut dots = [[s.isplat(0); RT]; NT];
        macro_rules! start {
            ($a:ident, $sum:expr) => {
                for t in 0..NT {
                    let $a = acts.add(t * stride);
                    let start = s.isplat(MAGIC - offset * $sum);
                    for r in 0..RT {
                        dots[t][r] = start;
                    }
                }
            };
        }
        macro_rules! group {
            ($($g:literal)*) => {$(
                let mut c = [s.isplat(0); RT];
                for r in 0..RT {
                    c[r] = F::C::get::<S, $g>(s, codes, row + r * S::LANES);
                }
                for t in 0..NT {
                    let a = s.iload4((&raw const (*acts.add(t * stride)).q).cast::<i8>().add(4 * $g));
                    for r in 0..RT {
                        dots[t][r] = if F::C::WIDE {
                            s.dot::<true>(dots[t][r], c[r], a)
                        } else {
                            s.dot::<false>(dots[t][r], c[r], a)
                        };
                    }
                }
            )*};
        }
        if F::S::HALF {
            start!(a, (*a).half[0]);
            group!(0 1 2 3);
            finish::<S, F, NT, RT>(s, unit, sub, 0, row, acts, stride, &dots, acc);
            start!(a, (*a).half[1]);
            group!(4 5 6 7);
            finish::<S, F, NT, RT>(s, unit, sub, 1, row, acts, stride, &dots, acc);
        } else {
            start!(a, (*a).sum);
            group!(0 1 2 3 4 5 6 7);
            finish::<S, F, NT, RT>(s, unit, sub, 0, row, acts, stride, &dots, acc);
        }
    }
}

/// Scales the dots of one group and adds them up.
///
/// # Safety
/// As for [`block`].
#[inline(always)]
#[allow(clippy::too_many_arguments)] // the operands of one inlined loop body
unsafe fn finish<S: Simd, F: Format, const NT: usize, const RT: usize>(
    s: S,
    unit: *const u8,
    sub: usize,
    half: usize,
    row: usize,
    acts: *const ActBlock,
    stride: usize,
    dots: &[[S::I; RT]; NT],
    acc: &mut [[S::F; RT]; NT],
) {
    for r in 0..RT {
        // SAFETY: the caller's promise.
        unsafe {
            let scale = F::S::scale(s, unit, sub, half, row + r * S::LANES);
            let less = s.mul(scale, s.splat(MINUS_MAGIC));
            let min = F::S::min(s, unit, sub, half, row + r * S::LANES);
            for t in 0..NT {
                let a = acts.add(t * stride);
                let scaled = s.fma(s.as_float(dots[t][r]), scale, less);
                acc[t][r] = s.fma(scaled, s.load1(&raw const (*a).d), acc[t][r]);
                if F::S::MIN {
                    let sum = if F::S::HALF { &raw const (*a).dhalf[half] } else { &raw const (*a).dsum };
                    acc[t][r] = s.fma(min, s.load1(sum), acc[t][r]);
                }
            }
        }
    }
}
