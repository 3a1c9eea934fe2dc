//! An assistant's turn with reasoning and tool calls, written down by a real chat template and read back, gives the
//! same reasoning and the same calls. A template shows a model its earlier answers in the form in which the model
//! writes them, so that this is what a reader of answers has to understand.

mod support;

use serde_json::{Map, Value, json};
use support::material;
use text::{ChatTemplate, Clock, Dialect, Part, RenderOptions, TagReader};

const NOW: Clock = Clock { year: 2026, month: 1, day: 15, hour: 9, minute: 30, second: 5 };
const THOUGHT: &str = "Rome, then;\n\nthe 3 is a count.";
const WORDS: &str = "I will look.";
const ID: &str = "call12345";

/// Templates whose own rendering (of this turn, or of all) is not what a model writes, and what is wrong
/// with it.
const FAULTY: &[(&str, &str, &str)] = &[
    ("mistral-common/v2_spm", "", "writes &#34; for a quotation mark"),
    ("mistral-common/v3_spm", "", "writes &#34; for a quotation mark"),
    ("mistral-common/v3_image_spm", "", "writes &#34; for a quotation mark"),
    ("mistral-common/v7_spm", "", "writes &#34; for a quotation mark"),
    ("mistral-common/v7_image_spm", "", "writes &#34; for a quotation mark"),
    ("mistral-common/v7_audio", "", "writes &#34; for a quotation mark"),
    ("mistral-common/v7_image", "", "writes &#34; for a quotation mark"),
    ("vllm/tool_chat_template_toolace", "", "writes texts without quotation marks"),
    ("llama.cpp/LFM2.5-8B-A1B", "text", "writes texts without escapes"),
    ("llama.cpp/openai-gpt-oss-120b", "words", "writes what is said beside a call as a thought"),
    ("llama.cpp/Apriel-1.6-15b-Thinker-fixed", "thought", "leaves out the words that begin a thought"),
    (
        "llama.cpp/Apriel-1.6-15b-Thinker-fixed",
        "thought and words",
        "leaves out the words that begin a thought",
    ),
    ("llama.cpp/Apriel-1.6-15b-Thinker-fixed", "reasoning", "leaves out the words that begin a thought"),
    ("hfjs/NousResearch/Hermes-2-Pro-Llama-3-8B (JSON Schema)", "two", "opens the first of two calls only"),
];

/// The question before the turn.
const QUESTION: &str = "Hi?";

fn tools() -> Value {
    let parameters = json!({"type": "object", "properties": {
        "city": {"type": "string", "description": "Where"},
        "code": {"type": "string", "description": "A text that looks like a number"},
        "note": {"type": "string", "description": "Any text"},
        "days": {"type": "integer", "description": "How many"},
        "exact": {"type": "boolean", "description": "Whether"},
        "share": {"type": "number", "description": "Of one"},
        "tags": {"type": "array", "items": {"type": "string"}, "description": "Words"},
        "where": {"type": "object", "description": "Point", "properties": {"lat": {"type": "number"}}}
    }, "required": ["city"]});
    let clock = json!({"type": "object", "properties": {}, "required": []});
    json!([
        {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": parameters}},
        {"type": "function", "function": {"name": "clock", "description": "Time", "parameters": clock}},
    ])
}

/// What one assistant's turn holds.
#[derive(Clone, Debug, Default)]
struct Turn {
    name: &'static str,
    content: Option<&'static str>,
    thought: bool,
    calls: Vec<(&'static str, Value)>,
}

fn turns() -> Vec<Turn> {
    let call = |arguments: Value| vec![("get_weather", arguments)];
    let one = || call(json!({"city": "Rome", "days": 3}));
    let of = |name, calls| Turn { name, calls, ..Turn::default() };
    vec![
        of("one", one()),
        of(
            "types",
            call(
                json!({"city": "Rome", "exact": true, "share": 0.25, "tags": ["a", "b c"], "where": {"lat": -1.5}}),
            ),
        ),
        of(
            "text",
            call(
                json!({"city": "Köln \"am\" Rhein", "note": "it's {1, 2}: <b>é</b>\nline [2] \\n 100% 日本"}),
            ),
        ),
        of("number as text", call(json!({"city": "Rome", "code": "007", "note": "true"}))),
        of("no arguments", vec![("clock", json!({}))]),
        of(
            "two",
            vec![
                ("get_weather", json!({"city": "Rome"})),
                ("get_weather", json!({"city": "Oslo", "days": 2})),
            ],
        ),
        Turn { content: Some(WORDS), ..of("words", one()) },
        Turn { thought: true, ..of("thought", one()) },
        Turn { thought: true, content: Some(WORDS), ..of("thought and words", one()) },
        Turn { thought: true, content: Some(WORDS), ..of("reasoning", Vec::new()) },
    ]
}

fn message(turn: &Turn, as_text: bool, in_parts: bool) -> Value {
    let mut message = json!({"role": "assistant", "content": turn.content.unwrap_or("")});
    if !turn.calls.is_empty() {
        let calls = turn.calls.iter().enumerate().map(|(i, (name, arguments))| {
            let arguments = if as_text { Value::from(arguments.to_string()) } else { arguments.clone() };
            let id = format!("{}{i}", &ID[..ID.len() - 1]);
            json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
        });
        message["tool_calls"] = calls.collect();
    }
    if turn.thought && in_parts {
        message["content"] = json!([{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": turn.content.unwrap_or("")}]);
    } else if turn.thought {
        for key in ["reasoning_content", "reasoning", "thinking", "thought"] {
            message[key] = THOUGHT.into();
        }
    }
    message
}

fn render(template: &ChatTemplate, answer: Option<Value>, with_tools: bool) -> Option<String> {
    let mut messages = vec![json!({"role": "user", "content": QUESTION})];
    let add_generation_prompt = answer.is_none();
    messages.extend(answer);
    let tools = with_tools.then(tools);
    let options = RenderOptions { add_generation_prompt, tools, now: NOW, ..RenderOptions::default() };
    template.render(&Value::from(messages), options).ok()
}

/// The prompt, and the answer that follows it in `whole`. A template may make a model answer in another way than the
/// answer that it is shown was given (without a reasoning): then the prompt is as much as both have in common.
fn cut<'a>(whole: &'a str, asked: &str) -> Option<(&'a str, &'a str)> {
    let behind = |text: &str| Some(text.rfind(QUESTION)? + QUESTION.len());
    let (begin, head) = (behind(whole)?, &asked[behind(asked)?..]);
    let rest = &whole[begin..];
    let same = rest.char_indices().zip(head.chars()).find(|((_, a), b)| a != b);
    let mut at = same.map_or(rest.len().min(head.len()), |((at, _), _)| at);
    if let Some(open) = rest[..at].rfind(['<', '['])
        && at < head.len()
        && !rest[open..at].contains(['>', ']', '\n', ' '])
    {
        at = open;
    }
    Some(whole.split_at(begin + at))
}

/// Without the tokens that end an answer: what follows the words of a plain answer, or another of `ends`.
fn without_end<'a>(answer: &'a str, plain_end: &str, ends: &[&str]) -> &'a str {
    if let Some(answer) = answer.strip_suffix(plain_end) {
        return answer;
    }
    let mut answer = answer.trim_end();
    while let Some(shorter) =
        ends.iter().filter(|end| !end.is_empty()).find_map(|end| answer.strip_suffix(end))
    {
        answer = shorter.trim_end();
    }
    answer
}

fn read(mut reader: TagReader, pieces: impl Iterator<Item = String>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut add = |part: Part| match (parts.last_mut(), part) {
        (Some(Part::Content(a)), Part::Content(b)) | (Some(Part::Reasoning(a)), Part::Reasoning(b)) => {
            *a += &b
        }
        (_, part) => parts.push(part),
    };
    for piece in pieces {
        reader.push(&piece).into_iter().for_each(&mut add);
    }
    reader.finish().into_iter().for_each(&mut add);
    parts
}

struct Row {
    template: ChatTemplate,
    id: String,
    eos: String,
}

impl Row {
    /// The turn as this template writes it: prompt and answer. `None` if it cannot, or if what has to be read is
    /// not there.
    fn written(&self, turn: &Turn, as_text: bool, in_parts: bool) -> Option<(String, String)> {
        let with_tools = !turn.calls.is_empty();
        let whole = render(&self.template, Some(message(turn, as_text, in_parts)), with_tools)?;
        let asked = render(&self.template, None, with_tools)?;
        let (prompt, answer) = cut(&whole, &asked)?;
        let city = |arguments: &Value| answer.contains(arguments["city"].as_str().unwrap_or_default());
        let calls = turn
            .calls
            .iter()
            .all(|(name, arguments)| answer.contains(name) && (turn.name == "text" || city(arguments)));
        let first = THOUGHT.split('\n').next().unwrap();
        let thought = !turn.thought || answer.contains(first);
        let parts_as_text =
            ["'type': 'thinking'", "\"type\": \"thinking\""].iter().any(|text| answer.contains(text));
        if !(calls && thought) || parts_as_text {
            return None;
        }
        let plain = render(&self.template, Some(json!({"role": "assistant", "content": WORDS})), with_tools);
        let plain_end =
            plain.as_deref().and_then(|plain| plain.rsplit_once(WORDS)).map_or("\0", |(_, end)| end);
        let asked_end = asked.strip_prefix(prompt).unwrap_or_default();
        let last_token = plain_end.trim_end().rfind('<').map_or("\0", |at| plain_end[at..].trim_end());
        // Some go on with the beginning of the next turn.
        let next = [
            "<|START_THINKING|><|END_THINKING|>",
            "<|START_THINKING|>",
            "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        ];
        let ends = [
            &self.eos,
            "<|eom_id|>",
            "<|eot_id|>",
            "<|tool_response>",
            "<|END_OF_TURN_TOKEN|>",
            last_token,
            asked_end,
        ];
        let ends = [&next[..], &ends].concat();
        Some((prompt.to_owned(), without_end(answer, plain_end, &ends).to_owned()))
    }

    /// What is wrong with the turn read back; `None` if nothing.
    fn wrong(&self, turn: &Turn, prompt: &str, answer: &str) -> Option<String> {
        let offered = tools();
        let dialect = Dialect::of(self.template.source(), !turn.calls.is_empty());
        let reader = || dialect.read(prompt).knowing(offered.as_array().unwrap());
        let parts = read(reader(), std::iter::once(answer.to_owned()));
        let by_char = read(reader(), answer.chars().map(String::from));
        if by_char != parts {
            return Some(format!("one character at a time: {by_char:?}\n    at once: {parts:?}"));
        }
        let text = |want_thought| {
            parts.iter().find_map(|part| match part {
                Part::Reasoning(text) if want_thought => Some(text.trim()),
                Part::Content(text) if !want_thought => Some(text.trim()),
                _ => None,
            })
        };
        let calls = parts.iter().filter_map(|part| match part {
            Part::Call(call) => Some(call),
            _ => None,
        });
        let right = calls
            .clone()
            .map(|c| (c.name.as_str(), &c.arguments))
            .eq(turn.calls.iter().map(|(n, a)| (*n, a)));
        let id_lost = answer.contains(&ID[..ID.len() - 1]) && calls.clone().any(|call| call.id.is_none());
        let words = turn.content.filter(|words| answer.contains(words));
        let faults = [
            (!right, "calls"),
            (id_lost, "ids"),
            (text(false) != words, "content"),
            (text(true) != turn.thought.then_some(THOUGHT), "reasoning"),
        ];
        let faults: Vec<&str> =
            faults.into_iter().filter(|(wrong, _)| *wrong).map(|(_, what)| what).collect();
        (!faults.is_empty()).then(|| format!("{faults:?} by {:?}: {parts:?}", dialect.names()))
    }

    /// The first form of the message that the template takes, read back. `None` if it takes none.
    fn check(&self, turn: &Turn) -> Option<Result<(), String>> {
        let forms = [(false, false), (true, false), (false, true), (true, true)];
        let written = forms.into_iter().find_map(|(as_text, in_parts)| self.written(turn, as_text, in_parts));
        let (prompt, answer) = written?;
        Some(match self.wrong(turn, &prompt, &answer) {
            None => Ok(()),
            Some(wrong) => Err(format!(
                "{} ({}): {wrong}\n    prompt …{:?}\n    answer {answer:?}",
                self.id,
                turn.name,
                prompt.chars().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<String>()
            )),
        })
    }
}

#[test]
fn turns_that_real_templates_write_are_read_back() {
    let Some(dir) = material("templates") else { return };
    let (mut failures, mut passed, mut faulty) = (Vec::new(), Map::new(), 0);
    let mut templates = 0;
    for line in std::fs::read_to_string(dir.join("templates.jsonl")).unwrap().lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let (bos, eos) = (row["bos_token"].as_str(), row["eos_token"].as_str());
        let Ok(template) = ChatTemplate::new(row["template"].as_str().unwrap(), bos, eos, Map::new()) else {
            continue;
        };
        let id = row["id"].as_str().unwrap().to_owned();
        let row = Row { template, id, eos: eos.unwrap_or_default().to_owned() };
        let is_faulty =
            |turn: &str| FAULTY.iter().any(|(name, of, _)| *name == row.id && (of.is_empty() || *of == turn));
        let results: Vec<_> = turns().iter().filter_map(|turn| Some((turn.name, row.check(turn)?))).collect();
        templates += usize::from(!results.is_empty());
        for (name, result) in results {
            match result {
                Ok(()) => {
                    let count = passed.get(name).and_then(Value::as_u64).unwrap_or(0);
                    passed.insert(name.to_owned(), (count + 1).into());
                }
                Err(_) if is_faulty(name) => faulty += 1,
                Err(wrong) => failures.push(wrong),
            }
        }
    }
    let all: u64 = passed.values().filter_map(Value::as_u64).sum();
    println!(
        "{templates} templates write reasoning or calls: {all} of {} turns read back",
        all + failures.len() as u64
    );
    println!("{}; {faulty} of faulty templates left out", Value::from(passed));
    assert!(all > 0, "no template wrote a turn");
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}
