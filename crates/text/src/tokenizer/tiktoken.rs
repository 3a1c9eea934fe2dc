//! tiktoken's rank files: one line per token, its bytes in base64 and its rank. A merge is made where its
//! result has a rank, the lowest first; the library wants the pairs, so they are worked out here.

use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::{ModelWrapper, NormalizerWrapper};

use super::pipeline::{AnyModel, Parts};
use super::{bytes, folder, split};
use crate::{Error, Result};

/// Whether a tokenizer.model is of this kind: its first line is base64, a space, digits.
pub(crate) fn looks_like(data: &[u8]) -> bool {
    let line = data.split(|&b| b == b'\n').next().unwrap_or_default();
    line.len() < 4096
        && std::str::from_utf8(line)
            .ok()
            .and_then(|line| line.trim_end().split_once(' '))
            .is_some_and(|(token, rank)| base64(token).is_some() && !rank.is_empty())
}

/// Reads a rank file. `origin` names it in errors.
pub(crate) fn load(origin: &str, data: &[u8]) -> Result<Parts> {
    let ranks = ranks(data).map_err(|what| Error::tokenizer(origin, what))?;
    let pattern = split::tiktoken(ranks.len()).ok_or_else(|| {
        let what = format!(
            "has {} ranks; a rank file does not say how text is cut, and no known vocabulary has this size \
             (known: GPT-2, cl100k, o200k, Llama 3, Qwen, Kimi): use the model's tokenizer.json",
            ranks.len()
        );
        Error::tokenizer(origin, what)
    })?;
    let model = model(&ranks).map_err(|what| Error::tokenizer(origin, what))?;
    let mut parts = Parts::new(origin, AnyModel::Library(Box::new(ModelWrapper::BPE(model))));
    if split::tiktoken_composes(ranks.len()) {
        parts.normalizer = Some(NormalizerWrapper::NFC(NFC));
    }
    folder::byte_level(&mut parts, &[pattern])?;
    Ok(parts)
}

fn ranks(data: &[u8]) -> Result<Vec<(Vec<u8>, u32)>, String> {
    let text = std::str::from_utf8(data).map_err(|e| format!("is not a rank file: {e}"))?;
    let mut out = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let at = at + 1;
        let (token, rank) = line.split_once(' ').ok_or_else(|| format!("line {at} has no rank"))?;
        let token = base64(token).ok_or_else(|| format!("line {at}: {token:?} is not base64"))?;
        let rank: u32 = rank
            .trim()
            .parse()
            .map_err(|_| format!("line {at}: the rank is {:?}, not a whole number", rank.trim()))?;
        out.push((token, rank));
    }
    let mut seen: Vec<u32> = out.iter().map(|&(_, rank)| rank).collect();
    seen.sort_unstable();
    match seen.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("the rank {} is given twice", pair[0])),
        None if out.is_empty() => Err("has no ranks".to_owned()),
        None => Ok(out),
    }
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let body = text.trim_end_matches('=');
    if body.is_empty() || !text.len().is_multiple_of(4) || text.len() - body.len() > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(body.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for byte in body.bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(out)
}

fn model(ranks: &[(Vec<u8>, u32)]) -> Result<BPE, String> {
    let by_bytes: HashMap<&[u8], u32> = ranks.iter().map(|(token, rank)| (token.as_slice(), *rank)).collect();
    let mut sorted: Vec<&(Vec<u8>, u32)> = ranks.iter().collect();
    sorted.sort_unstable_by_key(|(_, rank)| *rank);
    let mut merges = Vec::with_capacity(sorted.len());
    for (token, rank) in sorted.into_iter().filter(|(token, _)| token.len() > 1) {
        if let Some(cut) = last_merge(token, *rank, &by_bytes) {
            merges.push((bytes::to_text(&token[..cut]), bytes::to_text(&token[cut..])));
        }
    }
    let vocab: Vocab = ranks.iter().map(|(token, rank)| (bytes::to_text(token), *rank)).collect();
    BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(true)
        .build()
        .map_err(|e| format!("the ranks make no vocabulary: {e}"))
}

/// Merges a token's bytes by the ranks below its own; where two parts remain, the place between them is
/// the merge that makes it. A token that no merge reaches is only ever taken whole.
fn last_merge(token: &[u8], below: u32, ranks: &HashMap<&[u8], u32>) -> Option<usize> {
    if token.len() > 4096 {
        return None;
    }
    let mut cuts: Vec<usize> = (0..=token.len()).collect();
    while cuts.len() > 3 {
        let pair = |at: usize| ranks.get(&token[cuts[at]..cuts[at + 2]]).copied();
        let best = (0..cuts.len() - 2).filter_map(|at| Some((pair(at)?, at)));
        let (_, at) = best.filter(|&(rank, _)| rank < below).min()?;
        cuts.remove(at + 1);
    }
    let cut = *cuts.get(1)?;
    (ranks.contains_key(&token[..cut]) && ranks.contains_key(&token[cut..])).then_some(cut)
}
