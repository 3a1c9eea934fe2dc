//! Medians over rounds, and ratios taken within them.

use std::collections::BTreeMap;

use crate::Sample;

/// The middle one, or the mean of the two in the middle; 0 of nothing.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    if n == 0 { 0.0 } else { (values[(n - 1) / 2] + values[n / 2]) / 2.0 }
}

/// Prints one line for each model, number of threads and test.
pub fn print(all: &[Sample]) {
    let mut cases: Vec<(&str, usize, &str)> = vec![];
    for s in all {
        let case = (s.model.as_str(), s.threads, s.test.as_str());
        if !cases.contains(&case) {
            cases.push(case);
        }
    }
    println!(
        "| model | threads | test | influence | llama.cpp | llama.cpp, no repack | candle | x llama.cpp's best | x candle | memory GB/s |"
    );
    println!("|---|---:|---|---:|---:|---:|---:|---:|---:|---:|");
    for (model, threads, test) in cases {
        let of_case = |s: &&Sample| (s.model.as_str(), s.threads, s.test.as_str()) == (model, threads, test);
        line(model, threads, test, &all.iter().filter(of_case).collect::<Vec<_>>());
    }
}

fn line(model: &str, threads: usize, test: &str, samples: &[&Sample]) {
    let rates = |runner: &str| -> Vec<f64> {
        samples.iter().filter(|s| s.runner == runner).map(|s| s.tokens_per_second).collect()
    };
    let shown = |runner: &str| match rates(runner) {
        list if list.is_empty() => "-".to_string(),
        list => format!("{:.1}", median(list)),
    };
    let ratio = |peers: &[&str]| match ratios(samples, peers) {
        list if list.is_empty() => "-".to_string(),
        list => format!("{:.2}", median(list)),
    };
    let read = samples.iter().map(|s| s.read_gbs);
    println!(
        "| {model} | {threads} | {test} | {} | {} | {} | {} | {} | {} | {:.0}-{:.0} |",
        shown("influence"),
        shown("llama"),
        shown("llama-plain"),
        shown("candle"),
        ratio(&["llama", "llama-plain"]),
        ratio(&["candle"]),
        read.clone().fold(f64::MAX, f64::min),
        read.fold(0.0, f64::max)
    );
}

/// influence against the best of `peers`, round by round.
fn ratios(samples: &[&Sample], peers: &[&str]) -> Vec<f64> {
    let mut rounds: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for s in samples {
        let (ours, theirs) = rounds.entry(s.round).or_default();
        if s.runner == "influence" {
            *ours = s.tokens_per_second;
        } else if peers.contains(&s.runner.as_str()) {
            *theirs = theirs.max(s.tokens_per_second);
        }
    }
    rounds.values().filter(|(ours, theirs)| *ours > 0.0 && *theirs > 0.0).map(|(o, t)| o / t).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_rounds_against_the_best() {
        let sample = |round, runner: &str, tokens_per_second| Sample {
            model: "m".into(),
            threads: 1,
            test: "pp".into(),
            round,
            runner: runner.into(),
            tokens_per_second,
            read_gbs: 1.0,
        };
        let all = [
            sample(0, "influence", 30.0),
            sample(0, "llama", 10.0),
            sample(0, "llama-plain", 20.0),
            sample(1, "influence", 3.0),
            sample(1, "llama", 1.0),
            sample(2, "influence", 3.0),
        ];
        let all: Vec<&Sample> = all.iter().collect();
        assert_eq!(ratios(&all, &["llama", "llama-plain"]), [1.5, 3.0]);
        assert_eq!(median(vec![1.5, 3.0]), 2.25);
    }
}
