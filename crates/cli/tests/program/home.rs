//! A home folder of a test's own, the program run in it, and models to run.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use assert_cmd::Command;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longer than any run here takes on a busy machine; a hang ends the test.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Nothing of the machine's own configuration reaches a run in it.
pub struct Home {
    folder: TempDir,
}

impl Home {
    pub fn new() -> Home {
        Home { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of the home.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// What every run here has for an environment.
    pub fn variables(&self) -> Vec<(&'static str, PathBuf)> {
        let under = |name: &str| self.path().join(name);
        vec![
            ("HOME", under("")),
            ("XDG_CACHE_HOME", under("cache")),
            ("HF_HOME", under("hf")),
            ("TMPDIR", under("")),
            ("PATH", std::env::var_os("PATH").unwrap_or_default().into()),
        ]
    }

    /// The program with these arguments, in this home, with nothing on standard input.
    pub fn influence<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_influence"));
        command.args(arguments).env_clear().envs(self.variables()).current_dir(self.path()).timeout(PATIENCE);
        command
    }

    /// Runs it; standard output as text.
    #[track_caller]
    pub fn text(&self, arguments: &[&str]) -> String {
        let run = self.influence(arguments).output().unwrap();
        assert!(run.status.success(), "{arguments:?}: {}", stderr(&run));
        String::from_utf8(run.stdout).unwrap()
    }

    /// Runs it; standard output as JSON.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.text(arguments)).unwrap()
    }

    /// Runs what must fail; the exit code and what standard error says.
    #[track_caller]
    pub fn fails<S: AsRef<std::ffi::OsStr> + std::fmt::Debug>(&self, arguments: &[S]) -> (i32, String) {
        let run = self.influence(arguments).output().unwrap();
        let text = stderr(&run);
        assert!(!run.status.success(), "{arguments:?} went well: {text}");
        assert!(text.contains("error: ") && !text.contains("panicked"), "{arguments:?}: {text}");
        (run.status.code().unwrap_or(-1), text)
    }

    /// A folder of this home with a tiny random llama of 101 words, config.json changed by `edit`.
    pub fn llama(&self, name: &str, edit: impl FnOnce(&mut Value)) -> PathBuf {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures/llama");
        let mut config: Value =
            serde_json::from_slice(&std::fs::read(from.join("config.json")).unwrap()).unwrap();
        edit(&mut config);
        self.write(&format!("{name}/config.json"), config.to_string());
        let weights = std::fs::read(from.join("model.safetensors")).unwrap();
        self.write(&format!("{name}/model.safetensors"), weights);
        self.write(&format!("{name}/tokenizer.json"), words().to_string());
        self.path().join(name)
    }
}

/// A tokenizer of the words w0 to w100.
fn words() -> Value {
    let vocab: serde_json::Map<String, Value> = (0..101).map(|id| (format!("w{id}"), json!(id))).collect();
    json!({
        "version": "1.0",
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": { "type": "Whitespace" },
        "post_processor": null,
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "w0" },
    })
}

pub fn stderr(run: &Output) -> String {
    String::from_utf8_lossy(&run.stderr).into_owned()
}

/// The model that ships, as a file.
pub fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/influence-tiny.gguf")
}

/// The path as an argument.
pub fn argument(path: &Path) -> &str {
    path.to_str().unwrap()
}
