//! `influence score`: what it prints agrees with itself.

use crate::home::Home;

fn log_softmax(logits: &[f32], of: usize) -> f64 {
    let most = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b)) as f64;
    let sum: f64 = logits.iter().map(|&l| (l as f64 - most).exp()).sum();
    logits[of] as f64 - most - sum.ln()
}

#[test]
fn log_probabilities_are_those_of_the_logits() {
    let home = Home::new();
    let object = home.json(&["score", "--text", "The king had a red bird.", "--logits", "--json"]);
    let tokens: Vec<usize> = serde_json::from_value(object["tokens"].clone()).unwrap();
    let logits: Vec<Vec<f32>> = serde_json::from_value(object["logits"].clone()).unwrap();
    let logprobs: Vec<Option<f64>> = serde_json::from_value(object["logprobs"].clone()).unwrap();
    assert!(tokens.len() > 4);
    assert_eq!((logits.len(), logprobs.len()), (tokens.len(), tokens.len()));
    assert_eq!(logprobs[0], None);
    let mut sum = 0.0;
    for i in 1..tokens.len() {
        let expected = log_softmax(&logits[i - 1], tokens[i]);
        let found = logprobs[i].unwrap();
        assert!((found - expected).abs() < 1e-4, "{i}: {found} and {expected}");
        sum += expected;
    }
    let mean = -sum / (tokens.len() - 1) as f64;
    assert!((object["sum_logprob"].as_f64().unwrap() - sum).abs() < 1e-3);
    assert!((object["mean_nll"].as_f64().unwrap() - mean).abs() < 1e-4);
    assert!((object["perplexity"].as_f64().unwrap() - mean.exp()).abs() < 1e-2 * mean.exp());
}

#[test]
fn tokens_are_scored_as_the_text_that_they_are() {
    let home = Home::new();
    let text = home.json(&["score", "--text", "Once upon a time", "--json"]);
    let ids = text["tokens"].to_string();
    let tokens = home.json(&["score", "--tokens", ids.trim_matches(['[', ']']), "--json"]);
    assert_eq!(text["logprobs"], tokens["logprobs"]);
    let table = home.text(&["score", "--text", "Once upon a time"]);
    assert!(table.contains("perplexity") && table.contains("\" upon\""), "{table}");
}

#[test]
fn what_cannot_be_scored_is_said() {
    let home = Home::new();
    assert_eq!(home.fails(&["score"]).0, 2);
    assert_eq!(home.fails(&["score", "--text", ""]).0, 2);
    assert_eq!(home.fails(&["score", "--tokens", "1,100000"]).0, 2);
    let (code, text) = home.fails(&["score", "--tokens", &["5"; 600].join(",")]);
    assert!(code == 5 && text.contains("600") && text.contains("512"), "{text}");
}
