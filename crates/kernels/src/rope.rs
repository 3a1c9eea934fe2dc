//! Rotary positions: pairs of a head's numbers turned by an angle of the position.

use crate::isa::Isa;
use crate::simd::{Kernel, Simd, dispatch};

/// Which numbers make a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// i and i + half (GPT-NeoX, what Hugging Face's files expect).
    Halves,
    /// 2 i and 2 i + 1 (what llama's GGUF files expect).
    Neighbours,
}

/// Turns the first `2 * cos.len()` numbers of each head of `x`, heads of `head_dim` one after another, by the
/// angles whose cosines and sines are given (any scaling factor already in them). The rest stays.
pub fn rope(x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32], pairs: Pairs) {
    rope_on(Isa::current(), x, head_dim, cos, sin, pairs);
}

/// As [`rope`], with the registers of `isa`.
pub fn rope_on(isa: Isa, x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32], pairs: Pairs) {
    assert!(cos.len() == sin.len() && 2 * cos.len() <= head_dim && x.len().is_multiple_of(head_dim));
    dispatch(isa, Rope { x, head_dim, cos, sin, pairs });
}

struct Rope<'a> {
    x: &'a mut [f32],
    head_dim: usize,
    cos: &'a [f32],
    sin: &'a [f32],
    pairs: Pairs,
}

impl Kernel for Rope<'_> {
    type Output = ();
    /// Plain loops: the compiler makes vectors of them, with the features of the set it is compiled for.
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let half = self.cos.len();
        for head in self.x.chunks_exact_mut(self.head_dim) {
            match self.pairs {
                Pairs::Halves => {
                    let (a, b) = head[..2 * half].split_at_mut(half);
                    for i in 0..half {
                        (a[i], b[i]) = turn(a[i], b[i], self.cos[i], self.sin[i]);
                    }
                }
                Pairs::Neighbours => {
                    for (i, p) in head[..2 * half].chunks_exact_mut(2).enumerate() {
                        (p[0], p[1]) = turn(p[0], p[1], self.cos[i], self.sin[i]);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn turn(a: f32, b: f32, cos: f32, sin: f32) -> (f32, f32) {
    (a * cos - b * sin, b * cos + a * sin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_pairings_turn_the_same_pairs_and_leave_the_rest() {
        let (dim, half) = (22, 9);
        let angle: Vec<f32> = (0..half).map(|i| 0.3 * i as f32).collect();
        let (cos, sin): (Vec<f32>, Vec<f32>) = angle.iter().map(|a| (a.cos(), a.sin())).unzip();
        let x: Vec<f32> = (0..3 * dim).map(|i| i as f32 - 20.0).collect();
        for isa in Isa::available() {
            let mut y = x.clone();
            rope_on(isa, &mut y, dim, &cos, &sin, Pairs::Halves);
            let mut z: Vec<f32> = x.clone();
            for (to, from) in z.chunks_mut(dim).zip(x.chunks(dim)) {
                for i in 0..half {
                    (to[2 * i], to[2 * i + 1]) = (from[i], from[half + i]);
                }
            }
            rope_on(isa, &mut z, dim, &cos, &sin, Pairs::Neighbours);
            for ((y, z), x) in y.chunks(dim).zip(z.chunks(dim)).zip(x.chunks(dim)) {
                for i in 0..half {
                    assert_eq!((y[i], y[half + i]), (z[2 * i], z[2 * i + 1]));
                    let want = x[i] * cos[i] - x[half + i] * sin[i];
                    assert_eq!(y[i], want, "{}", isa.name());
                }
                assert_eq!(y[2 * half..], x[2 * half..]);
            }
        }
    }
}
