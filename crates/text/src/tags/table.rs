//! The families of tags that published models write: one row each. The forms are those of the models' own
//! chat templates, which show a model its earlier answers.

use super::{ToolCall, bodies};

/// Where in an answer a reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// What is said.
    Content,
    /// What is thought.
    Reasoning,
    /// A call, kept until it is whole.
    Call,
    /// An answer that may be a call without any tag.
    Bare,
    /// The head of a harmony message.
    Header,
    /// Between messages or calls; left out.
    Aside,
}

/// A tag.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) text: &'static str,
    /// Where it is one.
    pub(super) from: Mode,
    /// What it begins.
    pub(super) to: Mode,
    /// Whether it is one only before anything is said: what an answer says of tags is no tag.
    pub(super) first: bool,
}

/// What a call's text means, if it is one.
pub(super) type Body = fn(&str) -> Option<Vec<ToolCall>>;

/// A row of the tables.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    /// All of these stand in the templates of its models.
    pub(super) when: &'static [&'static str],
    pub(super) marks: &'static [Mark],
    /// How an answer begins.
    pub(super) start: Mode,
    /// How a call is written.
    pub(super) body: Body,
    /// Control tokens within a call.
    pub(super) inside: &'static [&'static str],
    /// Whether a call may come without a tag.
    pub(super) bare: bool,
}

/// The tag behind which a harmony message begins.
pub(super) const MESSAGE: &str = "<|message|>";

const fn mark(text: &'static str, from: Mode, to: Mode) -> Mark {
    Mark { text, from, to, first: false }
}

const fn first(text: &'static str, to: Mode) -> Mark {
    Mark { text, from: Mode::Content, to, first: true }
}

const fn reasoning(name: &'static str, when: &'static [&'static str], marks: &'static [Mark]) -> Family {
    Family { name, when, marks, start: Mode::Content, body: bodies::json, inside: &[], bare: false }
}

const fn calls(
    name: &'static str,
    when: &'static [&'static str],
    marks: &'static [Mark],
    body: Body,
    inside: &'static [&'static str],
) -> Family {
    Family { name, when, marks, start: Mode::Content, body, inside, bare: false }
}

use Mode::{Aside, Call, Content, Header, Reasoning};

/// OpenAI's response format for gpt-oss: <https://cookbook.openai.com/articles/openai-harmony>.
const HARMONY: [Mark; 14] = [
    mark("<|start|>", Content, Header),
    mark("<|start|>", Aside, Header),
    mark("<|channel|>", Header, Header),
    mark("<|constrain|>", Header, Header),
    mark("<|channel|>", Content, Header),
    mark("<|channel|>", Aside, Header),
    mark(MESSAGE, Header, Content),
    mark("<|end|>", Content, Aside),
    mark("<|end|>", Reasoning, Aside),
    mark("<|end|>", Call, Aside),
    mark("<|return|>", Content, Aside),
    mark("<|return|>", Reasoning, Aside),
    mark("<|call|>", Call, Aside),
    mark("<|call|>", Reasoning, Aside),
];

/// How models show their reasoning, the particular before the general.
pub(super) const REASONING: &[Family] = &[
    Family { start: Header, ..reasoning("harmony", &["<|channel|>", MESSAGE], &HARMONY) },
    reasoning("mistral", &["[THINK]"], &[first("[THINK]", Reasoning), mark("[/THINK]", Reasoning, Content)]),
    reasoning(
        "command",
        &["<|START_THINKING|>"],
        &[
            first("<|START_THINKING|>", Reasoning),
            mark("<|END_THINKING|>", Reasoning, Content),
            mark("<|START_RESPONSE|>", Content, Content),
            mark("<|START_RESPONSE|>", Reasoning, Content),
            mark("<|END_RESPONSE|>", Content, Aside),
            mark("<|START_TEXT|>", Content, Content),
            mark("<|END_TEXT|>", Content, Aside),
        ],
    ),
    reasoning(
        "gemma",
        &["<|channel>thought"],
        &[first("<|channel>thought\n", Reasoning), mark("<channel|>", Reasoning, Content)],
    ),
    reasoning(
        "granite",
        &["Here is my thought process:"],
        &[
            first("Here is my thought process:", Reasoning),
            first("Here's my thought process:", Reasoning),
            mark("Here is my response:", Reasoning, Content),
            mark("Here's my response:", Reasoning, Content),
        ],
    ),
    reasoning(
        "granite-think",
        &["<think>", "<response>"],
        &[
            first("<think>", Reasoning),
            mark("</think>", Reasoning, Content),
            mark("<response>", Content, Content),
            mark("<response>", Reasoning, Content),
            mark("</response>", Content, Aside),
        ],
    ),
    reasoning(
        "seed",
        &["<seed:think>"],
        &[first("<seed:think>", Reasoning), mark("</seed:think>", Reasoning, Content)],
    ),
    reasoning("think", &["</think>"], &THINK),
    reasoning("think", &["<think>"], &THINK),
];

const THINK: [Mark; 2] = [first("<think>", Reasoning), mark("</think>", Reasoning, Content)];

const XML: [Mark; 2] = [mark("<tool_call>", Content, Call), mark("</tool_call>", Call, Content)];

/// How models write calls, the particular before the general.
pub(super) const CALLS: &[Family] = &[
    // Its calls are messages of the harmony family above.
    calls("harmony", &["<|channel|>", MESSAGE], &[], bodies::harmony, &[]),
    calls(
        "deepseek",
        &["<｜tool▁calls▁begin｜>"],
        &[
            mark("<｜tool▁calls▁begin｜>", Content, Aside),
            mark("<｜tool▁call▁begin｜>", Content, Call),
            mark("<｜tool▁call▁begin｜>", Aside, Call),
            mark("<｜tool▁call▁end｜>", Call, Aside),
            mark("<｜tool▁calls▁end｜>", Aside, Content),
        ],
        bodies::deepseek,
        &[bodies::DEEPSEEK_SEPARATOR],
    ),
    calls(
        "kimi",
        &["<|tool_calls_section_begin|>"],
        &[
            mark("<|tool_calls_section_begin|>", Content, Aside),
            mark("<|tool_call_begin|>", Aside, Call),
            mark("<|tool_call_end|>", Call, Aside),
            mark("<|tool_calls_section_end|>", Aside, Content),
        ],
        bodies::kimi,
        &[bodies::KIMI_SEPARATOR],
    ),
    calls(
        "command",
        &["<|START_ACTION|>"],
        &[mark("<|START_ACTION|>", Content, Call), mark("<|END_ACTION|>", Call, Content)],
        bodies::json,
        &[],
    ),
    calls(
        "mistral",
        &["[TOOL_CALLS]"],
        &[mark("[TOOL_CALLS]", Content, Call), mark("[TOOL_CALLS]", Call, Call)],
        bodies::mistral,
        &[bodies::MISTRAL_SEPARATOR, bodies::MISTRAL_ID],
    ),
    calls("glm", &["<arg_key>", "<tool_call>"], &XML, bodies::glm, &[]),
    calls("qwen-xml", &["<function=", "<tool_call>"], &XML, bodies::functions, &[]),
    calls(
        "granite",
        &["<|tool_call|>"],
        &[mark("<|tool_call|>", Content, Call), mark("<tool_call>", Content, Call)],
        bodies::json,
        &[],
    ),
    calls("hermes", &["<tool_call>"], &XML, bodies::json, &[]),
    calls(
        "lfm",
        &["<|tool_call_start|>"],
        &[mark("<|tool_call_start|>", Content, Call), mark("<|tool_call_end|>", Call, Content)],
        bodies::bare,
        &[],
    ),
    calls(
        "tool-calls",
        &["<tool_calls>"],
        &[mark("<tool_calls>", Content, Call), mark("</tool_calls>", Call, Content)],
        bodies::json,
        &[],
    ),
    calls("phi", &["functools["], &[first("functools[", Call)], bodies::listed, &[]),
    Family {
        bare: true,
        ..calls("llama", &["<|python_tag|>"], &[mark("<|python_tag|>", Content, Call)], bodies::bare, &[])
    },
];
