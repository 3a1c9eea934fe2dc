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
//! `MAGIC - offset x sum(q)`, which lies ready beside `q`: read as f32 it is then 1.5 x 2^23 + dot, and `fma(it, scale, -1.5 x 2^23 scale)`
//! is dot x scale rounded once: conversion and product in one instruction (scales have at most 17
//! significant bits, so the subtracted product is exact).
//!
//! Up to [`direct`] tokens unpack the codes in registers; more have a stretch of weights unpacked once into
//! the first-level cache for all of them.

// Index loops only: adapters of iterators are functions that are not always inlined, and registers then
// go through memory.
#![allow(clippy::needless_range_loop)]

use super::acts::{ActBlock, MAGIC};
use super::stretch::{STRETCH, Unpack};
use super::sums::{Sums, Target};
use crate::isa::Isa;
use crate::pack::layout::{BLOCK, C8, C8Narrow, Codes, Flat, Format, PANEL, Scales};
use crate::simd::{Kernel, Simd, dispatch, dispatch_int8};
use std::marker::PhantomData;

/// Tokens that are done without unpacking to memory: what the registers of `isa` hold at a time.
fn direct(isa: Isa) -> usize {
    if matches!(isa.or_lesser(), Isa::Avx512 | Isa::Avx512Bf16) { 8 } else { 4 }
}

/// How far ahead of a stream from memory lines are asked for: the processor's own prefetch does not look
/// past a page, and the arithmetic between two lines leaves it idle.
const AHEAD: usize = 4096;

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
    /// Panels that follow one another: several only of few tokens, and with a target.
    pub panels: usize,
    /// `[tokens][32]`: the sums so far.
    pub out: &'a mut [f32],
    /// Nothing was summed before.
    pub first: bool,
    /// Where the sums go when they are complete, if not to `out`.
    pub to: Option<Target>,
    /// Weights that will be unpacked next: all tokens' tiles together ask for them, so many cache lines.
    pub next: (*const u8, usize),
    /// The format.
    pub format: PhantomData<F>,
}

impl<F: Format, const DIRECTLY: bool> Kernel for Panel<'_, F, DIRECTLY> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        assert!(self.out.len() >= self.tokens * PANEL && self.blocks.is_multiple_of(F::S::SUPER));
        let bytes = self.blocks / F::S::SUPER * F::UNIT;
        assert!(self.units.len() >= self.panels * bytes && (self.panels == 1 || self.to.is_some()));
        let walk = Walk {
            units: self.units.as_ptr(),
            offset: self.offset,
            acts: self.acts,
            stride: self.stride,
            blocks: self.blocks,
            ahead: self.next.0,
            sums: Sums { out: self.out.as_mut_ptr(), first: self.first, to: self.to },
        };
        // SAFETY: the asserts above; the caller's activations have `tokens` rows of `blocks` blocks.
        unsafe {
            if DIRECTLY {
                for i in 0..self.panels {
                    let units = walk.units.add(i * bytes);
                    few::<S, F>(s, Walk { units, sums: walk.sums.of_panel(i), ..walk }, self.tokens);
                }
            } else {
                many::<S, F>(s, walk, self.tokens, self.next.1);
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
    ahead: *const u8,
    sums: Sums,
}

impl Walk {
    /// As seen from token `t` on.
    ///
    /// # Safety
    /// There is such a token.
    #[inline(always)]
    unsafe fn from(self, t: usize) -> Walk {
        // SAFETY: the caller's promise.
        let acts = unsafe { self.acts.add(t * self.stride) };
        Walk { acts, sums: self.sums.from(t), ..self }
    }
}

/// Of so many tokens, panels that follow one another can be given together.
pub fn takes_several(isa: Isa, tokens: usize) -> bool {
    tokens <= direct(isa)
}

/// Whole panels x any number of tokens; the results are in `to` if there is one, else in `out`.
pub fn panel<F: Format>(isa: Isa, p: Panel<'_, F, true>, scratch: &mut [u8]) {
    if p.tokens <= direct(isa) {
        return dispatch_int8(isa, p);
    }
    let step = STRETCH / BLOCK;
    for b in (0..p.blocks).step_by(step) {
        let n = step.min(p.blocks - b);
        let units = &p.units[b / F::S::SUPER * F::UNIT..];
        dispatch(isa, Unpack::<F> { units, offset: p.offset, blocks: n, to: scratch, format: PhantomData });
        // SAFETY: block b of the first token exists.
        let acts = unsafe { p.acts.add(b) };
        let to = p.to.filter(|_| b + n == p.blocks);
        let bytes = n / F::S::SUPER * F::UNIT;
        let next = (units.as_ptr().wrapping_add(bytes), bytes / 64);
        let p = Panel {
            units: &scratch[..],
            acts,
            blocks: n,
            panels: 1,
            out: &mut *p.out,
            first: b == 0,
            to,
            next,
            ..p
        };
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
    let Panel { units, offset, acts, stride, tokens, blocks, panels, out, first, to, next, .. } = p;
    let format = PhantomData;
    let p = Panel::<T, false> {
        units,
        offset,
        acts,
        stride,
        tokens,
        blocks,
        panels,
        out,
        first,
        to,
        next,
        format,
    };
    dispatch_int8(isa, p);
}

/// All tokens, in equal tiles that the ISA's registers hold. The tiling has no influence on any result.
///
/// # Safety
/// As for [`Panel::run`].
#[inline(always)]
unsafe fn many<S: Simd, F: Format>(s: S, w: Walk, tokens: usize, lines: usize) {
    // Six chains of dot products, where a product is one instruction of four cycles, in place of four.
    let widest = if S::ONE_DOT && S::TILE == 4 { 3 } else { S::TILE };
    let (mut t, mut left) = (0, tokens.div_ceil(widest));
    // A few tiles ask for several lines a block, many tiles for one, the first of them.
    let share = lines.div_ceil(left * w.blocks).max(1);
    let mut asked = 0;
    while t < tokens {
        let n = (tokens - t).div_ceil(left);
        let ahead = w.ahead.wrapping_add(asked * 64);
        let share = if asked < lines { share } else { 0 };
        asked += share * w.blocks;
        // SAFETY: tokens t..t + n exist.
        unsafe {
            let at = Walk { ahead, ..w.from(t) };
            match (S::TILE, n) {
                (1, _) => tile::<S, F, 1, 1, 1, 0>(s, at, share),
                (6, 1) => tile::<S, F, 1, 2, 1, 0>(s, at, share),
                (6, 2) => tile::<S, F, 2, 2, 1, 0>(s, at, share),
                (6, 3) => tile::<S, F, 3, 2, 1, 0>(s, at, share),
                (6, 4) => tile::<S, F, 4, 2, 1, 0>(s, at, share),
                (6, 5) => tile::<S, F, 5, 2, 1, 0>(s, at, share),
                (6, _) => tile::<S, F, 6, 2, 1, 0>(s, at, share),
                (_, 1) => tile::<S, F, 1, 4, 1, 0>(s, at, share),
                (_, 2) => tile::<S, F, 2, 2, 1, 0>(s, at, share),
                (_, 3) if S::ONE_DOT => tile::<S, F, 3, 2, 1, 0>(s, at, share),
                (_, 3) => tile::<S, F, 3, 1, 1, 0>(s, at, share),
                (_, _) => tile::<S, F, 4, 1, 1, 0>(s, at, share),
            }
        }
        t += n;
        left -= 1;
    }
}

/// At most [`direct`] tokens, by eights, fours, twos and ones: fewer shapes to compile for each format.
///
/// # Safety
/// As for [`Panel::run`].
#[inline(always)]
unsafe fn few<S: Simd, F: Format>(s: S, w: Walk, tokens: usize) {
    let mut t = 0;
    while t < tokens {
        let n = match tokens - t {
            _ if S::TILE == 1 => 1,
            8.. if S::TILE == 6 => 8,
            4.. => 4,
            2 | 3 => 2,
            _ => 1,
        };
        // SAFETY: tokens t..t + n exist.
        unsafe {
            let at = w.from(t);
            match (S::TILE, n) {
                (1, _) => tile::<S, F, 1, 1, 1, AHEAD>(s, at, 0),
                (6, 1) => tile::<S, F, 1, 2, 1, AHEAD>(s, at, 0),
                (6, 2) => tile::<S, F, 2, 2, 1, AHEAD>(s, at, 0),
                (6, 4) => tile::<S, F, 4, 2, 1, AHEAD>(s, at, 0),
                (6, _) => tile::<S, F, 8, 1, 2, AHEAD>(s, at, 0),
                (_, 1) => tile::<S, F, 1, 4, 1, AHEAD>(s, at, 0),
                (_, 2) => tile::<S, F, 2, 2, 1, AHEAD>(s, at, 0),
                (_, _) => tile::<S, F, 4, 1, 1, AHEAD>(s, at, 0),
            }
        }
        t += n;
    }
}

/// `NT` tokens x the panel, `G` times `RT` registers of rows at a time, added to what `out` holds; lines
/// `FAR` bytes ahead are prefetched. The dots of a block take `NT` x `RT` registers and the sums `G` times as
/// many: with `G` = 2 all rows of a panel are done while its stream of codes is read once.
///
/// # Safety
/// As for [`Panel::run`], with `NT` tokens.
#[inline(always)]
unsafe fn tile<S: Simd, F: Format, const NT: usize, const RT: usize, const G: usize, const FAR: usize>(
    s: S,
    w: Walk,
    share: usize,
) {
    let mut row = 0;
    while row < PANEL {
        let mut acc = [[[s.splat(0.0); RT]; NT]; G];
        // SAFETY: `out` has NT x 32; units and activations have `blocks` blocks.
        unsafe {
            for g in 0..G {
                w.sums.begin(s, row + g * RT * S::LANES, &mut acc[g]);
            }
            for u in 0..w.blocks / F::S::SUPER {
                let unit = w.units.add(u * F::UNIT);
                for sub in 0..F::S::SUPER {
                    let acts = w.acts.add(u * F::S::SUPER + sub);
                    if FAR == 0 {
                        // Activations come from the second level: ask for them four blocks ahead.
                        for t in 0..NT {
                            s.prefetch(acts.wrapping_add(t * w.stride + 4).cast());
                        }
                        for i in 0..share {
                            s.prefetch(w.ahead.wrapping_add(((u * F::S::SUPER + sub) * share + i) * 64));
                        }
                    }
                    for g in 0..G {
                        if FAR > 0 {
                            ahead::<S, F, G>(s, unit.wrapping_add(FAR), sub * G + g);
                        }
                        let row = row + g * RT * S::LANES;
                        block::<S, F, NT, RT, FAR>(s, unit, sub, row, acts, w.stride, w.offset, &mut acc[g]);
                    }
                }
            }
            for g in 0..G {
                w.sums.end(s, row + g * RT * S::LANES, &acc[g]);
            }
        }
        row += G * RT * S::LANES;
    }
}

/// Asks for part `part` of a unit's lines, each block and group of rows asking for its share: a whole unit at
/// once would fill the buffers of the first-level cache, and arithmetic would wait for memory.
#[inline(always)]
fn ahead<S: Simd, F: Format, const G: usize>(s: S, unit: *const u8, part: usize) {
    let share = F::UNIT.div_ceil(F::S::SUPER * G);
    let mut at = 0;
    while at < share {
        s.prefetch(unit.wrapping_add(part * share + at));
        at += 64;
    }
}

/// One block of 32 columns: see the head of this file.
///
/// # Safety
/// `unit` has block `sub`; `acts` has a block for each of `NT` tokens, `stride` apart.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // the operands of one inlined loop body
unsafe fn block<S: Simd, F: Format, const NT: usize, const RT: usize, const FAR: usize>(
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
            ($a:ident, $start:expr) => {
                for t in 0..NT {
                    let $a = acts.add(t * stride);
                    let start = start::<S, F, FAR>(s, $start, offset);
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
            start!(a, &raw const (*a).start_half[0]);
            group!(0 1 2 3);
            finish::<S, F, NT, RT>(s, unit, sub, 0, row, acts, stride, &dots, acc);
            start!(a, &raw const (*a).start_half[1]);
            group!(4 5 6 7);
            finish::<S, F, NT, RT>(s, unit, sub, 1, row, acts, stride, &dots, acc);
        } else {
            start!(a, if F::C::WIDE { &raw const (*a).start_wide } else { &raw const (*a).start });
            group!(0 1 2 3 4 5 6 7);
            finish::<S, F, NT, RT>(s, unit, sub, 0, row, acts, stride, &dots, acc);
        }
    }
}

/// What the dots of one group start at, given where the start for codes less 64 (128 if `WIDE`) lies.
///
/// # Safety
/// `ready` is a block's.
#[inline(always)]
unsafe fn start<S: Simd, F: Format, const FAR: usize>(s: S, ready: *const i32, offset: i32) -> S::I {
    if F::S::MIN {
        return s.isplat(MAGIC);
    }
    if F::C::WIDE || FAR == 0 {
        // SAFETY: the caller's promise.
        return unsafe { s.iload4(ready.cast()) };
    }
    // SAFETY: the caller's promise.
    s.isplat(MAGIC + ((unsafe { *ready } - MAGIC) >> 6) * offset)
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
            let less = F::S::less(s, unit, scale, half, row + r * S::LANES);
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
