//! `influence chat` in a pseudo-terminal, as a person meets it.
#![cfg(unix)]

use std::path::Path;
use std::process::Command;

use rexpect::session::{PtySession, spawn_command};
use serde_json::json;

use crate::chat::thinker;
use crate::home::{Home, PATIENCE, argument};

/// What the line editor tells the terminal when it begins to read a line, and when it has painted it. What is typed
/// before that may be lost.
const PROMPT: (&str, &str) = ("\u{1b}[?2004h", "\u{1b}[?2026l");

/// A chat in a terminal of this kind.
fn chat(home: &Home, term: &str, flags: &[&str]) -> PtySession {
    let mut command = Command::new(env!("CARGO_BIN_EXE_influence"));
    command
        .arg("chat")
        .args(flags)
        .env_clear()
        .envs(home.variables())
        .env("TERM", term)
        .current_dir(home.path());
    spawn_command(command, Some(PATIENCE.as_millis() as u64)).unwrap()
}

/// A model that would go on for very long.
fn endless(home: &Home) -> std::path::PathBuf {
    let folder = home.llama("endless", |config| {
        config["max_position_embeddings"] = json!(100_000);
        config["eos_token_id"] = json!(null);
    });
    home.write("endless/chat_template.jinja", "{% for m in messages %}{{ m.content }} {% endfor %}");
    folder
}

/// What the program writes until the next of these words.
#[track_caller]
fn until(terminal: &mut PtySession, word: &str) -> String {
    terminal.exp_string(word).unwrap_or_else(|error| panic!("{word:?} does not come: {error}"))
}

/// What the program writes until it reads the next line.
#[track_caller]
fn prompt(terminal: &mut PtySession) -> String {
    let text = until(terminal, PROMPT.0);
    until(terminal, PROMPT.1);
    text
}

#[track_caller]
fn leave(mut terminal: PtySession) {
    terminal.send_line("/exit").unwrap();
    terminal.exp_eof().unwrap();
}

#[test]
fn a_first_chat_says_how_to_get_a_model_and_answers() {
    let home = Home::new();
    let mut terminal = chat(&home, "xterm", &["--seed", "1", "--max-tokens", "16"]);
    let greeting = prompt(&mut terminal);
    for word in ["/help", "influence search", "influence download -m", "influence chat -m"] {
        assert!(greeting.contains(word), "{word}: {greeting:?}");
    }
    terminal.send_line("Once upon a time").unwrap();
    let answer = prompt(&mut terminal);
    assert!(answer.contains("there was") || answer.split_whitespace().count() > 8, "{answer:?}");
    terminal.send_line("/stats").unwrap();
    until(&mut terminal, "decode");
    prompt(&mut terminal);
    leave(terminal);
    let rows = home.json(&["history", "--json"]);
    assert_eq!(rows[0]["messages"], 2, "{rows}");
    let lines = std::fs::read_to_string(home.path().join(".local/share/influence/lines.txt")).unwrap();
    assert!(lines.contains("Once upon a time"), "{lines}");
    let mut again = chat(&home, "xterm", &["--continue"]);
    until(&mut again, "Once upon a time");
    leave(again);
}

#[test]
fn ctrl_c_stops_the_answer_and_ctrl_d_leaves() {
    let home = Home::new();
    let folder = endless(&home);
    let mut terminal = chat(&home, "xterm", &["--seed", "1", "--model-path", argument(&folder)]);
    prompt(&mut terminal);
    terminal.send_control('c').unwrap();
    until(&mut terminal, "leaves");
    for _ in 0..2 {
        prompt(&mut terminal);
        terminal.send_line("w1 w2 w3").unwrap();
        until(&mut terminal, "w3");
        until(&mut terminal, "w");
        terminal.send_control('c').unwrap();
        until(&mut terminal, "(stopped)");
    }
    prompt(&mut terminal);
    terminal.send_control('d').unwrap();
    terminal.exp_eof().unwrap();
}

#[test]
fn commands_are_completed_and_messages_have_several_lines() {
    let home = Home::new();
    let mut terminal = chat(&home, "xterm", &["--seed", "1", "--max-tokens", "8"]);
    prompt(&mut terminal);
    terminal.send("/he\t\r").unwrap();
    terminal.flush().unwrap();
    until(&mut terminal, "what the model is told before all");
    until(&mut terminal, "Tab completes");
    prompt(&mut terminal);
    terminal.send_line("first\\").unwrap();
    terminal.send_line("second").unwrap();
    prompt(&mut terminal);
    terminal.send_line("/export talk.json").unwrap();
    until(&mut terminal, "written to");
    leave(terminal);
    let text = std::fs::read_to_string(home.path().join("talk.json")).unwrap();
    assert!(text.contains("first\\nsecond"), "{text}");
}

#[test]
fn lines_that_come_at_once_are_all_read() {
    let home = Home::new();
    let mut terminal = chat(&home, "xterm", &["--seed", "1", "--max-tokens", "8"]);
    prompt(&mut terminal);
    terminal.send("/set max-tokens 4\r/set top-k 3\r/stats\r").unwrap();
    terminal.flush().unwrap();
    until(&mut terminal, "max-tokens is 4");
    until(&mut terminal, "top-k is 3");
    until(&mut terminal, "nothing has been answered");
    prompt(&mut terminal);
    leave(terminal);
}

#[test]
fn reasoning_is_folded_and_unfolded() {
    let home = Home::new();
    let folder = thinker(&home);
    let flags = ["--temperature", "0", "--max-tokens", "12", "--model-path", argument(&folder)];
    let mut terminal = chat(&home, "xterm", &flags);
    prompt(&mut terminal);
    terminal.send_line("w1").unwrap();
    until(&mut terminal, "\u{1b}[2mthinking, ");
    until(&mut terminal, "thought for ");
    prompt(&mut terminal);
    terminal.send_line("/think show").unwrap();
    prompt(&mut terminal);
    terminal.send_line("w1").unwrap();
    until(&mut terminal, "\u{1b}[2mw");
    prompt(&mut terminal);
    leave(terminal);
}

#[test]
fn a_full_context_is_the_users_choice() {
    let home = Home::new();
    let mut terminal = chat(&home, "xterm", &["-c", "96", "--max-tokens", "24", "--seed", "1"]);
    prompt(&mut terminal);
    let mut asked = 0;
    for _ in 0..8 {
        terminal.send_line("Tell me about a king and a bird.").unwrap();
        let (_, met) = terminal.exp_regex(r"context is full|\x1b\[\?2004h").unwrap();
        if met.contains("full") {
            asked += 1;
            until(&mut terminal, "s[u]mmarise");
            terminal.send_line(["s", "d"][asked - 1]).unwrap();
            let told = ["Nothing was sent", "no longer given"][asked - 1];
            until(&mut terminal, told);
            prompt(&mut terminal);
        }
        if asked == 2 {
            break;
        }
    }
    assert_eq!(asked, 2, "the context was never full");
    leave(terminal);
}

/// What a terminal without commands gets: text.
fn plain(home: &Home, term: &str, flags: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_influence"));
    command.arg("chat").args(flags).env_clear().envs(home.variables()).env("TERM", term);
    command.envs(variables.iter().copied()).current_dir(home.path());
    let mut terminal = spawn_command(command, Some(PATIENCE.as_millis() as u64)).unwrap();
    let mut all = until(&mut terminal, "> ");
    terminal.send_line("Once upon a time").unwrap();
    all += &until(&mut terminal, "> ");
    terminal.send_line("/exit").unwrap();
    all + &terminal.exp_eof().unwrap()
}

#[test]
fn a_dumb_terminal_gets_no_escapes_and_no_colour_no_colours() {
    let home = Home::new();
    let flags = ["--seed", "1", "--max-tokens", "8", "--no-save"];
    let text = plain(&home, "dumb", &flags, &[]);
    assert!(!text.contains('\u{1b}') && text.contains("/help"), "{text:?}");
    let text = plain(&home, "xterm", &flags, &[("NO_COLOR", "1")]);
    assert!(!text.contains("\u{1b}[2m") && !text.contains("\u{1b}[1m"), "{text:?}");
    assert!(
        !Path::new(&home.path().join(".local/share/influence/lines.txt")).exists(),
        "--no-save keeps no lines"
    );
}

#[test]
fn a_text_of_a_model_does_not_command_the_terminal_and_reaches_a_pipe_whole() {
    let home = Home::new();
    let folder = home.llama("evil", |_| {});
    let file = folder.join("tokenizer.json");
    let mut tokenizer: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    tokenizer["model"]["vocab"]["\u{1b}]0;title\u{7}here"] = json!(101);
    std::fs::write(&file, tokenizer.to_string()).unwrap();
    let arguments = ["detokenize", "101", "--model-path", argument(&folder)];
    assert_eq!(home.text(&arguments), "\u{1b}]0;title\u{7}here\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_influence"));
    command.args(arguments).env_clear().envs(home.variables()).env("TERM", "xterm");
    let mut terminal = spawn_command(command, Some(PATIENCE.as_millis() as u64)).unwrap();
    let text = terminal.exp_eof().unwrap();
    assert!(text.contains("]0;titlehere") && !text.contains(['\u{1b}', '\u{7}']), "{text:?}");
}
