//! llama.cpp by its C interface, as llama-bench drives it: flash attention, batches of 512.
//!
//! The raw bindings, since the safe ones do not show `use_extra_bufts`: with it, weights are repacked at load
//! time for one set of kernels, without it another set runs, and which is faster depends on the case.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;

use anyhow::{Result, ensure};
use llama_cpp_sys_2 as sys;

use crate::{Job, Measured, Peer, token};

const BATCH: usize = 512;

struct Llama {
    model: *mut sys::llama_model,
    context: *mut sys::llama_context,
    batch: sys::llama_batch,
    vocab: usize,
    /// Tokens of each sequence.
    lengths: Vec<usize>,
}

unsafe extern "C" fn silent(_: sys::ggml_log_level, _: *const c_char, _: *mut c_void) {}

/// Passes on what went wrong.
unsafe extern "C" fn errors(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if level == sys::GGML_LOG_LEVEL_ERROR {
        // SAFETY: llama.cpp hands over a text that ends with a zero.
        eprint!("{}", unsafe { CStr::from_ptr(text) }.to_string_lossy());
    }
}

/// What llama.cpp says at each position of `tokens`, keys and values in f32 and the attention written out (or
/// `as_usual`): logits, or an encoder's vectors. What it cannot load it says on standard error.
pub fn logits(path: &Path, tokens: &[u32], vectors: bool, as_usual: bool) -> Result<Vec<f32>> {
    ensure!((1..=BATCH).contains(&tokens.len()), "expected 1 to {BATCH} tokens");
    // SAFETY: parameters come from the library's own defaults; pointers are checked before they are used; a row that
    // llama.cpp returns has as many numbers as its vocabulary or its width.
    unsafe {
        sys::llama_log_set(Some(errors), std::ptr::null_mut());
        sys::llama_backend_init();
        let model = load(path, as_usual)?;
        let mut params = context_params(BATCH, 1, 2);
        if as_usual {
            params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_ENABLED;
        } else {
            (params.type_k, params.type_v) = (sys::GGML_TYPE_F32, sys::GGML_TYPE_F32);
            params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_DISABLED;
        }
        params.embeddings = vectors;
        params.pooling_type = sys::LLAMA_POOLING_TYPE_NONE;
        let mut llama = Llama::with(model, params)?;
        let width = if vectors { sys::llama_model_n_embd(model) as usize } else { llama.vocab };
        for &token in tokens {
            llama.push(token, 0, true);
        }
        llama.forward()?;
        let mut all = Vec::with_capacity(width * tokens.len());
        for i in 0..tokens.len() as i32 {
            let row = match vectors {
                true => sys::llama_get_embeddings_ith(llama.context, i),
                false => sys::llama_get_logits_ith(llama.context, i),
            };
            ensure!(!row.is_null(), "llama.cpp says nothing of position {i}");
            all.extend_from_slice(std::slice::from_raw_parts(row, width));
        }
        Ok(all)
    }
}

fn load(path: &Path, repack: bool) -> Result<*mut sys::llama_model> {
    let name = CString::new(path.to_string_lossy().as_bytes())?;
    // SAFETY: parameters come from the library's own defaults, and the name ends with a zero.
    let model = unsafe {
        let mut params = sys::llama_model_default_params();
        params.use_extra_bufts = repack;
        sys::llama_model_load_from_file(name.as_ptr(), params)
    };
    ensure!(!model.is_null(), "llama.cpp cannot load it");
    Ok(model)
}

fn context_params(tokens: usize, sequences: usize, threads: usize) -> sys::llama_context_params {
    // SAFETY: the library's own defaults.
    let mut params = unsafe { sys::llama_context_default_params() };
    params.n_ctx = tokens as u32;
    params.n_batch = BATCH as u32;
    params.n_ubatch = BATCH as u32;
    params.n_seq_max = sequences as u32;
    params.n_threads = threads as i32;
    params.n_threads_batch = threads as i32;
    params
}

pub fn measure(job: &Job, repack: bool) -> Result<Vec<Measured>> {
    job.run(&mut Llama::open(job, repack)?)
}

impl Llama {
    fn open(job: &Job, repack: bool) -> Result<Llama> {
        let room = job.n_depth + job.n_prompt.max(job.n_gen);
        // SAFETY: both are for any time.
        unsafe {
            sys::llama_log_set(Some(silent), std::ptr::null_mut());
            sys::llama_backend_init();
        }
        let model = load(&job.model, repack)?;
        let mut params = context_params(job.batch * room.next_multiple_of(256), job.batch, job.threads);
        params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_ENABLED;
        Llama::with(model, params)
    }

    fn with(model: *mut sys::llama_model, params: sys::llama_context_params) -> Result<Llama> {
        // SAFETY: the model is alive; pointers are checked before they are used and freed once, in `drop`.
        unsafe {
            let context = sys::llama_init_from_model(model, params);
            ensure!(!context.is_null(), "llama.cpp has no room for {} tokens", params.n_ctx);
            let batch = sys::llama_batch_init(BATCH as i32, 0, 1);
            let vocab = sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(model)) as usize;
            Ok(Llama { model, context, batch, vocab, lengths: vec![0; params.n_seq_max as usize] })
        }
    }

    fn add(&mut self, sequence: usize, output: bool) {
        self.push(token(self.lengths[sequence], self.vocab), sequence, output);
    }

    fn push(&mut self, token: u32, sequence: usize, output: bool) {
        let (i, position) = (self.batch.n_tokens as usize, self.lengths[sequence]);
        assert!(i < BATCH);
        // SAFETY: the batch was made for BATCH tokens of one sequence each, and i is below that.
        unsafe {
            *self.batch.token.add(i) = token as i32;
            *self.batch.pos.add(i) = position as i32;
            *self.batch.n_seq_id.add(i) = 1;
            **self.batch.seq_id.add(i) = sequence as i32;
            *self.batch.logits.add(i) = output as i8;
        }
        self.batch.n_tokens += 1;
        self.lengths[sequence] += 1;
    }

    fn forward(&mut self) -> Result<()> {
        // SAFETY: context and batch are alive; llama_decode reads n_tokens of the batch.
        let code = unsafe { sys::llama_decode(self.context, self.batch) };
        // SAFETY: as above.
        unsafe { sys::llama_synchronize(self.context) };
        self.batch.n_tokens = 0;
        ensure!(code == 0, "llama_decode returned {code}");
        Ok(())
    }
}

impl Peer for Llama {
    fn clear(&mut self) -> Result<()> {
        self.lengths.fill(0);
        // SAFETY: the context is alive.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.context), true) };
        Ok(())
    }

    fn prefill(&mut self, sequence: usize, count: usize) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let some = left.min(BATCH);
            left -= some;
            (0..some).for_each(|i| self.add(sequence, left == 0 && i + 1 == some));
            self.forward()?;
        }
        Ok(())
    }

    fn decode(&mut self, sequences: usize, count: usize) -> Result<()> {
        for _ in 0..count {
            (0..sequences).for_each(|s| self.add(s, true));
            self.forward()?;
        }
        Ok(())
    }
}

impl Drop for Llama {
    fn drop(&mut self) {
        // SAFETY: made in `open`, freed nowhere else.
        unsafe {
            sys::llama_batch_free(self.batch);
            sys::llama_free(self.context);
            sys::llama_model_free(self.model);
        }
    }
}
