//! RWKV-7's scan (Peng et al. 2025, arXiv:2503.14456): a state for each head whose rows decay each at a rate of its
//! own, of which what stands under one key is taken out and something else put in.
//!
//! A head is done by one thread, position after position: sums have one order whatever the chunking.

use crate::isa::Isa;
use crate::pool::Pool;
use crate::simd::{Kernel, Simd, dispatch};
use crate::strips;

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
            dispatch(Isa::current(), Head { width, dim, head, rows, state, out: to });
        });
    }
}

/// All positions of one head.
struct Head<'a> {
    width: usize,
    dim: usize,
    head: usize,
    rows: &'a Wkv7Rows<'a>,
    state: &'a mut [f32],
    out: &'a Out,
}

impl Kernel for Head<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (dim, rows, state) = (self.dim, self.rows, self.state);
        for t in 0..rows.r.len() / self.width {
            let at = t * self.width + self.head * dim;
            let part = at..at + dim;
            let [r, w, k, v, a, b] =
                [rows.r, rows.w, rows.k, rows.v, rows.a, rows.b].map(|x| &x[part.clone()]);
            let position = Position { r, w, k, v, a, b };
            // SAFETY: row t and the columns of this head lie in `out`, and no other head writes them.
            let y = unsafe { std::slice::from_raw_parts_mut(self.out.0.add(at), dim) };
            // SAFETY: the state of a head has a row for each number of a key.
            unsafe { strips::run(s, &position, state, y) };
        }
    }
}

/// What one position brings to a head, as many numbers each as a row of its state has.
struct Position<'a> {
    r: &'a [f32],
    w: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    a: &'a [f32],
    b: &'a [f32],
}

impl strips::Position for Position<'_> {
    /// `R` registers of values from `from` on.
    ///
    /// # Safety
    /// `v`, `y` and each row of `state` have these values; `state` has a row for each number of the others.
    #[inline(always)]
    unsafe fn strip<S: Simd, const R: usize>(&self, s: S, state: &mut [f32], from: usize, y: &mut [f32]) {
        let (state, width) = (state.as_mut_ptr(), self.v.len());
        let (mut taken, mut said) = ([s.splat(0.0); R], [s.splat(0.0); R]);
        // SAFETY: the caller's promise.
        unsafe {
            for (j, &a) in self.a.iter().enumerate() {
                for (i, taken) in taken.iter_mut().enumerate() {
                    let held = s.load(state.add(j * width + from + i * S::LANES));
                    *taken = s.fma(held, s.splat(a), *taken);
                }
            }
            for j in 0..width {
                let [w, k, b, r] = [self.w, self.k, self.b, self.r].map(|x| s.splat(x[j]));
                for (i, (taken, said)) in taken.iter().zip(&mut said).enumerate() {
                    let (at, v) = (from + i * S::LANES, self.v.as_ptr());
                    let to = state.add(j * width + at);
                    let new = s.fma(s.load(to), w, s.mul(s.load(v.add(at)), k));
                    let new = s.fma(*taken, b, new);
                    s.store(to, new);
                    *said = s.fma(new, r, *said);
                }
            }
            for (i, said) in said.iter().enumerate() {
                s.store(y.as_mut_ptr().add(from + i * S::LANES), *said);
            }
        }
    }

    /// The same for one value.
    fn column(&self, state: &mut [f32], column: usize, y: &mut [f32]) {
        let width = self.v.len();
        let (mut taken, mut said) = (0f32, 0f32);
        for (j, a) in self.a.iter().enumerate() {
            taken = state[j * width + column].mul_add(*a, taken);
        }
        for j in 0..width {
            let s = &mut state[j * width + column];
            *s = taken.mul_add(self.b[j], s.mul_add(self.w[j], self.v[column] * self.k[j]));
            said = s.mul_add(self.r[j], said);
        }
        y[column] = said;
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

    #[test]
    fn strips_are_their_values_to_the_bit_on_every_isa() {
        let (keys, values) = (77, 77);
        let (q, k, v) = (numbers(keys, 1), numbers(keys, 2), numbers(values, 3));
        let position = Position { r: &q, w: &k, k: &q, v: &v, a: &k, b: &q };
        crate::strips::tests::same_as_columns(&position, &numbers(keys * values, 4), values);
    }
}
