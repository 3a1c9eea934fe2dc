//! GGUF's keys, and in which architectures llama.cpp (as of llama-cpp-sys-2 0.1.161) reads them.

/// Where llama.cpp reads a key that has GGUF's name: nowhere named is everywhere.
type Row = (&'static str, &'static [&'static str]);

const GRANITES: &[&str] = &["granite", "granitemoe", "granitehybrid"];
const SCALED_EXPERTS: &[&str] = &["deepseek2", "dots1", "glm4moe", "nemotron_h", "nemotron_h_moe"];
const WINDOWS: &[&str] =
    &["cohere2", "exaone4", "gemma2", "gemma3", "gpt-oss", "modern-bert", "olmo2", "phi3", "phimoe"];

/// The keys that llama.cpp's converter writes.
#[rustfmt::skip]
const OFFICIAL: &[Row] = &[
    ("attention.causal", &["bert", "modern-bert", "nomic-bert"]),
    ("attention.clamp_kqv", &["mpt", "olmo"]),
    ("attention.decay_lora_rank", &[]),
    ("attention.gate_lora_rank", &[]),
    ("attention.head_count", &[]),
    ("attention.head_count_kv", &[]),
    ("attention.iclr_lora_rank", &[]),
    ("attention.key_length", &[]),
    ("attention.key_length_mla", &[]),
    ("attention.kv_lora_rank", &[]),
    ("attention.layer_norm_epsilon", &[]),
    ("attention.layer_norm_rms_epsilon", &[]),
    ("attention.max_alibi_bias", &["mpt"]),
    ("attention.q_lora_rank", &[]),
    ("attention.scale", GRANITES),
    ("attention.sliding_window", WINDOWS),
    ("attention.sliding_window_pattern", &["exaone4", "modern-bert", "olmo2"]),
    ("attention.temperature_scale", &["mistral3"]),
    ("attention.value_length", &[]),
    ("attention.value_length_mla", &[]),
    ("attention.value_residual_mix_lora_rank", &[]),
    ("attn_logit_softcapping", &["gemma2"]),
    ("block_count", &[]),
    ("context_length", &[]),
    ("embedding_length", &[]),
    ("embedding_scale", &["granite", "granitemoe", "granitehybrid", "minicpm"]),
    ("expert_count", &[]),
    ("expert_feed_forward_length", &[]),
    ("expert_gating_func", &["deepseek2", "dots1", "glm4moe", "lfm2moe", "minimax-m2"]),
    ("expert_group_count", &[]),
    ("expert_group_used_count", &[]),
    ("expert_shared_count", &[]),
    ("expert_shared_feed_forward_length", &[]),
    ("expert_used_count", &[]),
    ("expert_weights_norm", SCALED_EXPERTS),
    ("expert_weights_scale", SCALED_EXPERTS),
    ("feed_forward_length", &[]),
    ("final_logit_softcapping", &["gemma2", "gemma3"]),
    ("full_attention_interval", &["qwen35", "qwen35moe", "qwen3next"]),
    ("interleave_moe_layer_step", &[]),
    ("leading_dense_block_count", &[]),
    ("logit_scale", &["command-r", "cohere2", "granite", "granitemoe", "granitehybrid", "minicpm"]),
    ("pooling_type", &[]),
    ("residual_scale", &["granite", "granitemoe", "granitehybrid", "minicpm"]),
    ("rope.dimension_count", &[]),
    ("rope.dimension_sections", &[]),
    ("rope.freq_base", &[]),
    ("rope.freq_base_swa", &["gemma3", "modern-bert"]),
    ("rope.scaling.attn_factor", &[]),
    ("rope.scaling.factor", &[]),
    ("rope.scaling.finetuned", &[]),
    ("rope.scaling.original_context_length", &[]),
    ("rope.scaling.type", &[]),
    ("rope.scaling.yarn_beta_fast", &["mistral3"]),
    ("rope.scaling.yarn_beta_slow", &["mistral3"]),
    ("rope.scaling.yarn_log_multiplier", &["deepseek2", "mistral3"]),
    ("shortconv.l_cache", &[]),
    ("ssm.conv_kernel", &[]),
    ("ssm.dt_b_c_rms", &[]),
    ("ssm.group_count", &[]),
    ("ssm.inner_size", &[]),
    ("ssm.state_size", &[]),
    ("ssm.time_step_rank", &[]),
    ("tensor_data_layout", &["falcon"]),
    ("use_parallel_residual", &["gptneox", "stablelm"]),
    ("vocab_size", &[]),
    ("wkv.head_size", &[]),
    ("xielu.alpha_n", &[]),
    ("xielu.alpha_p", &[]),
    ("xielu.beta", &[]),
    ("xielu.eps", &[]),
];

/// Whether the key is one that llama.cpp reads in this architecture.
pub(super) fn official(arch: &str, key: &str) -> bool {
    OFFICIAL.iter().any(|(name, archs)| *name == key && (archs.is_empty() || archs.contains(&arch)))
}

/// Keys whose numbers are floating-point even where config.json has them whole.
pub(super) fn is_float(key: &str) -> bool {
    const PARTS: &[&str] = &[
        "epsilon",
        "scale",
        "freq_base",
        "softcapping",
        "factor",
        "beta",
        "clamp",
        "alibi",
        "multiplier",
        "alpha",
        "xielu",
        "temperature",
    ];
    let counts = ["time_step_rank", "original_context_length"];
    PARTS.iter().any(|part| key.contains(part)) && !counts.iter().any(|end| key.ends_with(end))
}
