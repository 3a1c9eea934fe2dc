//! Conversations that are kept: one SQLite file in the user's data folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use etcetera::{BaseStrategy, choose_base_strategy};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::conversation::{Conversation, Message, Role};

const FILE: &str = "conversations.sqlite3";
/// The version of the tables below.
const VERSION: i64 = 1;
const TABLES: &str = "
    CREATE TABLE conversations (
        id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT, name TEXT NOT NULL, model TEXT NOT NULL, system TEXT,
        summary TEXT, forgotten INTEGER NOT NULL, parent INTEGER, updated INTEGER NOT NULL);
    -- `updated` in milliseconds: two may be kept within a second.
    CREATE TABLE messages (
        conversation INTEGER NOT NULL, place INTEGER NOT NULL, role TEXT NOT NULL, content TEXT NOT NULL,
        reasoning TEXT, PRIMARY KEY (conversation, place));
    CREATE VIRTUAL TABLE words USING fts5 (content, conversation UNINDEXED);
    CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    PRAGMA user_version = 1;";

/// The folder of what a person would miss: `INFLUENCE_DATA`, else `influence` in the user's data folder.
pub fn folder() -> Result<PathBuf> {
    match std::env::var_os("INFLUENCE_DATA").filter(|value| !value.is_empty()) {
        Some(folder) => Ok(folder.into()),
        None => {
            let strategy = choose_base_strategy();
            let strategy = strategy
                .context("there is no home folder to keep conversations in; name one by INFLUENCE_DATA")?;
            Ok(strategy.data_dir().join("influence"))
        }
    }
}

/// A row of a list.
#[derive(Debug)]
pub struct Entry {
    /// Its number.
    pub id: i64,
    /// What to call it.
    pub name: String,
    /// The model.
    pub model: String,
    /// When it was last changed, local time.
    pub updated: String,
    /// Its messages.
    pub messages: i64,
}

/// The file.
pub struct Store {
    db: Connection,
    path: PathBuf,
}

impl Store {
    /// Opens the file, and makes it if there is none.
    ///
    /// # Errors
    /// With the file's name: it cannot be written, is no such file, or a newer influence made it.
    pub fn open() -> Result<Self> {
        Self::at(&folder()?)
    }

    fn at(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let what = || {
            format!(
                "{}: cannot keep conversations there (INFLUENCE_DATA names another folder)",
                path.display()
            )
        };
        make_private(folder).with_context(what)?;
        let db = prepare(&path).with_context(what)?;
        Ok(Self { db, path })
    }

    /// Keeps a conversation as it is now; gives it a number if it has none.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&mut self, talk: &mut Conversation) -> Result<()> {
        let path = self.path.clone();
        self.write(talk).with_context(|| format!("{}: cannot keep this conversation", path.display()))
    }

    fn write(&mut self, talk: &mut Conversation) -> rusqlite::Result<()> {
        let change = self.db.transaction()?;
        change.execute(
            "INSERT OR REPLACE INTO conversations VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, CAST(unixepoch('subsec') * 1000 AS INTEGER))",
            params![
                talk.id,
                talk.title,
                talk.name(),
                talk.model,
                talk.system,
                talk.summary,
                talk.forgotten as i64,
                talk.parent
            ],
        )?;
        let id = talk.id.unwrap_or_else(|| change.last_insert_rowid());
        forget_messages(&change, id)?;
        for (place, message) in talk.messages.iter().enumerate() {
            let Message { role, content, reasoning } = message;
            let row = params![id, place as i64, role.name(), content, reasoning];
            change.execute("INSERT INTO messages VALUES (?1, ?2, ?3, ?4, ?5)", row)?;
            change.execute("INSERT INTO words VALUES (?1, ?2)", params![content, id])?;
        }
        if let Some(title) = &talk.title {
            change.execute("INSERT INTO words VALUES (?1, ?2)", params![title, id])?;
        }
        change.commit()?;
        talk.id = Some(id);
        Ok(())
    }

    /// A conversation, if there is one of that number.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn load(&self, id: i64) -> Result<Option<Conversation>> {
        let read = || {
            let query = "SELECT id, title, model, system, summary, forgotten, parent FROM conversations WHERE id = ?1";
            let talk = self.db.query_row(query, [id], conversation).optional()?;
            let Some(mut talk) = talk else { return Ok(None) };
            let query =
                "SELECT role, content, reasoning FROM messages WHERE conversation = ?1 ORDER BY place";
            talk.messages =
                self.db.prepare(query)?.query_map([id], message)?.collect::<rusqlite::Result<_>>()?;
            talk.forgotten = talk.forgotten.min(talk.messages.len());
            Ok(Some(talk))
        };
        read().map_err(|e| self.unreadable(&e))
    }

    /// The conversation that a person means: its number, or its title; without either the last.
    ///
    /// # Errors
    /// There is none, or the file cannot be read.
    pub fn find(&self, name: Option<&str>) -> Result<Conversation> {
        let query = match name {
            None => "SELECT id FROM conversations WHERE ?1 IS NULL ORDER BY updated DESC, id DESC LIMIT 1",
            Some(_) => {
                "SELECT id FROM conversations WHERE CAST(id AS TEXT) = ?1 OR title = ?1 \
                 ORDER BY CAST(id AS TEXT) = ?1 DESC, updated DESC LIMIT 1"
            }
        };
        let id =
            self.db.query_row(query, [name], |row| row.get(0)).optional().map_err(|e| self.unreadable(&e))?;
        let talk = id.map(|id| self.load(id)).transpose()?.flatten();
        let missing = match name {
            Some(name) => format!("there is no conversation {name:?}; `influence history` lists them"),
            None => "no conversation is kept yet; `influence chat` begins one".to_owned(),
        };
        talk.ok_or_else(|| hub::Error::new(hub::Kind::NotFound, missing).into())
    }

    /// The conversations in which all these words stand (their beginnings do), the latest first; all, if there are no words.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn list(&self, search: &str) -> Result<Vec<Entry>> {
        let words: Vec<String> =
            search.split_whitespace().map(|word| format!("\"{}\"*", word.replace('"', "\"\""))).collect();
        let read = || {
            let query = "SELECT id, name, model, datetime(updated / 1000, 'unixepoch', 'localtime'), \
                 (SELECT count(*) FROM messages WHERE conversation = id) FROM conversations \
                 WHERE ?1 = '' OR id IN (SELECT conversation FROM words WHERE words MATCH ?1) \
                 ORDER BY updated DESC, id DESC";
            let mut query = self.db.prepare(query)?;
            query.query_map([words.join(" ")], entry)?.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|e| self.unreadable(&e))
    }

    /// Deletes a conversation; whether there was one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn delete(&mut self, id: i64) -> Result<bool> {
        let mut write = || {
            let change = self.db.transaction()?;
            forget_messages(&change, id)?;
            let gone = change.execute("DELETE FROM conversations WHERE id = ?1", [id])?;
            change.commit()?;
            Ok(gone > 0)
        };
        write().map_err(|e: rusqlite::Error| {
            anyhow::anyhow!("{}: cannot delete from it: {e}", self.path.display())
        })
    }

    /// Whether conversations are kept where nothing else is said.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn keeps(&self) -> Result<bool> {
        let query = "SELECT value FROM settings WHERE key = 'keep'";
        let value: Option<String> =
            self.db.query_row(query, [], |row| row.get(0)).optional().map_err(|e| self.unreadable(&e))?;
        Ok(value.as_deref() != Some("off"))
    }

    /// Sets that.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self, on: bool) -> Result<()> {
        let value = if on { "on" } else { "off" };
        let done = self.db.execute("INSERT OR REPLACE INTO settings VALUES ('keep', ?1)", [value]);
        done.map(drop).with_context(|| format!("{}: cannot write to it", self.path.display()))
    }

    fn unreadable(&self, error: &rusqlite::Error) -> anyhow::Error {
        anyhow::anyhow!("{}: cannot read it: {error}", self.path.display())
    }
}

fn forget_messages(db: &Connection, id: i64) -> rusqlite::Result<()> {
    db.execute("DELETE FROM messages WHERE conversation = ?1", [id])?;
    db.execute("DELETE FROM words WHERE conversation = ?1", [id]).map(drop)
}

fn prepare(path: &Path) -> Result<Connection> {
    let mut db = Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(10))?;
    // One at a time: of two first starts one makes the tables.
    let change = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: i64 = change.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        0 => change.execute_batch(TABLES)?,
        VERSION => {}
        newer => bail!("found version {newer}, expected {VERSION}: a newer influence made it; use that one"),
    }
    change.commit()?;
    Ok(db)
}

/// Makes a folder that only its owner can look into.
fn make_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn conversation(row: &Row<'_>) -> rusqlite::Result<Conversation> {
    let forgotten: i64 = row.get(5)?;
    Ok(Conversation {
        id: row.get(0)?,
        title: row.get(1)?,
        model: row.get(2)?,
        system: row.get(3)?,
        summary: row.get(4)?,
        forgotten: usize::try_from(forgotten).unwrap_or(0),
        parent: row.get(6)?,
        messages: Vec::new(),
    })
}

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    let role: String = row.get(0)?;
    let role = Role::of(&role).unwrap_or(Role::Assistant);
    Ok(Message { role, content: row.get(1)?, reasoning: row.get(2)? })
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let [id, messages] = [row.get(0)?, row.get(4)?];
    Ok(Entry { id, name: row.get(1)?, model: row.get(2)?, updated: row.get(3)?, messages })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(words: &str) -> Conversation {
        let mut talk = Conversation { model: "m".into(), ..Default::default() };
        talk.ask(words.into());
        talk.answer("Yes.".into(), Some("hm".into()));
        talk
    }

    #[test]
    fn what_is_kept_is_found_again_and_can_be_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::at(folder.path()).unwrap();
        let (mut a, mut b) = (talk("Red kites fly"), talk("A \"quoted\" thing"));
        store.save(&mut a).unwrap();
        store.save(&mut b).unwrap();
        b.title = Some("second".into());
        b.ask("More?".into());
        store.save(&mut b).unwrap();
        drop(store);
        let mut store = Store::at(folder.path()).unwrap();
        assert_eq!(store.find(None).unwrap(), b);
        assert_eq!(store.find(Some("second")).unwrap(), b);
        assert_eq!(store.find(Some("1")).unwrap(), a);
        let found = |store: &Store, search: &str| -> Vec<i64> {
            store.list(search).unwrap().into_iter().map(|entry| entry.id).collect()
        };
        assert_eq!(found(&store, ""), [2, 1]);
        assert_eq!(found(&store, "KITE fly"), [1]);
        assert_eq!(found(&store, "\"quoted\""), [2]);
        assert_eq!(found(&store, "nothing"), [] as [i64; 0]);
        assert!(store.delete(1).unwrap() && !store.delete(1).unwrap());
        assert_eq!(found(&store, "kite"), [] as [i64; 0]);
        assert!(store.find(Some("1")).is_err());
    }

    #[test]
    fn what_is_no_history_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "not a database, but long enough to be looked at as one")
            .unwrap();
        let message = format!("{:#}", Store::at(folder.path()).err().unwrap());
        assert!(message.contains(FILE) && message.contains("INFLUENCE_DATA"), "{message}");
        let folder = tempfile::tempdir().unwrap();
        Store::at(folder.path()).unwrap().db.execute_batch("PRAGMA user_version = 7").unwrap();
        let message = format!("{:#}", Store::at(folder.path()).err().unwrap());
        assert!(message.contains('7') && message.contains("newer"), "{message}");
    }

    #[test]
    fn keeping_can_be_turned_off() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path()).unwrap();
        assert!(store.keeps().unwrap());
        store.keep(false).unwrap();
        assert!(!Store::at(folder.path()).unwrap().keeps().unwrap());
        store.keep(true).unwrap();
        assert!(store.keeps().unwrap());
    }
}
