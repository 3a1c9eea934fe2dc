//! A chat template: compiled, and rendered for two conversations.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, json};
use text::{ChatTemplate, Dialect, RenderOptions};

fuzz_target!(|data: &[u8]| {
    let source = String::from_utf8_lossy(data);
    let Ok(template) = ChatTemplate::new(&source, Some("<s>"), Some("</s>"), Map::new()) else { return };
    let _ = Dialect::of(template.source(), true).names();
    let short = json!([{"role": "user", "content": "hi"}]);
    let long = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "a <s> {{ b }} \u{1F600}"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": [1, 2.5, null]}}}]},
        {"role": "tool", "tool_call_id": "1", "name": "f", "content": "{\"y\": true}"},
    ]);
    for messages in [short, long] {
        let _ = template.render(&messages, RenderOptions::default());
    }
});
