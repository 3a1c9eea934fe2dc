//! What was said: the messages of a conversation, as the template wants them, as Markdown and as JSON.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Letters of a title that is made of the first question.
const TITLE: usize = 60;

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// As templates and files call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }

    /// The role of that name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::User, Self::Assistant].into_iter().find(|role| role.name() == name)
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: String,
    /// What the model thought before.
    pub reasoning: Option<String>,
}

/// A conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// Its number in the history, once it is kept.
    pub id: Option<i64>,
    /// The name that it was given.
    pub title: Option<String>,
    /// The model, as `-m` takes it.
    pub model: String,
    /// What the model is told before all else.
    pub system: Option<String>,
    /// All messages, the oldest first.
    pub messages: Vec<Message>,
    /// How many of the oldest the model is not given any more.
    pub forgotten: usize,
    /// What it is given in their place.
    pub summary: Option<String>,
    /// The conversation that it branched off.
    pub parent: Option<i64>,
}

impl Conversation {
    /// Adds what a person says.
    pub fn ask(&mut self, content: String) {
        self.messages.push(Message { role: Role::User, content, reasoning: None });
    }

    /// Adds what the model says.
    pub fn answer(&mut self, content: String, reasoning: Option<String>) {
        self.messages.push(Message { role: Role::Assistant, content, reasoning });
    }

    /// Takes back the messages from the last question on; that question.
    pub fn undo(&mut self) -> Option<String> {
        let last = self.messages.iter().rposition(|m| m.role == Role::User)?;
        let question = self.messages.split_off(last).into_iter().next()?.content;
        if self.forgotten >= self.messages.len() {
            (self.forgotten, self.summary) = (0, None);
        }
        Some(question)
    }

    /// Whether the model has been asked something that it has not answered.
    pub fn waits(&self) -> bool {
        self.messages.last().is_some_and(|m| m.role == Role::User)
    }

    /// What the model is given, as chat templates take it.
    pub fn prompt(&self) -> Value {
        let mut list = Vec::new();
        if let Some(system) = &self.system {
            list.push(json!({ "role": "system", "content": system }));
        }
        for (i, message) in self.sent().iter().enumerate() {
            // Not a system message: not every template takes one.
            let content = match &self.summary {
                Some(summary) if i == 0 => {
                    format!("(What was said before, in short: {summary})\n\n{}", message.content)
                }
                _ => message.content.clone(),
            };
            list.push(json!({ "role": message.role.name(), "content": content }));
        }
        list.into()
    }

    /// The messages that the model is given.
    pub fn sent(&self) -> &[Message] {
        self.messages.get(self.forgotten..).unwrap_or_default()
    }

    /// Where in `messages` the second question lies of those that the model is given.
    pub fn second_question(&self) -> Option<usize> {
        let questions = self.sent().iter().enumerate().filter(|(_, m)| m.role == Role::User);
        questions.map(|(i, _)| i + self.forgotten).nth(1)
    }

    /// A name for lists: its own, or the first words that were said.
    pub fn name(&self) -> String {
        let first = || self.messages.first().map_or("(empty)", |m| m.content.as_str());
        let words =
            self.title.as_deref().unwrap_or_else(first).split_whitespace().collect::<Vec<_>>().join(" ");
        match words.char_indices().nth(TITLE) {
            Some((at, _)) => format!("{}…", &words[..at]),
            None => words,
        }
    }

    /// As a text to read.
    pub fn markdown(&self) -> String {
        let mut out = format!("# {}\n\nModel: {}\n", self.name(), self.model);
        if let Some(system) = &self.system {
            out += &format!("\n## System\n\n{system}\n");
        }
        for message in &self.messages {
            let who = if message.role == Role::User { "You" } else { "Model" };
            out += &format!("\n## {who}\n\n");
            if let Some(reasoning) = &message.reasoning {
                out += &format!("<details><summary>Thinking</summary>\n\n{reasoning}\n\n</details>\n\n");
            }
            out += message.content.trim_end();
            out += "\n";
        }
        out
    }

    /// As data; [`Self::from_json`] reads it.
    pub fn json(&self) -> Value {
        let message = |m: &Message| {
            let mut object = json!({ "role": m.role.name(), "content": m.content });
            if let Some(reasoning) = &m.reasoning {
                object["reasoning"] = json!(reasoning);
            }
            object
        };
        json!({
            "id": self.id,
            "title": self.title,
            "model": self.model,
            "system": self.system,
            "parent": self.parent,
            "forgotten": self.forgotten,
            "summary": self.summary,
            "messages": self.messages.iter().map(message).collect::<Vec<_>>(),
        })
    }

    /// Reads what `/export FILE.json` wrote, as a conversation that is not kept yet.
    ///
    /// # Errors
    /// What is not as `/export` writes it, by key.
    pub fn from_json(text: &str) -> Result<Self> {
        let value: Value =
            serde_json::from_str(text).context("found no JSON, expected what /export writes")?;
        let list = value["messages"].as_array().context("messages: expected a list, as /export writes it")?;
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        let mut conversation = Self { title: text("title"), system: text("system"), ..Self::default() };
        conversation.model = text("model").unwrap_or_default();
        for (i, message) in list.iter().enumerate() {
            let Some(role) = message["role"].as_str().and_then(Role::of) else {
                bail!("messages[{i}].role: found {}, expected \"user\" or \"assistant\"", message["role"]);
            };
            let content = message["content"].as_str();
            let content = content.with_context(|| format!("messages[{i}].content: expected a string"))?;
            let reasoning = message["reasoning"].as_str().map(str::to_owned);
            conversation.messages.push(Message { role, content: content.to_owned(), reasoning });
        }
        let forgotten = value["forgotten"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        if forgotten > 0 && conversation.messages.get(forgotten).is_some_and(|m| m.role == Role::User) {
            (conversation.forgotten, conversation.summary) = (forgotten, text("summary"));
        }
        Ok(conversation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk() -> Conversation {
        let mut talk =
            Conversation { model: "m".into(), system: Some("Be brief.".into()), ..Default::default() };
        talk.ask("One?".into());
        talk.answer("1".into(), Some("hm".into()));
        talk.ask("Two?".into());
        talk.answer("2".into(), None);
        talk
    }

    #[test]
    fn the_model_is_given_what_is_not_forgotten() {
        let mut talk = talk();
        assert_eq!(talk.prompt()[0]["role"], "system");
        assert_eq!(talk.prompt()[1], json!({ "role": "user", "content": "One?" }));
        assert_eq!(talk.second_question(), Some(2));
        talk.forgotten = 2;
        talk.summary = Some("One is 1.".into());
        let prompt = talk.prompt();
        assert_eq!(prompt.as_array().map(Vec::len), Some(3));
        assert!(prompt[1]["content"].as_str().unwrap().contains("One is 1.)\n\nTwo?"));
        assert_eq!(talk.second_question(), None);
    }

    #[test]
    fn a_question_is_taken_back_with_its_answer() {
        let mut talk = talk();
        assert_eq!(talk.undo().as_deref(), Some("Two?"));
        assert_eq!(talk.messages.len(), 2);
        assert_eq!(talk.undo().as_deref(), Some("One?"));
        assert_eq!(talk.undo(), None);
    }

    #[test]
    fn json_is_read_as_it_was_written_and_markdown_says_it_all() {
        let talk = talk();
        assert_eq!(Conversation::from_json(&talk.json().to_string()).unwrap(), talk);
        let text = talk.markdown();
        for part in ["# One?", "Be brief.", "## You\n\nTwo?", "## Model\n\n2\n", "hm"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        for (wrong, key) in [
            ("[]", "messages"),
            ("{", "JSON"),
            (r#"{"messages": [{"role": "tool", "content": ""}]}"#, "messages[0].role"),
            (r#"{"messages": [{"role": "user"}]}"#, "messages[0].content"),
        ] {
            let message = format!("{:#}", Conversation::from_json(wrong).unwrap_err());
            assert!(message.contains(key), "{message}");
        }
    }
}
