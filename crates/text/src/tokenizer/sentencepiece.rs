//! SentencePiece's `tokenizer.model`: a protobuf message of pieces, the trainer's and the normalizer's
//! settings (sentencepiece_model.proto). Only the few fields that matter are read.

use serde_json::Value;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::utils::Sequence as Normalizers;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{AddedToken, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper};

use super::gguf::{spm_decoder, spm_normalizer, unigram_normalizer, unigram_spaces};
use super::pipeline::{AnyModel, Parts};
use super::spm::{Kind, Piece, Spm};
use crate::{Error, Result};

/// A value of a protobuf field.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Float(f32),
}

/// Reads a message field by field; anything that does not fit is an error, not a guess.
struct Message<'a>(&'a [u8]);

impl<'a> Message<'a> {
    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or("a number is cut off")?;
            self.0 = rest;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number has more than 64 bits".to_owned())
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], String> {
        let left = self.0.len();
        let len = usize::try_from(len).ok().filter(|&len| len <= left);
        let len = len.ok_or_else(|| format!("a field is longer than the {left} bytes that are left"))?;
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        Ok(head)
    }

    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Field::Number(self.varint()?),
            1 => Field::Bytes(self.take(8)?),
            2 => {
                let len = self.varint()?;
                Field::Bytes(self.take(len)?)
            }
            5 => {
                let four = self.take(4)?;
                Field::Float(f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            }
            other => return Err(format!("a field has wire type {other}, which does not exist")),
        };
        Ok(Some((key >> 3, value)))
    }
}

/// What is read of a model file.
struct Spec {
    pieces: Vec<Piece>,
    unigram: bool,
    charsmap: Vec<u8>,
    dummy_prefix: bool,
    squeeze: bool,
    escape: bool,
    unk: Option<u32>,
}

fn piece(data: &[u8]) -> Result<Piece, String> {
    let mut message = Message(data);
    let mut piece = Piece { text: String::new(), score: 0.0, kind: Kind::Normal };
    while let Some(field) = message.next()? {
        match field {
            (1, Field::Bytes(text)) => {
                piece.text =
                    String::from_utf8(text.to_vec()).map_err(|_| "a piece is not UTF-8".to_owned())?;
            }
            (2, Field::Float(score)) => piece.score = score,
            (3, Field::Number(kind)) => piece.kind = Kind::from_number(kind as i64),
            _ => {}
        }
    }
    Ok(piece)
}

fn read(data: &[u8]) -> Result<Spec, String> {
    let mut spec = Spec {
        pieces: Vec::new(),
        unigram: true,
        charsmap: Vec::new(),
        dummy_prefix: true,
        squeeze: true,
        escape: true,
        unk: None,
    };
    let mut message = Message(data);
    while let Some(field) = message.next()? {
        match field {
            (1, Field::Bytes(data)) => spec.pieces.push(piece(data)?),
            (2, Field::Bytes(data)) => trainer(data, &mut spec)?,
            (3, Field::Bytes(data)) => normalizer(data, &mut spec)?,
            _ => {}
        }
    }
    if spec.pieces.is_empty() {
        return Err("has no pieces".to_owned());
    }
    spec.unk = spec.pieces.iter().position(|piece| piece.kind == Kind::Unknown).map(|id| id as u32);
    Ok(spec)
}

fn trainer(data: &[u8], spec: &mut Spec) -> Result<(), String> {
    let mut message = Message(data);
    while let Some(field) = message.next()? {
        if let (3, Field::Number(kind)) = field {
            spec.unigram = match kind {
                1 => true,
                2 => false,
                other => {
                    return Err(format!(
                        "trainer_spec.model_type is {other}; known are 1 (unigram) and 2 (BPE)"
                    ));
                }
            };
        }
    }
    Ok(())
}

fn normalizer(data: &[u8], spec: &mut Spec) -> Result<(), String> {
    let mut message = Message(data);
    while let Some(field) = message.next()? {
        match field {
            (2, Field::Bytes(map)) => spec.charsmap = map.to_vec(),
            (3, Field::Number(flag)) => spec.dummy_prefix = flag != 0,
            (4, Field::Number(flag)) => spec.squeeze = flag != 0,
            (5, Field::Number(flag)) => spec.escape = flag != 0,
            _ => {}
        }
    }
    Ok(())
}

/// Reads a tokenizer.model. `config` is tokenizer_config.json; `origin` names the file in errors.
pub(crate) fn load(origin: &str, data: &[u8], config: &Value) -> Result<Parts> {
    let fail = |what: String| Error::tokenizer(origin, what);
    let spec = read(data).map_err(|what| fail(format!("is not a SentencePiece model: {what}")))?;
    if !spec.escape {
        return Err(fail("normalizer_spec.escape_whitespaces is false, which is not supported".to_owned()));
    }
    let special = |piece: &Piece| AddedToken::from(piece.text.clone(), true).normalized(false);
    let added = spec.pieces.iter().filter(|piece| matches!(piece.kind, Kind::Control | Kind::Unknown));
    let added: Vec<AddedToken> = added.map(special).collect();
    let at = |text: &str| spec.pieces.iter().position(|piece| piece.text == text).map(|id| id as u32);
    let (bos, eos, unk) = (at("<s>").or_else(|| at("<bos>")), at("</s>").or_else(|| at("<eos>")), spec.unk);
    let unigram = spec.unigram;
    let mut parts =
        if unigram { self::unigram(origin, spec) } else { bpe(origin, spec, config) }.map_err(fail)?;
    parts.added = added;
    (parts.bos, parts.eos, parts.unk) = (bos, eos, unk);
    let wants = |key: &str, or: bool| config.get(key).and_then(Value::as_bool).unwrap_or(or);
    if wants("add_bos_token", !unigram) {
        parts.prefix.extend(bos);
    }
    if wants("add_eos_token", unigram) {
        parts.suffix.extend(eos);
    }
    Ok(parts)
}

fn bpe(origin: &str, spec: Spec, config: &Value) -> Result<Parts, String> {
    // "legacy": a space before every stretch of text between control tokens, not only before the first.
    let legacy = config.get("legacy").and_then(Value::as_bool).unwrap_or(true);
    let prefix = spec.dummy_prefix;
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    steps.extend(unigram_normalizer(&spec.charsmap, spec.squeeze)?);
    steps.extend(spm_normalizer(prefix && legacy)?);
    let mut parts = Parts::new(origin, AnyModel::Spm(Spm::new(spec.pieces, spec.unk, true)?));
    parts.normalizer = Some(NormalizerWrapper::Sequence(Normalizers::new(steps)));
    if prefix && !legacy {
        let metaspace = Metaspace::new('▁', PrependScheme::First, false);
        parts.splitter = Some(PreTokenizerWrapper::Metaspace(metaspace));
    }
    parts.decoder = Some(spm_decoder(prefix)?);
    Ok(parts)
}

fn unigram(origin: &str, spec: Spec) -> Result<Parts, String> {
    let unk = spec.unk.map(|id| id as usize);
    let bytes = spec.pieces.iter().any(|piece| piece.kind == Kind::Byte);
    let (charsmap, squeeze, prefix) = (spec.charsmap, spec.squeeze, spec.dummy_prefix);
    let scored = spec.pieces.into_iter().map(|piece| (piece.text, f64::from(piece.score))).collect();
    let model = Unigram::from(scored, unk, bytes).map_err(|e| e.to_string())?;
    let mut parts = Parts::new(origin, AnyModel::Library(Box::new(ModelWrapper::Unigram(model))));
    unigram_spaces(&mut parts, &charsmap, squeeze, prefix)?;
    Ok(parts)
}
