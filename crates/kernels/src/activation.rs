//! What stands between the two layers of a feed-forward block.

use crate::isa::Isa;
use crate::math;
use crate::simd::{Kernel, Simd, dispatch};

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// x / (1 + e^-x), also called swish.
    Silu,
    /// x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
    GeluTanh,
    /// x / 2 (1 + erf(x / sqrt 2)).
    Gelu,
    /// x sigmoid(1.702 x).
    GeluQuick,
    /// max(x, 0).
    Relu,
    /// max(x, 0)^2.
    Relu2,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// tanh x.
    Tanh,
    /// x.
    Identity,
}

/// x = act(x).
pub fn activate(act: Act, x: &mut [f32]) {
    activate_on(Isa::current(), act, x);
}

/// As [`activate`], with the registers of `isa`.
pub fn activate_on(isa: Isa, act: Act, x: &mut [f32]) {
    dispatch(isa, Activate { act, x, up: None });
}

/// gate = act(gate) * up: the gated feed-forward block. Both of one length.
pub fn glu(act: Act, gate: &mut [f32], up: &[f32]) {
    glu_on(Isa::current(), act, gate, up);
}

/// As [`glu`], with the registers of `isa`.
pub fn glu_on(isa: Isa, act: Act, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "gate and up");
    dispatch(isa, Activate { act, x: gate, up: Some(up) });
}

struct Activate<'a> {
    act: Act,
    x: &'a mut [f32],
    up: Option<&'a [f32]>,
}

impl Kernel for Activate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let whole = self.x.len() / S::LANES * S::LANES;
        for i in (0..whole).step_by(S::LANES) {
            // SAFETY: i + LANES <= length of both.
            unsafe {
                let p = self.x.as_mut_ptr().add(i);
                let y = one(s, self.act, s.load(p));
                s.store(p, self.up.map_or(y, |u| s.mul(y, s.load(u.as_ptr().add(i)))));
            }
        }
        let mut t = [0f32; 16];
        let rest = self.x.len() - whole;
        t[..rest].copy_from_slice(&self.x[whole..]);
        // SAFETY: LANES <= 16.
        unsafe { s.store(t.as_mut_ptr(), one(s, self.act, s.load(t.as_ptr()))) };
        for (i, y) in t[..rest].iter().enumerate() {
            self.x[whole + i] = self.up.map_or(*y, |u| y * u[whole + i]);
        }
    }
}

#[inline(always)]
fn one<S: Simd>(s: S, act: Act, x: S::F) -> S::F {
    let zero = s.splat(0.0);
    match act {
        Act::Silu => s.mul(x, math::sigmoid(s, x)),
        Act::GeluTanh => {
            // (1 + tanh u) / 2 = sigmoid(2 u)
            let cubic = s.fma(s.mul(s.mul(x, x), x), s.splat(0.044_715), x);
            s.mul(x, math::sigmoid(s, s.mul(cubic, s.splat(1.595_769))))
        }
        Act::Gelu => {
            let e = math::erf(s, s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2)));
            s.mul(s.mul(x, s.splat(0.5)), s.add(s.splat(1.0), e))
        }
        Act::GeluQuick => s.mul(x, math::sigmoid(s, s.mul(x, s.splat(1.702)))),
        Act::Relu => s.max(zero, x),
        Act::Relu2 => {
            let y = s.max(zero, x);
            s.mul(y, y)
        }
        Act::Sigmoid => math::sigmoid(s, x),
        Act::Tanh => math::tanh(s, x),
        Act::Identity => x,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_activation_is_near_its_formula_and_equal_on_every_isa() {
        let x: Vec<f32> =
            (-603..=600).step_by(if cfg!(miri) { 67 } else { 1 }).map(|i| i as f32 / 50.0).collect();
        let up: Vec<f32> = x.iter().map(|x| 0.5 - x).collect();
        let plain = |act, x: f64| match act {
            Act::Silu => x / (1.0 + (-x).exp()),
            Act::GeluTanh => 0.5 * x * (1.0 + (0.797_884_560_802_865_4 * (x + 0.044715 * x * x * x)).tanh()),
            Act::GeluQuick => x / (1.0 + (-1.702 * x).exp()),
            Act::Relu => x.max(0.0),
            Act::Relu2 => x.max(0.0).powi(2),
            Act::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Act::Tanh => x.tanh(),
            // math's own test has erf; here its neighbour is near enough to see a wrong constant.
            Act::Gelu => 0.5 * x * (1.0 + (0.797_884_560_802_865_4 * (x + 0.044715 * x * x * x)).tanh()),
            Act::Identity => x,
        };
        let all = [
            Act::Silu,
            Act::GeluTanh,
            Act::Gelu,
            Act::GeluQuick,
            Act::Relu,
            Act::Relu2,
            Act::Sigmoid,
            Act::Tanh,
            Act::Identity,
        ];
        for act in all {
            let mut first = None;
            for isa in Isa::available() {
                let (mut y, mut g) = (x.clone(), x.clone());
                activate_on(isa, act, &mut y);
                glu_on(isa, act, &mut g, &up);
                let tolerance = if act == Act::Gelu { 6e-4 } else { 2e-6 };
                for i in 0..x.len() {
                    let want = plain(act, f64::from(x[i]));
                    assert!(
                        (f64::from(y[i]) - want).abs() <= tolerance * (1.0 + want.abs()),
                        "{act:?} {}",
                        x[i]
                    );
                    assert_eq!(g[i], y[i] * up[i]);
                }
                assert_eq!(*first.get_or_insert(y.clone()), y, "{act:?} {}", isa.name());
            }
        }
    }
}
