//! Parameter names: those of Hugging Face checkpoints become those of GGUF, which the decoder uses.
//!
//! One table. An architecture that names a thing differently brings rows of its own (`overrides`), in the
//! same form; nothing here asks which architecture it is.

/// Hugging Face module -> GGUF name. Inside a layer both are relative to the layer: `layers.3.X` -> `blk.3.Y`.
/// `.weight` and `.bias` are kept; parameters that end in neither are rows with their whole name. The number of an
/// expert goes to the end: with the row `("mlp.experts.up_proj", "ffn_up")`, `mlp.experts.7.up_proj` is `ffn_up.7`. So does
/// that of a head with a norm of its own: with `("q_layernorm.norms", "attn_q_norm")`, `q_layernorm.norms.2` is `attn_q_norm.2`.
pub const NAMES: &[(&str, &str)] = &[
    // Around the layers.
    ("embed_tokens", "token_embd"),
    ("norm", "output_norm"),
    ("lm_head", "output"),
    // Norms of a layer, as llama has them: two.
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    // Attention.
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    // Latent attention.
    ("self_attn.q_a_proj", "attn_q_a"),
    ("self_attn.q_a_layernorm", "attn_q_a_norm"),
    ("self_attn.q_b_proj", "attn_q_b"),
    ("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"),
    ("self_attn.kv_a_layernorm", "attn_kv_a_norm"),
    ("self_attn.kv_b_proj", "attn_kv_b"),
    // Feed-forward.
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.gate_up_proj", "ffn_up"),
    // Experts.
    ("mlp.gate", "ffn_gate_inp"),
    ("mlp.gate.e_score_correction_bias", "exp_probs_b.bias"),
    ("mlp.experts.gate_proj", "ffn_gate"),
    ("mlp.experts.up_proj", "ffn_up"),
    ("mlp.experts.down_proj", "ffn_down"),
    ("mlp.experts.gate_up_proj", "ffn_gate_up"),
    ("mlp.shared_expert.gate_proj", "ffn_gate_shexp"),
    ("mlp.shared_expert.up_proj", "ffn_up_shexp"),
    ("mlp.shared_expert.down_proj", "ffn_down_shexp"),
    ("mlp.shared_experts.gate_proj", "ffn_gate_shexp"),
    ("mlp.shared_experts.up_proj", "ffn_up_shexp"),
    ("mlp.shared_experts.down_proj", "ffn_down_shexp"),
    ("mlp.shared_expert_gate", "ffn_gate_inp_shexp"),
    // Mamba, where it stands beside attention.
    ("mamba.in_proj", "ssm_in"),
    ("mamba.conv1d", "ssm_conv1d"),
    ("mamba.dt_bias", "ssm_dt.bias"),
    ("mamba.A_log", "ssm_a_log"),
    ("mamba.D", "ssm_d"),
    ("mamba.norm", "ssm_norm"),
    ("mamba.out_proj", "ssm_out"),
];

/// Rows for layers with four norms, before and after each half (Gemma 2, Gemma 3).
pub const FOUR_NORMS: &[(&str, &str)] = &[
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

/// What checkpoints put before the names of the table, longest first.
const PREFIXES: &[&str] = &[
    "language_model.model.",
    "model.language_model.",
    "language_model.",
    "model.decoder.",
    "transformer.",
    "gpt_neox.",
    "backbone.",
    "decoder.",
    "rwkv.",
    "model.",
    "bert.",
    "roberta.",
    "nomic_bert.",
];

/// What precedes a layer's number.
const LAYER_LISTS: &[&str] = &["layers.", "h.", "blocks.", "encoder.layer.", "encoder.layers."];

/// The largest layer number; see `gguf::tensors`.
const MAX_LAYER: u32 = 65_535;

/// The GGUF name of a Hugging Face parameter; `None` when no row names it.
///
/// `overrides` are rows that come before those of [`NAMES`]. One that begins with `layers.N.` holds only inside layers.
/// ```
/// # use weights::names::*;
/// assert_eq!(gguf_name("model.layers.3.self_attn.q_proj.weight", &[]).unwrap(), "blk.3.attn_q.weight");
/// ```
pub fn gguf_name(hf: &str, overrides: &[(&str, &str)]) -> Option<String> {
    let name = PREFIXES.iter().find_map(|p| hf.strip_prefix(p)).unwrap_or(hf);
    match LAYER_LISTS.iter().find_map(|list| name.strip_prefix(list)) {
        None => translate(name, overrides, ""),
        Some(rest) => {
            let (layer, inside) = rest.split_once('.')?;
            Some(format!("blk.{}.{}", layer_number(layer)?, translate(inside, overrides, "layers.N.")?))
        }
    }
}

fn translate(name: &str, overrides: &[(&str, &str)], place: &str) -> Option<String> {
    let is = |row: &str, name: &str| {
        row == name || row.strip_prefix("layers.N.").is_some_and(|r| r == name && !place.is_empty())
    };
    let find = |name: &str| overrides.iter().chain(NAMES).find(|row| is(row.0, name)).map(|row| row.1);
    // Experts that lie stacked in one tensor bear no suffix.
    if let Some(row) =
        name.rsplit_once('.').filter(|(before, _)| before.ends_with(".experts")).and(find(name))
    {
        return Some(if row.contains('.') { row.to_string() } else { format!("{row}_exps.weight") });
    }
    if let Some(whole) = find(name) {
        return Some(whole.to_string());
    }
    let (module, suffix) = match name.rsplit_once('.') {
        Some((module, "weight")) => (module, ".weight"),
        Some((module, "bias")) => (module, ".bias"),
        _ => (name, ""),
    };
    if let Some(row) = find(module) {
        return Some(format!("{row}{suffix}"));
    }
    if let Some((before, head)) = module.split_once(".norms.") {
        return Some(format!("{}.{}{suffix}", find(&format!("{before}.norms"))?, layer_number(head)?));
    }
    // What lies in lists within a layer: all their numbers go to the end.
    let list = module.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    if let Some(row) = find(list).filter(|_| list.len() < module.len()) {
        let numbers = module[list.len()..].split('.').skip(1);
        let numbers = numbers.map(|n| layer_number(n).map(|n| format!(".{n}")));
        return Some(format!("{row}{}{suffix}", numbers.collect::<Option<String>>()?));
    }
    let (before, rest) = module.split_once(".experts.")?;
    let (expert, part) = rest.split_once('.')?;
    let row = find(&format!("{before}.experts.{part}"))?;
    Some(format!("{row}.{}{suffix}", layer_number(expert)?))
}

/// Only the plain decimal form, so that two names never become one.
fn layer_number(digits: &str) -> Option<u32> {
    let n: u32 = digits.parse().ok().filter(|&n| n <= MAX_LAYER)?;
    (n.to_string() == digits).then_some(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_names_are_translated() {
        for (hf, gguf) in [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("model.norm.weight", "output_norm.weight"),
            ("lm_head.weight", "output.weight"),
            ("model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight"),
            ("model.layers.11.post_attention_layernorm.weight", "blk.11.ffn_norm.weight"),
            ("model.layers.3.self_attn.k_proj.bias", "blk.3.attn_k.bias"),
            ("model.layers.3.self_attn.qkv_proj.weight", "blk.3.attn_qkv.weight"),
            ("model.layers.3.self_attn.o_proj.weight", "blk.3.attn_output.weight"),
            ("model.layers.3.self_attn.q_norm.weight", "blk.3.attn_q_norm.weight"),
            ("model.layers.3.mlp.gate_up_proj.weight", "blk.3.ffn_up.weight"),
            ("model.layers.3.mlp.down_proj.weight", "blk.3.ffn_down.weight"),
            ("language_model.model.layers.7.mlp.gate_proj.weight", "blk.7.ffn_gate.weight"),
            ("language_model.lm_head.weight", "output.weight"),
        ] {
            assert_eq!(gguf_name(hf, &[]).as_deref(), Some(gguf), "{hf}");
        }
    }

    #[test]
    fn overrides_come_first_and_gemma_has_four_norms() {
        let name = |n: &str| gguf_name(&format!("model.layers.2.{n}.weight"), FOUR_NORMS);
        assert_eq!(name("input_layernorm").as_deref(), Some("blk.2.attn_norm.weight"));
        assert_eq!(name("post_attention_layernorm").as_deref(), Some("blk.2.post_attention_norm.weight"));
        assert_eq!(name("pre_feedforward_layernorm").as_deref(), Some("blk.2.ffn_norm.weight"));
        assert_eq!(name("post_feedforward_layernorm").as_deref(), Some("blk.2.post_ffw_norm.weight"));
    }

    #[test]
    fn a_row_may_hold_only_inside_layers() {
        let rows = &[("layers.N.final_layer_norm", "ffn_norm"), ("final_layer_norm", "output_norm")];
        let name = |n: &str| gguf_name(n, rows);
        assert_eq!(name("model.decoder.final_layer_norm.bias").as_deref(), Some("output_norm.bias"));
        assert_eq!(name("decoder.layers.3.final_layer_norm.bias").as_deref(), Some("blk.3.ffn_norm.bias"));
        let list = &[("mlp.beside", "lead_up_beside")];
        let listed = gguf_name("model.layers.1.mlp.beside.4.0.weight", list);
        assert_eq!(listed.as_deref(), Some("blk.1.lead_up_beside.4.0.weight"));
        assert_eq!(gguf_name("model.layers.1.mlp.beside.04.0.weight", list), None);
        let heads = &[("self_attn.q_layernorm.norms", "attn_q_norm")];
        let head = gguf_name("model.layers.1.self_attn.q_layernorm.norms.4.weight", heads);
        assert_eq!(head.as_deref(), Some("blk.1.attn_q_norm.4.weight"));
    }

    #[test]
    fn unknown_and_odd_names_have_no_translation() {
        for hf in [
            "",
            "weight",
            "model.layers.3",
            "model.layers.x.mlp.up_proj.weight",
            "model.rotary.inv_freq",
            "model.layers.007.mlp.up_proj.weight",
            "model.layers.+7.mlp.up_proj.weight",
            "model.layers.4294967295.mlp.up_proj.weight",
            "model.layers.3.mlp.up_proj.scale",
        ] {
            assert_eq!(gguf_name(hf, &[]), None, "{hf}");
        }
    }

    #[test]
    fn no_module_stands_twice() {
        for (i, row) in NAMES.iter().enumerate() {
            assert!(NAMES[..i].iter().all(|other| other.0 != row.0), "{}", row.0);
        }
    }
}
