//! llama.cpp by its C interface, as llama-bench drives it: flash attention, batches of 512.
//!
//! The raw bindings, since the safe ones do not show `use_extra_bufts`: with it, weights are repacked at load
//! time for one set of kernels, without it another set runs, and which is faster depends on the case.

use std::ffi::{CString, c_char, c_void};

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

pub fn measure(job: &Job, repack: bool) -> Result<Vec<Measured>> {
    job.run(&mut Llama::open(job, repack)?)
}

impl Llama {
    fn open(job: &Job, repack: bool) -> Result<Llama> {
        let path = CString::new(job.model.to_string_lossy().as_bytes())?;
        let room = job.n_depth + job.n_prompt.max(job.n_gen);
        // SAFETY: parameters come from the library's own defaults; pointers are checked before they are used
        // and freed once, in `drop`.
        unsafe {
            sys::llama_log_set(Some(silent), std::ptr::null_mut());
            sys::llama_backend_init();
            let mut params = sys::llama_model_default_params();
            params.use_extra_bufts = repack;
            let model = sys::llama_model_load_from_file(path.as_ptr(), params);
            ensure!(!model.is_null(), "llama.cpp cannot load it");
            let mut params = sys::llama_context_default_params();
            params.n_ctx = (job.batch * room.next_multiple_of(256)) as u32;
            params.n_batch = BATCH as u32;
            params.n_ubatch = BATCH as u32;
            params.n_seq_max = job.batch as u32;
            params.n_threads = job.threads as i32;
            params.n_threads_batch = job.threads as i32;
            params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_ENABLED;
            let context = sys::llama_init_from_model(model, params);
            ensure!(!context.is_null(), "llama.cpp has no room for {} tokens", params.n_ctx);
            let batch = sys::llama_batch_init(BATCH as i32, 0, 1);
            let vocab = sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(model)) as usize;
            Ok(Llama { model, context, batch, vocab, lengths: vec![0; job.batch] })
        }
    }

    fn add(&mut self, sequence: usize, output: bool) {
        let (i, position) = (self.batch.n_tokens as usize, self.lengths[sequence]);
        assert!(i < BATCH);
        // SAFETY: the batch was made for BATCH tokens of one sequence each, and i is below that.
        unsafe {
            *self.batch.token.add(i) = token(position, self.vocab) as i32;
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
