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

/// The integer nearest to `x` within `low..=high` (ties to even; `low` for NaN). The range is small, far within 2^22.
///
/// Adding 1.5 * 2^23 leaves the integer in the lowest bits of the sum: no call, and it vectorizes.
pub(super) fn nearest(x: f32, low: i32, high: i32) -> i32 {
    let x = x.max(low as f32).min(high as f32);
    ((x + 12_582_912.0).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

/// The scale s of x = s q with q in `-half..half`, weighted by x^2 (0 for zeros).
///
/// The widest number should land on or near `-half`, where the range reaches one further: on it first, then
/// 19 places around are tried.
pub(super) fn scale(x: &[f32], half: i32) -> f32 {
    let widest = widest(x);
    if widest.abs() < TINY {
        return 0.0;
    }
    let mut best = Line::default();
    for step in std::iter::once(0).chain(-9..=9) {
        let line = line(x, -(half as f32 + 0.1 * step as f32) / widest, half);
        best = if line.gain > best.gain { line } else { best };
    }
    // Rounding by the scale just found may allow a better one.
    for _ in 0..4 {
        let line = line(x, super::bits::inverse(best.scale), half);
        best = if line.gain > best.gain { line } else { best };
    }
    best.scale
}

/// A solved scale, and by how much it lessens the weighted sum of squares.
#[derive(Clone, Copy, Default)]
struct Line {
    scale: f32,
    gain: f32,
}

/// Rounds by the inverse scale `inv` and solves for the scale.
fn line(x: &[f32], inv: f32, half: i32) -> Line {
    let [mut xq, mut qq] = [[0.0; LANES]; 2];
    for x in x.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            let q = nearest(x[i] * inv, -half, half - 1) as f32;
            xq[i] += x[i] * x[i] * x[i] * q;
            qq[i] += x[i] * x[i] * q * q;
        }
    }
    let (xq, qq) = (sum(xq), sum(qq));
    if qq > 0.0 { Line { scale: xq / qq, gain: xq * xq / qq } } else { Line::default() }
}

/// Sums are kept in so many lanes, so that they vectorize; groups are multiples of it.
const LANES: usize = 8;

fn sum(lanes: [f32; LANES]) -> f32 {
    lanes.iter().sum()
}

/// Of a group's rounded scale and its two neighbours within `low..=high`, the one that quantizes it best.
pub(super) fn settle_scale(x: &[f32], d: f32, sc: i32, half: i32, (low, high): (i32, i32)) -> i32 {
    let error = |sc: i32| -> f32 {
        let scale = d * sc as f32;
        let inv = super::bits::inverse(scale);
        let mut error = [0.0; LANES];
        for x in x.as_chunks::<LANES>().0 {
            for i in 0..LANES {
                let off = scale * nearest(x[i] * inv, -half, half - 1) as f32 - x[i];
                error[i] += x[i] * x[i] * off * off;
            }
        }
        sum(error)
    };
    let around = [sc, sc - 1, sc + 1].into_iter().filter(|sc| (low..=high).contains(sc));
    let best = around.map(|sc| (sc, error(sc))).reduce(|a, b| if b.1 < a.1 { b } else { a });
    best.map_or(sc, |best| best.0)
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
    /// A number x weighs |x| plus this times the root mean square of its group: large numbers count more.
    pub rms: f32,
}

impl Plan {
    fn weights(&self, x: &[f32]) -> [f32; 32] {
        let rms = self.rms * (x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32).sqrt();
        std::array::from_fn(|i| x.get(i).map_or(0.0, |x| rms + x.abs()))
    }
}

/// x = scale q - min, with min not negative.
#[derive(Clone, Copy, Default)]
pub(super) struct Fit {
    pub scale: f32,
    pub min: f32,
}

/// The best fit of at most 32 numbers under a plan.
pub(super) fn scale_and_min(x: &[f32], plan: &Plan) -> Fit {
    let (low, high) = range(x);
    let low = low.min(0.0);
    if high - low < TINY {
        return Fit { scale: 0.0, min: -low };
    }
    let weights = plan.weights(x);
    let mut best = (Fit { scale: (high - low) / plan.top as f32, min: -low }, f32::INFINITY);
    let span = 1.0 / (high - low);
    attempt(x, &weights, plan, best.0.min, plan.top as f32 * span, &mut best);
    for i in 0..=plan.steps {
        let inv = (plan.top as f32 + plan.from + plan.step * i as f32) * span;
        if let Some(fit) = attempt(x, &weights, plan, -low, inv, &mut best) {
            // Rounding by the fit just found may allow a better one.
            attempt(x, &weights, plan, fit.min, super::bits::inverse(fit.scale), &mut best);
        }
    }
    best.0
}

/// Rounds by a minimum and an inverse scale, solves for both, and keeps the fit if it is the best so far.
fn attempt(
    x: &[f32],
    weights: &[f32],
    plan: &Plan,
    min: f32,
    inv: f32,
    best: &mut (Fit, f32),
) -> Option<Fit> {
    let mut q = [0f32; 32];
    let q = &mut q[..x.len()];
    round(x, min, inv, plan.top, q);
    let fit = solve(x, weights, q)?;
    let error = error(x, weights, q, fit, plan.loss);
    if error < best.1 {
        *best = (fit, error);
    }
    Some(fit)
}

fn round(x: &[f32], min: f32, inv: f32, top: i32, q: &mut [f32]) {
    for (q, x) in q.iter_mut().zip(x) {
        *q = nearest((x + min) * inv, 0, top) as f32;
    }
}

/// Least squares for given integers; the minimum may not turn positive (the formats subtract it).
fn solve(x: &[f32], weights: &[f32], q: &[f32]) -> Option<Fit> {
    let [mut sw, mut sx, mut sq, mut sqq, mut sxq] = [[0f32; LANES]; 5];
    for ((x, w), q) in lanes(x).zip(lanes(weights)).zip(lanes(q)) {
        for i in 0..LANES {
            let (wx, wq) = (w[i] * x[i], w[i] * q[i]);
            sw[i] += w[i];
            sx[i] += wx;
            sq[i] += wq;
            sqq[i] += wq * q[i];
            sxq[i] += wx * q[i];
        }
    }
    let [sw, sx, sq, sqq, sxq] = [sw, sx, sq, sqq, sxq].map(sum);
    let det = sw * sqq - sq * sq;
    if det.is_nan() || det <= 0.0 {
        return None;
    }
    let fit = Fit { scale: (sw * sxq - sx * sq) / det, min: (sq * sxq - sqq * sx) / det };
    Some(if fit.min < 0.0 { Fit { scale: sxq / sqq, min: 0.0 } } else { fit })
}

fn lanes(x: &[f32]) -> impl Iterator<Item = &[f32; LANES]> {
    x.as_chunks().0.iter()
}

fn error(x: &[f32], weights: &[f32], q: &[f32], fit: Fit, loss: Loss) -> f32 {
    let square = matches!(loss, Loss::Square);
    let mut error = [0f32; LANES];
    for ((x, w), q) in lanes(x).zip(lanes(weights)).zip(lanes(q)) {
        for i in 0..LANES {
            let off = (fit.scale * q[i] - fit.min - x[i]).abs();
            error[i] += w[i] * if square { off * off } else { off };
        }
    }
    sum(error)
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

/// Of a group's rounded scale and minimum and their neighbours up to `limit`, the pair that quantizes it best.
/// `unit` is what the integers are multiplied with.
pub(super) fn settle(x: &[f32], plan: &Plan, unit: Fit, (sc, m): (u8, u8), limit: u8) -> (u8, u8) {
    let weights = plan.weights(x);
    let mut q = [0f32; 32];
    let q = &mut q[..x.len()];
    let mut best = ((sc, m), f32::INFINITY);
    for sc in [sc, sc.saturating_sub(1), (sc + 1).min(limit)] {
        for m in [m, m.saturating_sub(1), (m + 1).min(limit)] {
            let fit = Fit { scale: unit.scale * f32::from(sc), min: unit.min * f32::from(m) };
            round(x, fit.min, super::bits::inverse(fit.scale), plan.top, q);
            let error = error(x, &weights, q, fit, plan.loss);
            if error < best.1 {
                best = ((sc, m), error);
            }
        }
    }
    best.0
}
