//! The parts of a tokenizer put together: normalizer, pre-tokenizer, model and decoder of the
//! `tokenizers` crate, with models of our own where it has none. The model is shared by the three
//! pipelines that a [`Tokenizer`](super::Tokenizer) keeps, which differ only in what they do with control
//! tokens that stand in the text.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::{
    AddedToken, DecoderWrapper, Model, ModelWrapper, NormalizerWrapper, PostProcessorWrapper,
    PreTokenizedString, PreTokenizer, PreTokenizerWrapper, Token, TokenizerImpl,
};

use super::greedy::Greedy;
use super::spm::Spm;

/// Marks, in a guarded text, a control token that the user wrote: it stands after its first character, so
/// that the token does not match, and is taken out before the text is split. A Unicode noncharacter.
pub(crate) const MARK: char = '\u{FDD0}';

pub(crate) type Pipeline =
    TokenizerImpl<SharedModel, NormalizerWrapper, Splitter, PostProcessorWrapper, DecoderWrapper>;

/// What turns a piece of text into tokens.
pub(crate) enum AnyModel {
    /// BPE by merges, WordPiece, WordLevel or Unigram of the `tokenizers` crate.
    Library(Box<ModelWrapper>),
    /// SentencePiece BPE by scores.
    Spm(Spm),
    /// The longest token first (RWKV).
    Greedy(Greedy),
}

/// A model that several pipelines share.
#[derive(Clone)]
pub(crate) struct SharedModel {
    pub model: Arc<AnyModel>,
    /// Control tokens by their text: no model may make one out of ordinary text.
    pub control: Arc<HashMap<u32, String>>,
}

macro_rules! each {
    ($self:expr, $model:ident => $call:expr) => {
        match &*$self.model {
            AnyModel::Library($model) => $call,
            AnyModel::Spm($model) => $call,
            AnyModel::Greedy($model) => $call,
        }
    };
}

impl SharedModel {
    fn makes_control(&self, token: &Token, text: &str) -> bool {
        let (start, end) = token.offsets;
        self.control.get(&token.id).is_some_and(|content| text.get(start..end) == Some(content.as_str()))
    }
}

impl Model for SharedModel {
    type Trainer = TrainerWrapper;

    /// As the inner model does it, but where that gives a control token for ordinary text (a Unigram
    /// model may), the text is cut after that token's first character and tokenized in two halves.
    fn tokenize(&self, text: &str) -> tokenizers::Result<Vec<Token>> {
        let tokens = each!(self, model => model.tokenize(text))?;
        let Some(found) = tokens.iter().find(|token| self.makes_control(token, text)) else {
            return Ok(tokens);
        };
        let start = found.offsets.0;
        let cut = start + text[start..].chars().next().map_or(0, char::len_utf8);
        if cut == 0 || cut >= text.len() {
            return Ok(tokens);
        }
        let mut out = self.tokenize(&text[..cut])?;
        out.extend(self.tokenize(&text[cut..])?.into_iter().map(|mut token| {
            token.offsets = (token.offsets.0 + cut, token.offsets.1 + cut);
            token
        }));
        Ok(out)
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        each!(self, model => model.token_to_id(token))
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        each!(self, model => model.id_to_token(id))
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        match &*self.model {
            AnyModel::Library(model) => model.get_vocab(),
            AnyModel::Spm(_) | AnyModel::Greedy(_) => HashMap::new(),
        }
    }

    fn get_vocab_size(&self) -> usize {
        each!(self, model => model.get_vocab_size())
    }

    fn save(&self, _folder: &Path, _prefix: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("a loaded tokenizer is not saved".into())
    }

    fn get_trainer(&self) -> TrainerWrapper {
        TrainerWrapper::BpeTrainer(BpeTrainer::default())
    }
}

/// The pre-tokenizer, before which a guarded pipeline takes the marks out.
#[derive(Clone)]
pub(crate) struct Splitter {
    pub unmark: bool,
    pub inner: Option<PreTokenizerWrapper>,
}

impl PreTokenizer for Splitter {
    fn pre_tokenize(&self, text: &mut PreTokenizedString) -> tokenizers::Result<()> {
        if self.unmark {
            text.normalize(|piece| piece.replace(MARK, ""))?;
        }
        match &self.inner {
            Some(inner) => inner.pre_tokenize(text),
            None => Ok(()),
        }
    }
}

/// Everything that a loader finds out about a tokenizer.
pub(crate) struct Parts {
    /// Where it came from, for error messages.
    pub origin: String,
    pub model: AnyModel,
    pub normalizer: Option<NormalizerWrapper>,
    pub splitter: Option<PreTokenizerWrapper>,
    pub post: Option<PostProcessorWrapper>,
    pub decoder: Option<DecoderWrapper>,
    pub added: Vec<AddedToken>,
    /// Ids put before and after a text when special tokens are asked for.
    pub prefix: Vec<u32>,
    pub suffix: Vec<u32>,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unk: Option<u32>,
    pub pad: Option<u32>,
}

impl Parts {
    /// Parts with a model only.
    pub fn new(origin: impl Into<String>, model: AnyModel) -> Parts {
        Parts {
            origin: origin.into(),
            model,
            normalizer: None,
            splitter: None,
            post: None,
            decoder: None,
            added: Vec::new(),
            prefix: Vec::new(),
            suffix: Vec::new(),
            bos: None,
            eos: None,
            unk: None,
            pad: None,
        }
    }
}

/// The pipelines made of the same parts.
pub(crate) struct Pipelines {
    /// Control tokens in the text are text.
    pub plain: Pipeline,
    /// Control tokens in the text are control tokens.
    pub control: Pipeline,
    /// As `control`, but not those that bear a mark.
    pub guarded: Pipeline,
}

/// Puts the parts together. The error is the library's.
pub(crate) fn build(parts: &mut Parts, model: AnyModel) -> tokenizers::Result<Pipelines> {
    let model = Arc::new(model);
    let bare = SharedModel { model: Arc::clone(&model), control: Arc::default() };
    let mut first = Pipeline::new(bare);
    first.with_normalizer(parts.normalizer.take())?;
    first.with_pre_tokenizer(Some(Splitter { unmark: false, inner: parts.splitter.clone() }));
    first.with_post_processor(parts.post.take());
    first.with_decoder(parts.decoder.take());
    first.add_tokens(parts.added.drain(..).filter(|token| !token.content.is_empty()))?;

    let added = first.get_added_tokens_decoder();
    let control = added.iter().filter(|(_, token)| token.special);
    let control: HashMap<u32, String> = control.map(|(&id, token)| (id, token.content.clone())).collect();
    first.with_model(SharedModel { model, control: Arc::new(control) });

    let mut plain = first.clone();
    plain.set_encode_special_tokens(true);
    let mut guarded = first.clone();
    guarded.with_pre_tokenizer(Some(Splitter { unmark: true, inner: parts.splitter.take() }));
    Ok(Pipelines { plain, control: first, guarded })
}

/// The ids of the control tokens.
pub(crate) fn control_ids(pipeline: &Pipeline) -> HashSet<u32> {
    pipeline.get_model().control.keys().copied().collect()
}
