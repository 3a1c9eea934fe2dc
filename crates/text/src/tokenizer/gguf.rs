//! The vocabulary that a GGUF file carries in its `tokenizer.ggml.*` keys, made into the same pipeline as
//! the tokenizer.json that it was converted from.

use std::collections::HashMap;

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::decoders::wordpiece::WordPiece as WordPieceDecoder;
use tokenizers::models::bpe::BPE;
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::normalizers::precompiled::Precompiled;
use tokenizers::normalizers::prepend::Prepend;
use tokenizers::normalizers::replace::Replace;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::normalizers::utils::Sequence as Normalizers;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel as ByteLevelSplit;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{AddedToken, DecoderWrapper, ModelWrapper, NormalizerWrapper};

use super::greedy::Greedy;
use super::pipeline::{AnyModel, Parts};
use super::spm::{Kind, Piece, Spm};
use super::{bytes, split};
use crate::{Error, Result};

/// A GGUF file's vocabulary. Each field is named after its key under `tokenizer.ggml.`; what the file
/// does not have stays `None` or empty.
#[derive(Clone, Debug, Default)]
pub struct GgufVocab {
    /// Where it comes from, for error messages: the file's name.
    pub origin: String,
    /// `model`: "llama", "gpt2", "gemma4", "bert", "t5" or "rwkv".
    pub model: String,
    /// `pre`: the name of the pre-tokenizer.
    pub pre: Option<String>,
    /// `tokens`, by id.
    pub tokens: Vec<String>,
    /// `scores`, by id.
    pub scores: Vec<f32>,
    /// `token_type`, by id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub token_types: Vec<i32>,
    /// `merges`: "left right".
    pub merges: Vec<String>,
    /// `bos_token_id`.
    pub bos: Option<u32>,
    /// `eos_token_id`.
    pub eos: Option<u32>,
    /// `unknown_token_id`.
    pub unk: Option<u32>,
    /// `padding_token_id`.
    pub pad: Option<u32>,
    /// `cls_token_id` (BERT).
    pub cls: Option<u32>,
    /// `seperator_token_id` (sic; BERT).
    pub sep: Option<u32>,
    /// `eot_token_id`.
    pub eot: Option<u32>,
    /// `add_bos_token`.
    pub add_bos: Option<bool>,
    /// `add_eos_token`.
    pub add_eos: Option<bool>,
    /// `add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `remove_extra_whitespaces`.
    pub remove_extra_whitespaces: Option<bool>,
    /// `normalizer.lowercase` (BERT).
    pub lowercase: Option<bool>,
    /// `normalizer.strip_accents` (BERT).
    pub strip_accents: Option<bool>,
    /// `precompiled_charsmap` (T5).
    pub precompiled_charsmap: Vec<u8>,
}

/// The parts of a GGUF vocabulary.
pub(crate) fn load(mut vocab: GgufVocab) -> Result<Parts> {
    if vocab.origin.is_empty() {
        "GGUF".clone_into(&mut vocab.origin);
    }
    let origin = vocab.origin.clone();
    check(&vocab)?;
    let added = added_tokens(&vocab);
    let ids = (vocab.bos.or(vocab.cls), vocab.eos.or(vocab.sep), vocab.unk, vocab.pad);
    let mut parts = match vocab.model.as_str() {
        "llama" => spm(vocab),
        "gpt2" => bpe(vocab),
        "gemma4" => escaped_bpe(vocab),
        "bert" => wordpiece(vocab),
        "t5" => unigram(vocab),
        "rwkv" => rwkv(vocab),
        other => Err(format!(
            "tokenizer.ggml.model is {other:?}; known are \"llama\", \"gpt2\", \"gemma4\", \"bert\", \"t5\" and \"rwkv\""
        )),
    }
    .map_err(|what| Error::tokenizer(origin, what))?;
    parts.added = added;
    (parts.bos, parts.eos, parts.unk, parts.pad) = ids;
    Ok(parts)
}

fn check(vocab: &GgufVocab) -> Result<()> {
    let fail = |what: String| Err(Error::tokenizer(&vocab.origin, what));
    let count = vocab.tokens.len();
    if count == 0 {
        return fail("tokenizer.ggml.tokens is missing or empty".to_owned());
    }
    if count > super::MAX_VOCAB {
        return fail(format!(
            "tokenizer.ggml.tokens has {count} entries, more than the {} that are allowed",
            super::MAX_VOCAB
        ));
    }
    let lists = [("scores", vocab.scores.len()), ("token_type", vocab.token_types.len())];
    if let Some((name, len)) = lists.into_iter().find(|&(_, len)| len != 0 && len != count) {
        return fail(format!("tokenizer.ggml.{name} has {len} entries for {count} tokens"));
    }
    let ids = [
        ("bos", vocab.bos),
        ("eos", vocab.eos),
        ("unknown", vocab.unk),
        ("padding", vocab.pad),
        ("cls", vocab.cls),
        ("seperator", vocab.sep),
        ("eot", vocab.eot),
    ];
    for (name, id) in ids {
        // Some real files carry an id of all ones for "none".
        if let Some(id) = id.filter(|&id| id as usize >= count && id != u32::MAX) {
            return fail(format!("tokenizer.ggml.{name}_token_id is {id}, but there are {count} tokens"));
        }
    }
    Ok(())
}

impl GgufVocab {
    fn kind(&self, id: usize) -> Kind {
        Kind::from_number(self.token_types.get(id).map_or(1, |&number| i64::from(number)))
    }

    /// The ids before and after a text, by the file's word or else by the family's habit.
    fn around(&self, parts: &mut Parts, bos: bool, eos: bool) {
        let valid = |id: Option<u32>| id.filter(|&id| (id as usize) < self.tokens.len());
        if self.add_bos.unwrap_or(bos) {
            parts.prefix.extend(valid(self.bos.or(self.cls)));
        }
        if self.add_eos.unwrap_or(eos) {
            let end = if self.model == "bert" { self.sep.or(self.eos) } else { self.eos.or(self.sep) };
            parts.suffix.extend(valid(end));
        }
    }
}

/// Control and unknown tokens are special, user-defined ones match anywhere; both as they are written.
fn added_tokens(vocab: &GgufVocab) -> Vec<AddedToken> {
    let tokens = vocab.tokens.iter().enumerate().filter(|(_, text)| !text.is_empty());
    tokens
        .filter_map(|(id, text)| match vocab.kind(id) {
            Kind::Control | Kind::Unknown => Some(AddedToken::from(text.clone(), true).normalized(false)),
            Kind::UserDefined => Some(AddedToken::from(text.clone(), false).normalized(false)),
            _ => None,
        })
        .collect()
}

/// The decoder of SentencePiece vocabularies; `strip`: a space was put before the text.
pub(crate) fn spm_decoder(strip: bool) -> Result<DecoderWrapper, String> {
    let mut steps = vec![
        DecoderWrapper::Replace(Replace::new("▁", " ").map_err(|e| e.to_string())?),
        DecoderWrapper::ByteFallback(ByteFallback::new()),
        DecoderWrapper::Fuse(Fuse::new()),
    ];
    if strip {
        steps.push(DecoderWrapper::Strip(Strip::new(' ', 1, 0)));
    }
    Ok(DecoderWrapper::Sequence(Decoders::new(steps)))
}

/// SentencePiece's escaping of spaces; `prefix`: a space before the text.
pub(crate) fn spm_normalizer(prefix: bool) -> Result<Vec<NormalizerWrapper>, String> {
    let mut steps = Vec::new();
    if prefix {
        steps.push(NormalizerWrapper::Prepend(Prepend::new("▁".to_owned())));
    }
    steps.push(NormalizerWrapper::Replace(Replace::new(" ", "▁").map_err(|e| e.to_string())?));
    Ok(steps)
}

fn spm(mut vocab: GgufVocab) -> Result<Parts, String> {
    let scores = std::mem::take(&mut vocab.scores);
    let texts = std::mem::take(&mut vocab.tokens);
    let piece =
        |(id, text)| Piece { text, score: scores.get(id).copied().unwrap_or(0.0), kind: vocab.kind(id) };
    let pieces: Vec<Piece> = texts.into_iter().enumerate().map(piece).collect();
    vocab.tokens = vec![String::new(); pieces.len()];
    let model = Spm::new(pieces, vocab.unk.filter(|&id| id != u32::MAX), false);
    let model = model.map_err(|what| format!("tokenizer.ggml.tokens: {what}"))?;
    let mut parts = Parts::new(&vocab.origin, AnyModel::Spm(model));
    let prefix = vocab.add_space_prefix.unwrap_or(true);
    parts.normalizer = Some(NormalizerWrapper::Sequence(Normalizers::new(spm_normalizer(prefix)?)));
    parts.decoder = Some(spm_decoder(prefix)?);
    vocab.around(&mut parts, true, false);
    Ok(parts)
}

fn bpe(vocab: GgufVocab) -> Result<Parts, String> {
    let name = vocab.pre.as_deref().unwrap_or("default");
    let rule = split::rule(name)
        .map_err(|known| format!("tokenizer.ggml.pre is {name:?}, which is not known; known are {known}"))?;
    let mut ids = HashMap::with_capacity(vocab.tokens.len());
    for (id, token) in vocab.tokens.iter().enumerate() {
        ids.entry(token.clone()).or_insert(id as u32);
    }
    let model = merges_model(ids, &vocab.merges, rule.whole_first)?;
    let mut parts = Parts::new(&vocab.origin, AnyModel::Library(Box::new(ModelWrapper::BPE(model))));
    if split::composes(name) {
        parts.normalizer = Some(NormalizerWrapper::NFC(NFC));
    }
    parts.splitter = Some(split::splitter(rule.patterns)?);
    parts.decoder = Some(DecoderWrapper::ByteLevel(ByteLevel::new(false, true, false)));
    vocab.around(&mut parts, rule.bos, false);
    Ok(parts)
}

/// BPE over whole texts whose spaces are escaped as SentencePiece does, and whose unknown letters become bytes.
fn escaped_bpe(vocab: GgufVocab) -> Result<Parts, String> {
    let mut ids = HashMap::with_capacity(vocab.tokens.len());
    for (id, token) in vocab.tokens.iter().enumerate() {
        ids.entry(token.clone()).or_insert(id as u32);
    }
    let mut model = merges_model(ids, &vocab.merges, false)?;
    (model.byte_fallback, model.fuse_unk) = (true, true);
    model.unk_token = vocab.unk.and_then(|id| vocab.tokens.get(id as usize).cloned());
    let mut parts = Parts::new(&vocab.origin, AnyModel::Library(Box::new(ModelWrapper::BPE(model))));
    parts.normalizer = Some(NormalizerWrapper::Sequence(Normalizers::new(spm_normalizer(false)?)));
    parts.decoder = Some(spm_decoder(false)?);
    vocab.around(&mut parts, true, false);
    Ok(parts)
}

/// BPE from a vocabulary and merges written "left right".
pub(crate) fn merges_model(
    ids: HashMap<String, u32>,
    merges: &[String],
    whole_first: bool,
) -> Result<BPE, String> {
    let mut pairs = Vec::with_capacity(merges.len());
    for (at, merge) in merges.iter().enumerate() {
        // A token may itself begin with a space in odd files, so the separator is a later one.
        let space = merge.char_indices().skip(1).find(|&(_, c)| c == ' ').map(|(at, _)| at);
        let (left, right) = space.map(|space| (&merge[..space], &merge[space + 1..])).ok_or_else(|| {
            format!("merge {at} is {merge:?}, which is not two tokens with a space between")
        })?;
        pairs.push((left.to_owned(), right.to_owned()));
    }
    BPE::builder()
        .vocab_and_merges(ids.into_iter().collect::<tokenizers::models::bpe::Vocab>(), pairs)
        .ignore_merges(whole_first)
        .build()
        .map_err(|e| format!("the merges do not fit the tokens: {e}"))
}

fn wordpiece(vocab: GgufVocab) -> Result<Parts, String> {
    let mut ids = HashMap::with_capacity(vocab.tokens.len());
    for (id, token) in vocab.tokens.iter().enumerate() {
        let word = match token.strip_prefix('▁') {
            Some(word) if vocab.kind(id) == Kind::Normal => word.to_owned(),
            None if vocab.kind(id) == Kind::Normal && !is_bracketed(token) => format!("##{token}"),
            _ => token.clone(),
        };
        ids.entry(word).or_insert(id as u32);
    }
    let unk = vocab.unk.and_then(|id| vocab.tokens.get(id as usize));
    let unk = unk.cloned().unwrap_or_else(|| "[UNK]".to_owned());
    if !ids.contains_key(&unk) {
        return Err(format!("tokenizer.ggml.tokens has no unknown token {unk:?}"));
    }
    let model = WordPiece::builder()
        .vocab(ids.into_iter().collect::<tokenizers::models::bpe::Vocab>())
        .unk_token(unk)
        .build()
        .map_err(|e| e.to_string())?;
    let mut parts = Parts::new(&vocab.origin, AnyModel::Library(Box::new(ModelWrapper::WordPiece(model))));
    let lowercase = vocab.lowercase.unwrap_or(true);
    let normalizer = BertNormalizer::new(true, true, vocab.strip_accents, lowercase);
    parts.normalizer = Some(NormalizerWrapper::BertNormalizer(normalizer));
    parts.splitter = Some(tokenizers::PreTokenizerWrapper::BertPreTokenizer(BertPreTokenizer));
    parts.decoder = Some(DecoderWrapper::WordPiece(WordPieceDecoder::default()));
    vocab.around(&mut parts, true, true);
    Ok(parts)
}

fn is_bracketed(token: &str) -> bool {
    token.starts_with('[') && token.ends_with(']') && token.len() > 2
}

fn unigram(vocab: GgufVocab) -> Result<Parts, String> {
    if vocab.scores.is_empty() {
        return Err("tokenizer.ggml.scores is missing, which a t5 vocabulary needs".to_owned());
    }
    let unk = vocab.unk.map(|id| id as usize);
    let bytes = (0..vocab.tokens.len()).any(|id| vocab.kind(id) == Kind::Byte);
    let scored = vocab.tokens.iter().cloned().zip(vocab.scores.iter().map(|&score| f64::from(score)));
    let model = Unigram::from(scored.collect(), unk, bytes).map_err(|e| e.to_string())?;
    let mut parts = Parts::new(&vocab.origin, AnyModel::Library(Box::new(ModelWrapper::Unigram(model))));
    let squeeze = vocab.remove_extra_whitespaces.unwrap_or(true);
    unigram_spaces(&mut parts, &vocab.precompiled_charsmap, squeeze, vocab.add_space_prefix.unwrap_or(true))?;
    vocab.around(&mut parts, false, true);
    Ok(parts)
}

/// SentencePiece's way with text before and after a Unigram model: its table of characters, (`squeeze`) runs of spaces made
/// one, (`prefix`) a space in front of the text, whatever that begins with, and each space as `▁`.
pub(crate) fn unigram_spaces(
    parts: &mut Parts,
    charsmap: &[u8],
    squeeze: bool,
    prefix: bool,
) -> Result<(), String> {
    use tokenizers::normalizers::replace::ReplacePattern;
    let mut steps: Vec<NormalizerWrapper> = unigram_normalizer(charsmap, squeeze)?.into_iter().collect();
    if prefix {
        steps.push(NormalizerWrapper::Prepend(Prepend::new("▁".to_owned())));
    }
    let space = ReplacePattern::String(" ".to_owned());
    steps.push(NormalizerWrapper::Replace(Replace::new(space, "▁").map_err(|e| e.to_string())?));
    parts.normalizer = Some(NormalizerWrapper::Sequence(Normalizers::new(steps)));
    let metaspace = |scheme| Metaspace::new('▁', scheme, true);
    parts.splitter = Some(tokenizers::PreTokenizerWrapper::Metaspace(metaspace(PrependScheme::Never)));
    let scheme = if prefix { PrependScheme::Always } else { PrependScheme::Never };
    let bytes = DecoderWrapper::ByteFallback(ByteFallback::new());
    let steps = vec![bytes, DecoderWrapper::Metaspace(metaspace(scheme))];
    parts.decoder = Some(DecoderWrapper::Sequence(Decoders::new(steps)));
    Ok(())
}

/// SentencePiece's normalization: its table of characters, then (`squeeze`) runs of spaces made one and none at the ends.
pub(crate) fn unigram_normalizer(
    charsmap: &[u8],
    squeeze: bool,
) -> Result<Option<NormalizerWrapper>, String> {
    let mut steps = Vec::new();
    if !charsmap.is_empty() {
        let table = crate::guard::caught(|| Precompiled::from(charsmap))?;
        steps.push(NormalizerWrapper::Precompiled(table.map_err(|e| format!("precompiled_charsmap: {e}"))?));
    }
    if squeeze {
        use tokenizers::normalizers::replace::ReplacePattern;
        for (spaces, one) in [("^ +| +$", ""), (" {2,}", " ")] {
            let spaces = ReplacePattern::Regex(spaces.to_owned());
            steps.push(NormalizerWrapper::Replace(Replace::new(spaces, one).map_err(|e| e.to_string())?));
        }
    }
    Ok((!steps.is_empty()).then(|| NormalizerWrapper::Sequence(Normalizers::new(steps))))
}

fn rwkv(vocab: GgufVocab) -> Result<Parts, String> {
    let plain = |(id, token): (usize, &String)| match vocab.kind(id) {
        Kind::Normal => unescape(token).map(|raw| bytes::to_text(&raw)),
        _ => Some(token.clone()),
    };
    let tokens: Option<Vec<String>> = vocab.tokens.iter().enumerate().map(plain).collect();
    let tokens = tokens.ok_or("tokenizer.ggml.tokens has a broken escape sequence")?;
    let mut parts = Parts::new(&vocab.origin, AnyModel::Greedy(Greedy::new(tokens)));
    let byte_level = ByteLevelSplit::new(false, true, false);
    parts.splitter = Some(tokenizers::PreTokenizerWrapper::ByteLevel(byte_level));
    parts.decoder = Some(DecoderWrapper::ByteLevel(ByteLevel::new(false, true, false)));
    vocab.around(&mut parts, false, false);
    Ok(parts)
}

/// RWKV vocabularies write bytes as `\xNN`, `\n`, `\t`, `\r`, `\\`.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'\\' => match rest.next()? {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b'x' => {
                    let digit = |b: u8| char::from(b).to_digit(16);
                    (digit(rest.next()?)? * 16 + digit(rest.next()?)?) as u8
                }
                other => other,
            },
            other => other,
        });
    }
    Some(out)
}
