//! Requests in, tokens out: scheduler, KV blocks, sampler.
