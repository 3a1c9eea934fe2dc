//! What is here, by name, and how it goes.

use std::fs;
use std::path::Path;

use hub::search::Format;
use hub::store::{Model, Origin};
use hub::{Kind, Store};

use crate::Bench;
use crate::standin;

fn store(bench: &Bench) -> Store {
    Store::new(&bench.config)
}

fn names(store: &Store) -> Vec<String> {
    store.list().into_iter().map(|model| model.name).collect()
}

fn named(store: &Store, name: &str) -> Model {
    store.list().into_iter().find(|model| model.name == name).unwrap()
}

fn write(path: impl AsRef<Path>, content: &str) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn an_empty_machine_has_no_models() {
    let bench = Bench::new();
    assert!(store(&bench).list().is_empty());
    let error = store(&bench).resolve("acme/usual").unwrap_err();
    assert!(
        error.kind() == Kind::NotFound && error.to_string().contains("influence download -m acme/usual"),
        "{error}"
    );
    assert!(store(&bench).plan_removal("acme/usual").is_err());
}

#[test]
fn downloads_and_what_lies_in_models_are_listed() {
    let bench = Bench::new();
    let models = &bench.config.models_dir;
    bench.get("acme/usual").unwrap();
    bench.get("acme/quants:Q8_0").unwrap();
    write(models.join("own/config.json"), "{}");
    write(models.join("own/model.safetensors"), "w");
    write(models.join("loose-Q4_0.gguf"), "12345");
    write(models.join("split-Q8_0-00001-of-00002.gguf"), "1");
    write(models.join("notes/readme.txt"), "not a model");
    let store = store(&bench);
    assert_eq!(
        names(&store),
        ["acme/quants", "acme/usual", "loose-Q4_0", "own", "split-Q8_0-00001-of-00002"]
    );
    let usual = named(&store, "acme/usual");
    assert_eq!(usual.path, models.join("acme_usual"));
    assert_eq!(usual.revision, Some(bench.model("acme/usual").commit));
    assert_eq!(
        (usual.format, usual.complete, usual.origin),
        (Some(Format::Safetensors), true, Origin::Cache)
    );
    assert_eq!(usual.size, usual.files.iter().map(|file| file.size).sum::<u64>());
    assert_eq!(named(&store, "acme/quants").quants, ["Q8_0"]);
    assert_eq!(named(&store, "loose-Q4_0").size, 5);
    assert!(!named(&store, "split-Q8_0-00001-of-00002").complete);
}

#[test]
fn every_name_resolves_without_the_network() {
    let bench = Bench::new();
    let models = &bench.config.models_dir;
    let usual = bench.get("acme/usual").unwrap();
    bench.get("acme/quants:Q8_0").unwrap();
    bench.get("acme/quants:Q4_K_M").unwrap();
    write(models.join("loose-Q4_0.gguf"), "12345");
    let before = bench.hub.seen("").len();
    let store = store(&bench);
    let commit = bench.model("acme/usual").commit;
    let link = models.join("acme_usual");
    for name in ["acme/usual", "acme_usual", "ACME/Usual", link.to_str().unwrap()] {
        assert_eq!(store.resolve(name).unwrap(), link, "{name}");
    }
    for revision in ["main", commit.as_str(), &commit[..9]] {
        assert_eq!(store.resolve(&format!("acme/usual@{revision}")).unwrap(), usual.link, "{revision}");
    }
    let quants = models.join("acme_quants");
    assert_eq!(store.resolve("acme/quants").unwrap(), quants.join("m-Q4_K_M.gguf"));
    assert_eq!(store.resolve("acme/quants:q8_0").unwrap(), quants.join("m-Q8_0-00001-of-00002.gguf"));
    for name in ["loose-Q4_0", "loose-Q4_0.gguf"] {
        assert_eq!(store.resolve(name).unwrap(), models.join("loose-Q4_0.gguf"));
    }
    for missing in
        ["acme/usual@v9", "acme/usual@abc", "acme/quants:Q2_K", "./nowhere", "no.gguf", "acme/other"]
    {
        assert_eq!(store.resolve(missing).unwrap_err().kind(), Kind::NotFound, "{missing}");
    }
    let empty = bench.dir.path().join("empty/model.bin");
    write(&empty, "w");
    let error = store.resolve(empty.parent().unwrap().to_str().unwrap()).unwrap_err().to_string();
    assert!(error.contains("no *.safetensors"), "{error}");
    assert_eq!(bench.hub.seen("").len(), before);
}

#[test]
fn what_is_here_in_part_is_not_loaded() {
    let bench = Bench::new();
    let models = &bench.config.models_dir;
    write(models.join("sharded/model-00001-of-00002.safetensors"), "1");
    write(models.join("indexed/a.safetensors"), "1");
    write(
        models.join("indexed/model.safetensors.index.json"),
        r#"{"weight_map":{"x":"a.safetensors","y":"b.safetensors"}}"#,
    );
    let store = store(&bench);
    for (name, missing) in [("sharded", "model-00002-of-00002.safetensors"), ("indexed", "b.safetensors")] {
        assert!(!named(&store, name).complete);
        let error = store.resolve(name).unwrap_err();
        assert!(error.kind() == Kind::NotFound && error.to_string().contains(missing), "{error}");
    }
    write(models.join("indexed/b.safetensors"), "2");
    assert_eq!(store.resolve("indexed").unwrap(), models.join("indexed"));
}

#[test]
fn removing_takes_link_and_cache_and_nothing_else() {
    let bench = Bench::new();
    bench.get("acme/usual").unwrap();
    bench.get("acme/quants").unwrap();
    let store = store(&bench);
    let plan = store.plan_removal("acme_usual").unwrap();
    let size: u64 = named(&store, "acme/usual").size;
    assert_eq!(
        plan.bytes - bench.model("acme/usual").commit.len() as u64,
        size,
        "contents and the reference"
    );
    store.remove(&plan).unwrap();
    assert_eq!(names(&store), ["acme/quants"]);
    assert!(!bench.repo("acme/usual").exists());
    assert!(bench.config.models_dir.join("acme_usual").symlink_metadata().is_err());
    assert!(!bench.config.cache_dir.join(".locks/models--acme--usual").exists());
    assert!(store.resolve("acme/quants").is_ok());
}

#[test]
fn removing_a_revision_keeps_what_others_share() {
    let bench = Bench::new();
    let first = bench.get("acme/usual").unwrap();
    let mut model = standin::Model::usual();
    model.commit = "c".repeat(40);
    model.files.iter_mut().find(|(path, _)| path == "config.json").unwrap().1 = b"{\"v\":2}".to_vec();
    bench.hub.add("acme/usual", model.clone());
    let second = bench.get("acme/usual").unwrap();
    let store = store(&bench);
    assert_eq!(names(&store), ["acme/usual".to_owned(), format!("acme/usual@{}", &first.commit[..12])]);
    store.remove(&store.plan_removal(&format!("acme/usual@{}", &first.commit[..12])).unwrap()).unwrap();
    assert!(!first.snapshot.exists());
    assert_eq!(store.resolve("acme/usual").unwrap(), second.link);
    assert_eq!(bench.blobs("acme/usual").len(), 4, "only the old config.json went");
    assert_eq!(
        fs::read(second.link.join("model.safetensors")).unwrap(),
        model.file("model.safetensors").unwrap()
    );
}

#[test]
fn removing_a_quantization_keeps_the_others() {
    let bench = Bench::new();
    bench.get("acme/quants:Q8_0").unwrap();
    bench.get("acme/quants:Q4_K_M").unwrap();
    let store = store(&bench);
    let plan = store.plan_removal("acme/quants:Q8_0").unwrap();
    assert_eq!(plan.bytes, 95_000);
    store.remove(&plan).unwrap();
    assert!(store.resolve("acme/quants:Q8_0").is_err());
    assert!(store.resolve("acme/quants:Q4_K_M").is_ok());
    assert_eq!(bench.blobs("acme/quants").len(), 1);
    store.remove(&store.plan_removal("acme/quants:Q4_K_M").unwrap()).unwrap();
    assert!(!bench.repo("acme/quants").exists(), "the last one takes the model with it");
}

#[test]
fn removing_own_files_and_folders() {
    let bench = Bench::new();
    let models = &bench.config.models_dir;
    write(models.join("own/model.safetensors"), "w");
    write(models.join("split-Q8_0-00001-of-00002.gguf"), "1");
    write(models.join("split-Q8_0-00002-of-00002.gguf"), "2");
    let store = store(&bench);
    store.remove(&store.plan_removal(models.join("own").to_str().unwrap()).unwrap()).unwrap();
    store.remove(&store.plan_removal("split-Q8_0-00001-of-00002").unwrap()).unwrap();
    assert_eq!(fs::read_dir(models).unwrap().count(), 0);
}

#[test]
fn nothing_outside_is_ever_removed() {
    let bench = Bench::new();
    bench.get("acme/usual").unwrap();
    let outside = bench.dir.path().join("outside");
    write(outside.join("model.safetensors"), "precious");
    let store = store(&bench);
    for name in ["", ".", "..", "../outside", "/", "~", "models", outside.to_str().unwrap(), "acme/..", "*"] {
        assert!(store.plan_removal(name).is_err(), "{name:?}");
    }
    let forged = |path: &Path| hub::Removal { name: "x".into(), paths: vec![path.to_owned()], bytes: 0 };
    let models = &bench.config.models_dir;
    for path in [
        outside.clone(),
        models.join("../outside"),
        models.clone(),
        bench.config.cache_dir.clone(),
        models.join(".."),
    ] {
        let error = store.remove(&forged(&path)).unwrap_err();
        assert_eq!(error.kind(), Kind::Hostile, "{path:?}");
    }
    assert!(outside.join("model.safetensors").exists() && models.exists());
}

#[cfg(unix)]
#[test]
fn of_links_to_elsewhere_only_the_link_goes() {
    let bench = Bench::new();
    let outside = bench.dir.path().join("outside");
    write(outside.join("model.safetensors"), "precious");
    let models = &bench.config.models_dir;
    fs::create_dir_all(models).unwrap();
    std::os::unix::fs::symlink(&outside, models.join("mine")).unwrap();
    let store = store(&bench);
    let plan = store.plan_removal("mine").unwrap();
    assert_eq!(plan.bytes, 0);
    store.remove(&plan).unwrap();
    assert!(names(&store).is_empty() && outside.join("model.safetensors").exists());
    // A folder reached through such a link is not inside either.
    std::os::unix::fs::symlink(&outside, models.join("mine")).unwrap();
    let through =
        hub::Removal { name: "x".into(), paths: vec![models.join("mine/model.safetensors")], bytes: 0 };
    assert_eq!(store.remove(&through).unwrap_err().kind(), Kind::Hostile);
    assert!(outside.join("model.safetensors").exists());
}

#[test]
fn a_cache_in_disorder_does_not_disturb() {
    let bench = Bench::new();
    let cache = &bench.config.cache_dir;
    write(cache.join("models--a--b/refs/main"), "../../../../etc");
    write(cache.join("models--c--d/snapshots/x"), "a file where a folder should be");
    write(cache.join("datasets--e--f/refs/main"), "x");
    write(cache.join("models--"), "x");
    fs::create_dir_all(cache.join("models--g--h/snapshots/short")).unwrap();
    let store = store(&bench);
    assert!(names(&store).is_empty());
    assert_eq!(store.resolve("a/b").unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn names_that_promise_more_files_than_memory_holds_are_gone_through_one_by_one() {
    let bench = Bench::new();
    let folder = bench.config.models_dir.join("many");
    // Twenty million names of files.
    (0..2000).for_each(|i| write(folder.join(format!("m{i}-00001-of-09999.safetensors")), ""));
    let start = std::time::Instant::now();
    assert!(!named(&store(&bench), "many").complete);
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}
