//! Sums of a tile: where they begin, and where they go. The last step of every matrix product.

#![allow(clippy::needless_range_loop)] // as in int8.rs

use crate::pack::layout::PANEL;
use crate::simd::Simd;

/// Where the results of 32 rows go.
#[derive(Clone, Copy)]
pub struct Target {
    /// The first token's first row.
    pub at: *mut f32,
    /// Numbers from one token to the next.
    pub stride: usize,
    /// 32 numbers to add.
    pub bias: *const f32,
    /// Numbers from there to those of the next 32 rows.
    pub bias_step: usize,
    /// Add to what is there.
    pub add: bool,
}

/// The sums of some tokens with the rows of a panel.
#[derive(Clone, Copy)]
pub struct Sums {
    /// `[tokens][32]`: those of the columns so far.
    pub out: *mut f32,
    /// Nothing was summed before.
    pub first: bool,
    /// Where they go when they are complete, if not to `out`.
    pub to: Option<Target>,
}

impl Sums {
    /// As seen from token `t` on. The pointers are only used where the token exists.
    #[inline(always)]
    pub fn from(self, t: usize) -> Sums {
        let to = self.to.map(|to| Target { at: to.at.wrapping_add(t * to.stride), ..to });
        Sums { out: self.out.wrapping_add(t * PANEL), to, ..self }
    }

    /// Those of panel `i` of several. The pointers are only used where the panel exists.
    #[inline(always)]
    pub fn of_panel(self, i: usize) -> Sums {
        let to = self.to.map(|to| Target {
            at: to.at.wrapping_add(i * PANEL),
            bias: to.bias.wrapping_add(i * to.bias_step),
            ..to
        });
        Sums { to, ..self }
    }

    /// The sums so far of the rows from `row` on.
    ///
    /// # Safety
    /// `out` has `NT` x 32, `row + RT * S::LANES <= 32`.
    #[inline(always)]
    pub unsafe fn begin<S: Simd, const NT: usize, const RT: usize>(
        &self,
        s: S,
        row: usize,
        acc: &mut [[S::F; RT]; NT],
    ) {
        for t in 0..NT {
            for r in 0..RT {
                let at = row + r * S::LANES;
                if !self.first {
                    // SAFETY: the caller's promise.
                    acc[t][r] = unsafe { s.load(self.out.add(t * PANEL + at)) };
                }
                if let Some(to) = self.to {
                    s.prefetch(to.at.wrapping_add(t * to.stride + at).cast());
                }
            }
        }
    }

    /// Puts the sums of the rows from `row` on where they belong.
    ///
    /// # Safety
    /// As for [`Sums::begin`]; a target has a row of outputs for each token.
    #[inline(always)]
    pub unsafe fn end<S: Simd, const NT: usize, const RT: usize>(
        &self,
        s: S,
        row: usize,
        acc: &[[S::F; RT]; NT],
    ) {
        for t in 0..NT {
            for r in 0..RT {
                let at = row + r * S::LANES;
                // SAFETY: the caller's promise.
                unsafe {
                    let Some(to) = self.to else {
                        s.store(self.out.add(t * PANEL + at), acc[t][r]);
                        continue;
                    };
                    let out = to.at.add(t * to.stride + at);
                    let v = s.add(acc[t][r], s.load(to.bias.add(at)));
                    s.store(out, if to.add { s.add(s.load(out), v) } else { v });
                }
            }
        }
    }
}
