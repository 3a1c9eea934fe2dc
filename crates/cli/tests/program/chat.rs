//! `influence chat` and `influence history` through a pipe: each line is a turn.

use std::path::PathBuf;
use std::process::Output;

use serde_json::{Value, json};

use crate::home::{Home, argument, stderr};

const FLAGS: [&str; 6] = ["chat", "--seed", "1", "--max-tokens", "12", "--no-save"];

fn talk(home: &Home, flags: &[&str], lines: &str) -> Output {
    home.influence(flags).write_stdin(lines).output().unwrap()
}

/// Runs a chat that must go well; standard output.
#[track_caller]
fn said(home: &Home, flags: &[&str], lines: &str) -> String {
    let run = talk(home, flags, lines);
    assert!(run.status.success(), "{flags:?}: {}", stderr(&run));
    String::from_utf8(run.stdout).unwrap()
}

/// The flags without the one that keeps nothing.
fn kept() -> Vec<&'static str> {
    FLAGS[..5].to_vec()
}

fn history(home: &Home, flags: &[&str]) -> Value {
    home.json(&[&["history", "--json"], flags].concat())
}

/// A conversation as the file of /export has it.
fn exported(home: &Home, flags: &[&str], lines: &str) -> Value {
    said(home, flags, &format!("{lines}/export talk.json\n"));
    let path = home.path().join("talk.json");
    let value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    std::fs::remove_file(path).unwrap();
    value
}

fn contents(talk: &Value) -> Vec<String> {
    let messages = talk["messages"].as_array().unwrap().iter();
    messages.map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_line_is_a_turn_and_nothing_but_answers_comes_out() {
    let home = Home::new();
    let out = said(&home, &FLAGS, "Once upon a time\n\nWhat does influence list do?\n");
    assert!(out.ends_with('\n') && out.lines().count() >= 2, "{out:?}");
    assert!(!out.contains('\u{1b}') && !out.contains("<|") && !out.contains("> "), "{out:?}");
    let one = home.json(&["generate", "Once upon a time", "--seed", "1", "--max-tokens", "12", "--json"]);
    let text = one["text"].as_str().unwrap();
    assert!(out.starts_with(text.trim()), "the first answer is generate's: {out:?} {text:?}");
}

#[test]
fn the_next_turn_reads_only_what_is_new() {
    let home = Home::new();
    let question =
        "Tell me a story about a king, a red bird, a small boat and the long way home over the hills.";
    let out = said(&home, &FLAGS, &format!("{question}\nAnd then?\n/stats\n"));
    let line = out.lines().find(|line| line.starts_with("prefill")).unwrap();
    let numbers: Vec<usize> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    // The cache is found again in blocks of 32 tokens.
    assert!(numbers[1] >= 32 && numbers[0] - numbers[1] < 64, "{line}");
}

#[test]
fn conversations_are_kept_found_continued_shown_and_deleted() {
    let home = Home::new();
    said(&home, &kept(), "Once upon a kite\n/save birds\n");
    said(&home, &kept(), "Good morning\n");
    let rows = history(&home, &[]);
    assert_eq!(rows.as_array().map(Vec::len), Some(2), "{rows}");
    assert_eq!((&rows[1]["name"], &rows[1]["messages"]), (&json!("birds"), &json!(2)));
    assert_eq!(history(&home, &["KIT"])[0]["id"], rows[1]["id"]);
    assert_eq!(history(&home, &["absent"]), json!([]));
    said(&home, &[&kept()[..], &["--continue", "birds"]].concat(), "And then?\n");
    said(&home, &[&kept()[..], &["--continue"]].concat(), "And now?\n");
    assert_eq!(history(&home, &[])[0]["messages"], 6, "the last is the one that was continued");
    let id = rows[1]["id"].to_string();
    let text = home.text(&["history", "--show", &id]);
    assert!(text.contains("# birds") && text.contains("And now?"), "{text}");
    assert!(home.text(&["history"]).contains("Good morning"));
    home.text(&["history", "--delete", &id]);
    let (code, text) = home.fails(&["history", "--show", &id]);
    assert!(code == 3 && text.contains("influence history"), "{text}");
    let (code, text) = home.fails(&["chat", "--continue", "nothing of this name"]);
    assert!(code == 3 && text.contains("nothing of this name"), "{text}");
}

#[test]
fn keeping_can_be_turned_off_once_and_for_all() {
    let home = Home::new();
    said(&home, &FLAGS, "Once\n");
    assert_eq!(history(&home, &[]), json!([]));
    home.text(&["history", "--keep", "off"]);
    said(&home, &kept(), "Once\n");
    assert_eq!(history(&home, &[]), json!([]));
    said(&home, &kept(), "Once\n/save\n");
    assert_eq!(history(&home, &[]).as_array().map(Vec::len), Some(1), "/save keeps all the same");
    home.text(&["history", "--keep", "on"]);
    let place = home.path().join("elsewhere");
    let run = home.influence(&kept()).env("INFLUENCE_DATA", &place).write_stdin("Once\n").output().unwrap();
    assert!(run.status.success(), "{}", stderr(&run));
    assert!(place.join("conversations.sqlite3").is_file());
}

#[test]
fn a_history_that_cannot_be_written_is_a_warning() {
    let home = Home::new();
    let file = home.write("file", "");
    let run = home.influence(&kept()).env("INFLUENCE_DATA", &file).write_stdin("Once\n").output().unwrap();
    assert!(run.status.success() && !run.stdout.is_empty(), "{}", stderr(&run));
    assert!(
        stderr(&run).contains("warning: ") && stderr(&run).contains("INFLUENCE_DATA"),
        "{}",
        stderr(&run)
    );
}

#[test]
fn questions_are_changed_taken_back_and_branched() {
    let home = Home::new();
    let talk = exported(&home, &FLAGS, "One\nTwo\n/undo\n/edit Three\n/regen\n");
    assert_eq!(contents(&talk).len(), 2);
    assert_eq!(contents(&talk)[0], "Three");
    let talk = exported(&home, &kept(), "One\nTwo\n/branch 1\nThree\n");
    assert_eq!((contents(&talk)[0].as_str(), contents(&talk)[2].as_str()), ("One", "Three"));
    let rows = history(&home, &[]);
    let counts: Vec<&Value> = rows.as_array().unwrap().iter().map(|row| &row["messages"]).collect();
    assert_eq!(counts, [4, 4], "the branch and what it branched off");
    assert_eq!(talk["parent"], 1);
    let talk = exported(&home, &FLAGS, "One\n/clear\n/system Be kind.\n\"\"\"\nTwo\nlines\n\"\"\"\n");
    assert_eq!((contents(&talk)[0].as_str(), &talk["system"]), ("Two\nlines", &json!("Be kind.")));
}

#[test]
fn files_go_into_questions_and_conversations_into_files() {
    let home = Home::new();
    home.write("a note.txt", "red ``` bird\n");
    let talk = exported(&home, &FLAGS, "/file a note.txt What is it?\n");
    assert_eq!(contents(&talk)[0], "a note.txt:\n````\nred ``` bird\n````\n\nWhat is it?");
    home.write("before.json", talk.to_string());
    let again = exported(&home, &FLAGS, "/load before.json\n");
    assert_eq!(contents(&again), contents(&talk));
    said(&home, &FLAGS, "/load before.json\n/export talk.md\n");
    let text = std::fs::read_to_string(home.path().join("talk.md")).unwrap();
    assert!(text.contains("## You\n\na note.txt:"), "{text}");
    let run = talk_fails(&home, "/load before.json\n/export talk.md\n");
    assert!(run.contains("talk.md"), "nothing is written over: {run}");
}

#[track_caller]
fn talk_fails(home: &Home, lines: &str) -> String {
    let run = talk(home, &FLAGS, lines);
    assert_eq!(run.status.code(), Some(1), "{lines}: {}", stderr(&run));
    stderr(&run)
}

#[test]
fn what_cannot_be_done_ends_a_pipe_with_its_reason() {
    let home = Home::new();
    for (lines, word) in [
        ("/nothing\n", "/nothing"),
        ("/set temperature hot\n", "hot"),
        ("/set warmth 1\n", "warmth"),
        ("/regen\n", "/regen"),
        ("/file absent.txt x\n", "absent.txt"),
        ("/load absent.json\n", "absent.json"),
        ("/export talk.pdf\n", ".md"),
        ("/think on\n", "template"),
        ("/branch 7\n", "/branch"),
    ] {
        let text = talk_fails(&home, lines);
        assert!(text.contains("error: ") && text.contains(word), "{lines}: {text}");
    }
    let run = talk(&home, &FLAGS, "/load absent\n");
    assert!(run.status.code() == Some(3) && stderr(&run).contains("absent"), "{}", stderr(&run));
    let run = talk(&home, &FLAGS, "/model ./absent\n");
    assert_eq!(run.status.code(), Some(3), "{}", stderr(&run));
}

#[test]
fn settings_hold_for_the_next_answer() {
    let home = Home::new();
    let flags = ["chat", "--no-save", "--max-tokens", "20", "--temperature", "0"];
    let out = said(
        &home,
        &flags,
        "Once upon a time\n/set max-tokens 3\n/regen\n/set max-tokens default\n/regen\n/set\n",
    );
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with(lines[1]) && lines[0] != lines[1], "{out}");
    assert_eq!(lines[0], lines[2]);
    assert!(out.contains("temperature") && out.contains("when-full"), "{out}");
}

#[test]
fn a_model_without_a_template_needs_to_be_asked_for_plainly() {
    let home = Home::new();
    let folder = home.llama("words", |_| {});
    let flags = ["chat", "--no-save", "--max-tokens", "4", "--model-path", argument(&folder)];
    let run = talk(&home, &flags, "w1 w2\n");
    assert_eq!(run.status.code(), Some(2));
    assert!(stderr(&run).contains("--plain") && stderr(&run).contains("chat template"), "{}", stderr(&run));
    let out = said(&home, &[&flags[..], &["--plain"]].concat(), "w1 w2\nw3\n");
    assert!(out.contains('w'), "{out}");
}

#[test]
fn a_full_context_stops_or_is_made_room_in_as_was_asked() {
    let home = Home::new();
    let lines = "Tell me about a king.\n".repeat(12) + "/stats\n";
    let flags = ["chat", "--no-save", "-c", "128", "--max-tokens", "24", "--seed", "1"];
    let run = talk(&home, &flags, &lines);
    assert_eq!(run.status.code(), Some(5), "{}", stderr(&run));
    assert!(
        stderr(&run).contains("context full") && stderr(&run).contains("--when-full"),
        "{}",
        stderr(&run)
    );
    for way in ["drop", "summarise"] {
        let run = talk(&home, &[&flags[..], &["--when-full", way]].concat(), &lines);
        let out = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success(), "{way}: {}", stderr(&run));
        assert!(out.contains("messages 24") && !out.contains(", 0 of them not given"), "{way}: {out}");
        assert_eq!(stderr(&run).contains("summing up"), way == "summarise", "{way}: {}", stderr(&run));
    }
    let long = format!("{}\n", "a king and a bird ".repeat(60));
    let run = talk(&home, &[&flags[..], &["--when-full", "drop"]].concat(), &long);
    assert_eq!(run.status.code(), Some(5), "a question alone that does not fit: {}", stderr(&run));
}

/// A model whose answers begin with reasoning, opened by its template: of the words that it gives, one is renamed to
/// the tag that ends it.
pub fn thinker(home: &Home) -> PathBuf {
    let folder = home.llama("thinker", |config| config["eos_token_id"] = json!(null));
    let template = "{% for m in messages %}{{ m.content }} {% endfor %}\
                    {% if enable_thinking is not defined or enable_thinking %}<think>{% else %}w9{% endif %}";
    let path = folder.join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    vocab.remove("w100");
    vocab.insert("<think>".into(), json!(100));
    tokenizer["pre_tokenizer"] = json!({ "type": "WhitespaceSplit" });
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    home.write("thinker/chat_template.jinja", template);
    let model = argument(&folder);
    let flags =
        ["generate", "w1", "--temperature", "0", "--max-tokens", "12", "--json", "--model-path", model];
    let ids: Vec<u32> = serde_json::from_value(home.json(&flags)["tokens"].clone()).unwrap();
    // The first one that is new: what comes before it stays what it was.
    let place =
        (2..ids.len()).find(|&i| !ids[..i].contains(&ids[i]) && !ids[i + 1..].contains(&ids[i])).unwrap();
    let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    let word = vocab.iter().find(|(_, id)| **id == json!(ids[place])).unwrap().0.clone();
    vocab.remove(&word);
    vocab.insert("</think>".into(), json!(ids[place]));
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    folder
}

#[test]
fn reasoning_is_kept_apart_from_the_answer() {
    let home = Home::new();
    let model = thinker(&home);
    let flags =
        ["chat", "--no-save", "--temperature", "0", "--max-tokens", "12", "--model-path", argument(&model)];
    let talk = exported(&home, &flags, "w1\n");
    let (reasoning, content) = (&talk["messages"][1]["reasoning"], contents(&talk)[1].clone());
    assert!(
        reasoning.as_str().is_some_and(|text| text.starts_with('w') && !text.contains("think")),
        "{talk}"
    );
    assert!(content.starts_with('w') && !content.contains("think"), "{talk}");
    let out = said(&home, &flags, "w1\n/think last\n/think off\nw1\n");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..2], [content.as_str(), reasoning.as_str().unwrap()]);
    let run = self::talk(&home, &[&flags[..], &["--thinking", "show"]].concat(), "w1\n");
    assert!(stderr(&run).contains(reasoning.as_str().unwrap()), "{}", stderr(&run));
    assert_eq!(String::from_utf8_lossy(&run.stdout).trim(), content);
}
