//! `influence tokenize`, `detokenize` and `template`.

use crate::home::{Home, argument};

#[test]
fn a_text_comes_back_from_its_tokens() {
    let home = Home::new();
    let text = "Once upon a time, <|im_end|> a Käfer.";
    let object = home.json(&["tokenize", text, "--no-special", "--json"]);
    let ids: Vec<String> = object["tokens"].as_array().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(object["count"], ids.len());
    assert_eq!(home.text(&["detokenize", &ids.join(",")]).trim_end(), text);
    let piped = home.influence(&["detokenize"]).write_stdin(object["tokens"].to_string()).output().unwrap();
    assert_eq!(String::from_utf8(piped.stdout).unwrap().trim_end(), text);
    // A line for each token: its id and its text.
    let lines = home.text(&["tokenize", text, "--no-special"]);
    assert_eq!(lines.lines().count(), ids.len());
}

#[test]
fn ids_that_are_none_are_refused() {
    let home = Home::new();
    assert!(home.fails(&["detokenize", "99999999"]).1.contains("99999999"));
    let run = home.influence(&["detokenize"]).write_stdin("1 x").output().unwrap();
    assert!(!run.status.success());
}

#[test]
fn a_template_shows_what_the_model_would_read() {
    let home = Home::new();
    let text = home.text(&["template", "--system", "Be brief.", "--user", "What is it?"]);
    assert!(text.contains("Be brief.") && text.contains("What is it?"), "{text}");
    let own =
        home.write("t.jinja", "{% for m in messages %}[{{ m.role }}|{{ m.content }}|{{ mood }}]{% endfor %}");
    let flags = ["--chat-template", argument(&own), "--template-arg", "mood=calm"];
    assert_eq!(home.text(&[&["template", "--user", "Hi"], &flags[..]].concat()), "[user|Hi|calm]\n");
    let messages =
        home.write("m.json", r#"[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]"#);
    let rendered = home.text(&[&["template", "--messages", argument(&messages)], &flags[..]].concat());
    assert_eq!(rendered, "[user|a|calm][assistant|b|calm]\n");
    assert!(home.text(&["template", "--source"]).contains("{%"));
    // The same flags reach the model.
    let object = home.json(&[&["generate", "Hi", "--json", "--max-tokens", "2"], &flags[..]].concat());
    let ids = home.json(&["tokenize", "[user|Hi|calm]", "--no-special", "--json"]);
    assert_eq!(object["prompt_tokens"], ids["count"]);
}
