//! The gated delta rule: a state for each head that decays, and into which each position writes the difference
//! between what it wants under its key and what is there. Yang et al. 2024, arXiv:2412.06464.
//!
//! A head is done by one thread, position after position: sums have one order whatever the chunking.

use crate::pool::Pool;

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
        let per_key = self.value_heads / self.key_heads;
        pool.each_piece(state, self.key_dim * self.value_dim, |head, state| {
            let key_head = if self.tiled { head % self.key_heads } else { head / per_key };
            let mut held = vec![0f32; self.value_dim];
            for t in 0..n {
                let q = &rows.q[t * keys + key_head * self.key_dim..][..self.key_dim];
                let k = &rows.k[t * keys + key_head * self.key_dim..][..self.key_dim];
                let at = t * values + head * self.value_dim;
                let v = &rows.v[at..at + self.value_dim];
                // SAFETY: row t and the columns of this head lie in `out`, and no other head writes them.
                let y = unsafe { std::slice::from_raw_parts_mut(to.0.add(at), self.value_dim) };
                let (decay, beta) =
                    (rows.decay[t * self.value_heads + head], rows.beta[t * self.value_heads + head]);
                forget(state, decay, k, &mut held);
                held.iter_mut().zip(v).for_each(|(h, v)| *h = beta * (v - *h));
                learn(state, k, q, &held, y);
            }
        });
    }
}

/// Lets the state decay and reads what it holds under `k`.
fn forget(state: &mut [f32], decay: f32, k: &[f32], held: &mut [f32]) {
    held.fill(0.0);
    for (row, k) in state.chunks_exact_mut(held.len()).zip(k) {
        for (s, h) in row.iter_mut().zip(&mut *held) {
            *s *= decay;
            *h += *s * k;
        }
    }
}

/// Writes `delta` under `k` and reads what the state then holds under `q`.
fn learn(state: &mut [f32], k: &[f32], q: &[f32], delta: &[f32], y: &mut [f32]) {
    y.fill(0.0);
    for ((row, k), q) in state.chunks_exact_mut(delta.len()).zip(k).zip(q) {
        for ((s, d), y) in row.iter_mut().zip(delta).zip(&mut *y) {
            *s += k * d;
            *y += *s * q;
        }
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
}
