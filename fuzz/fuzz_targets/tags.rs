//! An answer read as it streams: cut anywhere, its parts are those of the whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use text::{Dialect, Part, TagReader};

/// What chat templates have in them that tell the families apart.
const TEMPLATES: [&str; 16] = [
    "",
    "<think> </think> <tool_call>",
    "<|channel|> <|message|> <|call|>",
    "[THINK] [TOOL_CALLS]",
    "[TOOL_CALLS] [ARGS]",
    "<|START_THINKING|> <|START_ACTION|>",
    "<|channel>thought <|tool_call>",
    "Here is my thought process: <|tool_call|>",
    "<think> <response> <tool_call>",
    "<|python_tag|> ipython",
    "<|tool_calls_section_begin|> <|tool_call_begin|>",
    "<｜tool▁calls▁begin｜> <｜tool▁call▁begin｜> <think>",
    "<tool_call> <arg_key> <think>",
    "<function= <tool_call>",
    "<|tool_call_start|> <|tool_list_start|>",
    "functools <minimax:tool_call> <invoke",
];

fn joined(parts: impl IntoIterator<Item = Part>) -> Vec<Part> {
    let mut out: Vec<Part> = Vec::new();
    for part in parts {
        match (out.last_mut(), part) {
            (Some(Part::Content(a)), Part::Content(b)) | (Some(Part::Reasoning(a)), Part::Reasoning(b)) => {
                *a += &b
            }
            (_, part) => out.push(part),
        }
    }
    out
}

fn read<'a>(mut reader: TagReader, pieces: impl IntoIterator<Item = &'a str>) -> Vec<Part> {
    let mut parts: Vec<Part> = pieces.into_iter().flat_map(|piece| reader.push(piece)).collect();
    parts.extend(reader.finish());
    joined(parts)
}

fuzz_target!(|data: &[u8]| {
    let [kind, cut, rest @ ..] = data else { return };
    let answer = String::from_utf8_lossy(rest);
    let prompt = if kind & 128 > 0 { "<think>\n" } else { "" };
    let dialect = Dialect::of(TEMPLATES[usize::from(kind & 15)], kind & 64 > 0);
    let whole = read(dialect.read(prompt), [&*answer]);
    let each: Vec<String> = answer.chars().map(String::from).collect();
    assert_eq!(read(dialect.read(prompt), each.iter().map(String::as_str)), whole, "a character at a time");
    let at = (0..=usize::from(*cut)).rev().find(|&at| answer.is_char_boundary(at)).unwrap_or(0);
    let (a, b) = answer.split_at(at.min(answer.len()));
    assert_eq!(read(dialect.read(prompt), [a, b]), whole, "split into {a:?} and {b:?}");
});
