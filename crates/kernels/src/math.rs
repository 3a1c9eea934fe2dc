//! Functions of a register: exp, tanh, erf, and what activations are made of.
//!
//! exp: within 2 units in the last place for -87.3 <= x <= 88; 0 below (so exp of -inf is 0), e^88 above.
//! tanh: within 3 units in the last place. erf: within 6e-7 (Abramowitz and Stegun 7.1.26).
//! Polynomials of exp and tanh: Cephes (Moshier). A NaN stays one.

use crate::simd::Simd;

/// 1.5 x 2^23: adding it rounds to an integer, whose value is then in the low bits.
const MAGIC: f32 = 12_582_912.0;

/// e^x.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    let least = s.splat(-87.336_54);
    let held = s.max(least, s.min(s.splat(88.0), x));
    let t = s.fma(held, s.splat(std::f32::consts::LOG2_E), s.splat(MAGIC));
    let n = s.sub(t, s.splat(MAGIC));
    // x - n ln 2, ln 2 in two parts of which the first times n is exact.
    let r = s.fma(n, s.splat(-0.693_359_4), held);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    let p = poly(s, r, &[1.987_569_2e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5]);
    let y = s.add(s.fma(p, s.mul(r, r), r), s.splat(1.0));
    let power = s.as_float(s.iadd(s.shl(s.bits(t), 23), s.isplat(0x3f80_0000)));
    s.zero_below(x, least, s.mul(y, power))
}

/// c[0] x^(n-1) + ... + c[n-1], by Horner.
#[inline(always)]
fn poly<S: Simd, const N: usize>(s: S, x: S::F, c: &[f32; N]) -> S::F {
    let mut p = s.splat(c[0]);
    for &c in &c[1..] {
        p = s.fma(p, x, s.splat(c));
    }
    p
}

#[inline(always)]
fn abs<S: Simd>(s: S, x: S::F) -> S::F {
    s.as_float(s.and(s.bits(x), s.isplat(0x7fff_ffff)))
}

/// x with the sign of y (x not negative).
#[inline(always)]
fn signed<S: Simd>(s: S, x: S::F, y: S::F) -> S::F {
    s.as_float(s.or(s.bits(x), s.and(s.bits(y), s.isplat(i32::MIN))))
}

/// tanh x.
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let a = abs(s, x);
    let two = s.splat(2.0);
    let far = s.sub(s.splat(1.0), s.div(two, s.add(exp(s, s.mul(a, two)), s.splat(1.0))));
    let z = s.mul(a, a);
    let p = poly(s, z, &[-5.704_988e-3, 2.063_908_8e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1]);
    let near = s.fma(s.mul(p, z), a, a);
    // One of the two is zeroed: from 0.625 on the far one counts.
    let far = s.zero_below(a, s.splat(0.625), far);
    let near = s.zero_below(s.sub(s.splat(0.0), a), s.splat(-0.624_999_94), near);
    signed(s, s.add(far, near), x)
}

/// erf x.
#[inline(always)]
pub fn erf<S: Simd>(s: S, x: S::F) -> S::F {
    let a = abs(s, x);
    let one = s.splat(1.0);
    let t = s.div(one, s.fma(a, s.splat(0.327_591_1), one));
    let p = poly(s, t, &[1.061_405_4, -1.453_152, 1.421_413_8, -0.284_496_72, 0.254_829_6]);
    let e = exp(s, s.mul(s.sub(s.splat(0.0), a), a));
    signed(s, s.sub(one, s.mul(s.mul(p, t), e)), x)
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::F) -> S::F {
    s.div(s.splat(1.0), s.add(s.splat(1.0), exp(s, s.sub(s.splat(0.0), x))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::simd::{Kernel, dispatch};

    struct All<'a>(&'a [f32]);
    impl Kernel for All<'_> {
        type Output = Vec<[f32; 4]>;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Self::Output {
            let one = |x: f32| {
                let v = s.splat(x);
                [exp(s, v), tanh(s, v), erf(s, v), sigmoid(s, v)].map(|r| {
                    let mut lanes = [0f32; 16];
                    // SAFETY: LANES <= 16.
                    unsafe { s.store(lanes.as_mut_ptr(), r) };
                    lanes[0]
                })
            };
            self.0.iter().map(|&x| one(x)).collect()
        }
    }

    /// erf by its series, good below 4.
    fn erf_series(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn functions_keep_their_promised_accuracy() {
        let xs: Vec<f32> =
            (-87_000..88_000).step_by(if cfg!(miri) { 7001 } else { 7 }).map(|i| i as f32 / 1000.0).collect();
        for isa in Isa::available() {
            for (&x, [e, t, r, g]) in xs.iter().zip(dispatch(isa, All(&xs))) {
                let d = f64::from(x);
                let near = |got: f32, want: f64, ulps: f64| {
                    let tolerance = ulps * f64::from(f32::EPSILON) * want.abs() + 1e-38;
                    assert!(
                        (f64::from(got) - want).abs() <= tolerance,
                        "{x}: {got} for {want} {}",
                        isa.name()
                    );
                };
                near(e, d.exp(), 1.5);
                near(t, d.tanh(), 2.0);
                near(g, 1.0 / (1.0 + (-d).exp()), 3.0);
                if d.abs() < 4.0 {
                    assert!((f64::from(r) - erf_series(d)).abs() < 6e-7, "erf {x}: {r}");
                }
            }
            let edge = dispatch(isa, All(&[f32::NEG_INFINITY, 0.0, f32::NAN, -0.0, f32::INFINITY]));
            assert_eq!((edge[0][0], edge[1][0], edge[3][0]), (0.0, 1.0, 1.0));
            assert!(edge[2].iter().all(|x| x.is_nan()) && edge[4][0] > 1e38);
            // exp ends at its largest number instead of infinity, so the sigmoid ends just above zero.
            assert_eq!((edge[0][1], edge[4][1], edge[4][3]), (-1.0, 1.0, 1.0));
            assert!(edge[0][3] >= 0.0 && edge[0][3] < f32::MIN_POSITIVE);
        }
    }
}
