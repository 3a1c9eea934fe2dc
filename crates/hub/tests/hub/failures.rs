//! Downloads that end badly: each with a clear end state, and nothing half-written taken for whole.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hub::config::Token;
use hub::download::download;
use hub::{Error, Kind};

use crate::standin::{Fault, Model, noise, sum};
use crate::{Bench, Told, request};

/// The download of `name` fails as `kind`, with `words` in its text, and leaves nothing whole.
fn fails(bench: &Bench, name: &str, kind: Kind, words: &[&str]) -> Error {
    let error = bench.get(name).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} is not in: {error}");
    }
    assert!(bench.nothing_whole(name.split([':', '@']).next().unwrap()), "{error}");
    error
}

#[test]
fn missing_models_and_revisions() {
    let bench = Bench::new();
    fails(&bench, "acme/none", Kind::NotFound, &["acme/none", "influence search"]);
    fails(&bench, "acme/usual@v9", Kind::NotFound, &["revision", "v9"]);
    assert_eq!(Kind::NotFound.exit_code(), 3);
}

#[test]
fn gated_models_say_how_to_get_in() {
    let mut bench = Bench::new();
    bench.hub.add("acme/gated", Model { gated: Some("good".into()), ..Model::usual() });
    let error = fails(&bench, "acme/gated", Kind::AccessDenied, &["gated", "HF_TOKEN", "ask for access"]);
    assert_eq!(error.kind().exit_code(), 4);
    bench.config.token = Token::new("bad");
    fails(&bench, "acme/gated", Kind::AccessDenied, &["account of your token"]);
    bench.config.token = Token::new("good");
    bench.get("acme/gated").unwrap();
}

#[test]
fn private_models_are_denied_without_the_token() {
    let mut bench = Bench::new();
    bench.hub.add("acme/private", Model { private: Some("good".into()), ..Model::usual() });
    fails(&bench, "acme/private", Kind::AccessDenied, &["private", "HF_TOKEN"]);
    bench.config.token = Token::new("good");
    bench.get("acme/private").unwrap();
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let mut bench = Bench::new();
    bench.config.token = Token::new("hf_secret");
    bench.get("acme/usual").unwrap();
    let seen = bench.hub.seen("");
    assert!(seen.iter().any(|seen| seen.host == "storage"));
    for seen in seen {
        assert_eq!(seen.token.is_some(), seen.host == "hub", "{seen:?}");
    }
}

#[test]
fn renamed_models_are_followed_and_said() {
    let bench = Bench::new();
    bench.hub.state().renamed.insert("old/name".into(), "acme/usual".into());
    let told = Arc::new(Told::default());
    let got = download(&bench.config, &request("old/name"), told.clone()).unwrap();
    assert_eq!(got.repo, "acme/usual");
    assert!(got.link.ends_with("acme_usual"));
    assert_eq!(*told.notes.lock().unwrap(), ["old/name is now called acme/usual"]);
}

#[test]
fn redirects_without_end_are_left() {
    let bench = Bench::new();
    bench.hub.state().renamed.insert("a/a".into(), "b/b".into());
    bench.hub.state().renamed.insert("b/b".into(), "a/a".into());
    fails(&bench, "a/a", Kind::Hostile, &["redirects"]);
}

#[test]
fn too_many_requests_are_waited_out_when_short() {
    let bench = Bench::new();
    bench.hub.fault("/resolve/", 1, Fault::Status(429, vec![("retry-after", "1".into())]));
    let start = Instant::now();
    bench.get("acme/usual").unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "Retry-After was honoured");
}

#[test]
fn too_many_requests_end_it_when_long() {
    let bench = Bench::new();
    bench.hub.fault("/api/models", 9, Fault::Status(429, vec![("retry-after", "100000".into())]));
    let start = Instant::now();
    fails(&bench, "acme/usual", Kind::RateLimited, &["429", "100000 s", "HF_TOKEN"]);
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(bench.hub.seen("").len(), 1, "it does not knock again");
}

#[test]
fn a_server_in_trouble_is_asked_again_and_then_left() {
    let bench = Bench::new();
    bench.hub.fault("/api/models", 2, Fault::Status(503, vec![]));
    bench.hub.fault("/resolve/", 2, Fault::Status(500, vec![]));
    bench.hub.fault("/cdn/", 2, Fault::Status(502, vec![]));
    bench.get("acme/usual").unwrap();
    let bench = Bench::new();
    bench.hub.fault("/api/models", 99, Fault::Status(503, vec![]));
    fails(&bench, "acme/usual", Kind::Other, &["503", "in trouble"]);
    assert_eq!(bench.hub.seen("").len(), 1 + bench.config.retries as usize);
}

#[test]
fn a_connection_that_is_always_cut_leaves_a_part_to_go_on_from() {
    let bench = Bench::new();
    bench.hub.fault("/cdn/", 99, Fault::Cut(2_500));
    fails(&bench, "acme/usual", Kind::Offline, &["try again to go on"]);
    let part = format!("{}.incomplete", sum(&noise(300_000, 1)));
    assert!(bench.blobs("acme/usual").contains(&part));
    bench.hub.state().faults.clear();
    bench.get("acme/usual").unwrap();
    assert!(bench.blobs("acme/usual").iter().all(|name| !name.ends_with(".incomplete")));
}

#[test]
fn a_connection_that_brings_nothing_counts_as_cut() {
    let mut bench = Bench::new();
    bench.config.stall_timeout = Duration::from_millis(300);
    bench.hub.fault("/cdn/", 1, Fault::Stall(10_000));
    bench.get("acme/usual").unwrap();
    let bench = Bench { config: hub::Config { retries: 1, ..bench.config.clone() }, ..Bench::new() };
    let config = hub::Config { endpoint: bench.hub.endpoint(), ..bench.config.clone() };
    let bench = Bench { config, ..bench };
    bench.hub.add("acme/slow", Model::new(&[("model.safetensors", noise(9_000, 21))]));
    bench.hub.fault("/cdn/", 9, Fault::Stall(0));
    fails(&bench, "acme/slow", Kind::Offline, &["nothing came"]);
}

#[test]
fn a_wrong_checksum_removes_the_file() {
    for file in ["model.safetensors", "config.json"] {
        let bench = Bench::new();
        let name = sum(bench.model("acme/usual").file(file).unwrap());
        let part = if file == "config.json" { "/config.json" } else { &name };
        bench.hub.fault(part, 99, Fault::Corrupt);
        fails(&bench, "acme/usual", Kind::Corrupt, &["checksum", "removed", file]);
        assert!(bench.blobs("acme/usual").iter().all(|blob| !blob.starts_with(&name)), "{file}");
    }
}

#[test]
fn more_bytes_than_promised_are_not_taken() {
    let bench = Bench::new();
    bench.hub.fault("/cdn/", 99, Fault::Long);
    fails(&bench, "acme/usual", Kind::Corrupt, &["more than"]);
}

#[test]
fn promises_that_contradict_each_other_are_refused() {
    let bench = Bench::new();
    bench.hub.fault(
        "model.safetensors",
        9,
        Fault::Header("x-linked-etag", format!("\"{}\"", "a".repeat(64))),
    );
    fails(&bench, "acme/usual", Kind::Corrupt, &["promises"]);
    assert!(bench.hub.seen("/cdn/").len() <= 2, "the large file was not read on");
    let bench = Bench::new();
    bench.hub.fault("model.safetensors", 9, Fault::Header("x-linked-size", "5".into()));
    fails(&bench, "acme/usual", Kind::Corrupt, &["promises 5 bytes"]);
}

#[test]
fn an_etag_that_is_a_path_is_no_name() {
    let bench = Bench::new();
    bench.hub.add("acme/mirror", Model { sums_hidden: true, ..Model::usual() });
    bench.hub.fault("model.safetensors", 9, Fault::Header("x-linked-etag", "\"../../../evil\"".into()));
    fails(&bench, "acme/mirror", Kind::Hostile, &["ETag"]);
}

#[test]
fn hostile_names_stop_everything() {
    for name in
        ["../evil.json", "/etc/evil", "a/../../evil.json", "C:\\evil.json", "..\\evil.json", "x\0.json"]
    {
        let bench = Bench::new();
        let mut model = Model::usual();
        model.files.push((name.to_owned(), b"evil".to_vec()));
        bench.hub.add("acme/evil", model);
        fails(&bench, "acme/evil", Kind::Hostile, &["nothing was downloaded"]);
        assert!(bench.hub.seen("/resolve/").is_empty());
    }
    let bench = Bench::new();
    let mut model = Model::usual();
    model.files.push(("nul.safetensors".to_owned(), b"device".to_vec()));
    bench.hub.add("acme/device", model);
    fails(&bench, "acme/device", Kind::Hostile, &["Windows"]);
}

#[test]
fn a_commit_that_is_none_is_no_folder_name() {
    for commit in ["../../../evil", "main", ""] {
        let bench = Bench::new();
        bench.hub.add("acme/evil", Model { commit: commit.into(), ..Model::usual() });
        fails(&bench, "acme/evil", Kind::Hostile, &["commit"]);
    }
}

#[test]
fn what_does_not_fit_is_not_begun() {
    let bench = Bench::new();
    bench
        .hub
        .add("acme/huge", Model { size_lie: Some(("model.safetensors".into(), 1 << 60)), ..Model::usual() });
    let error = fails(&bench, "acme/huge", Kind::DoesNotFit, &["GiB", "influence rm"]);
    assert_eq!(error.kind().exit_code(), 5);
    assert!(bench.hub.seen("/resolve/").is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_on_the_way_is_said() {
    let bench = Bench::new();
    let blobs = bench.repo("acme/usual").join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    // Every write to this device fails as one to a full disk does.
    let part = blobs.join(format!("{}.incomplete", sum(&noise(300_000, 1))));
    std::os::unix::fs::symlink("/dev/full", part).unwrap();
    fails(&bench, "acme/usual", Kind::DoesNotFit, &["disk is full", "continued"]);
}

#[test]
fn a_file_that_vanishes_on_the_way_is_said() {
    let bench = Bench::new();
    bench.hub.fault("tokenizer.json", 9, Fault::Status(404, vec![("x-error-code", "EntryNotFound".into())]));
    fails(&bench, "acme/usual", Kind::NotFound, &["tokenizer.json"]);
}

/// The child of the next test: downloads until it is killed. Does nothing in a usual run.
#[test]
fn child_that_downloads() {
    let Ok(folder) = std::env::var("HUB_TEST_CHILD_FOLDER") else { return };
    let endpoint = std::env::var("HUB_TEST_CHILD_ENDPOINT").unwrap();
    let folder = std::path::Path::new(&folder);
    let config = hub::Config { endpoint, ..hub::Config::new(folder.join("home/hub"), folder.join("models")) };
    let _ = download(&config, &request("acme/usual"), Arc::new(()));
}

#[test]
fn a_killed_download_leaves_only_parts() {
    let bench = Bench::new();
    bench.hub.fault("/cdn/", 99, Fault::Stall(70_000));
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "failures::child_that_downloads"])
        .env("HUB_TEST_CHILD_FOLDER", bench.dir.path())
        .env("HUB_TEST_CHILD_ENDPOINT", bench.hub.endpoint())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let part = bench.repo("acme/usual").join("blobs").join(format!("{}.incomplete", sum(&noise(300_000, 1))));
    let deadline = Instant::now() + Duration::from_secs(30);
    while fs::metadata(&part).map_or(0, |meta| meta.len()) < 70_000 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(fs::metadata(&part).unwrap().len(), 70_000);
    assert!(bench.nothing_whole("acme/usual"));
    assert!(hub::Store::new(&bench.config).resolve("acme/usual").is_err(), "not taken for a model");
    bench.hub.state().faults.clear();
    bench.get("acme/usual").unwrap();
    let ranges = bench.hub.seen(&sum(&noise(300_000, 1)));
    assert_eq!(
        ranges.last().unwrap().range.as_deref(),
        Some("bytes=70000-"),
        "the next run goes on from there"
    );
}
