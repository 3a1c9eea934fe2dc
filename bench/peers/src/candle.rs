//! candle, by its own quantized models. They take one sequence.

use std::fs::File;
use std::io::BufReader;

use anyhow::{Result, bail, ensure};
use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::{quantized_llama, quantized_qwen3};

use crate::{Job, Measured, Peer, token};

enum Model {
    Llama(quantized_llama::ModelWeights),
    Qwen3(quantized_qwen3::ModelWeights),
}

struct Candle {
    model: Model,
    vocab: usize,
    position: usize,
}

pub fn measure(job: &Job) -> Result<Vec<Measured>> {
    ensure!(job.batch == 1, "candle's quantized models take one sequence");
    let mut file = BufReader::new(File::open(&job.model)?);
    let content = Content::read(&mut file)?;
    let arch = content.metadata.get("general.architecture").map(|v| v.to_string().cloned()).transpose()?;
    let vocab = content.tensor_infos.get("token_embd.weight").map_or(0, |t| t.shape.dims()[0]);
    ensure!(vocab > 0, "no token_embd.weight");
    let model = match arch.as_deref() {
        Some("llama") => {
            Model::Llama(quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?)
        }
        Some("qwen3") => {
            Model::Qwen3(quantized_qwen3::ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?)
        }
        other => bail!("no quantized model for {other:?}"),
    };
    job.run(&mut Candle { model, vocab, position: 0 })
}

impl Candle {
    fn forward(&mut self, count: usize) -> Result<()> {
        let tokens: Vec<u32> = (self.position..self.position + count).map(|p| token(p, self.vocab)).collect();
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        match &mut self.model {
            Model::Llama(model) => model.forward(&input, self.position)?,
            Model::Qwen3(model) => model.forward(&input, self.position)?,
        };
        self.position += count;
        Ok(())
    }
}

impl Peer for Candle {
    fn clear(&mut self) -> Result<()> {
        self.position = 0;
        match &mut self.model {
            Model::Llama(model) => model.clear_kv_cache(),
            Model::Qwen3(model) => model.clear_kv_cache(),
        }
        Ok(())
    }

    fn prefill(&mut self, _: usize, count: usize) -> Result<()> {
        let end = self.position + count;
        while self.position < end {
            self.forward(512.min(end - self.position))?;
        }
        Ok(())
    }

    fn decode(&mut self, _: usize, count: usize) -> Result<()> {
        (0..count).try_for_each(|_| self.forward(1))
    }
}
