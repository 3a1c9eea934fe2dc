//! What is in a model file: GGUF and safetensors, memory-mapped.
