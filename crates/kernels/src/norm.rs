//! RMS norm, layer norm and softmax over one row: sums in f32 over 32 virtual lanes, folded in halves.

use crate::isa::Isa;
use crate::math;
use crate::simd::{Kernel, LANES, Simd, dispatch, fold_sum};

/// out = x / sqrt(mean(x^2) + eps) * weight. All slices of one length.
pub fn rms_norm(x: &[f32], weight: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    rms_norm_on(Isa::current(), x, weight, eps, out);
}

/// As [`rms_norm`], with the registers of `isa`.
pub fn rms_norm_on(isa: Isa, x: &[f32], weight: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    check(x, weight, None, out);
    let squares = dispatch(isa, Squares { x, mean: 0.0 });
    let scale = 1.0 / (squares / x.len() as f32 + eps).sqrt();
    dispatch(isa, Apply { x, mean: 0.0, scale, weight, bias: None, out });
}

/// out = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias. All slices of one length.
pub fn layer_norm(x: &[f32], weight: Option<&[f32]>, bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    layer_norm_on(Isa::current(), x, weight, bias, eps, out);
}

/// As [`layer_norm`], with the registers of `isa`.
pub fn layer_norm_on(
    isa: Isa,
    x: &[f32],
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
) {
    check(x, weight, bias, out);
    let mean = dispatch(isa, Sum(x)) / x.len() as f32;
    let variance = dispatch(isa, Squares { x, mean }) / x.len() as f32;
    let scale = 1.0 / (variance + eps).sqrt();
    dispatch(isa, Apply { x, mean, scale, weight, bias, out });
}

fn check(x: &[f32], weight: Option<&[f32]>, bias: Option<&[f32]>, out: &[f32]) {
    let n = x.len();
    assert!(out.len() == n && weight.is_none_or(|w| w.len() == n) && bias.is_none_or(|b| b.len() == n));
}

/// x = e^(x - max) / sum of those. An empty row stays empty.
pub fn softmax(x: &mut [f32]) {
    softmax_on(Isa::current(), x);
}

/// As [`softmax`], with the registers of `isa`.
pub fn softmax_on(isa: Isa, x: &mut [f32]) {
    let max = x.iter().fold(f32::NEG_INFINITY, |a, &b| if a > b { a } else { b });
    dispatch(isa, Exp { x, max });
    let inverse = 1.0 / dispatch(isa, Sum(x));
    x.iter_mut().for_each(|x| *x *= inverse);
}

/// Where the greatest number stands, the first of equals; NaN counts as least. `None` for an empty slice.
pub fn argmax(x: &[f32]) -> Option<usize> {
    let mut best = (!x.is_empty()).then_some(0)?;
    for (i, &v) in x.iter().enumerate() {
        if v > x[best] || (x[best].is_nan() && !v.is_nan()) {
            best = i;
        }
    }
    Some(best)
}

/// `f` over pieces of 32, the last one filled up with `fill`.
#[inline(always)]
fn fill_up(x: &[f32], fill: f32) -> (usize, [f32; LANES]) {
    let whole = x.len() / LANES * LANES;
    let mut rest = [fill; LANES];
    rest[..x.len() - whole].copy_from_slice(&x[whole..]);
    (whole, rest)
}

struct Sum<'a>(&'a [f32]);

impl Kernel for Sum<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (whole, rest) = fill_up(self.0, 0.0);
        let mut lanes = [0f32; LANES];
        for i in (0..LANES).step_by(S::LANES) {
            let mut acc = s.splat(0.0);
            for piece in self.0[..whole].chunks_exact(LANES) {
                // SAFETY: i + S::LANES <= LANES, the length of the piece.
                acc = s.add(acc, unsafe { s.load(piece.as_ptr().add(i)) });
            }
            // SAFETY: as above.
            unsafe { s.store(lanes.as_mut_ptr().add(i), s.add(acc, s.load(rest.as_ptr().add(i)))) };
        }
        fold_sum(lanes)
    }
}

/// Sum of (x - mean)^2.
struct Squares<'a> {
    x: &'a [f32],
    mean: f32,
}

impl Kernel for Squares<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (whole, rest) = fill_up(self.x, self.mean);
        let mean = s.splat(self.mean);
        let mut lanes = [0f32; LANES];
        for i in (0..LANES).step_by(S::LANES) {
            let mut acc = s.splat(0.0);
            for piece in self.x[..whole].chunks_exact(LANES).chain([&rest[..]]) {
                // SAFETY: i + S::LANES <= LANES, the length of the piece.
                let d = s.sub(unsafe { s.load(piece.as_ptr().add(i)) }, mean);
                acc = s.fma(d, d, acc);
            }
            // SAFETY: as above.
            unsafe { s.store(lanes.as_mut_ptr().add(i), acc) };
        }
        fold_sum(lanes)
    }
}

/// out = (x - mean) * scale * weight + bias; plain loops, which the compiler turns into vectors.
struct Apply<'a> {
    x: &'a [f32],
    mean: f32,
    scale: f32,
    weight: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
    out: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        for (o, &x) in self.out.iter_mut().zip(self.x) {
            *o = (x - self.mean) * self.scale;
        }
        if let Some(w) = self.weight {
            self.out.iter_mut().zip(w).for_each(|(o, &w)| *o *= w);
        }
        if let Some(b) = self.bias {
            self.out.iter_mut().zip(b).for_each(|(o, &b)| *o += b);
        }
    }
}

struct Exp<'a> {
    x: &'a mut [f32],
    max: f32,
}

impl Kernel for Exp<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let max = s.splat(self.max);
        for piece in self.x.chunks_mut(S::LANES) {
            let mut t = [0f32; 16];
            t[..piece.len()].copy_from_slice(piece);
            // SAFETY: S::LANES <= 16.
            unsafe { s.store(t.as_mut_ptr(), math::exp(s, s.sub(s.load(t.as_ptr()), max))) };
            piece.copy_from_slice(&t[..piece.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + 13) % 101) as f32 / 17.0 - 2.0).collect()
    }

    #[test]
    fn norms_are_near_plain_arithmetic_and_equal_on_every_isa() {
        for n in [1, 5, 31, 32, 33, 576, 2049] {
            let (x, w) = (row(n), row(n + 3)[3..].to_vec());
            let d: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            let mean = d.iter().sum::<f64>() / n as f64;
            let square = d.iter().map(|x| x * x).sum::<f64>() / n as f64;
            let variance = d.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
            let (mut first, mut a, mut b) = (vec![], vec![0.0; n], vec![0.0; n]);
            for isa in Isa::available() {
                rms_norm_on(isa, &x, Some(&w), 1e-5, &mut a);
                layer_norm_on(isa, &x, Some(&w), Some(&x), 1e-5, &mut b);
                for i in 0..n {
                    let w = f64::from(w[i]);
                    let rms = d[i] / (square + 1e-5).sqrt() * w;
                    let layer = (d[i] - mean) / (variance + 1e-5).sqrt() * w + d[i];
                    assert!((f64::from(a[i]) - rms).abs() < 1e-5 * (1.0 + rms.abs()), "rms {n} {i}");
                    // One number's variance is rounding alone.
                    assert!(
                        n == 1 || (f64::from(b[i]) - layer).abs() < 3e-5 * (1.0 + layer.abs()),
                        "layer {n} {i}"
                    );
                }
                let all = [a.clone(), b.clone()].concat();
                if first.is_empty() {
                    first = all.clone();
                }
                assert_eq!(first, all, "{}", isa.name());
            }
        }
    }

    #[test]
    fn softmax_sums_to_one_and_argmax_finds_the_first() {
        for isa in Isa::available() {
            let mut x = row(77);
            x[5] = f32::NEG_INFINITY;
            softmax_on(isa, &mut x);
            assert!((x.iter().sum::<f32>() - 1.0).abs() < 1e-6 && x[5] == 0.0);
        }
        softmax(&mut []);
        assert_eq!(argmax(&[f32::NAN, 1.0, 3.0, 3.0, f32::NAN]), Some(2));
        assert_eq!(argmax(&[]), None);
    }
}
