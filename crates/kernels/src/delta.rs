//! The gated delta rule: a state for each head that decays, and into which each position writes the difference
//! between what it wants under its key and what is there. Yang et al. 2024, arXiv:2412.06464.
//!
//! A head is done by one thread, position after position: sums have one order whatever the chunking.

use crate::isa::Isa;
use crate::pool::Pool;
use crate::simd::{Kernel, Simd, dispatch};
use crate::strips;

/// For each value head: `S = e^g S; S += k (beta (v - S^T k))^T; y = S^T q`.
pub struct DeltaRule {
    /// Heads of queries and keys.
    pub key_heads: usize,
    /// Heads of values; a multiple of `key_heads`.
    pub value_heads: usize,
    /// Width of a key.
    pub key_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
    /// Value head `h` has the key head `h % key_heads`; otherwise neighbours share one.
    pub tiled: bool,
}

/// What the positions bring, row-major.
pub struct DeltaRows<'a> {
    /// `[n, key_heads * key_dim]`, of length one but for their scale.
    pub q: &'a [f32],
    /// `[n, key_heads * key_dim]`, of length one.
    pub k: &'a [f32],
    /// `[n, value_heads * value_dim]`.
    pub v: &'a [f32],
    /// `[n, value_heads]`: factors on the state, `e^g`.
    pub decay: &'a [f32],
    /// `[n, value_heads]`: how much of the difference is written.
    pub beta: &'a [f32],
}

struct Out(*mut f32);
// SAFETY: each head writes columns of its own.
unsafe impl Sync for Out {}

impl DeltaRule {
    /// `state` is `[value_heads, key_dim, value_dim]`, `out` `[n, value_heads * value_dim]`.
    pub fn run(&self, pool: &Pool, rows: &DeltaRows<'_>, state: &mut [f32], out: &mut [f32]) {
        let (keys, values) = (self.key_heads * self.key_dim, self.value_heads * self.value_dim);
        let n = rows.decay.len() / self.value_heads;
        assert!(rows.q.len() == n * keys && rows.k.len() == n * keys, "{n} rows of queries and keys");
        assert!(rows.v.len() == n * values && out.len() == n * values, "{n} rows of values");
        assert!(rows.beta.len() == n * self.value_heads, "{n} rows of betas");
        assert_eq!(
            state.len(),
            self.value_heads * self.key_dim * self.value_dim,
            "the state of a delta rule"
        );
        let to = &Out(out.as_mut_ptr());
        pool.each_piece(state, self.key_dim * self.value_dim, |head, state| {
            dispatch(Isa::current(), Head { rule: self, head, rows, state, out: to });
        });
    }
}

/// All positions of one value head.
struct Head<'a> {
    rule: &'a DeltaRule,
    head: usize,
    rows: &'a DeltaRows<'a>,
    state: &'a mut [f32],
    out: &'a Out,
}

impl Kernel for Head<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let DeltaRule { key_heads, value_heads, key_dim, value_dim, tiled } = *self.rule;
        let (head, rows, state) = (self.head, self.rows, self.state);
        let key_head = if tiled { head % key_heads } else { head / (value_heads / key_heads) };
        for t in 0..rows.decay.len() / value_heads {
            let at = (t * value_heads + head) * value_dim;
            let position = Position {
                q: &rows.q[(t * key_heads + key_head) * key_dim..][..key_dim],
                k: &rows.k[(t * key_heads + key_head) * key_dim..][..key_dim],
                v: &rows.v[at..at + value_dim],
                decay: rows.decay[t * value_heads + head],
                beta: rows.beta[t * value_heads + head],
            };
            // SAFETY: row t and the columns of this head lie in `out`, and no other head writes them.
            let y = unsafe { std::slice::from_raw_parts_mut(self.out.0.add(at), value_dim) };
            // SAFETY: the state of a head has a row for each number of a key.
            unsafe { strips::run(s, &position, state, y) };
        }
    }
}

/// What one position brings to a head.
struct Position<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    decay: f32,
    beta: f32,
}

impl strips::Position for Position<'_> {
    /// `R` registers of values from `from` on: lets the state decay, reads what it holds under `k`, writes the
    /// difference under `k`, and reads what it then holds under `q`.
    ///
    /// # Safety
    /// `v`, `y` and each row of `state` have these values; `state` has a row for each number of `k` and `q`.
    #[inline(always)]
    unsafe fn strip<S: Simd, const R: usize>(&self, s: S, state: &mut [f32], from: usize, y: &mut [f32]) {
        let (state, width) = (state.as_mut_ptr(), self.v.len());
        let (mut held, mut said) = ([s.splat(0.0); R], [s.splat(0.0); R]);
        // SAFETY: the caller's promise.
        unsafe {
            for (j, &k) in self.k.iter().enumerate() {
                for (r, held) in held.iter_mut().enumerate() {
                    let at = state.add(j * width + from + r * S::LANES);
                    let left = s.mul(s.load(at), s.splat(self.decay));
                    s.store(at, left);
                    *held = s.fma(left, s.splat(k), *held);
                }
            }
            for (r, held) in held.iter_mut().enumerate() {
                let v = s.load(self.v.as_ptr().add(from + r * S::LANES));
                *held = s.mul(s.splat(self.beta), s.sub(v, *held));
            }
            for (j, (&k, &q)) in self.k.iter().zip(self.q).enumerate() {
                for (r, (delta, said)) in held.iter().zip(&mut said).enumerate() {
                    let at = state.add(j * width + from + r * S::LANES);
                    let new = s.fma(s.splat(k), *delta, s.load(at));
                    s.store(at, new);
                    *said = s.fma(new, s.splat(q), *said);
                }
            }
            for (r, said) in said.iter().enumerate() {
                s.store(y.as_mut_ptr().add(from + r * S::LANES), *said);
            }
        }
    }

    /// The same for one value.
    fn column(&self, state: &mut [f32], column: usize, y: &mut [f32]) {
        let width = self.v.len();
        let (mut held, mut said) = (0f32, 0f32);
        for (j, &k) in self.k.iter().enumerate() {
            let s = &mut state[j * width + column];
            *s *= self.decay;
            held = s.mul_add(k, held);
        }
        let delta = self.beta * (self.v[column] - held);
        for (j, (&k, &q)) in self.k.iter().zip(self.q).enumerate() {
            let s = &mut state[j * width + column];
            *s = k.mul_add(delta, *s);
            said = s.mul_add(q, said);
        }
        y[column] = said;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    /// The formula in f64 with the state as a matrix, and the same bits however the rows are cut.
    #[test]
    fn the_rule_is_its_formula_and_the_same_in_pieces() {
        for tiled in [false, true] {
            let rule = DeltaRule { key_heads: 2, value_heads: 4, key_dim: 3, value_dim: 5, tiled };
            let n = 6;
            let (q, k, v) = (numbers(n * 6, 1), numbers(n * 6, 2), numbers(n * 20, 3));
            let decay: Vec<f32> = numbers(n * 4, 4).iter().map(|x| x.abs()).collect();
            let beta: Vec<f32> = numbers(n * 4, 5).iter().map(|x| x.abs()).collect();
            let rows = DeltaRows { q: &q, k: &k, v: &v, decay: &decay, beta: &beta };
            let (mut state, mut out) = (vec![0.0; 60], vec![0.0; n * 20]);
            rule.run(&Pool::new(3), &rows, &mut state, &mut out);
            for head in 0..4 {
                let key_head = if tiled { head % 2 } else { head / 2 };
                let mut s = [[0f64; 5]; 3];
                for t in 0..n {
                    let key = |x: &[f32], i: usize| f64::from(x[t * 6 + key_head * 3 + i]);
                    let (g, b) = (f64::from(decay[t * 4 + head]), f64::from(beta[t * 4 + head]));
                    for j in 0..5 {
                        (0..3).for_each(|i| s[i][j] *= g);
                        let held: f64 = (0..3).map(|i| s[i][j] * key(&k, i)).sum();
                        let delta = b * (f64::from(v[t * 20 + head * 5 + j]) - held);
                        (0..3).for_each(|i| s[i][j] += key(&k, i) * delta);
                        let y: f64 = (0..3).map(|i| s[i][j] * key(&q, i)).sum();
                        assert!((y - f64::from(out[t * 20 + head * 5 + j])).abs() < 1e-4);
                    }
                }
            }
            let (mut again, mut pieces) = (vec![0.0; 60], vec![0.0; n * 20]);
            for t in 0..n {
                let rows = DeltaRows {
                    q: &q[t * 6..][..6],
                    k: &k[t * 6..][..6],
                    v: &v[t * 20..][..20],
                    decay: &decay[t * 4..][..4],
                    beta: &beta[t * 4..][..4],
                };
                rule.run(&Pool::new(1), &rows, &mut again, &mut pieces[t * 20..][..20]);
            }
            assert_eq!((again, pieces), (state, out));
        }
    }

    #[test]
    fn strips_are_their_values_to_the_bit_on_every_isa() {
        let (keys, values) = (6, 77);
        let (q, k, v) = (numbers(keys, 1), numbers(keys, 2), numbers(values, 3));
        let position = Position { q: &q, k: &k, v: &v, decay: 0.9, beta: 0.3 };
        crate::strips::tests::same_as_columns(&position, &numbers(keys * values, 4), values);
    }
}
