//! Exponential and logarithm made of sums and products in a fixed order: the same bits everywhere.
//!
//! Stands under the samplers (`chain.rs`), which never call the platform's mathematics, so that a seed
//! gives the same text everywhere the logits are the same.

/// `e^x` for `x <= 0`, the same bits on every platform; 0 below -87. Relative error under 3e-7.
///
/// `e^x = 2^n * e^r` with `n` whole and `|r| <= ln(2) / 2`, and the Taylor polynomial of degree 7 for
/// `e^r`.
pub fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and taking away 1.5 * 2^23 rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    let tiny = x <= -87.0;
    // Clamped rather than returned from, so that a loop over a vocabulary has no branch.
    let x = x.max(-87.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    // `n` stands in the last bits of `rounded`.
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    let power = p * f32::from_bits(exponent << 23);
    if tiny { 0.0 } else { power }
}

/// `ln x` for `x > 0`, normal; relative error under 1e-15.
///
/// `x = 2^n * m` with `m` between the roots of 1/2 and 2, and `ln m = 2 atanh((m - 1) / (m + 1))` by its
/// series, whose argument is at most 0.1716.
pub fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut n = ((bits >> 52) & 0x7FF) as i64 - 1023;
    let mut m = f64::from_bits((bits & ((1 << 52) - 1)) | 1023 << 52);
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        n += 1;
    }
    let t = (m - 1.0) / (m + 1.0);
    let square = t * t;
    // Terms 1, t^2/3, ... t^20/21, the smallest first.
    let series = (0..11).rev().fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    n as f64 * std::f64::consts::LN_2 + 2.0 * t * series
}

/// `x^power` for `x` in `0..=1` and a power of at least 0.
pub fn power(x: f64, power: f64) -> f64 {
    match (x, power) {
        (_, 0.0) => 1.0,
        (x, _) if x < f64::MIN_POSITIVE => 0.0,
        _ => f64::from(exp((power * ln(x)) as f32)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_the_exponential() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        for i in 0..87_000 {
            let x = -(i as f32) / 1000.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() <= 3e-7 * exact, "exp({x})");
        }
    }

    #[test]
    fn ln_is_the_logarithm() {
        assert_eq!(ln(1.0), 0.0);
        for i in 1..100_000 {
            for x in [f64::from(i) * 1.37, 1.0 / f64::from(i)] {
                let exact = x.ln();
                assert!((ln(x) - exact).abs() <= 1e-14 * exact.abs().max(0.01), "ln({x})");
            }
        }
    }

    #[test]
    fn powers_by_hand() {
        assert_eq!((power(0.5, 0.0), power(0.0, 2.0), power(1.0, 3.0)), (1.0, 0.0, 1.0));
        assert!((power(0.5, 2.0) - 0.25).abs() < 1e-6);
    }
}
