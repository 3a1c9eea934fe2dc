//! The tokens that may still be chosen, and finding the likeliest of many without sorting them all.
//!
//! Made from logits (and a mask, where a grammar gives one) by `sampler.rs`, changed by the samplers of
//! `chain.rs`, drawn from at the end.

use crate::exponential::exp;

/// A token that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Token id.
    pub id: u32,
    /// Its logit as the samplers so far have left it.
    pub logit: f32,
}

/// The tokens that may still be chosen; never empty.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    /// In ascending order of id, or if `sorted` of likelihood.
    pub list: Vec<Candidate>,
    /// Whether the list is in descending order of logit (equal logits: ascending id).
    pub sorted: bool,
}

/// Which tokens are allowed: bit `id % 32` of word `id / 32`. What lies beyond its end is not.
pub type Mask<'a> = &'a [u32];

impl Candidates {
    /// All tokens of a vocabulary.
    pub fn from_logits(logits: &[f32]) -> Self {
        let list = logits.iter().enumerate().map(|(id, &logit)| Candidate { id: id as u32, logit });
        Self { list: list.collect(), sorted: false }
    }

    /// The tokens of a vocabulary that a mask allows.
    pub fn masked(logits: &[f32], mask: Mask<'_>) -> Self {
        let mut list = Vec::new();
        for (logits, (start, word)) in logits.chunks(32).zip((0..).step_by(32).zip(mask)) {
            let mut left = *word;
            while left != 0 {
                let bit = left.trailing_zeros();
                left &= left - 1;
                let allowed = logits.get(bit as usize);
                list.extend(allowed.map(|&logit| Candidate { id: start + bit, logit }));
            }
        }
        Self { list, sorted: false }
    }

    /// The largest logit.
    pub fn max_logit(&self) -> f32 {
        match self.list.first() {
            Some(first) if self.sorted => first.logit,
            _ => self.list.iter().fold(f32::NEG_INFINITY, |max, c| if c.logit > max { c.logit } else { max }),
        }
    }

    /// Drops all but the likeliest, of equals the one of lowest id.
    pub fn keep_likeliest(&mut self) {
        let best = self.list.iter().map(Candidate::rank).min();
        self.list.clear();
        self.list.extend(best.map(Candidate::from_rank));
        self.sorted = true;
    }

    /// The `count` likeliest, in order. One pass: of a long list most are seen to be too unlikely by
    /// comparing with the worst of those that would do.
    pub fn likeliest(&self, count: usize) -> Vec<Candidate> {
        if self.sorted || count == 0 {
            return self.list[..count.min(self.list.len())].to_vec();
        }
        let room = count.saturating_mul(2).max(256);
        let (mut ranks, mut worst) = (Vec::with_capacity(room.min(self.list.len())), u64::MAX);
        for rank in self.list.iter().map(Candidate::rank) {
            if rank < worst {
                ranks.push(rank);
            }
            if ranks.len() == room {
                worst = *ranks.select_nth_unstable(count - 1).1;
                ranks.truncate(count);
            }
        }
        ranks.sort_unstable();
        ranks.truncate(count);
        ranks.into_iter().map(Candidate::from_rank).collect()
    }

    /// Calls `change` with the logit of a token, if it may still be chosen. `settle` has to follow.
    pub fn change(&mut self, id: u32, change: impl FnOnce(f32) -> f32) {
        let place = match self.list.get(id as usize) {
            // As long as nothing was dropped or sorted, a token stands at its id.
            Some(c) if c.id == id => Some(id as usize),
            _ if self.sorted => self.list.iter().position(|c| c.id == id),
            _ => self.list.binary_search_by_key(&id, |c| c.id).ok(),
        };
        if let Some(candidate) = place.and_then(|place| self.list.get_mut(place))
            && candidate.logit != f32::NEG_INFINITY
        {
            // Near the ends of f32 a sum may overflow; infinity would be no distribution any more.
            candidate.logit = change(candidate.logit).clamp(f32::MIN, f32::MAX);
        }
    }

    /// Drops tokens.
    pub fn remove(&mut self, ids: &[u32]) {
        if !ids.is_empty() {
            self.list.retain(|c| !ids.contains(&c.id));
        }
    }

    /// Restores the order after changes.
    pub fn settle(&mut self) {
        if std::mem::take(&mut self.sorted) {
            self.list = self.likeliest(self.list.len());
            self.sorted = true;
        }
    }

    /// Sum of all weights relative to `max`.
    pub fn total(&self, max: f32) -> f64 {
        self.list.iter().map(|c| weight(c, max)).sum()
    }

    /// Keeps the fewest candidates, lowest `key` first, that together have `share` of the probability.
    ///
    /// Only those have to be in order. The probability in bands of about equal keys shows in which band
    /// the set ends, before anything is sorted.
    pub fn keep_share(&mut self, share: f32, key: impl Fn(&Candidate) -> u64) {
        let max = self.max_logit();
        let band = |c: &Candidate| (key(c) >> 52) as usize;
        let (mut bands, mut total) = (vec![0.0; 1 << 12], 0.0);
        for candidate in &self.list {
            bands[band(candidate)] += weight(candidate, max);
            total += weight(candidate, max);
        }
        let target = f64::from(share) * total;
        let reaches = |sum: &mut f64, part: f64| {
            *sum += part;
            // Even a target of 0 needs one token.
            *sum >= target && *sum > 0.0
        };
        let mut sum = 0.0;
        let last_band = bands.iter().position(|&part| reaches(&mut sum, part)).unwrap_or(bands.len());
        let mut kept: Vec<(u64, Candidate)> =
            self.list.iter().filter(|c| band(c) <= last_band).map(|c| (key(c), *c)).collect();
        kept.sort_unstable_by_key(|(key, _)| *key);
        let mut sum = 0.0;
        if let Some(last) = kept.iter().position(|(_, c)| reaches(&mut sum, weight(c, max))) {
            kept.truncate(last + 1);
        }
        self.list = kept.into_iter().map(|(_, c)| c).collect();
    }
}

impl Candidate {
    /// A number that is smaller the likelier the candidate is, and of equals the lower its id: the
    /// bits of a float sort like its value once those of negative ones are turned over.
    pub fn rank(&self) -> u64 {
        (u64::from(!ascending(self.logit)) << 32) | u64::from(self.id)
    }

    fn from_rank(rank: u64) -> Self {
        let ascending = !((rank >> 32) as u32);
        let bits = if ascending >> 31 == 1 { ascending & !(1 << 31) } else { !ascending };
        Self { id: rank as u32, logit: f32::from_bits(bits) }
    }
}

/// Bits that sort like the number.
pub fn ascending(x: f32) -> u32 {
    // Plus zero: the two zeros are equal.
    let bits = (x + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// Probability of a candidate up to a common factor.
pub fn weight(candidate: &Candidate, max: f32) -> f64 {
    f64::from(exp(candidate.logit - max))
}

/// Short ways for the samplers' tests.
#[cfg(test)]
pub mod testing {
    use super::Candidates;

    pub fn list(logits: &[f32]) -> Candidates {
        Candidates::from_logits(logits)
    }

    pub fn ids(candidates: &Candidates) -> Vec<u32> {
        candidates.list.iter().map(|c| c.id).collect()
    }

    pub fn logits(candidates: &Candidates) -> Vec<f32> {
        candidates.list.iter().map(|c| c.logit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_of_a_long_list_are_those_that_sorting_finds() {
        let mut rng = crate::Rng::new(3);
        // Coarse values, so that there are many equals, of both signs and both zeros.
        let values = (0..20_000).map(|_| (rng.next_f64() * 64.0) as i32 - 32);
        let logits: Vec<f32> = values.map(|v| -(v as f32 * 0.5)).collect();
        let c = Candidates::from_logits(&logits);
        let mut sorted = c.list.clone();
        sorted.sort_by(|a, b| b.logit.partial_cmp(&a.logit).unwrap().then(a.id.cmp(&b.id)));
        for count in [0, 1, 2, 40, 127, 128, 1000, 19_999, 20_000, 30_000] {
            assert_eq!(c.likeliest(count), sorted[..count.min(20_000)], "{count}");
        }
    }

    #[test]
    fn a_mask_lets_through_what_it_names_and_nothing_beyond_its_end() {
        let logits: Vec<f32> = (0..100).map(|i| i as f32).collect();
        let c = Candidates::masked(&logits, &[1 << 31 | 1, 0, 0b110]);
        let ids: Vec<u32> = c.list.iter().map(|c| c.id).collect();
        assert_eq!(ids, [0, 31, 65, 66]);
        assert!(c.list.iter().all(|c| c.logit == c.id as f32));
        assert_eq!(Candidates::masked(&logits, &[0, 0, 0, u32::MAX]).list.len(), 4);
    }

    #[test]
    fn a_change_finds_its_token_in_every_order() {
        let mut c = Candidates::from_logits(&[1.0, 4.0, 2.0, 3.0]);
        c.remove(&[0]);
        c.change(2, |l| l + 10.0);
        c.change(0, |_| panic!("it is gone"));
        assert_eq!(c.likeliest(1), [Candidate { id: 2, logit: 12.0 }]);
        c.list = c.likeliest(3);
        c.sorted = true;
        c.change(2, |_| f32::NEG_INFINITY);
        c.settle();
        assert_eq!(c.list.iter().map(|c| c.id).collect::<Vec<_>>(), [1, 3, 2]);
        assert_eq!(c.list[2].logit, f32::MIN);
    }
}
