//! The sampler that makes a distribution flatter or steeper: temperature, fixed or by its entropy.
//!
//! The last row of `CHAIN` (chain.rs) but mirostat, unless the user orders otherwise.

use crate::chain::State;
use crate::exponential::{ln, power};
use crate::truncation::entropy;
use crate::{Candidates, SamplingParams};

/// Divides the logits by the temperature (Ackley, Hinton and Sejnowski 1985, "A Learning Algorithm
/// for Boltzmann Machines"); 0 leaves the likeliest token alone, of equals the one of lowest id.
///
/// With a `dynatemp_range` the temperature goes by how sure the model is (kalomaze 2024, "Dynamic
/// Temperature", in koboldcpp): from `temperature - range` (at least 0) where it is certain to
/// `temperature + range` where all candidates are alike, by the `dynatemp_exponent`-th power of entropy
/// over greatest possible entropy.
pub fn temperature(candidates: &mut Candidates, params: &SamplingParams, _: &mut State, _: &[u32]) {
    let temperature =
        if params.dynatemp_range > 0.0 { dynamic(candidates, params) } else { params.temperature };
    if temperature == 0.0 {
        candidates.keep_likeliest();
        return;
    }
    let max = candidates.max_logit();
    // From the maximum down: a tiny temperature sends the others to minus infinity and it stays 0.
    for candidate in &mut candidates.list {
        candidate.logit = (candidate.logit - max) / temperature;
    }
}

fn dynamic(candidates: &Candidates, params: &SamplingParams) -> f32 {
    let SamplingParams { temperature, dynatemp_range, dynatemp_exponent, .. } = *params;
    let least = (temperature - dynatemp_range).max(0.0);
    let most = temperature + dynatemp_range;
    let greatest = ln(candidates.list.len() as f64);
    // A single candidate: any temperature gives it probability 1.
    let share = if greatest > 0.0 { (entropy(candidates) / greatest).clamp(0.0, 1.0) } else { 0.0 };
    least + (most - least) * power(share, dynatemp_exponent.into()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidates::testing::{ids, list, logits};
    use crate::exponential::exp;

    fn run(start: &[f32], params: SamplingParams) -> Candidates {
        let mut c = list(start);
        temperature(&mut c, &params, &mut State::new(0), &[]);
        c
    }

    fn at(temperature: f32) -> SamplingParams {
        SamplingParams { temperature, ..SamplingParams::neutral() }
    }

    #[test]
    fn temperature_by_hand() {
        // At temperature 2 odds of 4 to 1 become odds of 2 to 1.
        let c = run(&[4f32.ln(), 0.0], at(2.0));
        assert!((exp(c.list[1].logit - c.list[0].logit) - 0.5).abs() < 1e-6);
        // Zero is greedy, and of equals the lowest id wins.
        assert_eq!(ids(&run(&[1.0, 3.0, 3.0], at(0.0))), [1]);
        // So small that a division overflows.
        assert_eq!(logits(&run(&[1.0, 3.0, 2.0], at(1e-40))), [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY]);
    }

    #[test]
    fn dynamic_temperature_by_hand() {
        // Probabilities 0.8 and 0.2: entropy 0.8 * 0.2231 + 0.2 * 1.6094 = 0.5004, of ln 2 = 0.6931 at
        // most: share 0.7219. Range 0.5 around 1: 0.5 + 1 * 0.7219 = 1.2219. Odds of 4: ln 4 / 1.2219.
        let start = [4f32.ln(), 0.0];
        let linear = SamplingParams { dynatemp_range: 0.5, ..at(1.0) };
        let c = run(&start, linear.clone());
        assert!((c.list[1].logit + 4f32.ln() / 1.2219).abs() < 1e-4, "{c:?}");
        // Squared: 0.5 + 0.5212 = 1.0212.
        let c = run(&start, SamplingParams { dynatemp_exponent: 2.0, ..linear.clone() });
        assert!((c.list[1].logit + 4f32.ln() / 1.0212).abs() < 1e-4, "{c:?}");
        // All alike: the most. One alone, with a range down to 0: it stays.
        assert_eq!(logits(&run(&[1.0, 1.0], linear.clone())), [0.0, 0.0]);
        assert_eq!(ids(&run(&[1.0], SamplingParams { dynatemp_range: 3.0, ..linear })), [0]);
    }
}
