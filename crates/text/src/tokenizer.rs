//! Text to ids and ids to bytes. One type for every kind of vocabulary: tokenizer.json, SentencePiece,
//! tiktoken ranks, vocab.json with merges.txt, and what GGUF files carry.

mod bytes;
mod folder;
mod gguf;
mod greedy;
mod json;
mod pipeline;
mod sentencepiece;
mod split;
mod spm;
mod tiktoken;

use std::collections::HashSet;
use std::path::Path;

use tokenizers::Model;

pub(crate) use folder::read_json;
pub use gguf::GgufVocab;
pub(crate) use pipeline::MARK;
use pipeline::{AnyModel, Parts, Pipeline, Pipelines};

use crate::guard::caught;
use crate::template::Guarded;
use crate::{Error, Result};

/// The most ids that a vocabulary may have: several times the largest real one.
const MAX_VOCAB: usize = 1 << 22;

/// How the text of a token becomes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alphabet {
    /// Each character is a byte (GPT-2's alphabet).
    ByteLevel,
    /// "▁" is a space; `<0x0A>` may be a byte. `strip`: the space that begins a text is not of the text.
    Spaces { bytes: bool, strip: bool },
    /// Only the decoder knows (WordPiece).
    Other,
}

/// A tokenizer: shared between threads in an `Arc`, never changed after loading.
pub struct Tokenizer {
    pipelines: Pipelines,
    alphabet: Alphabet,
    special: HashSet<u32>,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    unk: Option<u32>,
    pad: Option<u32>,
    size: usize,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.size).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads the tokenizer of a model's folder: tokenizer.json, else tokenizer.model (SentencePiece or
    /// tiktoken), else vocab.json with merges.txt, else `*.tiktoken`; then what tokenizer_config.json,
    /// special_tokens_map.json and added_tokens.json add to it.
    ///
    /// # Errors
    /// Names the file and what is wrong with it, or the files that were looked for.
    pub fn from_folder(dir: &Path) -> Result<Tokenizer> {
        let parts =
            caught(|| folder::load(dir)).map_err(|panic| broken(&dir.display().to_string(), panic))?;
        Tokenizer::from_parts(parts?)
    }

    /// Makes the tokenizer of a GGUF file from its `tokenizer.ggml.*` values.
    ///
    /// # Errors
    /// Names the key and what is wrong with it.
    pub fn from_gguf(vocab: GgufVocab) -> Result<Tokenizer> {
        let origin = vocab.origin.clone();
        let parts = caught(|| gguf::load(vocab)).map_err(|panic| broken(&origin, panic))?;
        Tokenizer::from_parts(parts?)
    }

    /// Reads a tokenizer.json held in memory. `origin` names it in errors.
    ///
    /// # Errors
    /// As [`Tokenizer::from_folder`].
    pub fn from_json(origin: &str, json: &[u8]) -> Result<Tokenizer> {
        let parts = caught(|| json::load(origin, json)).map_err(|panic| broken(origin, panic))?;
        Tokenizer::from_parts(parts?)
    }

    fn from_parts(mut parts: Parts) -> Result<Tokenizer> {
        let nothing = AnyModel::Greedy(greedy::Greedy::new(Vec::new()));
        let model = std::mem::replace(&mut parts.model, nothing);
        let alphabet = alphabet(parts.decoder.as_ref());
        let built = caught(|| pipeline::build(&mut parts, model));
        let pipelines = built
            .map_err(|panic| broken(&parts.origin, panic))?
            .map_err(|e| Error::tokenizer(&parts.origin, format!("the added tokens cannot be used: {e}")))?;
        let size = size(&pipelines.control);
        if size > MAX_VOCAB {
            let what = format!("has token id {}, more than the {MAX_VOCAB} that are allowed", size - 1);
            return Err(Error::tokenizer(&parts.origin, what));
        }
        Ok(Tokenizer {
            alphabet,
            special: pipeline::control_ids(&pipelines.control),
            pipelines,
            prefix: parts.prefix,
            suffix: parts.suffix,
            bos: parts.bos,
            eos: parts.eos,
            unk: parts.unk,
            pad: parts.pad,
            size,
        })
    }

    /// Text to ids. `add_special` puts what the tokenizer puts around a text (a BOS, `[CLS]`, `[SEP]`).
    /// `parse_special` makes control tokens that are spelt in the text into control tokens; without it
    /// they are text like any other, as they must be in what a user writes.
    ///
    /// # Errors
    /// If the vocabulary has no token, and no unknown token, for something in the text.
    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>> {
        let pipelines = &self.pipelines;
        self.run(if parse_special { &pipelines.control } else { &pipelines.plain }, text, add_special)
    }

    /// Encodes what [`ChatTemplate::render_guarded`](crate::ChatTemplate::render_guarded) made: the
    /// template's control tokens are control tokens, those that stood in the messages are text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_guarded(&self, text: &Guarded, add_special: bool) -> Result<Vec<u32>> {
        match text.marked() {
            Some(marked) => self.run(&self.pipelines.guarded, marked, add_special),
            None => self.run(&self.pipelines.control, text.text(), add_special),
        }
    }

    /// Two texts as one, as the tokenizer puts a pair together (`[CLS] a [SEP] b [SEP]`), and of which of them each token is:
    /// what a cross-encoder reads. Control tokens that are spelt in them are text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_pair(&self, first: &str, second: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        let plain = &self.pipelines.plain;
        if self.prefix.is_empty() && self.suffix.is_empty() {
            let encoding = caught(|| plain.encode_fast((first, second), true))
                .map_err(|panic| Error::Encode(format!("the tokenizers library failed: {panic}")))?
                .map_err(|e| Error::Encode(e.to_string()))?;
            return Ok((encoding.get_ids().to_vec(), encoding.get_type_ids().to_vec()));
        }
        let (a, b) = (self.run(plain, first, false)?, self.run(plain, second, false)?);
        let ids = [&self.prefix[..], &a, &self.suffix, &b, &self.suffix].concat();
        let second = self.prefix.len() + a.len() + self.suffix.len();
        Ok((ids.clone(), (0..ids.len()).map(|i| u32::from(i >= second)).collect()))
    }

    fn run(&self, pipeline: &Pipeline, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let encoding = caught(|| pipeline.encode_fast(text, add_special))
            .map_err(|panic| Error::Encode(format!("the tokenizers library failed: {panic}")))?
            .map_err(|e| Error::Encode(e.to_string()))?;
        if !add_special || (self.prefix.is_empty() && self.suffix.is_empty()) {
            return Ok(encoding.get_ids().to_vec());
        }
        Ok([&self.prefix, encoding.get_ids(), &self.suffix].concat())
    }

    /// Ids to text, as the tokenizer's own decoder does it; bytes that are not UTF-8 become U+FFFD and
    /// ids that do not exist nothing. `skip_special` leaves control tokens out.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        caught(|| self.pipelines.control.decode(ids, skip_special))
            .ok()
            .and_then(Result::ok)
            .unwrap_or_default()
    }

    /// The bytes that a token stands for, wherever it stands in a text; a control token's are its name.
    /// `None` if there is no such token.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let added = self.pipelines.control.get_added_vocabulary().get_added_tokens_decoder();
        if let Some(token) = added.get(&id) {
            return Some(token.content.clone().into_bytes());
        }
        let token = self.pipelines.control.get_model().id_to_token(id)?;
        Some(match self.alphabet {
            Alphabet::ByteLevel => bytes::from_text(&token).unwrap_or_else(|| token.into_bytes()),
            Alphabet::Spaces { bytes: true, .. } if spm::byte_of(&token).is_some() => {
                spm::byte_of(&token).into_iter().collect()
            }
            Alphabet::Spaces { .. } => token.replace('▁', " ").into_bytes(),
            Alphabet::Other => match token.strip_prefix("##") {
                Some(rest) => rest.as_bytes().to_vec(),
                None => token.into_bytes(),
            },
        })
    }

    /// A token as the vocabulary writes it ("Ġthe", "▁the"). `None` if there is no such token.
    pub fn token(&self, id: u32) -> Option<String> {
        self.pipelines.control.id_to_token(id)
    }

    /// The id of a token as the vocabulary writes it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.pipelines.control.token_to_id(token)
    }

    /// One more than the greatest id.
    pub fn vocab_size(&self) -> usize {
        self.size
    }

    /// Whether this is a control token: not shown, and not made from ordinary text.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// The texts of all control tokens, what [`ChatTemplate::render_guarded`] is to guard against.
    ///
    /// [`ChatTemplate::render_guarded`]: crate::ChatTemplate::render_guarded
    pub fn control_tokens(&self) -> Vec<String> {
        let mut ids: Vec<&u32> = self.special.iter().collect();
        ids.sort_unstable();
        ids.into_iter().filter_map(|&id| self.token(id)).collect()
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The token for what has no token.
    pub fn unk(&self) -> Option<u32> {
        self.unk
    }

    /// The token that fills up a batch.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    pub(crate) fn alphabet(&self) -> Alphabet {
        self.alphabet
    }
}

fn broken(origin: &str, panic: String) -> Error {
    Error::tokenizer(origin, format!("is broken in a way that the tokenizers library cannot name: {panic}"))
}

/// One more than the greatest id, added tokens and gaps included.
fn size(pipeline: &Pipeline) -> usize {
    let model = pipeline.get_model();
    let in_model = match &*model.model {
        AnyModel::Library(library) => library.get_vocab().values().max().map_or(0, |&id| id as usize + 1),
        AnyModel::Spm(_) | AnyModel::Greedy(_) => model.get_vocab_size(),
    };
    let added = pipeline.get_added_vocabulary().get_added_tokens_decoder();
    in_model.max(added.keys().max().map_or(0, |&id| id as usize + 1))
}

/// Finds out from the decoder what the vocabulary's strings are made of.
fn alphabet(decoder: Option<&tokenizers::DecoderWrapper>) -> Alphabet {
    use tokenizers::DecoderWrapper as D;
    let flat: Vec<&D> = match decoder {
        Some(D::Sequence(steps)) => steps.get_decoders().iter().collect(),
        Some(one) => vec![one],
        None => Vec::new(),
    };
    let has = |test: fn(&D) -> bool| flat.iter().any(|step| test(step));
    if has(|step| matches!(step, D::ByteLevel(_))) {
        return Alphabet::ByteLevel;
    }
    let metaspace = has(|step| matches!(step, D::Metaspace(_)));
    let replace = has(|step| matches!(step, D::Replace(_)));
    let odd = has(|step| matches!(step, D::WordPiece(_) | D::CTC(_) | D::BPE(_)));
    if odd || !(metaspace || replace) {
        return Alphabet::Other;
    }
    let never = |step: &&D| match step {
        D::Metaspace(m) => m.prepend_scheme == tokenizers::pre_tokenizers::metaspace::PrependScheme::Never,
        _ => false,
    };
    let strip = has(|step| matches!(step, D::Strip(_))) || (metaspace && !flat.iter().any(never));
    Alphabet::Spaces { bytes: has(|step| matches!(step, D::ByteFallback(_))), strip }
}
