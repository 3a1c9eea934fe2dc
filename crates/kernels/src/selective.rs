//! Mamba's selective scan (Gu & Dao 2023, arXiv:2312.00752): a state for each channel whose parts decay each at a
//! rate of its own.
//!
//! A channel is done by one thread, position after position: sums have one order whatever the chunking.

use crate::pool::Pool;

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
/// Partial sums of a product with C: a fixed number, so that the order of addition is one.
const LANES: usize = 16;

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
            for t in 0..n {
                let (b, c) = (&rows.b[t * size..(t + 1) * size], &rows.c[t * size..(t + 1) * size]);
                for (i, state) in state.chunks_exact_mut(size).enumerate() {
                    let channel = piece * PIECE + i;
                    let at = t * channels + channel;
                    let (x, dt) = (rows.x[at], rows.dt[at]);
                    let a = &self.a[channel * size..(channel + 1) * size];
                    let y = step(state, a, dt, dt * x, b, c) + self.d[channel] * x;
                    // SAFETY: `at` lies in `out`, and no other piece writes this channel.
                    unsafe { *to.0.add(at) = y };
                }
            }
        });
    }
}

/// `state = exp(dt a) state + x b`; the new state times `c`.
fn step(state: &mut [f32], a: &[f32], dt: f32, x: f32, b: &[f32], c: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let parts = state.chunks_mut(LANES).zip(a.chunks(LANES)).zip(b.chunks(LANES)).zip(c.chunks(LANES));
    for (((state, a), b), c) in parts {
        for ((((s, a), b), c), sum) in state.iter_mut().zip(a).zip(b).zip(c).zip(&mut sums) {
            *s = *s * exp(dt * a) + x * b;
            *sum += *s * c;
        }
    }
    let mut n = LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            sums[i] += sums[i + n];
        }
    }
    sums[0]
}

/// e^x for what is not above 0, by halves of a binary place and a polynomial: within 2e-7 of it. The library's has
/// branches, which would keep the loop from running several numbers at a time.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 x 2^23: the whole part is then in the low bits.
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let r = x - whole * 0.693_359_4 - whole * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    (p * r * r + r + 1.0) * scale
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    #[test]
    fn the_exponential_is_near_enough() {
        for i in -8700..100 {
            let x = i as f32 / 100.0;
            let (found, truth) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found - truth).abs() <= 3e-7 * truth, "e^{x}: {found} against {truth}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e9) < 1e-37 && exp(f32::NEG_INFINITY) >= 0.0);
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
