//! Mistral's smaller models.

use crate::Result;
use crate::arch::{Arch, llama, row, windowed_layers};
use crate::hparams::Hparams;
use crate::mixers::Temperature;
use crate::rope::{Scaling, yarn_mscale};
use crate::spec::Spec;

pub(super) const ARCHS: &[Arch] = &[
    Arch { ours: true, ..row("ministral", &["MinistralForCausalLM"], "Ministral (2024)", ministral) },
    Arch {
        gguf_interleaved: true,
        aside: &["vision_tower.", "multi_modal_projector."],
        ..row(
            "mistral3",
            &["Ministral3ForCausalLM", "Mistral3ForConditionalGeneration"],
            "Mistral Small 3.1, Ministral 3 (text)",
            mistral3,
        )
    },
];

/// Mistral with the window in some layers.
fn ministral(h: &Hparams) -> Result<Spec> {
    let mut s = Spec { arch: "ministral", ..llama::mistral(h)? };
    let layers = windowed_layers(h, s.layers.len(), |_| true)?;
    s.each_attn(|i, a| a.window = a.window.filter(|_| layers[i]));
    Ok(s)
}

/// Mistral whose queries may grow with their position.
fn mistral3(h: &Hparams) -> Result<Spec> {
    let mut s = Spec { arch: "mistral3", ..llama::mistral(h)? };
    if let Scaling::Yarn(yarn) = &mut s.ropes[0].scaling {
        // GGUF's name for YaRN's mscale_all_dim, beside an mscale of 1.
        if let Some(all) = h.opt_positive("rope.scaling.yarn_log_multiplier")? {
            yarn.attention_factor = yarn_mscale(yarn.factor, 1.0) / yarn_mscale(yarn.factor, all);
        }
    }
    let scale = h.opt_f32("attention.temperature_scale")?.filter(|&beta| beta != 0.0);
    if let Some(scale) = scale {
        let floor = h.usize("rope.scaling.original_context_length")? as f32;
        s.each_attn(|_, a| a.temperature = Some(Temperature { scale, floor, offset: 0.0 }));
    }
    Ok(s)
}
