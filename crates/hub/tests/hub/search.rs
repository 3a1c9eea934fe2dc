//! Searching.

use hub::Kind;
use hub::search::{Format, Query, search};

use crate::Bench;
use crate::standin::{Fault, Model};

fn query(text: &str) -> Query {
    Query { text: text.into(), limit: 10, ..Query::default() }
}

#[test]
fn pages_are_followed_up_to_the_limit() {
    let bench = Bench::new();
    for i in 0..7 {
        bench.hub.add(&format!("acme/model-{i}"), Model { downloads: 100 - i, ..Model::usual() });
    }
    let ids = |limit| -> Vec<String> {
        let found = search(&bench.config, &Query { limit, ..query("model") }).unwrap();
        found.into_iter().map(|model| model.id).collect()
    };
    assert_eq!(ids(7).len(), 7);
    assert_eq!(ids(3), ["acme/model-0", "acme/model-1", "acme/model-2"]);
    assert_eq!(bench.hub.seen("/api/models").len(), 4 + 2, "pages of two");
}

#[test]
fn results_carry_what_a_table_shows() {
    let bench = Bench::new();
    bench.hub.add("acme/locked", Model { gated: Some("t".into()), ..Model::usual() });
    let found = search(&bench.config, &query("locked")).unwrap();
    assert_eq!(found.len(), 1);
    let model = &found[0];
    assert!(model.gated && model.downloads == 7 && model.likes == 3);
    assert_eq!(model.last_modified, "2026-01-02T03:04:05.000Z");
    assert_eq!(model.pipeline_tag.as_deref(), Some("text-generation"));
    assert_eq!(model.formats(), [Format::Safetensors]);
}

#[test]
fn filters_reach_the_hub() {
    let bench = Bench::new();
    bench.hub.add("other/usual", Model::usual());
    let ids = |query: Query| -> Vec<String> {
        search(&bench.config, &query).unwrap().into_iter().map(|model| model.id).collect()
    };
    assert_eq!(ids(Query { format: Some(Format::Gguf), ..query("") }), ["acme/quants"]);
    assert_eq!(ids(Query { author: Some("other".into()), ..query("") }), ["other/usual"]);
    assert_eq!(ids(query("no such words")), Vec::<String>::new());
}

#[test]
fn limits_out_of_range_and_answers_that_are_none_are_errors() {
    let bench = Bench::new();
    assert_eq!(search(&bench.config, &Query { limit: 0, ..query("") }).unwrap_err().kind(), Kind::Usage);
    bench.hub.state().page = 0;
    assert!(
        search(&bench.config, &query("")).unwrap().is_empty(),
        "an empty page with a next one ends the search"
    );
    bench.hub.fault("/api/models", 1, Fault::Status(200, vec![]));
    let error = search(&bench.config, &query("x")).unwrap_err();
    assert!(error.to_string().contains("is it one?"), "{error}");
}

#[test]
fn offline_and_unreachable_are_told_apart_from_missing() {
    let mut bench = Bench::new();
    bench.config.offline = true;
    let error = search(&bench.config, &query("x")).unwrap_err();
    assert!(error.kind() == Kind::Offline && error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    bench.config.offline = false;
    // Nobody listens on a port that was just given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    bench.config.endpoint = format!("http://{free}");
    let error = search(&bench.config, &query("x")).unwrap_err();
    assert!(error.kind() == Kind::Offline && error.to_string().contains("cannot be reached"), "{error}");
    bench.config.endpoint = "huggingface.co".into();
    assert_eq!(search(&bench.config, &query("x")).unwrap_err().kind(), Kind::Usage);
}
