//! The longest token that fits, again and again: RWKV's "world" vocabulary. Works on text in the
//! byte-level alphabet (one character per byte), which the pre-tokenizer makes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::{Model, Token};

/// A greedy model over tokens in the byte-level alphabet.
pub(crate) struct Greedy {
    ids: HashMap<String, u32>,
    tokens: Vec<String>,
    longest: usize,
}

impl Greedy {
    /// Takes the tokens in order of their ids. Where two are equal, the first is used.
    pub fn new(tokens: Vec<String>) -> Greedy {
        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, token) in tokens.iter().enumerate().filter(|(_, token)| !token.is_empty()) {
            ids.entry(token.clone()).or_insert(id as u32);
        }
        let longest = tokens.iter().map(|token| token.chars().count()).max().unwrap_or(0);
        Greedy { ids, tokens, longest }
    }

    fn longest_at<'a>(&self, text: &'a str) -> Option<(&'a str, u32)> {
        let ends = text.char_indices().map(|(at, c)| at + c.len_utf8()).take(self.longest);
        let ends: Vec<usize> = ends.collect();
        ends.into_iter().rev().find_map(|end| self.ids.get(&text[..end]).map(|&id| (&text[..end], id)))
    }
}

impl Model for Greedy {
    type Trainer = TrainerWrapper;

    fn tokenize(&self, text: &str) -> tokenizers::Result<Vec<Token>> {
        let mut out = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let (piece, id) = self
                .longest_at(&text[at..])
                .ok_or("the vocabulary has no token for one of the text's bytes")?;
            out.push(Token::new(id, piece.to_owned(), (at, at + piece.len())));
            at += piece.len();
        }
        Ok(out)
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.tokens.get(id as usize).cloned()
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        self.ids.clone()
    }

    fn get_vocab_size(&self) -> usize {
        self.tokens.len()
    }

    fn save(&self, _folder: &Path, _prefix: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("a loaded tokenizer is not saved".into())
    }

    fn get_trainer(&self) -> TrainerWrapper {
        TrainerWrapper::BpeTrainer(BpeTrainer::default())
    }
}
