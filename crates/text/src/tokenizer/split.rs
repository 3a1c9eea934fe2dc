//! How a byte-level BPE cuts text before merging: the regular expressions that the names in a GGUF file's
//! `tokenizer.ggml.pre` stand for, and those of tiktoken vocabularies.

use tokenizers::PreTokenizerWrapper;
use tokenizers::SplitDelimiterBehavior;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SEED: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const KIMI: &str = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: [&str; 3] = [
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
];
const DEEPSEEK_LLM: [&str; 6] = [
    r"[\r\n]",
    // Cased letters, without the mathematical ones.
    r"\s?[\p{Lu}\p{Ll}\p{Lt}&&[^\x{1D400}-\x{1D7FF}]]+",
    r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
    r"\s+$",
    r"[一-龥ࠀ-一가-퟿]+",
    r"\p{N}+",
];
const DEEPSEEK_CODER: [&str; 5] = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}"];
const FALCON: [&str; 3] = [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"];
const DEFAULT: [&str; 4] = [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"];
const DIGITS: [&str; 2] = [r"\p{N}", GPT2];
const WORDS: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const WORDS_DIGITS: [&str; 2] = [WORDS, r"\p{N}"];
const SUPERBPE: [&str; 2] = [r"\p{N}+", r"(?=(\d{3})+(?!\d))"];
const CHAMELEON: [&str; 6] = [
    r"<sentinel:[0-9]+>",
    r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
    r"([\t\n]|    |  )",
    r"\p{N}",
    r"[\p{P}!-/:-@\[-`{-~]",
    GPT2,
];

/// The regular expressions of a `tokenizer.ggml.pre`, applied one after the other to what those before
/// left whole, and whether a piece that is a token by itself is taken without merging.
pub(crate) struct Rule {
    pub patterns: &'static [&'static str],
    pub whole_first: bool,
    /// Whether files of this kind mean a BOS token where they do not say.
    pub bos: bool,
}

/// The names that files carry. A file without a name means "default".
#[rustfmt::skip]
const RULES: &[(&[&str], &[&str], bool, bool)] = &[
    // names, patterns, whole pieces first, BOS by default
    (&["default"], &DEFAULT, false, false),
    (&["gpt-2", "phi-2", "olmo", "mpt", "jais", "jina-es", "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de",
       "a.x-4.0", "mellum", "modern-bert", "gigachat", "roberta-bpe", "trillion",
       "jina-v2-code", "exaone4"], &[GPT2], false, false),
    (&["llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
       &[LLAMA3], true, true),
    (&["smaug-bpe", "dbrx", "chatglm-bpe", "glm4", "granite-docling"], &[LLAMA3], false, false),
    (&["qwen2", "stablelm2", "deepseek-r1-qwen", "hunyuan", "megrez", "grok-2", "solar-open", "kormo"],
       &[QWEN2], false, false),
    (&["qwen35"], &[QWEN35], false, false),
    (&["seed-coder"], &[SEED], false, false),
    (&["bailingmoe", "bailingmoe2", "llada-moe"], &[BAILING], false, false),
    (&["gpt-4o", "llama4", "minimax-m2"], &[GPT4O], false, false),
    (&["tekken"], &[TEKKEN], true, true),
    (&["kimi-k2"], &[KIMI], false, false),
    (&["deepseek-v3", "hunyuan-dense", "joyai-llm"], &DEEPSEEK3, false, false),
    (&["deepseek-llm"], &DEEPSEEK_LLM, false, false),
    (&["deepseek-coder"], &DEEPSEEK_CODER, false, false),
    (&["falcon"], &FALCON, false, false),
    (&["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"], &DIGITS, false, false),
    (&["poro-chat", "bloom", "gpt3-finnish"], &[WORDS], false, false),
    (&["viking"], &WORDS_DIGITS, false, false),
    (&["superbpe"], &SUPERBPE, false, false),
    (&["chameleon"], &CHAMELEON, false, true),
];

/// The rule of a name, or all the names that are known.
pub(crate) fn rule(name: &str) -> Result<Rule, String> {
    let found = RULES.iter().find(|(names, ..)| names.contains(&name));
    match found {
        Some(&(_, patterns, whole_first, bos)) => Ok(Rule { patterns, whole_first, bos }),
        None => Err(RULES.iter().flat_map(|(names, ..)| *names).copied().collect::<Vec<_>>().join(", ")),
    }
}

/// Whether text is brought to composed characters (NFC) first: so do the tokenizers of the models whose files have this
/// name; a GGUF file has no word for it.
pub(crate) fn composes(name: &str) -> bool {
    name == "qwen2"
}

/// The expression of a tiktoken vocabulary with this many ranks (the rank files do not hold it).
pub(crate) fn tiktoken(ranks: usize) -> Option<&'static str> {
    match ranks {
        50_256 => Some(GPT2),
        100_256 | 128_000 => Some(LLAMA3),
        151_643 => Some(QWEN2),
        199_998 | 200_000 => Some(GPT4O),
        163_584 | 163_840 => Some(KIMI),
        _ => None,
    }
}

/// As [`composes`], of a tiktoken vocabulary with this many ranks: Qwen's.
pub(crate) fn tiktoken_composes(ranks: usize) -> bool {
    ranks == 151_643
}

/// The expression of GPT-2, which vocab.json with merges.txt means.
pub(crate) fn gpt2() -> &'static [&'static str] {
    &[GPT2]
}

/// Splits by each pattern in turn, then into the byte-level alphabet.
pub(crate) fn splitter(patterns: &[&str]) -> Result<PreTokenizerWrapper, String> {
    let mut steps = Vec::with_capacity(patterns.len() + 1);
    for pattern in patterns {
        let pattern = SplitPattern::Regex((*pattern).to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
        steps.push(PreTokenizerWrapper::Split(split.map_err(|e| e.to_string())?));
    }
    steps.push(PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, false)));
    Ok(PreTokenizerWrapper::Sequence(Sequence::new(steps)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expression_compiles() {
        for (names, patterns, ..) in RULES {
            splitter(patterns).unwrap_or_else(|e| panic!("{names:?}: {e}"));
        }
    }
}
