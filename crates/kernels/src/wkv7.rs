//! RWKV-7's scan (Peng et al. 2025, arXiv:2503.14456): a state for each head whose rows decay each at a rate of its
//! own, of which what stands under one key is taken out and something else put in.
//!
//! A head is done by one thread, position after position: sums have one order whatever the chunking.

use crate::pool::Pool;

/// For each head: `S = diag(w) S + k v^T + b (S^T a)^T; y = S^T r`, where `S` is `[key, value]`.
pub struct Wkv7 {
    /// Heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

/// What the positions bring, each row-major `[n, heads * head_dim]`.
pub struct Wkv7Rows<'a> {
    /// What is asked for.
    pub r: &'a [f32],
    /// Factors on the rows of the state.
    pub w: &'a [f32],
    /// Under which key it is written.
    pub k: &'a [f32],
    /// What is written.
    pub v: &'a [f32],
    /// The key under which is taken out, negative.
    pub a: &'a [f32],
    /// The key under which what was taken out is put.
    pub b: &'a [f32],
}

struct Out(*mut f32);
// SAFETY: each head writes columns of its own.
unsafe impl Sync for Out {}

impl Wkv7 {
    /// `state` is `[heads, head_dim, head_dim]`, `out` `[n, heads * head_dim]`.
    pub fn run(&self, pool: &Pool, rows: &Wkv7Rows<'_>, state: &mut [f32], out: &mut [f32]) {
        let (dim, width) = (self.head_dim, self.heads * self.head_dim);
        let n = out.len() / width;
        for part in [rows.r, rows.w, rows.k, rows.v, rows.a, rows.b] {
            assert_eq!(part.len(), n * width, "{n} rows of a scan");
        }
        assert_eq!(state.len(), width * dim, "the state of a scan");
        let to = &Out(out.as_mut_ptr());
        pool.each_piece(state, dim * dim, |head, state| {
            let mut taken = vec![0f32; dim];
            for t in 0..n {
                let at = t * width + head * dim;
                let part = at..at + dim;
                let (r, w, k) = (&rows.r[part.clone()], &rows.w[part.clone()], &rows.k[part.clone()]);
                let (v, a, b) = (&rows.v[part.clone()], &rows.a[part.clone()], &rows.b[part]);
                // SAFETY: row t and the columns of this head lie in `out`, and no other head writes them.
                let y = unsafe { std::slice::from_raw_parts_mut(to.0.add(at), dim) };
                taken.fill(0.0);
                for (row, a) in state.chunks_exact(dim).zip(a) {
                    taken.iter_mut().zip(row).for_each(|(t, s)| *t += s * a);
                }
                y.fill(0.0);
                for (j, row) in state.chunks_exact_mut(dim).enumerate() {
                    for (((s, v), taken), y) in row.iter_mut().zip(v).zip(&taken).zip(&mut *y) {
                        *s = *s * w[j] + v * k[j] + taken * b[j];
                        *y += *s * r[j];
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 100.0 - 0.5).collect()
    }

    #[test]
    fn a_scan_is_its_formula_and_the_same_in_pieces() {
        let (heads, dim, n) = (2, 5, 6);
        let width = heads * dim;
        let parts: Vec<Vec<f32>> = (0..6).map(|i| numbers(n * width, i)).collect();
        let rows = |from: usize, to: usize| {
            let part = |i: usize| &parts[i][from * width..to * width];
            Wkv7Rows { r: part(0), w: part(1), k: part(2), v: part(3), a: part(4), b: part(5) }
        };
        let scan = Wkv7 { heads, head_dim: dim };
        let (mut state, mut out) = (vec![0.0; width * dim], vec![0.0; n * width]);
        scan.run(&Pool::new(2), &rows(0, n), &mut state, &mut out);
        for head in 0..heads {
            let mut s = vec![vec![0f64; dim]; dim];
            for t in 0..n {
                let x = |part: usize, j: usize| f64::from(parts[part][t * width + head * dim + j]);
                for i in 0..dim {
                    let taken: f64 = (0..dim).map(|j| s[j][i] * x(4, j)).sum();
                    for (j, row) in s.iter_mut().enumerate() {
                        row[i] = row[i] * x(1, j) + x(2, j) * x(3, i) + x(5, j) * taken;
                    }
                    let y: f64 = (0..dim).map(|j| s[j][i] * x(0, j)).sum();
                    assert!((y - f64::from(out[t * width + head * dim + i])).abs() < 1e-5);
                }
            }
        }
        let (mut again, mut pieces) = (vec![0.0; state.len()], vec![0.0; out.len()]);
        for t in 0..n {
            scan.run(&Pool::new(1), &rows(t, t + 1), &mut again, &mut pieces[t * width..(t + 1) * width]);
        }
        assert_eq!((again, pieces), (state, out));
    }
}
