//! `influence generate` with the model that ships.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::home::{Home, argument, shipped, stderr};

const STORY: &str = "Once upon a time";

/// The flags with a short, seeded answer as JSON.
fn answer(home: &Home, flags: &[&str]) -> Value {
    home.json(&[&["generate", "--json", "--seed", "7", "--max-tokens", "24"], flags].concat())
}

#[test]
fn the_first_command_of_the_readme_writes_text() {
    let home = Home::new();
    let text = home.text(&["generate", STORY, "--seed", "1", "--max-tokens", "60"]);
    assert!(text.split_whitespace().count() > 20, "{text}");
    assert!(text.ends_with('\n') && !text.contains('\u{fffd}') && !text.contains("<|"), "{text}");
}

#[test]
fn a_seed_gives_the_same_text_and_another_another() {
    let home = Home::new();
    let text = |seed: &str| {
        home.text(&["generate", STORY, "--seed", seed, "--temperature", "1.2", "--max-tokens", "60"])
    };
    assert_eq!(text("1"), text("1"));
    assert_ne!(text("1"), text("2"));
}

#[test]
fn temperature_zero_needs_no_seed() {
    let home = Home::new();
    let text = |seed: &str| {
        home.text(&["generate", STORY, "--temperature", "0", "--max-tokens", "40", "--seed", seed])
    };
    assert_eq!(text("1"), text("2"));
}

#[test]
fn a_text_that_was_streamed_is_the_one_that_was_not() {
    let home = Home::new();
    let flags = ["generate", STORY, "--seed", "3", "--max-tokens", "60"];
    assert_eq!(home.text(&flags), home.text(&[&flags[..], &["--no-stream"]].concat()));
}

#[test]
fn the_json_object_has_what_it_promises() {
    let home = Home::new();
    let object = answer(&home, &[STORY]);
    for (key, is) in [
        ("model", Value::is_string as fn(&Value) -> bool),
        ("text", Value::is_string),
        ("tokens", Value::is_array),
        ("prompt_tokens", Value::is_u64),
        ("completion_tokens", Value::is_u64),
        ("finish_reason", Value::is_string),
        ("seed", Value::is_u64),
        ("context", Value::is_u64),
        ("timings", Value::is_object),
    ] {
        assert!(is(&object[key]), "{key}: {object}");
    }
    for key in ["load_seconds", "prefill_seconds", "decode_seconds", "decode_tokens_per_second"] {
        assert!(object["timings"][key].as_f64().is_some_and(|n| n > 0.0), "{key}: {object}");
    }
    assert_eq!(object["seed"], 7);
    assert_eq!(object["completion_tokens"], object["tokens"].as_array().unwrap().len());
    let ids: Vec<u32> = serde_json::from_value(object["tokens"].clone()).unwrap();
    let model = engine::load(&shipped(), &engine::LoadOptions::default()).unwrap();
    assert_eq!(model.tokenizer.decode(&ids, true), object["text"].as_str().unwrap());
}

#[test]
fn tokens_as_a_prompt_are_the_text_that_they_stand_for() {
    let home = Home::new();
    let ids = home.json(&["score", "--text", STORY, "--json"])["tokens"].to_string();
    let ids = ids.trim_matches(['[', ']']);
    let by_ids = answer(&home, &["--prompt-tokens", ids]);
    let by_text = answer(&home, &["--raw", STORY]);
    assert_eq!(by_ids["tokens"], by_text["tokens"]);
    assert_eq!(by_ids["prompt_tokens"], ids.split(',').count());
}

#[test]
fn a_prompt_comes_from_a_file_or_standard_input_as_well() {
    let home = Home::new();
    let expected = answer(&home, &[STORY])["text"].clone();
    home.write("prompt.txt", format!("{STORY}\n"));
    assert_eq!(answer(&home, &["-f", "prompt.txt"])["text"], expected);
    for flags in [&["generate", "-"][..], &["generate"]] {
        let flags = [flags, &["--json", "--seed", "7", "--max-tokens", "24"]].concat();
        let run = home.influence(&flags).write_stdin(format!("{STORY}\n")).output().unwrap();
        let object: Value = serde_json::from_slice(&run.stdout).unwrap();
        assert_eq!(object["text"], expected, "{flags:?}");
    }
}

#[test]
fn the_chat_template_is_used_unless_told_otherwise() {
    let home = Home::new();
    let count = |flags: &[&str]| answer(&home, flags)["prompt_tokens"].as_u64().unwrap();
    let raw = count(&["--raw", STORY]);
    let chat = count(&[STORY]);
    let told = count(&["--system", "Be brief.", STORY]);
    assert!(raw < chat && chat < told, "{raw} {chat} {told}");
}

#[test]
fn a_stop_text_ends_the_answer_and_is_not_in_it() {
    let home = Home::new();
    let whole = answer(&home, &["--raw", STORY])["text"].as_str().unwrap().to_owned();
    let word = whole.split_whitespace().nth(4).unwrap();
    let stopped = answer(&home, &["--raw", STORY, "--stop", word]);
    let text = stopped["text"].as_str().unwrap();
    assert!(whole.starts_with(text) && !text.contains(word), "{word:?} in {text:?}");
    assert_eq!((&stopped["finish_reason"], &stopped["stopped_by"]), (&"stop".into(), &word.into()));
}

#[test]
fn max_tokens_is_a_bound() {
    let home = Home::new();
    let object = home.json(&["generate", "--raw", STORY, "--json", "--seed", "1", "--max-tokens", "5"]);
    assert_eq!((&object["completion_tokens"], &object["finish_reason"]), (&5.into(), &"length".into()));
}

#[test]
fn a_prompt_that_does_not_fit_is_told_both_numbers() {
    let home = Home::new();
    let (code, text) = home.fails(&["generate", "--prompt-tokens", &["5"; 40].join(","), "--ctx-size", "16"]);
    assert_eq!(code, 5, "{text}");
    assert!(text.contains("40 tokens") && text.contains("16"), "{text}");
}

#[test]
fn a_flag_out_of_range_is_wrong_use_and_named() {
    let home = Home::new();
    for (flag, value) in [
        ("--temperature", "-1"),
        ("--temperature", "nan"),
        ("--top-p", "1.5"),
        ("--min-p", "2"),
        ("--top-k", "-1"),
        ("--repeat-penalty", "0"),
        ("--repeat-last-n", "-2"),
        ("--seed", "-1"),
        ("--max-tokens", "many"),
        ("--max-tokens", "-1"),
        ("--ctx-size", "-1"),
        ("--threads", "0"),
        ("--ctx-size", "0"),
        ("--ctx-size", "100000000"),
        ("--stop", ""),
        ("--device", "tpu"),
    ] {
        let (code, text) = home.fails(&["generate", STORY, flag, value]);
        assert_eq!(code, 2, "{flag} {value}: {text}");
        assert!(text.contains(flag), "{flag} {value}: {text}");
    }
    let (code, text) = home.fails(&["generate", STORY, "--tempurature", "1"]);
    assert!(code == 2 && text.contains("--temperature"), "{text}");
    let (code, text) = home.fails(&["generate", "--prompt-tokens", "1,99999"]);
    assert!(code == 2 && text.contains("99999"), "{text}");
}

#[test]
fn a_prompt_that_cannot_be_read_is_said_by_file() {
    let home = Home::new();
    home.write("garbage", [0x80, 0xff, 0, 1]);
    for name in ["garbage", "absent", "."] {
        let (code, text) = home.fails(&["generate", "-f", name]);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let home = Home::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_influence"))
        .args(["generate", STORY, "--seed", "1"])
        .env_clear()
        .envs(home.variables())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 5];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    // The pipe is closed by now.
    let run = child.wait_with_output().unwrap();
    assert!(run.status.success() && run.stderr.is_empty(), "{:?} {}", run.status, stderr(&run));
}

#[test]
fn verbose_goes_to_standard_error_only() {
    let home = Home::new();
    let flags = ["generate", STORY, "--seed", "1", "--max-tokens", "8"];
    let plain = home.text(&flags);
    let run = home.influence(&[&flags[..], &["-v"]].concat()).output().unwrap();
    assert_eq!(run.stdout, plain.as_bytes());
    let text = stderr(&run);
    for word in ["context", "512", "prefill", "decode", "tokens/s", "loaded in", "seed 1"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn the_shipped_model_is_one_like_any_other() {
    let home = Home::new();
    let path = shipped();
    let expected = answer(&home, &[STORY])["tokens"].clone();
    assert_eq!(answer(&home, &["--model-path", argument(&path), STORY])["tokens"], expected);
    assert_eq!(answer(&home, &["-m", "influence-tiny", STORY])["tokens"], expected);
    // Two starts at once both find it whole.
    std::fs::remove_dir_all(home.path().join("cache")).unwrap();
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_influence"));
        command.args(["generate", "hi", "--max-tokens", "2"]).env_clear().envs(home.variables());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for child in [start(), start(), start()] {
        let run = child.wait_with_output().unwrap();
        assert!(run.status.success(), "{}", stderr(&run));
    }
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let home = Home::new();
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        println!("skipped: there is no /dev/full");
        return;
    };
    let run = Command::new(env!("CARGO_BIN_EXE_influence"))
        .args(["generate", STORY, "--max-tokens", "4"])
        .env_clear()
        .envs(home.variables())
        .stdin(Stdio::null())
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(1), "{}", stderr(&run));
    std::io::stderr().flush().unwrap();
}

#[test]
fn keys_and_values_may_be_of_other_types() {
    let home = Home::new();
    let score = |kind: &str| {
        let flags = ["score", "--text", "Once upon a time there was a cat.", "--json", "--kv-type", kind];
        home.json(&flags)["mean_nll"].as_f64().unwrap()
    };
    let exact = score("f32");
    for (kind, tolerance) in [("f16", 1e-3), ("q8_0", 5e-2)] {
        let far = (score(kind) - exact).abs();
        assert!(far > 0.0 && far < tolerance, "{kind}: {far} of {exact}");
    }
    let (code, text) = home.fails(&["generate", "x", "--kv-type", "q8_0", "--device", "candle"]);
    assert!(code == 2 && text.contains("--kv-type"), "{text}");
    home.text(&["bench", "-p", "8", "-n", "2", "-r", "1", "--kv-type", "q8_0"]);
}
