use serde_json::json;

use super::{Dialect, Part, TagReader, ToolCall};

fn joined(parts: Vec<Part>) -> Vec<Part> {
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

fn read(mut reader: TagReader, pieces: &[&str]) -> Vec<Part> {
    let mut parts: Vec<Part> = pieces.iter().flat_map(|piece| reader.push(piece)).collect();
    parts.extend(reader.finish());
    joined(parts)
}

/// Reads an answer whole, at every split in two, and a character at a time: always the same parts.
#[track_caller]
fn parts(template: &str, prompt: &str, answer: &str) -> Vec<Part> {
    let reader = || Dialect::of(template, true).read(prompt);
    let whole = read(reader(), &[answer]);
    for (at, _) in answer.char_indices() {
        let (a, b) = answer.split_at(at);
        assert_eq!(read(reader(), &[a, b]), whole, "split into {a:?} and {b:?}");
    }
    let each: Vec<String> = answer.chars().map(String::from).collect();
    let each: Vec<&str> = each.iter().map(String::as_str).collect();
    assert_eq!(read(reader(), &each), whole, "one character at a time");
    whole
}

fn said(text: &str) -> Part {
    Part::Content(text.to_owned())
}

fn thought(text: &str) -> Part {
    Part::Reasoning(text.to_owned())
}

fn call(name: &str, arguments: serde_json::Value) -> Part {
    Part::Call(ToolCall { id: None, name: name.to_owned(), arguments })
}

fn call_with_id(id: &str, name: &str, arguments: serde_json::Value) -> Part {
    Part::Call(ToolCall { id: Some(id.to_owned()), name: name.to_owned(), arguments })
}

const QWEN: &str = "{{ '<think>' }} </think> <tool_call>";

#[test]
fn think_tags() {
    let expected = [thought("Let me\n\nsee."), said("It is 4.")];
    assert_eq!(parts(QWEN, "", "<think>\nLet me\n\nsee.\n</think>\n\nIt is 4."), expected);
    assert_eq!(
        parts(QWEN, "<|im_start|>assistant\n<think>\n", "Let me\n\nsee.\n</think>\n\nIt is 4."),
        expected
    );
    let closed = "assistant\n<think>\n\n</think>\n\n";
    assert_eq!(parts(QWEN, closed, "It is 4."), [said("It is 4.")]);
    assert_eq!(parts(QWEN, "", "<think>cut sho"), [thought("cut sho")]);
}

#[test]
fn what_an_answer_says_of_tags_is_no_tag() {
    let answer = "A model writes <think> and </think> around <b>it</b>, 1 < 2 <";
    assert_eq!(parts(QWEN, "", answer), [said(answer)]);
    assert_eq!(parts("plain", "", "<think>x</think>"), [said("<think>x</think>")]);
}

#[test]
fn a_part_of_a_tag_is_never_shown() {
    let mut reader = Dialect::of(QWEN, false).read("");
    for piece in ["<", "th", "ink", ">a", "</thi", "nk"] {
        for part in reader.push(piece) {
            assert_eq!(part, thought("a"));
        }
    }
    assert_eq!(reader.push(">\n\nb "), [said("b")]);
    assert_eq!(reader.finish(), [said(" ")]);
}

#[test]
fn hermes_and_granite_calls() {
    let answer = "<think>t</think>Sure.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1, \"<\"]}}\n</tool_call>\n\
                  <tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>";
    let calls = [call("f", json!({"a": [1, "<"]})), call("g", json!({}))];
    assert_eq!(parts(QWEN, "", answer), [&[thought("t"), said("Sure.")][..], &calls].concat());
    let granite = "<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"a\": 1}}]";
    assert_eq!(parts("<|tool_call|>", "", granite), [call("f", json!({"a": 1}))]);
    let thinks = "Here is my thought process: Hm. Here is my response: Yes.";
    assert_eq!(parts("Here is my thought process:", "", thinks), [thought("Hm."), said("Yes.")]);
    let tags = "<think>Hm.</think>\n<response>Yes.</response>";
    assert_eq!(parts("<think> <response>", "", tags), [thought("Hm."), said("Yes.")]);
}

#[test]
fn a_call_that_is_none_is_shown_as_it_was_written() {
    let broken = "<tool_call>{\"name\": </tool_call> and on";
    assert_eq!(parts(QWEN, "", broken), [said("<tool_call>{\"name\": </tool_call>and on")]);
    assert_eq!(parts(QWEN, "", "<tool_call>{\"name\": \"f\""), [said("<tool_call>{\"name\": \"f\"")]);
    assert_eq!(parts("<|python_tag|>", "", "{\"a\": 1}"), [said("{\"a\": 1}")]);
    assert_eq!(parts("<|python_tag|>", "", "[1] is a list"), [said("[1] is a list")]);
}

#[test]
fn harmony() {
    let harmony = "<|channel|> <|message|>";
    let answer =
        "<|channel|>analysis<|message|>User asks.<|end|><|start|>assistant<|channel|>final<|message|>Hello.";
    assert_eq!(parts(harmony, "<|start|>assistant", answer), [thought("User asks."), said("Hello.")]);
    let answer = "<|channel|>analysis<|message|>Need it.<|end|><|start|>assistant<|channel|>commentary \
                  to=functions.weather <|constrain|>json<|message|>{\"city\": \"Rome\"}<|call|>";
    let expected = [thought("Need it."), call("weather", json!({"city": "Rome"}))];
    assert_eq!(parts(harmony, "<|start|>assistant", answer), expected);
    let role = " to=functions.weather<|channel|>commentary json<|message|>{\"city\": \"Rome\"}";
    assert_eq!(parts(harmony, "<|start|>assistant", role), expected[1..]);
    assert_eq!(parts(harmony, "<|start|>assistant", "no channel"), [said("no channel")]);
}

#[test]
fn mistral() {
    let template = "[THINK] [TOOL_CALLS]";
    assert_eq!(parts(template, "", "[THINK]Hm.[/THINK]Yes."), [thought("Hm."), said("Yes.")]);
    let new = "[TOOL_CALLS]f[ARGS]{\"a\": 1}[TOOL_CALLS]g[CALL_ID]x1[ARGS]{}";
    assert_eq!(parts(template, "", new), [call("f", json!({"a": 1})), call_with_id("x1", "g", json!({}))]);
    let old = "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": 1}, \"id\": \"123456789\"}]";
    assert_eq!(parts(template, "", old), [call_with_id("123456789", "f", json!({"a": 1}))]);
}

#[test]
fn deepseek_kimi_and_command() {
    let v3 = "Ok.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": 1}\n```<｜tool▁call▁end｜>\
              \n<｜tool▁call▁begin｜>g<｜tool▁sep｜>{\"b\": 2}<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    let expected = [said("Ok."), call("f", json!({"a": 1})), call("g", json!({"b": 2}))];
    assert_eq!(parts("<｜tool▁calls▁begin｜>", "", v3), expected);
    let kimi = "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{\"a\": 1}\
                <|tool_call_end|><|tool_calls_section_end|>";
    let expected = [call_with_id("functions.f:0", "f", json!({"a": 1}))];
    assert_eq!(parts("<|tool_calls_section_begin|>", "", kimi), expected);
    let command = "<|START_THINKING|>I will look.<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \
                   \"tool_name\": \"f\", \"parameters\": {\"a\": 1}}\n]<|END_ACTION|>";
    let expected = [thought("I will look."), call_with_id("0", "f", json!({"a": 1}))];
    assert_eq!(parts("<|START_THINKING|> <|START_ACTION|>", "", command), expected);
    let answer = "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Yes.<|END_RESPONSE|>";
    assert_eq!(parts("<|START_THINKING|>", "", answer), [thought("Hm."), said("Yes.")]);
}

#[test]
fn glm_and_qwen_xml() {
    let glm = "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n<arg_key>days</arg_key>\n\
               <arg_value>3</arg_value>\n</tool_call>";
    let expected = [call("weather", json!({"city": "Rome", "days": 3}))];
    assert_eq!(parts("<tool_call> <arg_key>", "", glm), expected);
    assert_eq!(parts("<tool_call> <arg_key>", "", "<tool_call>now</tool_call>"), [call("now", json!({}))]);
    let qwen = "<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n3\n\
                </parameter>\n</function>\n</tool_call>";
    assert_eq!(parts("<tool_call> <function=", "", qwen), expected);
}

#[test]
fn llama_json_and_python() {
    let llama = "<|python_tag|>";
    let json = "{\"name\": \"f\", \"parameters\": {\"a\": 1}}";
    assert_eq!(parts(llama, "", json), [call("f", json!({"a": 1}))]);
    assert_eq!(
        parts(llama, "", &format!("<|python_tag|>{json}; {json}")),
        [call("f", json!({"a": 1})), call("f", json!({"a": 1}))]
    );
    let python = "[f(a=1, b='x\\'y', c=[True, None, -2.5], d={\"k\": \"v\"}), m.g()]";
    let arguments = json!({"a": 1, "b": "x'y", "c": [true, null, -2.5], "d": {"k": "v"}});
    assert_eq!(parts(llama, "", python), [call("f", arguments.clone()), call("m.g", json!({}))]);
    let lfm = format!("<|tool_call_start|>{python}<|tool_call_end|>Wait.");
    assert_eq!(
        parts("<|tool_call_start|>", "", &lfm),
        [call("f", arguments), call("m.g", json!({})), said("Wait.")]
    );
    let deep = format!("[f(a={}", "[".repeat(100_000));
    assert_eq!(read(Dialect::of(llama, true).read(""), &[&deep]), [said(&deep)]);
}

#[test]
fn phi_and_gemma() {
    let phi = "functools[{\"name\": \"f\", \"arguments\": {\"a\": 1}}]";
    assert_eq!(parts("functools[", "", phi), [call("f", json!({"a": 1}))]);
    assert_eq!(parts("functools[", "", "See functools[0]."), [said("See functools[0].")]);
    let template = "<|channel>thought <channel|>";
    assert_eq!(parts(template, "", "<|channel>thought\nHm.<channel|>Yes."), [thought("Hm."), said("Yes.")]);
    assert_eq!(parts(template, "<|turn>model\n<|channel>thought\n<channel|>", "Yes."), [said("Yes.")]);
    assert_eq!(
        parts(template, "<|turn>model\n<|channel>thought\n", "Hm.<channel|>Yes."),
        [thought("Hm."), said("Yes.")]
    );
}

#[test]
fn elements_for_each_argument() {
    let expected = [call("f", json!({"a": 1, "b": "x\ny"})), call("g", json!({}))];
    let minimax = "<minimax:tool_call>\n<invoke name=\"f\">\n<parameter name=\"a\">1</parameter>\n<parameter name=\"b\">x\ny\
                   </parameter>\n</invoke>\n<invoke name=\"g\">\n</invoke>\n</minimax:tool_call>";
    assert_eq!(parts("<minimax:tool_call>", "", minimax), expected);
    let dsml = "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"a\" string=\"false\">1\
                </｜DSML｜parameter>\n<｜DSML｜parameter name=\"b\" string=\"true\">x\ny</｜DSML｜parameter>\n</｜DSML｜invoke>\n\
                <｜DSML｜invoke name=\"g\">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>";
    assert_eq!(parts("｜DSML｜", "", dsml), expected);
    let seed = "<seed:tool_call>\n<function=f>\n<parameter=a>1</parameter>\n<parameter=b>x\ny</parameter>\n</function>\n\
                <function=g>\n</function>\n</seed:tool_call>";
    assert_eq!(parts("<seed:tool_call>", "", seed), expected);
    let step = "<｜tool_calls_begin｜><｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name=\"f\"><steptml:parameter \
                name=\"a\">1</steptml:parameter><steptml:parameter name=\"b\">x\ny</steptml:parameter></steptml:invoke>\
                <｜tool_call_end｜><｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name=\"g\"></steptml:invoke>\
                <｜tool_call_end｜><｜tool_calls_end｜>";
    assert_eq!(parts("<steptml:invoke", "", step), expected);
    let minicpm = "<function name=\"f\"><param name=\"a\">1</param><param name=\"b\"><![CDATA[x</param>]]></param></function>";
    let template = "'<function name=\"' ~ name";
    assert_eq!(parts(template, "", minicpm), [call("f", json!({"a": 1, "b": "x</param>"}))]);
}

#[test]
fn arguments_written_as_text_go_by_the_tool() {
    let tool = json!({"name": "f", "parameters": {"properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}});
    let answer = "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>3</arg_value>\n<arg_key>b</arg_key>\n<arg_value>3</arg_value>\n</tool_call>";
    let reader = Dialect::of("<arg_key> <tool_call>", true).read("").knowing(&[tool]);
    assert_eq!(read(reader, &[answer]), [call("f", json!({"a": "3", "b": 3}))]);
}

#[test]
fn tags_within_a_string_of_json_are_none() {
    let answer =
        "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"</tool_call> \\\" <b>\"}}</tool_call>";
    assert_eq!(parts(QWEN, "", answer), [call("f", json!({"a": "</tool_call> \" <b>"}))]);
    let open = "<tool_call>{\"name\": \"f</tool_call> and on";
    assert_eq!(parts(QWEN, "", open), [said(open)]);
}

#[test]
fn lists_of_json_in_tags_of_their_own() {
    let list = "[{\"name\": \"f\", \"arguments\": {\"a\": 1}}]";
    let expected = [said("Yes."), call("f", json!({"a": 1}))];
    for (template, open, close) in [
        ("<TOOLCALL>", "<TOOLCALL>", "</TOOLCALL>"),
        ("<tool_calls>", "<tool_calls>", "</tool_calls>"),
        ("<longcat_tool_call>", "<longcat_tool_call>", "</longcat_tool_call>"),
        ("<|tool_call|>", "<|tool_call|>", "<|/tool_call|>"),
        ("<|action_start|>", "<|action_start|><|plugin|>", "<|action_end|>"),
        ("<functioncall>", "<functioncall>", ""),
        ("<function_call>", "<function_call>", ""),
        ("Action: ```json", "Action: ```json\n", "\n```"),
    ] {
        assert_eq!(parts(template, "", &format!("Yes.\n{open}{list}{close}")), expected, "{template}");
    }
    let apertus = "<|inner_prefix|>Hm.<|tools_prefix|>[{\"f\": {\"a\": 1}}, {\"g\": {}}]<|tools_suffix|>Yes.";
    let expected = [thought("Hm."), call("f", json!({"a": 1})), call("g", json!({})), said("Yes.")];
    assert_eq!(parts("<|inner_prefix|> <|tools_prefix|>", "", apertus), expected);
    assert_eq!(parts("<functioncall>", "", "<plain>Yes."), [said("Yes.")]);
}

#[test]
fn python_calls_in_tags_and_gemma() {
    let olmo = "<function_calls>\nf(a=1, b=\"x\\u00e9\\ud83d\\ude00\")\ng()\n</function_calls>";
    let expected = [call("f", json!({"a": 1, "b": "xé😀"})), call("g", json!({}))];
    assert_eq!(parts("<function_calls>", "", olmo), expected);
    let llama4 = "<|python_start|>[f(a=1)]<|python_end|>";
    assert_eq!(parts("<|python_start|>", "", llama4), [call("f", json!({"a": 1}))]);
    let gemma = "<|tool_call>call:f{a:1,b:<|\"|>x, {y}<|\"|>,c:[true,{<|\"|>k<|\"|>:null}]}<tool_call|><|tool_call>call:g{}<tool_call|>";
    let arguments = json!({"a": 1, "b": "x, {y}", "c": [true, {"k": null}]});
    assert_eq!(parts("<tool_call|>", "", gemma), [call("f", arguments), call("g", json!({}))]);
    let small = "<start_function_call>call:f{a:<escape>3<escape>,b:2}<end_function_call>";
    assert_eq!(parts("<start_function_call>", "", small), [call("f", json!({"a": "3", "b": 2}))]);
    assert_eq!(parts("<tool_call|>", "", "<|tool_call>no<tool_call|>"), [said("<|tool_call>no<tool_call|>")]);
}

#[test]
fn messages_with_heads() {
    let functionary = ">>>${recipient}";
    let answer = "all\nIt is so.\n>>> 1 + 1\n2>>>f\n{\"a\": \">>>g\\n\"}>>>g\n{}";
    let expected = [said("It is so.\n>>> 1 + 1\n2"), call("f", json!({"a": ">>>g\n"})), call("g", json!({}))];
    assert_eq!(parts(functionary, "assistant\n\n>>>", answer), expected);
    let muse = "to=self <|eom|> <|message|> <atem:function_calls>";
    let answer = " to=self<|message|>Hm.<|eom|><|start|>assistant to=f<|message|><atem:function_calls>\n<atem:invoke name=\"f\">\n\
                  <atem:parameter name=\"a\">1</atem:parameter>\n</atem:invoke>\n</atem:function_calls><|eot|>";
    assert_eq!(parts(muse, "<|start|>assistant", answer), [thought("Hm."), call("f", json!({"a": 1}))]);
    assert_eq!(parts(muse, "<|start|>assistant", " to=user<|message|>Yes.<|eot|>"), [said("Yes.")]);
}

#[test]
fn apriel_and_others_that_open_or_close_with_words() {
    let apriel = "[BEGIN FINAL RESPONSE] [END FINAL RESPONSE]";
    let prompt = "<|assistant|>\nHere are my reasoning steps:\n";
    let answer = "Hm.\n[BEGIN FINAL RESPONSE]\nYes.\n[END FINAL RESPONSE]";
    assert_eq!(parts(apriel, prompt, answer), [thought("Hm."), said("Yes.")]);
    assert_eq!(
        parts(apriel, "", &format!("Here are my reasoning steps:\n{answer}")),
        [thought("Hm."), said("Yes.")]
    );
    let hunyuan = "<think>\nHm.\n</think>\n<answer>\nYes.\n</answer>";
    assert_eq!(parts("<think> <answer>", "", hunyuan), [thought("Hm."), said("Yes.")]);
    let open = "<|begin_of_thought|>Hm.<|end_of_thought|>\n<|begin_of_solution|>Yes.<|end_of_solution|>";
    assert_eq!(parts("<|begin_of_thought|>", "", open), [thought("Hm."), said("Yes.")]);
    let minicpm = "<|thought_start|>\nHm.\n<|thought_end|>\n<|tool_call_start|>\n```python\nf(a=1)\ng()\n```\n<|tool_call_end|>\nYes.";
    let expected = [thought("Hm."), call("f", json!({"a": 1})), call("g", json!({})), said("Yes.")];
    assert_eq!(parts("<|thought_start|> <|tool_call_start|>", "", minicpm), expected);
}

#[test]
fn without_tools_bare_json_is_an_answer() {
    let json = "{\"name\": \"f\", \"parameters\": {}}";
    assert_eq!(read(Dialect::of("<|python_tag|>", false).read(""), &[json]), [said(json)]);
}

/// Real templates, where they are at hand.
#[test]
fn real_templates_tell_their_dialect() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/material/templates/templates.jsonl");
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: {path} is not there");
        return;
    };
    let expected = [
        ("openai-gpt-oss-120b", Some("harmony"), Some("harmony")),
        ("Qwen-Qwen3-0.6B", Some("think"), Some("hermes")),
        ("Qwen-QwQ-32B", Some("think"), Some("hermes")),
        ("Qwen-Qwen2.5-7B-Instruct", None, Some("hermes")),
        ("mistralai-Ministral-3-14B-Reasoning-2512", Some("mistral"), Some("mistral")),
        ("Mistral-Small-3.2-24B-Instruct-2506", None, Some("mistral")),
        ("ibm-granite-granite-3.3-2B-Instruct", Some("granite-think"), Some("granite")),
        ("ibm-granite-granite-4.0", None, Some("hermes")),
        ("c4ai-command-a-03-2025", Some("command"), Some("command")),
        ("deepseek_r1_qwen_14b_tokenizer", Some("think"), Some("deepseek")),
        ("Kimi-K2-Thinking", Some("think"), Some("kimi")),
        ("Kimi-K2-Instruct", None, Some("kimi")),
        ("Llama-3.1-8B-Instruct", None, Some("llama")),
        ("tool_chat_template_glm4", None, Some("glm")),
        ("tool_chat_template_qwen3coder", None, Some("qwen-xml")),
        ("google-gemma-4-31B-it-interleaved", Some("gemma"), Some("gemma")),
        ("Apertus-8B-Instruct", Some("apertus"), Some("apertus")),
        ("unsloth-Apriel-1.5", Some("apriel"), Some("tool-calls")),
        ("MiniMax-M2", Some("think"), Some("minimax")),
        ("deepseek-ai-DeepSeek-V4", Some("think"), Some("deepseek-dsml")),
        ("muse-glimmer", Some("muse"), Some("muse")),
        ("openbmb/MiniCPM3-4B", Some("minicpm"), Some("lfm")),
        ("openbmb-MiniCPM5-1B", Some("think"), Some("minicpm")),
        ("meetkai-functionary-medium-v3.1", None, Some("function")),
        ("meetkai-functionary-medium-v3.2", None, Some("functionary")),
        ("CohereForAI-c4ai-command-r-plus-tool_use", None, Some("command-r")),
        ("fireworks-ai/firefunction-v1", None, Some("firefunction")),
        ("tool_chat_template_hunyuan_a13b", Some("hunyuan"), Some("tool-calls")),
        ("HuggingFaceTB/SmolLM3-3B", Some("think"), Some("hermes")),
        ("Qwen/Qwen1.5-72B-Chat", None, None),
        ("LFM2.5-8B-A1B", Some("think"), Some("lfm")),
    ];
    let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (name, reasoning, calls) in expected {
        let row = rows.iter().find(|row| row["id"].as_str().unwrap().ends_with(name));
        let source = row.unwrap_or_else(|| panic!("{name} is not there"))["template"].as_str().unwrap();
        assert_eq!(Dialect::of(source, true).names(), (reasoning, calls), "{name}");
    }
}

#[test]
fn white_space_before_what_is_no_call_after_all_is_left_out_however_it_came() {
    assert_eq!(parts("plain", "", " \n[f(x=1, g()]"), [said("[f(x=1, g()]")]);
    assert_eq!(parts("plain", "", "  {\"a\": "), [said("{\"a\":")]);
}
