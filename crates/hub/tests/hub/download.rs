//! Downloads that end well, and what they leave behind.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use hub::download::{Downloaded, download};
use hub::{Reference, Store};

use crate::standin::{Fault, LARGE, Model, noise, sum};
use crate::{Bench, Told, request};

const WANTED: [&str; 4] = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];

fn same_bytes(bench: &Bench, name: &str, folder: &Path, files: &[&str]) {
    for file in files {
        assert_eq!(fs::read(folder.join(file)).unwrap(), bench.model(name).file(file).unwrap(), "{file}");
    }
}

#[test]
fn a_model_lands_in_the_shared_layout_and_is_linked() {
    let bench = Bench::new();
    let got = bench.get("acme/usual").unwrap();
    assert_eq!(got.files, WANTED);
    assert_eq!(got.link, bench.config.models_dir.join("acme_usual"));
    assert_eq!(got.path, got.link);
    same_bytes(&bench, "acme/usual", &got.link, &WANTED);
    let model = bench.model("acme/usual");
    let repo = bench.repo("acme/usual");
    assert_eq!(fs::read_to_string(repo.join("refs/main")).unwrap(), model.commit);
    let mut sums: Vec<String> = WANTED.iter().map(|file| sum(model.file(file).unwrap())).collect();
    sums.sort();
    assert_eq!(bench.blobs("acme/usual"), sums, "blobs are named by their sums, and nothing else is there");
    let pointer = fs::read_link(repo.join("snapshots").join(&model.commit).join("config.json")).unwrap();
    assert_eq!(pointer, Path::new("../../blobs").join(sum(model.file("config.json").unwrap())));
}

#[test]
fn a_second_download_fetches_nothing() {
    let bench = Bench::new();
    bench.get("acme/usual").unwrap();
    let before = bench.hub.seen("/resolve/").len();
    let told = Arc::new(Told::default());
    download(&bench.config, &request("acme/usual"), told.clone()).unwrap();
    assert_eq!(bench.hub.seen("/resolve/").len(), before);
    assert!(told.planned.lock().unwrap().iter().all(|(_, _, present)| *present));
    let mut again = request("acme/usual");
    again.force = true;
    download(&bench.config, &again, Arc::new(())).unwrap();
    assert_eq!(bench.hub.seen("/resolve/").len(), before + WANTED.len(), "unless forced");
}

#[test]
fn a_new_commit_shares_what_did_not_change() {
    let bench = Bench::new();
    let first = bench.get("acme/usual").unwrap();
    let mut model = Model::usual();
    model.commit = "c".repeat(40);
    model.files.iter_mut().find(|(path, _)| path == "config.json").unwrap().1 = b"{\"v\":2}".to_vec();
    bench.hub.add("acme/usual", model);
    let before = bench.hub.seen("/resolve/").len();
    let second = bench.get("acme/usual").unwrap();
    assert_eq!(bench.hub.seen("/resolve/").len(), before + 1);
    assert_ne!(first.snapshot, second.snapshot);
    assert_eq!(fs::read(second.link.join("config.json")).unwrap(), b"{\"v\":2}");
    assert!(first.snapshot.join("config.json").exists(), "the older commit stays");
}

#[test]
fn revisions_are_pinned_to_commits() {
    let bench = Bench::new();
    let commit = bench.model("acme/usual").commit;
    let got = bench.get("acme/usual@refs/pr/1").unwrap();
    assert_eq!(got.commit, commit);
    assert_eq!(fs::read_to_string(bench.repo("acme/usual").join("refs/refs/pr/1")).unwrap(), commit);
    let by_commit = bench.get(&format!("acme/usual@{commit}")).unwrap();
    assert_eq!(by_commit.snapshot, got.snapshot);
    assert!(!bench.repo("acme/usual").join("refs/main").exists());
    assert!(bench.hub.seen("/resolve/").iter().all(|seen| seen.path.contains(&commit)), "never by branch");
}

#[test]
fn include_and_exclude_choose() {
    let bench = Bench::new();
    let mut wish = request("acme/usual");
    wish.include = vec!["*.onnx".into(), "*.json".into()];
    wish.exclude = vec!["tokenizer*".into()];
    let got = download(&bench.config, &wish, Arc::new(())).unwrap();
    assert_eq!(got.files, ["config.json", "onnx/model.onnx"]);
    same_bytes(&bench, "acme/usual", &got.link, &["config.json", "onnx/model.onnx"]);
    let pointer = fs::read_link(got.snapshot.join("onnx/model.onnx")).unwrap();
    assert!(pointer.starts_with("../../../blobs"), "{pointer:?}");
}

#[test]
fn a_quantization_is_all_its_shards_and_nothing_else() {
    let bench = Bench::new();
    let got = bench.get("acme/quants:q8_0").unwrap();
    assert_eq!(got.files, ["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"]);
    assert_eq!(got.path, got.link.join("m-Q8_0-00001-of-00002.gguf"));
    let default = bench.get("acme/quants").unwrap();
    assert_eq!(default.files, ["m-Q4_K_M.gguf"]);
    assert!(got.path.exists() && default.path.exists(), "both stand in one snapshot");
    let error = bench.get("acme/quants:Q2_K").unwrap_err().to_string();
    assert!(error.contains("Q4_K_M, Q8_0"), "{error}");
}

#[test]
fn a_cut_download_goes_on_where_it_stopped() {
    let bench = Bench::new();
    let body = noise(300_000, 1);
    bench.hub.fault(&sum(&body), 1, Fault::Cut(100_000));
    bench.get("acme/usual").unwrap();
    let ranges: Vec<String> = bench.hub.seen(&sum(&body)).into_iter().filter_map(|seen| seen.range).collect();
    assert_eq!(ranges.len(), 1, "{ranges:?}");
    let from: usize = ranges[0].strip_prefix("bytes=").unwrap().trim_end_matches('-').parse().unwrap();
    assert!(from > 0 && from <= 100_000, "{from}");
}

#[test]
fn a_part_of_an_earlier_run_is_kept_and_checked() {
    let bench = Bench::new();
    let body = noise(300_000, 1);
    let part = bench.repo("acme/usual").join("blobs").join(format!("{}.incomplete", sum(&body)));
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, &body[..123_456]).unwrap();
    let got = bench.get("acme/usual").unwrap();
    assert_eq!(bench.hub.seen(&sum(&body))[0].range.as_deref(), Some("bytes=123456-"));
    same_bytes(&bench, "acme/usual", &got.link, &WANTED);
}

#[test]
fn a_bad_part_of_an_earlier_run_is_thrown_away() {
    for len in [1000, 300_000, 400_000] {
        let bench = Bench::new();
        let body = noise(300_000, 1);
        let part = bench.repo("acme/usual").join("blobs").join(format!("{}.incomplete", sum(&body)));
        fs::create_dir_all(part.parent().unwrap()).unwrap();
        fs::write(&part, vec![0; len]).unwrap();
        let got = bench.get("acme/usual").unwrap();
        same_bytes(&bench, "acme/usual", &got.link, &WANTED);
    }
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let bench = Bench::new();
    let large = sum(&noise(300_000, 1));
    bench.hub.fault(&large, 1, Fault::Cut(100_000));
    bench.hub.fault(&large, 1, Fault::NoRange);
    let told = Arc::new(Told::default());
    let got = download(&bench.config, &request("acme/usual"), told.clone()).unwrap();
    same_bytes(&bench, "acme/usual", &got.link, &WANTED);
    assert_eq!(bench.hub.seen(&large).len(), 2, "what came whole after the cut was kept");
}

#[test]
fn many_cuts_with_progress_between_do_not_end_a_download() {
    let bench = Bench::new();
    let body = noise(2_000_000, 9);
    bench.hub.add("acme/big", Model::new(&[("model.safetensors", body)]));
    bench.hub.fault("/cdn/", 12, Fault::Cut(150_000));
    assert!(bench.config.retries < 12);
    bench.get("acme/big").unwrap();
}

#[test]
fn progress_adds_up() {
    let bench = Bench::new();
    let told = Arc::new(Told::default());
    download(&bench.config, &request("acme/usual"), told.clone()).unwrap();
    let planned = told.planned.lock().unwrap().clone();
    for (index, (path, size, present)) in planned.iter().enumerate() {
        assert!(!present);
        let moved = told.moved.lock().unwrap();
        let last = moved.iter().rfind(|(file, _)| *file == index).unwrap().1;
        assert_eq!(last, *size, "{path}");
    }
    assert_eq!(told.done.lock().unwrap().len(), planned.len());
}

#[test]
fn copies_stand_where_links_cannot() {
    let mut bench = Bench::new();
    bench.config.copy_files = true;
    let got = bench.get("acme/usual").unwrap();
    same_bytes(&bench, "acme/usual", &got.link, &WANTED);
    assert!(!got.link.is_symlink() && !got.link.join("config.json").is_symlink());
    let again = bench.get("acme/usual").unwrap();
    same_bytes(&bench, "acme/usual", &again.link, &WANTED);
    let store = Store::new(&bench.config);
    assert_eq!(store.list().len(), 1, "the copy is the model, not a second one");
    store.remove(&store.plan_removal("acme/usual").unwrap()).unwrap();
    assert!(!got.link.exists() && store.list().is_empty());
}

#[test]
fn what_a_person_keeps_in_models_is_left_alone() {
    let bench = Bench::new();
    let place = bench.config.models_dir.join("acme_usual");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("precious"), "x").unwrap();
    let error = bench.get("acme/usual").unwrap_err().to_string();
    assert!(error.contains("acme_usual") && error.contains("--dir"), "{error}");
    assert!(place.join("precious").exists());
    assert!(bench.hub.seen("").is_empty(), "found out before anything was asked");
    // A link of theirs to somewhere else is theirs too.
    fs::remove_dir_all(&place).unwrap();
    let elsewhere = bench.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&elsewhere, &place).unwrap();
        assert!(bench.get("acme/usual").is_err());
        fs::remove_dir(&elsewhere).unwrap();
        bench.get("acme/usual").expect("a link that leads nowhere may be replaced");
    }
}

#[test]
fn offline_finds_what_is_here_and_says_what_is_not() {
    let mut bench = Bench::new();
    let online = bench.get("acme/usual").unwrap();
    bench.get("acme/quants:Q4_K_M").unwrap();
    fs::remove_file(&online.link).unwrap();
    bench.config.offline = true;
    let before = bench.hub.seen("").len();
    let offline: Downloaded = bench.get("acme/usual").unwrap();
    assert_eq!((offline.snapshot, offline.files), (online.snapshot, online.files));
    assert!(offline.link.exists());
    bench.get("acme/quants:Q4_K_M").unwrap();
    for missing in ["acme/other", "acme/usual@v2", "acme/quants:Q8_0"] {
        let error = bench.get(missing).unwrap_err();
        assert_eq!(error.kind(), hub::Kind::Offline, "{error}");
    }
    assert_eq!(bench.hub.seen("").len(), before);
}

#[test]
fn two_downloads_at_once_do_not_spoil_each_other() {
    let bench = Bench::new();
    let body = noise(3_000_000, 11);
    bench
        .hub
        .add("acme/big", Model::new(&[("model.safetensors", body.clone()), ("config.json", b"{}".to_vec())]));
    bench.hub.fault("/cdn/", 2, Fault::Cut(1_000_000));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| bench.get("acme/big").unwrap())).collect();
        threads.into_iter().for_each(|thread| drop(thread.join().unwrap()));
    });
    assert_eq!(fs::read(bench.config.models_dir.join("acme_big/model.safetensors")).unwrap(), body);
    let fetched = bench.hub.seen("/cdn/").len();
    assert!(fetched <= 3, "one fetched it (cut twice), the others waited: {fetched}");
}

#[test]
fn sums_come_from_the_file_where_the_list_has_none() {
    let bench = Bench::new();
    bench.hub.add("acme/mirror", Model { sums_hidden: true, ..Model::usual() });
    let got = bench.get("acme/mirror").unwrap();
    let model = bench.model("acme/mirror");
    let mut sums: Vec<String> = WANTED.iter().map(|file| sum(model.file(file).unwrap())).collect();
    sums.sort();
    assert_eq!(bench.blobs("acme/mirror"), sums);
    assert_eq!(got.files, WANTED);
}

#[test]
fn empty_files_are_files() {
    let bench = Bench::new();
    bench
        .hub
        .add("acme/empty", Model::new(&[("model.safetensors", noise(LARGE, 1)), ("merges.txt", vec![])]));
    let got = bench.get("acme/empty").unwrap();
    assert_eq!(fs::read(got.link.join("merges.txt")).unwrap(), b"");
}

#[test]
fn references_by_folder_name_work_too() {
    let bench = Bench::new();
    assert_eq!(Reference::parse("acme_usual").unwrap().repo, "acme/usual");
    assert_eq!(bench.get("acme_usual").unwrap().repo, "acme/usual");
}
