//! What begins with `/` in a chat: one table of commands, for help, completion and what they do.

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::conversation::Conversation;
use super::{Chat, Go};
use crate::prompt::read_file;

/// What a command takes, for completion.
#[derive(Clone, Copy)]
pub enum Takes {
    /// A file.
    Path,
    /// What `/set` takes.
    Setting,
    /// One of these.
    Words(&'static [&'static str]),
    /// Anything.
    Text,
}

struct Command {
    name: &'static str,
    argument: &'static str,
    help: &'static str,
    takes: Takes,
    run: fn(&mut Chat, &str) -> Result<Go>,
}

const fn command(
    name: &'static str,
    argument: &'static str,
    help: &'static str,
    takes: Takes,
    run: fn(&mut Chat, &str) -> Result<Go>,
) -> Command {
    Command { name, argument, help, takes, run }
}

const TABLE: &[Command] = &[
    command("help", "", "this list", Takes::Text, help),
    command(
        "system",
        "[TEXT|none]",
        "what the model is told before all else; alone shows it",
        Takes::Text,
        system,
    ),
    command("model", "[MODEL]", "go on with another model; alone says which runs", Takes::Path, model),
    command(
        "set",
        "[NAME VALUE]",
        "how answers are made (VALUE default: as at the start); alone lists",
        Takes::Setting,
        set,
    ),
    command("regen", "", "answer the last question again", Takes::Text, regenerate),
    command("edit", "[TEXT]", "change the last question and ask it again", Takes::Text, edit),
    command("undo", "", "take back the last question and its answer", Takes::Text, undo),
    command(
        "branch",
        "[N]",
        "go on in a copy, of the first N questions or of all; the other stays",
        Takes::Text,
        branch,
    ),
    command("file", "PATH [QUESTION]", "put a file's text before the next question", Takes::Path, file),
    command("save", "[TITLE]", "keep the conversation, under a title", Takes::Text, save),
    command(
        "load",
        "ID|TITLE|FILE.json",
        "go on with a conversation that was kept or exported",
        Takes::Path,
        load,
    ),
    command("list", "[SEARCH]", "the conversations that are kept", Takes::Text, list),
    command("export", "FILE.md|FILE.json", "write the conversation to a file", Takes::Path, export),
    command(
        "think",
        "on|off|default|show|fold|hide|last",
        "whether the model reasons first, how that is shown; last unfolds the last; alone says",
        Takes::Words(&["on", "off", "default", "show", "fold", "hide", "last"]),
        think,
    ),
    command("stats", "", "tokens, speed, and what the cache saved", Takes::Text, stats),
    command("clear", "", "begin a new conversation", Takes::Text, clear),
    command("exit", "", "leave (Ctrl-D does too)", Takes::Text, |_, _| Ok(Go::Leave)),
];

/// The names of all commands.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|command| command.name)
}

/// What a command takes.
pub fn takes(name: &str) -> Takes {
    TABLE.iter().find(|command| command.name == name).map_or(Takes::Text, |command| command.takes)
}

/// Does what a line says that begins with `/`.
///
/// # Errors
/// There is no such command, or it cannot be done.
pub fn run(chat: &mut Chat, line: &str) -> Result<Go> {
    let (name, argument) = line[1..].split_once(char::is_whitespace).unwrap_or((&line[1..], ""));
    let name = match name {
        "quit" | "bye" => "exit",
        "?" => "help",
        other => other,
    };
    let Some(command) = TABLE.iter().find(|command| command.name == name) else {
        bail!("found /{name}, expected a command: /help lists them, and a space before the / makes it text");
    };
    (command.run)(chat, argument.trim())
}

fn help(chat: &mut Chat, _: &str) -> Result<Go> {
    let line = |c: &Command| format!("  {:<44} {}\n", format!("/{} {}", c.name, c.argument), c.help);
    let list: String = TABLE.iter().map(line).collect();
    let more = "A backslash at its end, or \"\"\" around it, makes a message of several lines.\n\
                Ctrl-C stops an answer, Ctrl-D leaves, Tab completes.\n";
    chat.screen.print(&(list + more)).map(|()| Go::On)
}

fn system(chat: &mut Chat, text: &str) -> Result<Go> {
    match text {
        "" => chat.screen.print(chat.talk.system.as_deref().unwrap_or("(none)"))?,
        "none" => {
            chat.talk.system = None;
            chat.screen.note("(the model is told nothing before all else)")?;
        }
        text => {
            chat.talk.system = Some(text.to_owned());
            chat.screen.note("(the model is told that from now on)")?;
        }
    }
    Ok(Go::On)
}

fn model(chat: &mut Chat, name: &str) -> Result<Go> {
    match name {
        "" => {
            let session = &chat.session;
            let line = format!("{}, {}, context {}", session.name, session.path.display(), session.context());
            chat.screen.print(&line)?;
        }
        name => chat.change_model(&in_full(name))?,
    }
    Ok(Go::On)
}

fn set(chat: &mut Chat, argument: &str) -> Result<Go> {
    match argument.split_once(char::is_whitespace) {
        Some((name, value)) => {
            chat.settings.set(name, value.trim())?;
            chat.screen.note(&format!("({name} is {})", value.trim()))?;
        }
        None if argument.is_empty() => chat.screen.print(&chat.settings.list())?,
        None => bail!("/set {argument}: found no value, expected NAME VALUE"),
    }
    Ok(Go::On)
}

fn regenerate(chat: &mut Chat, _: &str) -> Result<Go> {
    let Some(question) = chat.talk.undo() else { bail!("/regen: nothing has been asked yet") };
    chat.again += 1;
    chat.talk.ask(question);
    chat.answer().map(|()| Go::On)
}

fn edit(chat: &mut Chat, text: &str) -> Result<Go> {
    let last = chat.talk.messages.iter().rev().find(|m| m.role == super::conversation::Role::User);
    let Some(last) = last.map(|m| m.content.clone()) else { bail!("/edit: nothing has been asked yet") };
    let text = match text {
        "" if chat.interactive => chat.edited(&last)?,
        "" => bail!("/edit: found no text, expected the question as it should be"),
        text => Some(text.to_owned()),
    };
    if let Some(text) = text.filter(|text| !text.trim().is_empty()) {
        chat.talk.undo();
        chat.talk.ask(text);
        chat.answer()?;
    }
    Ok(Go::On)
}

fn undo(chat: &mut Chat, _: &str) -> Result<Go> {
    let Some(question) = chat.talk.undo() else { bail!("/undo: nothing has been asked yet") };
    chat.keep()?;
    chat.screen.note(&format!("(taken back: {})", question.lines().next().unwrap_or_default()))?;
    Ok(Go::On)
}

fn branch(chat: &mut Chat, number: &str) -> Result<Go> {
    let questions: Vec<usize> = (0..chat.talk.messages.len())
        .filter(|&i| chat.talk.messages[i].role == super::conversation::Role::User)
        .collect();
    let count = match number {
        "" => questions.len(),
        number => number.parse().ok().filter(|n| *n <= questions.len()).with_context(|| {
            format!("/branch: found {number:?}, expected a number of questions, at most {}", questions.len())
        })?,
    };
    chat.keep()?;
    let end = questions.get(count).copied().unwrap_or(chat.talk.messages.len());
    chat.talk.messages.truncate(end);
    if chat.talk.forgotten >= end {
        (chat.talk.forgotten, chat.talk.summary) = (0, None);
    }
    (chat.talk.parent, chat.talk.id, chat.talk.title) = (chat.talk.id, None, None);
    chat.keep()?;
    let of = chat.talk.parent.map_or(String::new(), |id| format!(" of conversation {id}"));
    let questions = if count == 1 { "question" } else { "questions" };
    chat.screen.note(&format!("(a branch{of}, after {count} {questions})"))?;
    Ok(Go::On)
}

/// A path as it was typed, `~/` in full.
fn in_full(path: &str) -> Cow<'_, str> {
    let home = path.strip_prefix("~/").and_then(|rest| Some(std::env::home_dir()?.join(rest)));
    home.and_then(|path| path.to_str().map(str::to_owned)).map_or(Cow::Borrowed(path), Cow::Owned)
}

fn file(chat: &mut Chat, argument: &str) -> Result<Go> {
    if argument.is_empty() {
        bail!("/file: found no path, expected PATH [QUESTION]");
    }
    let argument = &*in_full(argument);
    // A path may have spaces: the longest beginning that is a file is one.
    let ends = argument.char_indices().filter(|(_, c)| c.is_whitespace()).map(|(at, _)| at);
    let mut ends: Vec<usize> = ends.chain([argument.len()]).collect();
    ends.reverse();
    let end = ends.iter().copied().find(|&end| Path::new(&argument[..end]).is_file());
    let (path, question) =
        argument.split_at(end.unwrap_or(argument.find(char::is_whitespace).unwrap_or(argument.len())));
    let text = read_file("/file", Path::new(path))?;
    let fence = "`".repeat(longest_run(&text).max(2) + 1);
    chat.attached += &format!("{path}:\n{fence}\n{text}\n{fence}\n\n");
    match question.trim() {
        "" => chat
            .screen
            .note(&format!("({path}, {} characters, goes with the next question)", text.chars().count()))?,
        question => chat.ask(question)?,
    }
    Ok(Go::On)
}

/// The most backticks in a row.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

fn save(chat: &mut Chat, title: &str) -> Result<Go> {
    if chat.talk.messages.is_empty() && chat.talk.id.is_none() {
        bail!("/save: nothing has been said yet");
    }
    if !title.is_empty() {
        chat.talk.title = Some(title.to_owned());
    }
    chat.keep_anyway()?;
    let id = chat.talk.id.unwrap_or_default();
    chat.screen
        .note(&format!("(kept as conversation {id}; influence chat --continue {id} goes on with it)"))?;
    Ok(Go::On)
}

fn load(chat: &mut Chat, name: &str) -> Result<Go> {
    if name.is_empty() {
        bail!("/load: found no name, expected a number or title of /list, or a file that /export wrote");
    }
    let talk = if name.ends_with(".json") {
        let text = read_file("/load", Path::new(&*in_full(name)))?;
        Conversation::from_json(&text).with_context(|| format!("/load {name}"))?
    } else {
        chat.history()?.find(Some(name))?
    };
    chat.go_on_with(talk)?;
    Ok(Go::On)
}

fn list(chat: &mut Chat, search: &str) -> Result<Go> {
    let entries = chat.history()?.list(search)?;
    chat.screen.print(&crate::history::table(&entries))?;
    Ok(Go::On)
}

fn export(chat: &mut Chat, path: &str) -> Result<Go> {
    let text = match Path::new(path).extension().and_then(|e| e.to_str()) {
        Some("md" | "markdown") => chat.talk.markdown(),
        Some("json") => format!("{:#}\n", chat.talk.json()),
        _ => bail!("/export: found {path:?}, expected a name that ends in .md or .json"),
    };
    let path = &*in_full(path);
    // What is there already is not written over.
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = file.with_context(|| format!("/export {path}: cannot write a new file there"))?;
    std::io::Write::write_all(&mut file, text.as_bytes()).with_context(|| format!("/export {path}"))?;
    chat.screen.note(&format!("(written to {path})"))?;
    Ok(Go::On)
}

fn think(chat: &mut Chat, word: &str) -> Result<Go> {
    match word {
        "" => chat.screen.print(&chat.thinking())?,
        "on" | "off" if !chat.session.can_switch() => {
            let why = if chat.session.reasons() {
                "always reasons"
            } else {
                "does not reason in a way that is known"
            };
            bail!("/think {word}: this model {why}: its chat template has no switch for it");
        }
        "on" => chat.think = Some(true),
        "off" => chat.think = Some(false),
        "default" => chat.think = None,
        "show" | "fold" | "hide" => chat.settings.set("thinking", word)?,
        "last" => {
            let last = chat.talk.messages.iter().rev().find_map(|m| m.reasoning.clone());
            chat.screen.print(last.as_deref().unwrap_or("(no answer here has been thought about)"))?;
        }
        other => bail!("/think: found {other:?}, expected on, off, default, show, fold, hide or last"),
    }
    Ok(Go::On)
}

fn stats(chat: &mut Chat, _: &str) -> Result<Go> {
    let text = chat.statistics();
    chat.screen.print(&text).map(|()| Go::On)
}

fn clear(chat: &mut Chat, _: &str) -> Result<Go> {
    chat.clear();
    chat.screen.note("(a new conversation)")?;
    Ok(Go::On)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_the_issue_names_is_there() {
        let all =
            "help system model set regen edit undo branch file save load list export think stats clear exit";
        assert_eq!(names().collect::<Vec<_>>(), all.split(' ').collect::<Vec<_>>());
    }

    /// `INFLUENCE_WRITE_TABLES=1` writes it anew.
    #[test]
    fn the_commands_of_the_docs_are_those_of_the_program() {
        let cell = |text: &str| text.replace('|', "\\|");
        let row = |c: &Command| {
            format!("| `/{}` | {} |\n", cell(format!("{} {}", c.name, c.argument).trim()), cell(c.help))
        };
        let table: String = TABLE.iter().map(row).collect();
        let table = format!("| command | |\n|---|---|\n{table}");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/chat.md");
        let page = std::fs::read_to_string(&path).unwrap();
        let (open, close) =
            ("<!-- commands: written by crates/cli/src/chat/commands.rs -->\n", "<!-- end -->");
        let start = page.find(open).unwrap() + open.len();
        let end = start + page[start..].find(close).unwrap();
        if std::env::var_os("INFLUENCE_WRITE_TABLES").is_some() {
            std::fs::write(&path, format!("{}{table}{}", &page[..start], &page[end..])).unwrap();
            return;
        }
        assert_eq!(
            page[start..end],
            table,
            "INFLUENCE_WRITE_TABLES=1 cargo test -p influence --bin influence writes it"
        );
    }

    #[test]
    fn a_fence_is_longer_than_those_within() {
        assert_eq!(longest_run("a ``` b `c`"), 3);
        assert_eq!(longest_run("none"), 0);
    }
}
