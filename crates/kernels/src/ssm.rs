//! Scans over positions: the short convolution and the decaying state of recurrent mixers.
//!
//! Each number's sums have one order whatever the chunking: the state is what the rows before left behind,
//! and a head is done by one thread.

use crate::activation::{Act, activate};
use crate::isa::Isa;
use crate::pool::Pool;
use crate::simd::{Kernel, Simd, dispatch};

/// A causal convolution of each channel by itself.
pub struct Conv<'a> {
    /// Channels.
    pub channels: usize,
    /// Positions that it sees: its own and those before.
    pub kernel: usize,
    /// `[kernel][channels]`, the oldest position first.
    pub weight: &'a [f32],
    /// `[channels]`.
    pub bias: Option<&'a [f32]>,
    /// `x * sigmoid(x)` of the result.
    pub silu: bool,
}

impl Conv<'_> {
    /// The channels `at..at + channels` of `rows`, `[n, stride]`, convolved: `[n, channels]`. `state`,
    /// `[kernel - 1, channels]`, holds the rows before these (zeros at the beginning) and then the last of
    /// these.
    pub fn run(&self, pool: &Pool, rows: &[f32], stride: usize, at: usize, state: &mut [f32]) -> Vec<f32> {
        let (channels, before, n) = (self.channels, self.kernel - 1, rows.len() / stride);
        assert!(state.len() == before * channels && at + channels <= stride, "a convolution's state");
        let mut out = vec![0.0; n * channels];
        let before_these = &*state;
        pool.each_piece(&mut out, channels, |t, out| {
            if let Some(bias) = self.bias {
                out.copy_from_slice(bias);
            }
            let history = History { held: before_these, rows, stride, at, channels };
            dispatch(Isa::current(), Position { first: t, history, weight: self.weight, out });
            if self.silu {
                activate(Act::Silu, out);
            }
        });
        for i in 0..before {
            let to = i * channels;
            match (n + i).checked_sub(before) {
                Some(t) => state[to..to + channels].copy_from_slice(&rows[t * stride + at..][..channels]),
                None => state.copy_within((n + i) * channels..(n + i + 1) * channels, to),
            }
        }
        out
    }
}

/// Rows that were before, then rows of now.
struct History<'a> {
    held: &'a [f32],
    rows: &'a [f32],
    stride: usize,
    at: usize,
    channels: usize,
}

impl History<'_> {
    fn row(&self, t: usize) -> &[f32] {
        match t.checked_sub(self.held.len() / self.channels) {
            Some(t) => &self.rows[t * self.stride + self.at..][..self.channels],
            None => &self.held[t * self.channels..][..self.channels],
        }
    }
}

/// Adds up one position of a convolution: the rows from `first` on.
struct Position<'a> {
    first: usize,
    history: History<'a>,
    weight: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Position<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let channels = self.out.len();
        let whole = channels / S::LANES * S::LANES;
        for (j, weight) in self.weight.chunks_exact(channels).enumerate() {
            let row = self.history.row(self.first + j);
            for i in (0..whole).step_by(S::LANES) {
                // SAFETY: i + LANES <= channels.
                unsafe {
                    let (x, w) = (s.load(row.as_ptr().add(i)), s.load(weight.as_ptr().add(i)));
                    let out = self.out.as_mut_ptr().add(i);
                    s.store(out, s.fma(x, w, s.load(out)));
                }
            }
            for i in whole..channels {
                self.out[i] = row[i].mul_add(weight[i], self.out[i]);
            }
        }
    }
}

/// Mamba-2's scan (Dao & Gu 2024, arXiv:2405.21060): for each head, with step `dt`,
/// `state = exp(dt a) state + dt x B^T` and `y = state C + d x`.
pub struct Scan<'a> {
    /// Heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Numbers of state for each number of a head.
    pub state_dim: usize,
    /// Groups of heads that share B and C.
    pub groups: usize,
    /// `[heads]`, negative.
    pub a: &'a [f32],
    /// `[heads]`.
    pub d: &'a [f32],
}

struct Out(*mut f32);
// SAFETY: each head writes columns of its own.
unsafe impl Sync for Out {}

/// Partial sums of a product with C: a fixed number, so that the order of addition is one.
pub(crate) const LANES: usize = 16;

impl Scan<'_> {
    /// `mixed` is `[n, inner + 2 groups state_dim]` (x, B, C), `dt` `[n, heads]`, `state`
    /// `[heads, head_dim, state_dim]`, `out` `[n, inner]`.
    pub fn run(&self, pool: &Pool, mixed: &[f32], dt: &[f32], state: &mut [f32], out: &mut [f32]) {
        let inner = self.heads * self.head_dim;
        let width = inner + 2 * self.groups * self.state_dim;
        let n = dt.len() / self.heads;
        assert!(mixed.len() == n * width && out.len() == n * inner, "{n} rows of a scan");
        assert!(self.a.len() == self.heads && self.d.len() == self.heads, "a rate for each head");
        assert_eq!(state.len(), inner * self.state_dim, "the state of a scan");
        let to = Out(out.as_mut_ptr());
        let to = &to;
        pool.each_piece(state, self.head_dim * self.state_dim, |head, state| {
            dispatch(Isa::current(), Head { scan: self, head, mixed, dt, state, out: to });
        });
    }
}

/// All positions of one head.
struct Head<'a> {
    scan: &'a Scan<'a>,
    head: usize,
    mixed: &'a [f32],
    dt: &'a [f32],
    state: &'a mut [f32],
    out: &'a Out,
}

impl Kernel for Head<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Scan { heads, head_dim, state_dim, groups, a, d } = *self.scan;
        let (head, inner) = (self.head, heads * head_dim);
        let (group, width) = (head / (heads / groups), inner + 2 * groups * state_dim);
        for (t, row) in self.mixed.chunks_exact(width).enumerate() {
            let x = &row[head * head_dim..(head + 1) * head_dim];
            let b = &row[inner + group * state_dim..][..state_dim];
            let c = &row[inner + (groups + group) * state_dim..][..state_dim];
            let dt = self.dt[t * heads + head];
            let decay = (dt * a[head]).exp();
            // SAFETY: row t and the columns of this head lie in `out`, and no other head writes them.
            let y = unsafe {
                std::slice::from_raw_parts_mut(self.out.0.add(t * inner + head * head_dim), head_dim)
            };
            for ((state, &x), y) in self.state.chunks_exact_mut(state_dim).zip(x).zip(y) {
                *y = step(s, state, decay, dt * x, b, c) + d[head] * x;
            }
        }
    }
}

/// `state = decay state + x b`; the new state times `c`, whose products are summed by [`LANES`].
#[inline(always)]
fn step<S: Simd>(s: S, state: &mut [f32], decay: f32, x: f32, b: &[f32], c: &[f32]) -> f32 {
    let (n, whole) = (state.len(), state.len() / LANES * LANES);
    assert!(b.len() == n && c.len() == n);
    let (decays, xs) = (s.splat(decay), s.splat(x));
    let mut sums = [s.splat(0.0); 2];
    for i in (0..whole).step_by(LANES) {
        for (r, sum) in sums.iter_mut().enumerate().take(LANES / S::LANES) {
            let at = i + r * S::LANES;
            // SAFETY: at + S::LANES <= whole, which all three have.
            unsafe {
                let to = state.as_mut_ptr().add(at);
                let new = s.fma(s.load(to), decays, s.mul(xs, s.load(b.as_ptr().add(at))));
                s.store(to, new);
                *sum = s.fma(new, s.load(c.as_ptr().add(at)), *sum);
            }
        }
    }
    let mut lanes = [0f32; LANES];
    for (r, sum) in sums.iter().enumerate().take(LANES / S::LANES) {
        // SAFETY: r S::LANES + S::LANES <= LANES.
        unsafe { s.store(lanes.as_mut_ptr().add(r * S::LANES), *sum) };
    }
    for i in whole..n {
        state[i] = state[i].mul_add(decay, x * b[i]);
        lanes[i - whole] = state[i].mul_add(c[i], lanes[i - whole]);
    }
    fold(lanes)
}

/// The sum of the partial sums, halves added until one is left.
#[inline(always)]
pub(crate) fn fold(mut sums: [f32; LANES]) -> f32 {
    let mut n = LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            sums[i] += sums[i + n];
        }
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    #[test]
    fn a_convolution_by_hand_and_in_pieces() {
        let pool = Pool::new(2);
        let c = Conv {
            channels: 2,
            kernel: 3,
            weight: &[1., 2., 3., 4., 5., 6.],
            bias: Some(&[0.5, 0.0]),
            silu: false,
        };
        // Column 0 of each row is not the convolution's.
        let rows = [9., 1., 10., 9., 2., 20., 9., 3., 30.];
        let mut state = vec![0.0; 4];
        let whole = c.run(&pool, &rows, 3, 1, &mut state);
        assert_eq!(whole, [5.5, 60., 13.5, 160., 22.5, 280.]);
        assert_eq!(state, [2., 20., 3., 30.]);
        let mut state = vec![0.0; 4];
        let mut pieces = c.run(&pool, &rows[..3], 3, 1, &mut state);
        pieces.extend(c.run(&pool, &rows[3..], 3, 1, &mut state));
        assert_eq!(pieces, whole);
    }

    #[test]
    fn a_scan_is_its_formula_and_the_same_in_pieces() {
        let (heads, dim, n_state, groups, n) = (4, 3, 20, 2, 7);
        let scan = Scan {
            heads,
            head_dim: dim,
            state_dim: n_state,
            groups,
            a: &[-0.5, -1.0, -2.0, -0.1],
            d: &[1., 2., 3., 4.],
        };
        let width = heads * dim + 2 * groups * n_state;
        let (mixed, dt) =
            (numbers(n * width, 1), numbers(n * heads, 2).iter().map(|x| x.abs()).collect::<Vec<_>>());
        let mut state = vec![0.0; heads * dim * n_state];
        let mut out = vec![0.0; n * heads * dim];
        scan.run(&Pool::new(3), &mixed, &dt, &mut state, &mut out);
        let mut plain = vec![0f64; heads * dim * n_state];
        for t in 0..n {
            for (at, state) in plain.chunks_exact_mut(n_state).enumerate() {
                let (head, row) = (at / dim, &mixed[t * width..]);
                let (x, dt) = (f64::from(row[at]), f64::from(dt[t * heads + head]));
                let b = &row[heads * dim + head / 2 * n_state..];
                let c = &row[heads * dim + (2 + head / 2) * n_state..];
                let mut y = f64::from(scan.d[head]) * x;
                for (i, s) in state.iter_mut().enumerate() {
                    *s = *s * (dt * f64::from(scan.a[head])).exp() + dt * x * f64::from(b[i]);
                    y += *s * f64::from(c[i]);
                }
                assert!((y - f64::from(out[t * heads * dim + at])).abs() < 1e-5);
            }
        }
        let (mut pieces, mut again) = (vec![0.0; out.len()], vec![0.0; state.len()]);
        for t in 0..n {
            let rows = &mixed[t * width..(t + 1) * width];
            let to = &mut pieces[t * heads * dim..(t + 1) * heads * dim];
            scan.run(&Pool::new(1), rows, &dt[t * heads..(t + 1) * heads], &mut again, to);
        }
        assert_eq!((pieces, again), (out, state));
    }
}
