//! The families of tags that published models write: one row each. The forms are those of the models' own
//! chat templates, which show a model its earlier answers.

use super::tools::Tools;
use super::{ToolCall, bodies, markup, pythonic};

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
    /// Only what a tag may begin: the head of a message is whole, and says what follows ([`Family::route`]).
    Routed,
}

/// What a message is, by its head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Goes {
    Content,
    Reasoning,
    /// To this tool.
    Call(String),
    /// The head is none, but text.
    Nowhere,
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
pub(super) type Body = fn(&str, &Tools) -> Option<Vec<ToolCall>>;

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
    /// Whether a call's text is JSON: within its strings there are no tags.
    pub(super) json: bool,
    /// Of a family whose messages have heads: where one goes.
    pub(super) route: fn(&str) -> Goes,
}

/// The tag behind which a harmony message begins.
const MESSAGE: &str = "<|message|>";

const fn mark(text: &'static str, from: Mode, to: Mode) -> Mark {
    Mark { text, from, to, first: false }
}

const fn first(text: &'static str, to: Mode) -> Mark {
    Mark { text, from: Mode::Content, to, first: true }
}

const NO_HEADS: fn(&str) -> Goes = |_| Goes::Nowhere;

const fn reasoning(name: &'static str, when: &'static [&'static str], marks: &'static [Mark]) -> Family {
    let (start, body, inside) = (Mode::Content, bodies::json as Body, &[]);
    Family { name, when, marks, start, body, inside, bare: false, json: true, route: NO_HEADS }
}

/// Calls of JSON.
const fn calls(
    name: &'static str,
    when: &'static [&'static str],
    marks: &'static [Mark],
    body: Body,
) -> Family {
    Family { body, ..reasoning(name, when, marks) }
}

/// Calls of another form.
const fn forms(
    name: &'static str,
    when: &'static [&'static str],
    marks: &'static [Mark],
    body: Body,
) -> Family {
    Family { json: false, ..calls(name, when, marks, body) }
}

use Mode::{Aside, Call, Content, Header, Reasoning, Routed};

/// OpenAI's response format for gpt-oss: <https://cookbook.openai.com/articles/openai-harmony>.
const HARMONY: [Mark; 19] = [
    mark("<|start|>", Content, Header),
    mark("<|start|>", Aside, Header),
    mark("<|channel|>", Header, Header),
    mark("<|constrain|>", Header, Header),
    mark("<|channel|>", Content, Header),
    mark("<|channel|>", Aside, Header),
    mark(MESSAGE, Header, Routed),
    mark("<|end|>", Content, Aside),
    mark("<|end|>", Reasoning, Aside),
    mark("<|end|>", Call, Aside),
    mark("<|return|>", Content, Aside),
    mark("<|return|>", Reasoning, Aside),
    mark("<|call|>", Call, Aside),
    mark("<|call|>", Reasoning, Aside),
    mark("<|eom|>", Reasoning, Aside),
    mark("<|eom|>", Content, Aside),
    mark("<|eom|>", Call, Aside),
    mark("<|eot|>", Call, Aside),
    mark("<|eot|>", Content, Aside),
];

/// Harmony and Muse: the recipient (`to=functions.name`, `to=self`, `to=user`) and the channel.
fn harmony_goes(head: &str) -> Goes {
    match head.split_whitespace().find_map(|word| word.strip_prefix("to=")) {
        Some("self") => Goes::Reasoning,
        Some("user") => Goes::Content,
        Some(to) => Goes::Call(to.strip_prefix("functions.").unwrap_or(to).to_owned()),
        None if head.contains("analysis") => Goes::Reasoning,
        None => Goes::Content,
    }
}

/// Functionary: the recipient alone.
fn functionary_goes(head: &str) -> Goes {
    match head {
        "all" => Goes::Content,
        name if !name.is_empty() && !name.contains(char::is_whitespace) => Goes::Call(name.to_owned()),
        _ => Goes::Nowhere,
    }
}

/// How models show their reasoning, the particular before the general.
pub(super) const REASONING: &[Family] = &[
    Family {
        start: Header,
        route: harmony_goes,
        ..reasoning("muse", &["to=self", "<|eom|>", MESSAGE], &HARMONY)
    },
    Family {
        start: Header,
        route: harmony_goes,
        ..reasoning("harmony", &["<|channel|>", MESSAGE], &HARMONY)
    },
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
        &["<channel|>"],
        &[first("<|channel>thought\n", Reasoning), mark("<channel|>", Reasoning, Content)],
    ),
    reasoning(
        "apertus",
        &["<|inner_prefix|>"],
        &[first("<|inner_prefix|>", Reasoning), mark("<|inner_suffix|>", Reasoning, Content)],
    ),
    reasoning(
        "apriel",
        &["[BEGIN FINAL RESPONSE]"],
        &[
            first("Here are my reasoning steps:\n", Reasoning),
            first("<thinking>", Reasoning),
            mark("</thinking>", Reasoning, Content),
            mark("[BEGIN FINAL RESPONSE]", Reasoning, Content),
            mark("[END FINAL RESPONSE]", Content, Aside),
        ],
    ),
    reasoning(
        "thinking",
        &["<thinking>", "</thinking>"],
        &[first("<thinking>", Reasoning), mark("</thinking>", Reasoning, Content)],
    ),
    reasoning(
        "minicpm",
        &["<|thought_start|>"],
        &[first("<|thought_start|>", Reasoning), mark("<|thought_end|>", Reasoning, Content)],
    ),
    reasoning(
        "open-thoughts",
        &["<|begin_of_thought|>"],
        &[
            first("<|begin_of_thought|>", Reasoning),
            mark("<|end_of_thought|>", Reasoning, Content),
            mark("<|begin_of_solution|>", Content, Content),
            mark("<|end_of_solution|>", Content, Aside),
        ],
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
    // It writes <response> around what tools answer.
    reasoning("think", &["<minimax:tool_call>", "<think>"], &THINK),
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
    reasoning("hunyuan", &["<think>", "<answer>"], &HUNYUAN),
    reasoning("hunyuan", &["<think>", "<|extra_0|>"], &HUNYUAN),
    reasoning(
        "seed",
        &["<seed:think>"],
        &[first("<seed:think>", Reasoning), mark("</seed:think>", Reasoning, Content)],
    ),
    reasoning(
        "longcat",
        &["<longcat_think>"],
        &[first("<longcat_think>", Reasoning), mark("</longcat_think>", Reasoning, Content)],
    ),
    reasoning("think", &["</think>"], &THINK),
    reasoning("think", &["<think>"], &THINK),
    reasoning(
        "thought",
        &["<thought>"],
        &[first("<thought>", Reasoning), mark("</thought>", Reasoning, Content)],
    ),
];

const THINK: [Mark; 2] = [first("<think>", Reasoning), mark("</think>", Reasoning, Content)];

const HUNYUAN: [Mark; 4] = [
    first("<think>", Reasoning),
    mark("</think>", Reasoning, Content),
    first("<answer>", Content),
    mark("</answer>", Content, Content),
];

const XML: [Mark; 2] = [mark("<tool_call>", Content, Call), mark("</tool_call>", Call, Content)];

/// How models write calls, the particular before the general.
pub(super) const CALLS: &[Family] = &[
    // Their calls are messages of the families above.
    forms(
        "muse",
        &["<atem:function_calls>"],
        &[mark("<atem:function_calls>", Content, Call), mark("</atem:function_calls>", Call, Content)],
        markup::atem,
    ),
    calls("harmony", &["<|channel|>", MESSAGE], &[], bodies::harmony),
    Family {
        inside: &[bodies::DEEPSEEK_SEPARATOR],
        ..calls(
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
        )
    },
    forms(
        "deepseek-dsml",
        &["｜DSML｜"],
        &[
            mark("<｜DSML｜tool_calls>", Content, Call),
            mark("</｜DSML｜tool_calls>", Call, Content),
            mark("<｜DSML｜function_calls>", Content, Call),
            mark("</｜DSML｜function_calls>", Call, Content),
        ],
        markup::dsml,
    ),
    forms(
        "step3",
        &["<steptml:invoke"],
        &[
            mark("<｜tool_calls_begin｜>", Content, Aside),
            mark("<｜tool_call_begin｜>", Content, Call),
            mark("<｜tool_call_begin｜>", Aside, Call),
            mark("<｜tool_call_end｜>", Call, Aside),
            mark("<｜tool_calls_end｜>", Aside, Content),
        ],
        markup::steptml,
    ),
    Family {
        inside: &[bodies::KIMI_SEPARATOR],
        ..calls(
            "kimi",
            &["<|tool_calls_section_begin|>"],
            &[
                mark("<|tool_calls_section_begin|>", Content, Aside),
                mark("<|tool_call_begin|>", Aside, Call),
                mark("<|tool_call_end|>", Call, Aside),
                mark("<|tool_calls_section_end|>", Aside, Content),
            ],
            bodies::kimi,
        )
    },
    calls(
        "command",
        &["<|START_ACTION|>"],
        &[mark("<|START_ACTION|>", Content, Call), mark("<|END_ACTION|>", Call, Content)],
        bodies::json,
    ),
    calls(
        "command-r",
        &["Action:", "```json"],
        &[
            mark("Action:\n```json\n", Content, Call),
            mark("Action: ```json\n", Content, Call),
            mark("```", Call, Content),
        ],
        bodies::json,
    ),
    Family {
        inside: &[bodies::MISTRAL_SEPARATOR, bodies::MISTRAL_ID],
        ..calls(
            "mistral",
            &["[TOOL_CALLS]"],
            &[mark("[TOOL_CALLS]", Content, Call), mark("[TOOL_CALLS]", Call, Call)],
            bodies::mistral,
        )
    },
    forms(
        "minimax",
        &["<minimax:tool_call>"],
        &[mark("<minimax:tool_call>", Content, Call), mark("</minimax:tool_call>", Call, Content)],
        markup::invokes,
    ),
    forms(
        "seed",
        &["<seed:tool_call>"],
        &[mark("<seed:tool_call>", Content, Call), mark("</seed:tool_call>", Call, Content)],
        markup::functions,
    ),
    calls(
        "longcat",
        &["<longcat_tool_call>"],
        &[mark("<longcat_tool_call>", Content, Call), mark("</longcat_tool_call>", Call, Content)],
        bodies::json,
    ),
    Family {
        inside: &[pythonic::GEMMA_QUOTE],
        ..forms(
            "gemma",
            &["<tool_call|>"],
            &[mark("<|tool_call>", Content, Call), mark("<tool_call|>", Call, Content)],
            pythonic::gemma,
        )
    },
    Family {
        inside: &[pythonic::GEMMA_ESCAPE],
        ..forms(
            "gemma-function",
            &["<start_function_call>"],
            &[mark("<start_function_call>", Content, Call), mark("<end_function_call>", Call, Content)],
            pythonic::gemma,
        )
    },
    calls(
        "apertus",
        &["<|tools_prefix|>"],
        &[
            mark("<|tools_prefix|>", Content, Call),
            mark("<|tools_prefix|>", Reasoning, Call),
            mark("<|tools_suffix|>", Call, Content),
        ],
        bodies::keyed,
    ),
    forms("glm", &["<arg_key>", "<tool_call>"], &XML, markup::glm),
    forms("qwen-xml", &["<function=", "<tool_call>"], &XML, markup::functions),
    forms(
        "function",
        &["<function=", "</function>"],
        &[mark("<function=", Content, Call), mark("</function>", Call, Content)],
        markup::opened_function,
    ),
    forms(
        "minicpm",
        &["<function name=\""],
        &[mark("<function name=\"", Content, Call), mark("</function>", Call, Content)],
        markup::params,
    ),
    calls(
        "granite",
        &["<|tool_call|>"],
        &[
            mark("<|tool_call|>", Content, Call),
            mark("<tool_call>", Content, Call),
            mark("<|/tool_call|>", Call, Content),
        ],
        bodies::json,
    ),
    calls(
        "tool-calls",
        &["<tool_calls>"],
        &[mark("<tool_calls>", Content, Call), mark("</tool_calls>", Call, Content)],
        bodies::json,
    ),
    calls("hermes", &["<tool_call>"], &XML, bodies::json),
    forms(
        "lfm",
        &["<|tool_call_start|>"],
        &[mark("<|tool_call_start|>", Content, Call), mark("<|tool_call_end|>", Call, Content)],
        bodies::bare,
    ),
    calls(
        "nemotron",
        &["<TOOLCALL>"],
        &[mark("<TOOLCALL>", Content, Call), mark("</TOOLCALL>", Call, Content)],
        bodies::json,
    ),
    forms(
        "olmo",
        &["<function_calls>"],
        &[mark("<function_calls>", Content, Call), mark("</function_calls>", Call, Content)],
        bodies::bare,
    ),
    calls(
        "function-call",
        &["<function_call>"],
        &[
            mark("<function_call>", Content, Call),
            mark("<function_call>", Call, Call),
            mark("</function_call>", Call, Content),
        ],
        bodies::json,
    ),
    calls(
        "firefunction",
        &["<functioncall>"],
        &[
            mark("<functioncall>", Content, Call),
            mark("<functioncall>", Call, Call),
            first("<plain>", Content),
        ],
        bodies::json,
    ),
    calls(
        "gigachat",
        &["<|role_sep|>", "function call"],
        &[
            mark("<|message_sep|>\n\nfunction call<|role_sep|>\n", Content, Call),
            mark("<|function_call|>", Content, Call),
            mark("<|message_sep|>", Call, Aside),
        ],
        bodies::json,
    ),
    calls("gigachat", &["<|function_call|>"], &[mark("<|function_call|>", Content, Call)], bodies::json),
    calls(
        "internlm",
        &["<|action_start|>"],
        &[mark("<|action_start|><|plugin|>", Content, Call), mark("<|action_end|>", Call, Content)],
        bodies::json,
    ),
    Family {
        start: Header,
        route: functionary_goes,
        ..calls(
            "functionary",
            &[">>>${recipient}"],
            &[
                mark(">>>", Header, Header),
                mark(">>>", Content, Header),
                mark(">>>", Call, Header),
                mark("\n", Header, Routed),
            ],
            bodies::harmony,
        )
    },
    Family { bare: true, ..calls("phi", &["functools["], &[first("functools[", Call)], bodies::listed) },
    Family {
        bare: true,
        ..forms(
            "llama",
            &["<|python_tag|>"],
            &[
                mark("<|python_tag|>", Content, Call),
                mark("<|python_start|>", Content, Call),
                mark("<|python_end|>", Call, Content),
            ],
            bodies::bare,
        )
    },
    Family {
        bare: true,
        ..forms(
            "llama",
            &["<|python_start|>"],
            &[mark("<|python_start|>", Content, Call), mark("<|python_end|>", Call, Content)],
            bodies::bare,
        )
    },
];
