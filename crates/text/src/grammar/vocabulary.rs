//! A tokenizer as llguidance sees it: a trie of its tokens' bytes, and how a forced text is cut into
//! tokens.

use std::sync::Arc;

use llguidance::toktrie::{INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};

use crate::guard::caught;
use crate::tokenizer::Alphabet;
use crate::{Error, Result, Tokenizer};

struct Environment {
    trie: TokTrie,
    tokenizer: Arc<Tokenizer>,
}

/// Builds the trie. It knows no end of text: that is the engine's to decide.
pub fn environment(tokenizer: Arc<Tokenizer>) -> Result<TokEnv> {
    if tokenizer.alphabet() == Alphabet::Other {
        let what = "the vocabulary: its tokens stand for other texts in other places, and no answer can be held to a grammar";
        return Err(Error::Grammar(what.to_owned()));
    }
    let words: Vec<Vec<u8>> = (0..tokenizer.vocab_size() as u32).map(|id| word(&tokenizer, id)).collect();
    let info = TokRxInfo::new(words.len() as u32, INVALID_TOKEN);
    let trie = caught(|| TokTrie::from(&info, &words));
    let trie = trie.map_err(|panic| Error::Grammar(format!("the vocabulary: {panic}")))?;
    Ok(Arc::new(Environment { trie, tokenizer }))
}

/// The bytes of a token; those of a control token begin with a byte that is in no text, so that no
/// grammar asks for one by chance.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    if tokenizer.is_special(id) { [&[TokTrie::SPECIAL_TOKEN_MARKER], &bytes[..]].concat() } else { bytes }
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        let Ok(text) = std::str::from_utf8(bytes) else { return self.trie.greedy_tokenize(bytes) };
        self.as_continued(text).unwrap_or_else(|| self.trie.greedy_tokenize(bytes))
    }
}

impl Environment {
    /// The tokens of a text that goes on after other text: what the tokenizer puts before every text
    /// (a space) is gone if it begins with another line.
    fn as_continued(&self, text: &str) -> Option<Vec<u32>> {
        let plain = self.tokenizer.encode(text, false, false).ok()?;
        if self.spells(&plain, text) {
            return Some(plain);
        }
        let after = self.tokenizer.encode(&format!("\n{text}"), false, false).ok()?;
        (0..=after.len()).map(|cut| &after[cut..]).find(|rest| self.spells(rest, text)).map(<[u32]>::to_vec)
    }

    fn spells(&self, tokens: &[u32], text: &str) -> bool {
        tokens.iter().flat_map(|&id| self.trie.token(id)).eq(text.as_bytes())
    }
}
