//! Encoders: BERT and those that differ from it by a rope, a gate or where the norms stand. They make vectors of texts.

use crate::Result;
use crate::arch::{Arch, activation, attention, row, windowed_layers};
use crate::convert::Form;
use crate::encoder::{Classifier, Embedding, Pool};
use crate::hparams::Hparams;
use crate::mixers::Mixer;
use crate::rope::Rope;
use crate::rope_hparams::rope;
use crate::spec::{Act, Ffn, Norm, NormKind, Norms, Positions, Spec};

pub(super) const ARCHS: &[Arch] = &[
    Arch {
        names: BERT,
        ..row("bert", &["BertModel", "BertForMaskedLM", "BertForSequenceClassification"], "BERT", bert)
    },
    Arch {
        names: BERT,
        to_gguf: &[("position_embd.weight", &[("position_embd.weight", &[Form::FromPosition])])],
        ..row(
            "bert",
            &[
                "XLMRobertaModel",
                "XLMRobertaForMaskedLM",
                "XLMRobertaForSequenceClassification",
                "RobertaModel",
                "RobertaForMaskedLM",
                "RobertaForSequenceClassification",
            ],
            "RoBERTa and XLM-RoBERTa",
            roberta,
        )
    },
    Arch {
        names: MODERN,
        ..row(
            "modern-bert",
            &["ModernBertModel", "ModernBertForMaskedLM", "ModernBertForSequenceClassification"],
            "ModernBERT",
            modern_bert,
        )
    },
    Arch { names: NOMIC, ..row("nomic-bert", &["NomicBertModel"], "NomicBERT", nomic_bert) },
];

const BERT: &[(&str, &str)] = &[
    ("embeddings.word_embeddings", "token_embd"),
    ("embeddings.position_embeddings", "position_embd"),
    ("embeddings.token_type_embeddings", "token_types"),
    ("embeddings.LayerNorm", "token_embd_norm"),
    ("attention.self.query", "attn_q"),
    ("attention.self.key", "attn_k"),
    ("attention.self.value", "attn_v"),
    ("attention.output.dense", "attn_output"),
    ("attention.output.LayerNorm", "attn_output_norm"),
    ("intermediate.dense", "ffn_up"),
    ("output.dense", "ffn_down"),
    ("output.LayerNorm", "layer_output_norm"),
    // What the first files called weight and bias of a norm.
    ("embeddings.LayerNorm.gamma", "token_embd_norm.weight"),
    ("embeddings.LayerNorm.beta", "token_embd_norm.bias"),
    ("attention.output.LayerNorm.gamma", "attn_output_norm.weight"),
    ("attention.output.LayerNorm.beta", "attn_output_norm.bias"),
    ("output.LayerNorm.gamma", "layer_output_norm.weight"),
    ("output.LayerNorm.beta", "layer_output_norm.bias"),
    // Classifiers, of BERT and of RoBERTa.
    ("pooler.dense", "cls"),
    ("classifier", "cls.output"),
    ("classifier.dense", "cls"),
    ("classifier.out_proj", "cls.output"),
];

const MODERN: &[(&str, &str)] = &[
    ("embeddings.tok_embeddings", "token_embd"),
    ("embeddings.norm", "token_embd_norm"),
    ("attn_norm", "attn_norm"),
    ("attn.Wqkv", "attn_qkv"),
    ("attn.Wo", "attn_output"),
    ("mlp_norm", "ffn_norm"),
    ("mlp.Wi", "ffn_up"),
    ("mlp.Wo", "ffn_down"),
    ("final_norm", "output_norm"),
    ("head.dense", "cls"),
    ("head.norm", "cls.norm"),
    ("classifier", "cls.output"),
];

const NOMIC: &[(&str, &str)] = &[
    ("embeddings.word_embeddings", "token_embd"),
    ("embeddings.token_type_embeddings", "token_types"),
    ("emb_ln", "token_embd_norm"),
    ("attn.Wqkv", "attn_qkv"),
    ("attn.out_proj", "attn_output"),
    ("norm1", "attn_output_norm"),
    ("mlp.fc11", "ffn_up"),
    ("mlp.fc12", "ffn_gate"),
    ("mlp.fc2", "ffn_down"),
    ("norm2", "layer_output_norm"),
];

/// BERT (Devlin et al. 2018, arXiv:1810.04805): llama that looks both ways, with learned positions, token types, LayerNorm
/// after each sum, and no gate.
fn bert(h: &Hparams) -> Result<Spec> {
    let mut s = encoder(h, "bert", vec![])?;
    if let Some(other) = h.opt_str("position_embedding_type")?.filter(|p| p != "absolute") {
        return Err(h.bad("position_embedding_type", other, "absolute"));
    }
    let (dim, act) = (h.dim("feed_forward_length")?, activation(h, Act::Gelu)?);
    s.layers.iter_mut().for_each(|l| l.ffn = Ffn::Mlp { dim, act });
    s.positions = Some(Positions { rows: s.context, offset: 0 });
    Ok(s)
}

/// BERT whose positions are counted from the one after that of padding. (A GGUF leaves the rows before it out.)
fn roberta(h: &Hparams) -> Result<Spec> {
    let mut s = bert(h)?;
    let offset = h.opt_count("pad_token_id")?.unwrap_or(1).saturating_add(1);
    if offset >= s.context {
        return Err(h.bad("pad_token_id", offset - 1, format!("fewer than the {} positions", s.context)));
    }
    s.positions = Some(Positions { rows: s.context, offset });
    s.context -= offset;
    s.classifier = s.classifier.map(|c| Classifier { act: Act::Tanh, ..c });
    Ok(s)
}

/// BERT with a rope instead of positions and a gate (Nussbaum et al. 2024, arXiv:2402.01613).
fn nomic_bert(h: &Hparams) -> Result<Spec> {
    let off = [
        "prenorm",
        "parallel_block",
        "use_rms_norm",
        "rotary_emb_interleaved",
        "scale_attn_by_inverse_layer_idx",
    ];
    for (key, usual) in off.into_iter().map(|key| (key, false)).chain([("scale_attn_weights", true)]) {
        if let Some(other) = h.opt_bool(key)?.filter(|&on| on != usual) {
            return Err(h.bad(key, other, usual));
        }
    }
    let head_dim = attention(h, h.dim("embedding_length")?)?.head_dim;
    let mut s = encoder(h, "nomic-bert", vec![rope_or(h, head_dim, 1000.0)?])?;
    let (dim, act) = (h.dim("feed_forward_length")?, activation(h, Act::Silu)?);
    s.layers.iter_mut().for_each(|l| l.ffn = Ffn::Glu { dim, act });
    s.each_attn(|_, a| a.rope = Some(0));
    Ok(s)
}

/// BERT before whose branches the norms stand, with a gate, and with a window in most layers, which turn by a rope of
/// their own (Warner et al. 2024, arXiv:2412.13663).
fn modern_bert(h: &Hparams) -> Result<Spec> {
    if h.opt_str("position_embedding_type")?.is_some_and(|p| p != "absolute") {
        return Err(h.bad("position_embedding_type", "another", "absolute"));
    }
    let head_dim = attention(h, h.dim("embedding_length")?)?.head_dim;
    let wide = rope_or(h, head_dim, 160_000.0)?;
    let near = Rope { theta: h.opt_positive("rope.freq_base_swa")?.unwrap_or(10_000.0), ..wide.clone() };
    if let Some(other) = h.opt_str("rope.scaling.type_swa")?.filter(|kind| kind != "default") {
        return Err(h.bad("rope.scaling.type_swa", other, "default"));
    }
    let mut s = encoder(h, "modern-bert", vec![wide, near])?;
    let reach = h.opt_count("attention.sliding_window")?.unwrap_or(128) / 2;
    let every = h.opt_usize("attention.sliding_window_pattern")?.unwrap_or(3);
    let windowed = windowed_layers(h, s.layers.len(), |i| !i.is_multiple_of(every))?;
    s.each_attn(|i, a| {
        a.window = windowed[i].then_some(reach + 1);
        a.rope = Some(usize::from(windowed[i]));
    });
    let (dim, act) = (h.dim("feed_forward_length")?, activation(h, Act::Gelu)?);
    for (i, layer) in s.layers.iter_mut().enumerate() {
        layer.ffn = Ffn::Glu { dim, act };
        layer.norms = Norms { before_mixer: i > 0, ..Norms::PRE };
    }
    (s.token_types, s.final_norm) = (false, true);
    let pool = match h.opt_str("classifier_pooling")?.as_deref() {
        None | Some("cls") => Pool::First,
        Some("mean") => Pool::Mean,
        Some(other) => return Err(h.bad("classifier_pooling", other, "cls or mean")),
    };
    let act = match h.opt_str("classifier_activation")?.as_deref() {
        None | Some("gelu") => Act::Gelu,
        Some(other) => return Err(h.bad("classifier_activation", other, "gelu")),
    };
    s.classifier = s.classifier.map(|_| Classifier { pool, act, norm: true });
    Ok(s)
}

/// What they share: attention both ways without rotation, LayerNorm after each sum, token types.
fn encoder(h: &Hparams, arch: &'static str, ropes: Vec<Rope>) -> Result<Spec> {
    let attn = attention(h, h.dim("embedding_length")?)?;
    let mut s = Spec::of(h, arch, Mixer::Attn(attn), ropes)?;
    let eps = h.opt_positive("attention.layer_norm_epsilon")?.unwrap_or(1e-12);
    s.norm = Norm { kind: NormKind::Layer, eps, affine: true };
    for key in ["attention.causal", "is_decoder", "add_cross_attention"] {
        if h.opt_bool(key)? == Some(true) {
            return Err(h.bad(key, "true", "false: an encoder looks both ways"));
        }
    }
    s.each_attn(|_, a| (a.both_ways, a.rope) = (true, None));
    s.layers.iter_mut().for_each(|l| l.norms = Norms::AFTER_SUMS);
    (s.embed_norm, s.final_norm, s.token_types, s.tied) = (true, false, true, Some(true));
    s.embedding = Some(Embedding { pool: Pool::Mean, unit: true });
    h.shown_by_tensors(&["type_vocab_size", "attention_bias", "mlp_bias"]);
    let classifies = match h.is_gguf() {
        true => h.opt_count("pooling_type")? == Some(4),
        false => h.class().ends_with("ForSequenceClassification"),
    };
    s.classifier = classifies.then_some(Classifier { pool: Pool::First, act: Act::Tanh, norm: false });
    Ok(s)
}

/// The rope, of this base where the file names none.
fn rope_or(h: &Hparams, head_dim: usize, theta: f32) -> Result<Rope> {
    let said = h.opt_positive("rope.freq_base")?;
    Ok(Rope { theta: said.unwrap_or(theta), ..rope(h, head_dim)? })
}
