//! Ctrl-C while an answer streams.
#![cfg(unix)]

use std::io::Read;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::home::{Home, argument, stderr};

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn the_answer_ends_cleanly() {
    let home = Home::new();
    // An answer that would go on for minutes: a long context, and nothing that ends it.
    let folder = home.llama("model", |config| {
        config["max_position_embeddings"] = json!(200_000);
        config["eos_token_id"] = json!(null);
    });
    let mut child = Command::new(env!("CARGO_BIN_EXE_influence"))
        .args(["generate", "w1 w2 w3", "--seed", "1", "--max-tokens", "100000"])
        .args(["--model-path", argument(&folder), "-v"])
        .env_clear()
        .envs(home.variables())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut first = [0];
    out.read_exact(&mut first).unwrap();
    signal(&child, "-INT");
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let run = child.wait_with_output().unwrap();
    assert_eq!(run.status.code(), Some(130), "{}", stderr(&run));
    assert!(rest.ends_with('\n'), "the line is ended: {rest:?}");
    assert!(stderr(&run).contains("cancelled") && !stderr(&run).contains("panicked"), "{}", stderr(&run));
}
