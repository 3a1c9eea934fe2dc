//! How the quantizers find scales: try several, solve each by weighted least squares, keep the best.
//!
//! For numbers x with weights w and integers q, the scale that minimizes sum w (x - s q)^2 is
//! sum(w x q) / sum(w q q), and with an offset the two are the solution of a 2 x 2 system. The integers depend
//! on the scale in turn, so a handful of starting scales is rounded and solved.

/// Below this a group counts as zeros.
const TINY: f32 = 1e-15;

/// The number of largest magnitude, with its sign; 0 for none.
pub(super) fn widest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |widest: f32, &x| if x.abs() > widest.abs() { x } else { widest })
}

/// The least and the greatest number.
pub(super) fn range(values: &[f32]) -> (f32, f32) {
    let first = values.first().copied().unwrap_or(0.0);
    values.iter().fold((first, first), |(min, max), &x| (min.min(x), max.max(x)))
}

/// The integer nearest to `x` within `low..=high` (ties to even; `low` for NaN). The range is within a byte.
///
/// Adding 1.5 * 2^23 leaves the integer in the lowest bits of the sum: no call, and it vectorizes.
pub(super) fn nearest(x: f32, low: i32, high: i32) -> i32 {
    let x = x.max(low as f32).min(high as f32);
    ((x + 12_582_912.0).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

/// The scale s of x = s q with q in `-half..half`, weighted by x^2 (0 for zeros).
///
/// The widest number should land near `-half`, where the range reaches one further: 19 places are tried.
pub(super) fn scale(x: &[f32], half: i32) -> f32 {
    let widest = widest(x);
    if widest.abs() < TINY {
        return 0.0;
    }
    let (mut scale, mut best) = (0.0, 0.0);
    for step in -9..=9 {
        let inv = -(half as f32 + 0.1 * step as f32) / widest;
        let (xq, qq) = x.iter().fold((0.0, 0.0), |(xq, qq), &x| {
            let q = nearest(x * inv, -half, half - 1) as f32;
            (xq + x * x * x * q, qq + x * x * q * q)
        });
        if qq > 0.0 && xq * xq > best * qq {
            (scale, best) = (xq / qq, xq * xq / qq);
        }
    }
    scale
}

/// How far a fit is off.
#[derive(Clone, Copy)]
pub(super) enum Loss {
    Square,
    Absolute,
}

/// What [`scale_and_min`] tries: `steps + 1` scales that put the range of the numbers onto
/// `top + from + step * i` levels.
pub(super) struct Plan {
    /// The largest integer; the smallest is 0.
    pub top: i32,
    pub from: f32,
    pub step: f32,
    pub steps: usize,
    pub loss: Loss,
}

/// x = scale q - min, with min not negative.
#[derive(Clone, Copy, Default)]
pub(super) struct Fit {
    pub scale: f32,
    pub min: f32,
}

/// The best fit of at most 32 numbers under a plan.
pub(super) fn scale_and_min(x: &[f32], weights: &[f32], plan: &Plan) -> Fit {
    let (low, high) = range(x);
    let low = low.min(0.0);
    if high - low < TINY {
        return Fit { scale: 0.0, min: -low };
    }
    let span = 1.0 / (high - low);
    let mut q = [0f32; 32];
    let q = &mut q[..x.len()];
    round(x, low, plan.top as f32 * span, plan.top, q);
    let mut best = Fit { scale: (high - low) / plan.top as f32, min: -low };
    let mut least = error(x, weights, q, best, plan.loss);
    for i in 0..=plan.steps {
        let inv = (plan.top as f32 + plan.from + plan.step * i as f32) * span;
        round(x, low, inv, plan.top, q);
        let Some(fit) = solve(x, weights, q) else { continue };
        let error = error(x, weights, q, fit, plan.loss);
        if error < least {
            (best, least) = (fit, error);
        }
    }
    best
}

fn round(x: &[f32], low: f32, inv: f32, top: i32, q: &mut [f32]) {
    for (q, x) in q.iter_mut().zip(x) {
        *q = nearest((x - low) * inv, 0, top) as f32;
    }
}

/// Least squares for given integers; the minimum may not turn positive (the formats subtract it).
fn solve(x: &[f32], weights: &[f32], q: &[f32]) -> Option<Fit> {
    let [mut sw, mut sx, mut sq, mut sqq, mut sxq] = [0f32; 5];
    for ((x, w), q) in x.iter().zip(weights).zip(q) {
        sw += w;
        sx += w * x;
        sq += w * q;
        sqq += w * q * q;
        sxq += w * x * q;
    }
    let det = sw * sqq - sq * sq;
    if det.is_nan() || det <= 0.0 {
        return None;
    }
    let fit = Fit { scale: (sw * sxq - sx * sq) / det, min: (sq * sxq - sqq * sx) / det };
    Some(if fit.min < 0.0 { Fit { scale: sxq / sqq, min: 0.0 } } else { fit })
}

fn error(x: &[f32], weights: &[f32], q: &[f32], fit: Fit, loss: Loss) -> f32 {
    let off = |x: f32, q: f32| fit.scale * q - fit.min - x;
    let terms = x.iter().zip(weights).zip(q);
    match loss {
        Loss::Square => terms.map(|((&x, w), &q)| w * off(x, q) * off(x, q)).sum(),
        Loss::Absolute => terms.map(|((&x, w), &q)| w * off(x, q).abs()).sum(),
    }
}

/// The groups' scales and minimums as small integers times one number each.
pub(super) struct Levels {
    pub scale: f32,
    pub min: f32,
    pub scales: [u8; 16],
    pub mins: [u8; 16],
}

/// Rounds at most 16 fits to integers up to `top`.
pub(super) fn levels(fits: &[Fit], top: u8) -> Levels {
    let scale = fits.iter().fold(0f32, |m, f| m.max(f.scale)) / f32::from(top);
    let min = fits.iter().fold(0f32, |m, f| m.max(f.min)) / f32::from(top);
    let (by_scale, by_min) = (super::bits::inverse(scale), super::bits::inverse(min));
    let mut levels = Levels { scale, min, scales: [0; 16], mins: [0; 16] };
    for (i, fit) in fits.iter().enumerate() {
        levels.scales[i] = nearest(fit.scale * by_scale, 0, i32::from(top)) as u8;
        levels.mins[i] = nearest(fit.min * by_min, 0, i32::from(top)) as u8;
    }
    levels
}
