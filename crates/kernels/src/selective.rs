//! Mamba's selective scan (Gu & Dao 2023, arXiv:2312.00752): a state for each channel whose parts decay each at a
//! rate of its own.
//!
//! A channel is done by one thread, position after position: sums have one order whatever the chunking.

use crate::isa::Isa;
use crate::math;
use crate::pool::Pool;
use crate::simd::{Kernel, Simd, dispatch};
use crate::ssm::{LANES, fold};

/// For each channel, with step `dt`: `state = exp(dt a) state + dt x B` and `y = state . C + d x`.
pub struct Selective<'a> {
    /// Channels.
    pub channels: usize,
    /// Numbers of state for each channel.
    pub state_dim: usize,
    /// `[channels, state_dim]`, negative.
    pub a: &'a [f32],
    /// `[channels]`.
    pub d: &'a [f32],
}

/// What the positions bring, row-major.
pub struct SelectiveRows<'a> {
    /// `[n, channels]`.
    pub x: &'a [f32],
    /// `[n, channels]`, over zero.
    pub dt: &'a [f32],
    /// `[n, state_dim]`.
    pub b: &'a [f32],
    /// `[n, state_dim]`.
    pub c: &'a [f32],
}

struct Out(*mut f32);
// SAFETY: each piece writes columns of its own.
unsafe impl Sync for Out {}

/// Channels of one piece of work.
const PIECE: usize = 32;

impl Selective<'_> {
    /// `state` is `[channels, state_dim]`, `out` `[n, channels]`.
    pub fn run(&self, pool: &Pool, rows: &SelectiveRows<'_>, state: &mut [f32], out: &mut [f32]) {
        let (channels, size) = (self.channels, self.state_dim);
        let n = rows.x.len() / channels;
        assert!(rows.dt.len() == n * channels && out.len() == n * channels, "{n} rows of a scan");
        assert!(rows.b.len() == n * size && rows.c.len() == n * size, "{n} rows of B and C");
        assert!(self.a.len() == channels * size && self.d.len() == channels, "rates for each channel");
        assert_eq!(state.len(), channels * size, "the state of a scan");
        let to = &Out(out.as_mut_ptr());
        pool.each_piece(state, PIECE * size, |piece, state| {
            dispatch(Isa::current(), Piece { scan: self, rows, first: piece * PIECE, state, out: to });
        });
    }
}

/// All positions of some channels.
struct Piece<'a> {
    scan: &'a Selective<'a>,
    rows: &'a SelectiveRows<'a>,
    first: usize,
    state: &'a mut [f32],
    out: &'a Out,
}

impl Kernel for Piece<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (channels, size, rows) = (self.scan.channels, self.scan.state_dim, self.rows);
        for t in 0..rows.x.len() / channels {
            let (b, c) = (&rows.b[t * size..(t + 1) * size], &rows.c[t * size..(t + 1) * size]);
            for (i, state) in self.state.chunks_exact_mut(size).enumerate() {
                let channel = self.first + i;
                let at = t * channels + channel;
                let (x, dt) = (rows.x[at], rows.dt[at]);
                let a = &self.scan.a[channel * size..(channel + 1) * size];
                let y = step(s, state, a, dt, dt * x, b, c) + self.scan.d[channel] * x;
                // SAFETY: `at` lies in `out`, and no other piece writes this channel.
                unsafe { *self.out.0.add(at) = y };
            }
        }
    }
}

/// `state = exp(dt a) state + x b`; the new state times `c`, whose products are summed by [`LANES`].
#[inline(always)]
fn step<S: Simd>(s: S, state: &mut [f32], a: &[f32], dt: f32, x: f32, b: &[f32], c: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    for from in (0..state.len()).step_by(LANES) {
        let n = LANES.min(state.len() - from);
        let part = from..from + n;
        if n == LANES {
            let state = &mut state[part.clone()];
            lanes(s, state, &a[part.clone()], dt, x, &b[part.clone()], &c[part], &mut sums);
            continue;
        }
        // What is left, with zeros that change nothing.
        let full = |x: &[f32]| {
            let mut full = [0f32; LANES];
            full[..n].copy_from_slice(&x[part.clone()]);
            full
        };
        let (mut held, a, b, c) = (full(state), full(a), full(b), full(c));
        lanes(s, &mut held, &a, dt, x, &b, &c, &mut sums);
        state[part].copy_from_slice(&held[..n]);
    }
    fold(sums)
}

/// [`LANES`] numbers of state.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // the operands of one inlined loop body
fn lanes<S: Simd>(
    s: S,
    state: &mut [f32],
    a: &[f32],
    dt: f32,
    x: f32,
    b: &[f32],
    c: &[f32],
    sums: &mut [f32; LANES],
) {
    assert!(state.len() == LANES && a.len() == LANES && b.len() == LANES && c.len() == LANES);
    for i in (0..LANES).step_by(S::LANES) {
        // SAFETY: i + S::LANES <= LANES, which all have.
        unsafe {
            let decay = math::exp(s, s.mul(s.splat(dt), s.load(a.as_ptr().add(i))));
            let to = state.as_mut_ptr().add(i);
            let new = s.fma(s.load(to), decay, s.mul(s.splat(x), s.load(b.as_ptr().add(i))));
            s.store(to, new);
            let sum = sums.as_mut_ptr().add(i);
            s.store(sum, s.fma(new, s.load(c.as_ptr().add(i)), s.load(sum)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    #[test]
    fn a_scan_is_its_formula_and_the_same_in_pieces() {
        let (channels, size, n) = (37, 18, 5);
        let a: Vec<f32> = numbers(channels * size, 1).iter().map(|x| -x.abs() - 0.1).collect();
        let d = numbers(channels, 2);
        let scan = Selective { channels, state_dim: size, a: &a, d: &d };
        let (x, b, c) = (numbers(n * channels, 3), numbers(n * size, 4), numbers(n * size, 5));
        let dt: Vec<f32> = numbers(n * channels, 6).iter().map(|x| x.abs()).collect();
        let (mut state, mut out) = (vec![0.0; channels * size], vec![0.0; n * channels]);
        scan.run(&Pool::new(3), &SelectiveRows { x: &x, dt: &dt, b: &b, c: &c }, &mut state, &mut out);
        for channel in 0..channels {
            let mut s = vec![0f64; size];
            for t in 0..n {
                let (x, dt) = (f64::from(x[t * channels + channel]), f64::from(dt[t * channels + channel]));
                let mut y = f64::from(d[channel]) * x;
                for (i, s) in s.iter_mut().enumerate() {
                    let decay = (dt * f64::from(a[channel * size + i])).exp();
                    *s = *s * decay + dt * x * f64::from(b[t * size + i]);
                    y += *s * f64::from(c[t * size + i]);
                }
                assert!((y - f64::from(out[t * channels + channel])).abs() < 1e-5);
            }
        }
        let (mut again, mut pieces) = (vec![0.0; state.len()], vec![0.0; out.len()]);
        for t in 0..n {
            let rows = SelectiveRows {
                x: &x[t * channels..][..channels],
                dt: &dt[t * channels..][..channels],
                b: &b[t * size..][..size],
                c: &c[t * size..][..size],
            };
            scan.run(&Pool::new(1), &rows, &mut again, &mut pieces[t * channels..][..channels]);
        }
        assert_eq!((again, pieces), (state, out));
    }
}
