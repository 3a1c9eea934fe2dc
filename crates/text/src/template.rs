//! Messages to prompt text, by the model's own Jinja template, set up as transformers sets up Jinja:
//! blocks trimmed, loop controls, `tojson` without HTML escapes, `strftime_now`, `raise_exception`,
//! `{% generation %}`, Python's string and dictionary methods. A template comes with the model and is not
//! trusted: its work, output and depth are limited, and it reaches nothing but what it is given.

mod bounds;
mod clock;
mod filters;
mod guarded;
mod json;
mod markup;
mod methods;
mod source;

use std::path::Path;

use minijinja::{Environment, ErrorKind, Value};
use serde_json::{Map, Value as Json};

pub use clock::Clock;
pub use guarded::Guarded;

use crate::error::read_file;
use crate::guard::caught;
use crate::{Error, Result};

/// The largest template in use has 30 KB; this is also the most that a template file may have.
const MAX_SOURCE: usize = 1 << 20;
/// The most that a template given as a string may have.
const MAX_TEXT: usize = 2 << 20;
/// Steps of the engine in one rendering. Real templates take some hundred per message; a few look at all
/// messages for each.
const FUEL: u64 = 1_000_000;
const FUEL_PER_PAIR: u64 = 10;
const MAX_FUEL: u64 = 3_000_000;
/// Bytes of stack for the engine, and more for each step that it may make.
const STACK: usize = 64 << 20;
const STACK_PER_FUEL: usize = 256;
/// Bytes that a rendering may have.
const MAX_OUTPUT: usize = 64 << 20;
/// How deep macros may call each other.
const MAX_DEPTH: usize = 200;

const NAME: &str = "chat template";

/// A model's chat template.
pub struct ChatTemplate {
    env: Environment<'static>,
    source: String,
    specials: Map<String, Json>,
}

/// What a rendering is given besides the messages.
#[derive(Clone, Debug, Default)]
pub struct RenderOptions {
    /// End with the words that make the model answer.
    pub add_generation_prompt: bool,
    /// JSON schemas of tools, as the OpenAI API has them; `None` is Jinja's `none`.
    pub tools: Option<Json>,
    /// Documents to answer from; `None` is Jinja's `none`.
    pub documents: Option<Json>,
    /// Further variables of the template (`enable_thinking`); they win over the others.
    pub extra: Map<String, Json>,
    /// What `strftime_now` reads.
    pub now: Clock,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.source).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Compiles a template. `bos` and `eos` are what it sees as `bos_token` and `eos_token`; `specials`
    /// holds further ones by their names (`unk_token`, `pad_token` ...).
    ///
    /// # Errors
    /// If it does not parse, with the line, or is too large.
    pub fn new(
        source: &str,
        bos: Option<&str>,
        eos: Option<&str>,
        specials: Map<String, Json>,
    ) -> Result<ChatTemplate> {
        if source.len() > MAX_TEXT {
            let size = source.len();
            return Err(Error::TemplateSyntax(format!("has {size} bytes; at most {MAX_TEXT} are read")));
        }
        let mut specials = specials;
        for (name, token) in [("bos_token", bos), ("eos_token", eos)] {
            if let Some(token) = token {
                specials.insert(name.to_owned(), Json::from(token));
            }
        }
        let prepared = source::prepare(source).map_err(Error::TemplateSyntax)?;
        let env = on_deep_stack(0, || environment(prepared).map_err(|e| describe(&e)));
        let env = env.and_then(|made| made).map_err(Error::TemplateSyntax)?;
        Ok(ChatTemplate { env, source: source.to_owned(), specials })
    }

    /// The template of a model's folder: chat_template.jinja, chat_template.json, or `chat_template` in
    /// tokenizer_config.json (a string, or a list of named ones of which `default` is taken). `None` if
    /// the model has none.
    ///
    /// # Errors
    /// If a file cannot be read or its template does not parse.
    pub fn from_folder(dir: &Path) -> Result<Option<ChatTemplate>> {
        ChatTemplate::named_from_folder(dir, "default")
    }

    /// As [`from_folder`](ChatTemplate::from_folder), but of several named templates this one
    /// (`tool_use`) where there is such a one, else `default`.
    ///
    /// # Errors
    /// As [`from_folder`](ChatTemplate::from_folder).
    pub fn named_from_folder(dir: &Path, name: &str) -> Result<Option<ChatTemplate>> {
        let config = crate::tokenizer::read_json(&dir.join("tokenizer_config.json"))?.unwrap_or(Json::Null);
        let map = crate::tokenizer::read_json(&dir.join("special_tokens_map.json"))?.unwrap_or(Json::Null);
        let mut specials = Map::new();
        for (key, token) in [&map, &config].into_iter().filter_map(Json::as_object).flatten() {
            let text = token.as_str().or_else(|| token.get("content")?.as_str());
            if let Some(text) = text.filter(|_| key.ends_with("_token")) {
                specials.insert(key.clone(), Json::from(text));
            }
        }
        let Some((path, source)) = find_source(dir, &config, name)? else { return Ok(None) };
        let template = ChatTemplate::new(&source, None, None, specials).map_err(|e| match e {
            Error::TemplateSyntax(what) => Error::TemplateSyntax(format!("{}: {what}", path.display())),
            other => other,
        });
        template.map(Some)
    }

    /// The template as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders a conversation: `messages` is a list of objects with `role` and `content`, as the OpenAI
    /// API has them.
    ///
    /// # Errors
    /// [`Error::TemplateRaised`] with the template's own words where it refuses the conversation;
    /// [`Error::TemplateRender`] where it fails or goes past a limit.
    pub fn render(&self, messages: &Json, options: RenderOptions) -> Result<String> {
        let mut context = self.specials.clone();
        context.insert("messages".to_owned(), messages.clone());
        context.insert("add_generation_prompt".to_owned(), Json::from(options.add_generation_prompt));
        context.insert("tools".to_owned(), options.tools.unwrap_or(Json::Null));
        context.insert("documents".to_owned(), options.documents.unwrap_or(Json::Null));
        context.extend(options.extra);
        self.render_context(context, options.now)
    }

    fn render_context(&self, context: Map<String, Json>, now: Clock) -> Result<String> {
        let fuel = fuel(context.get("messages"));
        let rendered = on_deep_stack(fuel, || {
            let mut values: Vec<(String, Value)> = Vec::with_capacity(context.len() + 1);
            values.extend(context.into_iter().map(|(key, value)| (key, json::value(value))));
            values.push(("strftime_now".to_owned(), clock::function(now)));
            let context = Value::from_pairs(values);
            let mut out = Limited { text: Vec::new() };
            let mut env = self.env.clone();
            env.set_fuel(Some(fuel));
            // The engine's own error holds values: it must not leave this stack.
            let template = env.get_template(NAME).map_err(|e| failure(&e))?;
            template.render_captured_to(&context, &mut out).map_err(|e| failure(&e))?;
            Ok(out.text)
        });
        let bytes = rendered.map_err(Error::TemplateRender)??;
        String::from_utf8(bytes).map_err(|e| Error::TemplateRender(e.to_string()))
    }
}

/// The steps that a conversation of so many messages may take.
fn fuel(messages: Option<&Json>) -> u64 {
    let count = messages.and_then(Json::as_array).map_or(0, |list| list.len() as u64);
    MAX_FUEL.min(FUEL.saturating_add(count.saturating_mul(count).saturating_mul(FUEL_PER_PAIR)))
}

/// Runs the engine on a thread of its own. A template can build a value that is nested as deep as its work
/// reaches, and dropping or printing that takes as much stack: this one is enough for that much fuel.
/// (Its pages cost nothing until they are touched.)
fn on_deep_stack<T: Send>(fuel: u64, work: impl FnOnce() -> T + Send) -> std::result::Result<T, String> {
    let stack = STACK + fuel as usize * STACK_PER_FUEL;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("template".to_owned()).stack_size(stack);
        let thread = thread.spawn_scoped(scope, || caught(work));
        let thread = thread.map_err(|e| format!("no thread for the template: {e}"))?;
        thread.join().unwrap_or_else(|_| Err("the template's thread failed".to_owned()))
    })
}

/// Collects the output up to its limit.
struct Limited {
    text: Vec<u8>,
}

impl std::io::Write for Limited {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        if self.text.len() + data.len() > MAX_OUTPUT {
            return Err(std::io::Error::other(format!("the output grew past {MAX_OUTPUT} bytes")));
        }
        self.text.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Where the folder's template is, and its text.
fn find_source(dir: &Path, config: &Json, name: &str) -> Result<Option<(std::path::PathBuf, String)>> {
    let named = dir.join("additional_chat_templates").join(format!("{name}.jinja"));
    let simple = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    for path in [named, dir.join("chat_template.jinja")] {
        if path.is_file() && name.chars().all(simple) {
            let bytes = read_file(&path, MAX_SOURCE as u64)?;
            let text = String::from_utf8(bytes)
                .map_err(|e| Error::TemplateSyntax(format!("{}: is not UTF-8: {e}", path.display())))?;
            return Ok(Some((path, text)));
        }
    }
    let path = dir.join("chat_template.json");
    let value = crate::tokenizer::read_json(&path)?.and_then(|file| file.get("chat_template").cloned());
    if let Some(text) = value.as_ref().and_then(|value| pick(value, name)) {
        return Ok(Some((path, text)));
    }
    let path = dir.join("tokenizer_config.json");
    Ok(config.get("chat_template").and_then(|value| pick(value, name)).map(|text| (path, text)))
}

/// A template given as a string, or as a list of named ones.
fn pick(value: &Json, name: &str) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    let by_name = |wanted: &str| match value {
        Json::Array(list) => {
            let found = list.iter().find(|one| one.get("name").and_then(Json::as_str) == Some(wanted))?;
            found.get("template")?.as_str()
        }
        other => other.get(wanted)?.as_str(),
    };
    by_name(name).or_else(|| by_name("default")).map(str::to_owned)
}

/// The engine as transformers sets up its own.
fn environment(source: String) -> std::result::Result<Environment<'static>, minijinja::Error> {
    let mut env = Environment::new();
    env.set_syntax(minijinja::syntax::SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_undefined_behavior(minijinja::UndefinedBehavior::Lenient);
    env.set_recursion_limit(MAX_DEPTH);
    env.set_fuel(Some(FUEL));
    env.set_debug(false);
    env.set_unknown_method_callback(methods::call);
    filters::register(&mut env);
    env.add_template_owned(NAME, source)?;
    Ok(env)
}

/// Carries the words of `raise_exception` through the engine.
#[derive(Debug)]
struct Raised(String);

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

fn raise(message: Option<Value>) -> std::result::Result<Value, minijinja::Error> {
    let words = message.map(|message| message.to_string()).unwrap_or_default();
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, words.clone()).with_source(Raised(words)))
}

fn failure(error: &minijinja::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(one) = cause {
        if let Some(Raised(words)) = one.downcast_ref::<Raised>() {
            return Error::TemplateRaised(words.clone());
        }
        cause = one.source();
    }
    Error::TemplateRender(describe(error))
}

fn describe(error: &minijinja::Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    }
}
