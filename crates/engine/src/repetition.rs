//! Notices an answer that says the same thing for ever.
//!
//! Asked by `sequence.rs` after every token. A model that fell into a loop rarely leaves it; the rest of
//! the context would be spent on it.

/// The longest piece whose repetition is noticed, in tokens.
const LONGEST: usize = 512;
/// How often a piece has to follow itself.
const TIMES: usize = 4;
/// How many tokens the repetitions have to fill: a row of dashes or a table of zeros is no loop.
const TOKENS: usize = 256;

/// Counts, for every distance, for how many tokens the text has repeated itself at that distance.
#[derive(Clone, Debug)]
pub struct LoopGuard {
    runs: Vec<u32>,
}

impl LoopGuard {
    /// Nothing was said yet.
    pub fn new() -> Self {
        Self { runs: vec![0; LONGEST] }
    }

    /// Takes the answer with its newest token; whether its end is one piece of up to 512 tokens at least
    /// four times over, on at least 256 tokens.
    pub fn push(&mut self, answer: &[u32]) -> bool {
        let Some((newest, before)) = answer.split_last() else { return false };
        let mut looped = false;
        for (distance, run) in (1..).zip(&mut self.runs).take(before.len()) {
            *run = if before[before.len() - distance] == *newest { *run + 1 } else { 0 };
            looped |= *run as usize + distance >= TOKENS.max(TIMES * distance);
        }
        looped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long the text gets before it counts as a loop.
    fn length(text: impl Iterator<Item = u32>) -> Option<usize> {
        let mut guard = LoopGuard::new();
        let mut answer = Vec::new();
        for token in text {
            answer.push(token);
            if guard.push(&answer) {
                return Some(answer.len());
            }
        }
        None
    }

    #[test]
    fn a_loop_is_noticed_after_four_times_and_256_tokens() {
        let start = || 1000..1010u32;
        assert_eq!(length(start().chain(std::iter::repeat_n(7, 1000))), Some(10 + 256));
        // A piece of 100: four of them.
        assert_eq!(length(start().chain((0..100).cycle().take(1000))), Some(10 + 400));
        assert_eq!(length(start().chain((0..512).cycle().take(3000))), Some(10 + 2048));
    }

    #[test]
    fn what_is_no_loop_goes_on() {
        assert_eq!(length(0..5000), None);
        // Too short, too long a piece, and a list that counts.
        assert_eq!(length(std::iter::repeat_n(7, 255)), None);
        assert_eq!(length((0..513).cycle().take(4000)), None);
        assert_eq!(length((0..4000).map(|i| if i % 5 == 0 { 10_000 + i } else { i % 5 })), None);
    }
}
