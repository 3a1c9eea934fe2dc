"""Writes GGUF files of real shapes with random weights, for measuring speed.

The speed of a matrix product does not depend on what is in the matrix, so nothing has to be downloaded
and nobody's licence is in the way. Metadata, tensor names and the mix of types are those that llama.cpp
writes for the real model; scales are such that activations stay of sane size. Output is nonsense.

    python3 tools/synthetic/make.py                          # everything, into the system's temp folder
    python3 tools/synthetic/make.py -m llama-1b -q q4_0 q8_0 -o DIR

Needs numpy and gguf (PyPI). One tensor at a time is in memory.
"""

import argparse
import itertools
import string
import tempfile
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q


@dataclass(frozen=True)
class Shape:
    """What a model measures; the names are GGUF's."""

    arch: str
    name: str
    layers: int
    dim: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    theta: float
    eps: float
    pre: str
    qk_norm: bool = False
    rope_freqs: bool = False
    # Of a mixture of experts: how many, and how many a token uses; `ffn` is the width of one.
    experts: int = 0
    top_k: int = 0


SHAPES = {
    "llama-1b": Shape("llama", "Llama-3.2-1B", 16, 2048, 8192, 32, 8, 64, 128256, 131072, 5e5, 1e-5,
                      "llama-bpe", rope_freqs=True),
    "qwen3-0.6b": Shape("qwen3", "Qwen3-0.6B", 28, 1024, 3072, 16, 8, 128, 151936, 40960, 1e6, 1e-6,
                        "qwen2", qk_norm=True),
    "granite-1b-a400m": Shape("granitemoe", "Granite-3.1-1B-A400M", 24, 1024, 512, 16, 8, 64, 49155, 131072, 1.5e6, 1e-6,
                              "refact", experts=32, top_k=8),
    "smollm2-135m": Shape("llama", "SmolLM2-135M", 30, 576, 1536, 9, 3, 64, 49152, 8192, 1e5, 1e-5, "smollm"),
}

# Name of a mixture: type of the matrices, of every "more bits" one, of the output (here: embedding).
MIXES = {
    "q4_0": (Q.Q4_0, Q.Q4_0, Q.Q6_K, gguf.LlamaFileType.MOSTLY_Q4_0),
    "q4_k_m": (Q.Q4_K, Q.Q6_K, Q.Q6_K, gguf.LlamaFileType.MOSTLY_Q4_K_M),
    "q8_0": (Q.Q8_0, Q.Q8_0, Q.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "bf16": (Q.BF16, Q.BF16, Q.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "f32": (Q.F32, Q.F32, Q.F32, gguf.LlamaFileType.ALL_F32),
}

# What llama.cpp takes instead where a row is not of whole blocks of 256.
FALLBACK = {Q.Q4_K: Q.Q5_0, Q.Q6_K: Q.Q8_0}


def tensors(shape: Shape, mix: str):
    """(name, [out, in], type) in the order of the file."""
    base, more, output, _ = MIXES[mix]
    q_dim, kv_dim, n = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim, shape.layers
    yield "token_embd.weight", [shape.vocab, shape.dim], output
    if shape.rope_freqs:
        yield "rope_freqs.weight", [shape.head_dim // 2], Q.F32
    for i in range(n):
        # llama.cpp gives these layers' values and down projections more bits.
        some = more if i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2 else base
        blk = f"blk.{i}."
        yield blk + "attn_norm.weight", [shape.dim], Q.F32
        yield blk + "attn_q.weight", [q_dim, shape.dim], base
        yield blk + "attn_k.weight", [kv_dim, shape.dim], base
        yield blk + "attn_v.weight", [kv_dim, shape.dim], some
        if shape.qk_norm:
            yield blk + "attn_q_norm.weight", [shape.head_dim], Q.F32
            yield blk + "attn_k_norm.weight", [shape.head_dim], Q.F32
        yield blk + "attn_output.weight", [shape.dim, q_dim], base
        yield blk + "ffn_norm.weight", [shape.dim], Q.F32
        if shape.experts:
            yield blk + "ffn_gate_inp.weight", [shape.experts, shape.dim], Q.F32
            yield blk + "ffn_gate_exps.weight", [shape.experts, shape.ffn, shape.dim], base
            yield blk + "ffn_up_exps.weight", [shape.experts, shape.ffn, shape.dim], base
            yield blk + "ffn_down_exps.weight", [shape.experts, shape.dim, shape.ffn], some
            continue
        yield blk + "ffn_gate.weight", [shape.ffn, shape.dim], base
        yield blk + "ffn_up.weight", [shape.ffn, shape.dim], base
        yield blk + "ffn_down.weight", [shape.dim, shape.ffn], some
    yield "output_norm.weight", [shape.dim], Q.F32


def fitting(dims: list, kind: Q) -> Q:
    """The type that llama.cpp would use for rows of this width."""
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    return kind if dims[-1] % block == 0 else FALLBACK[kind]


def scales(count: int, size: float) -> np.ndarray:
    """The same f16 for every block, as bytes `[count, 2]`."""
    return np.full((count, 1), size, dtype=np.float16).view(np.uint8)


def blocks(rng: np.random.Generator, kind: Q, count: int, size: float) -> np.ndarray:
    """`count` random blocks whose numbers have a standard deviation of about `size`: `[count, bytes]`."""
    raw = lambda n: np.frombuffer(rng.bytes(count * n), dtype=np.uint8).reshape(count, n)
    uniform = {Q.Q4_0: 4.6, Q.Q5_0: 9.2, Q.Q8_0: 73.9}
    if kind in uniform:
        _, length = gguf.GGML_QUANT_SIZES[kind]
        return np.hstack([scales(count, size / uniform[kind]), raw(length - 2)])
    if kind == Q.Q4_K:
        # Every minimum equals its scale, and dmin is 7.5 d: sixteen values around zero.
        low, high = raw(4), raw(4) & 0x0F
        d = size / (36.7 * 4.6)
        return np.hstack([scales(count, d), scales(count, 7.5 * d), low, low, high * 0x11, raw(128)])
    if kind == Q.Q6_K:
        return np.hstack([raw(128 + 64 + 16), scales(count, size / (73.9 * 18.5))])
    raise ValueError(f"no random blocks of {kind.name}")


def weights(rng: np.random.Generator, name: str, dims: list, kind: Q) -> np.ndarray:
    """The bytes of one tensor: `[out, bytes of a row]`, or f32 as such."""
    if name == "rope_freqs.weight":
        return np.ones(dims, dtype=np.float32)
    if len(dims) == 1:
        return np.ones(dims, dtype=np.float32)
    size = 1.0 / np.sqrt(dims[-1])
    count = int(np.prod(dims))
    exponent = 127 + int(np.floor(np.log2(size)))
    if kind == Q.F32:
        bits = np.frombuffer(rng.bytes(4 * count), dtype=np.uint32)
        return ((bits & 0x807FFFFF) | exponent << 23).view(np.float32).reshape(dims)
    if kind == Q.BF16:
        bits = np.frombuffer(rng.bytes(2 * count), dtype=np.uint16)
        return ((bits & 0x807F) | exponent << 7).view(np.uint8).reshape(*dims[:-1], -1)
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    return blocks(rng, kind, count // block, size).reshape(*dims[:-1], -1)


def letters(count: int):
    """Tokens of two, three, four letters with the merge that makes each."""
    abc = string.ascii_lowercase
    for length in (2, 3, 4):
        for word in itertools.product(abc, repeat=length):
            if count == 0:
                return
            count -= 1
            text = "".join(word)
            cut = 1 if length == 2 else 2
            yield text, f"{text[:cut]} {text[cut:]}"


def byte_tokens() -> list:
    """The 256 characters that GPT-2's byte-level tokenizers stand bytes for."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = itertools.count(256)
    return [chr(b) if b in shown else chr(next(spare)) for b in range(256)]


def vocabulary(w: gguf.GGUFWriter, shape: Shape):
    """A byte-level tokenizer of the right size: bytes, letters, two control tokens at the end."""
    control = ["<|begin_of_text|>", "<|end_of_text|>"]
    words = list(letters(shape.vocab - 256 - len(control)))
    tokens = byte_tokens() + [text for text, _ in words] + control
    types = [gguf.TokenType.NORMAL] * (shape.vocab - len(control)) + [gguf.TokenType.CONTROL] * len(control)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(shape.pre)
    w.add_token_list(tokens)
    w.add_token_types(types)
    w.add_token_merges([merge for _, merge in words])
    w.add_bos_token_id(shape.vocab - 2)
    w.add_eos_token_id(shape.vocab - 1)
    w.add_add_bos_token(shape.pre == "llama-bpe")


def metadata(w: gguf.GGUFWriter, shape: Shape, mix: str):
    w.add_name(f"{shape.name} (random weights)")
    w.add_block_count(shape.layers)
    w.add_context_length(shape.context)
    w.add_embedding_length(shape.dim)
    w.add_feed_forward_length(shape.ffn)
    w.add_head_count(shape.heads)
    w.add_head_count_kv(shape.kv_heads)
    w.add_key_length(shape.head_dim)
    w.add_value_length(shape.head_dim)
    w.add_rope_freq_base(shape.theta)
    if not shape.qk_norm:
        w.add_rope_dimension_count(shape.head_dim)
    w.add_layer_norm_rms_eps(shape.eps)
    w.add_vocab_size(shape.vocab)
    if shape.experts:
        w.add_expert_count(shape.experts)
        w.add_expert_used_count(shape.top_k)
        # The model's own multipliers.
        w.add_embedding_scale(12.0)
        w.add_attention_scale(1 / 64)
        w.add_residual_scale(0.22)
        w.add_logit_scale(6.0)
    w.add_file_type(MIXES[mix][3])
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    vocabulary(w, shape)


def announce(w: gguf.GGUFWriter, name: str, dims: list, kind: Q):
    """Enters a tensor in the header."""
    if kind == Q.F32:
        return w.add_tensor_info(name, dims, np.dtype(np.float32), int(np.prod(dims)) * 4)
    block, length = gguf.GGML_QUANT_SIZES[kind]
    width = dims[-1] // block * length
    w.add_tensor_info(name, [*dims[:-1], width], np.dtype(np.uint8), int(np.prod(dims[:-1])) * width, raw_dtype=kind)


def write(path: Path, shape: Shape, mix: str):
    rng = np.random.default_rng(1)
    listed = [(name, dims, fitting(dims, kind)) for name, dims, kind in tensors(shape, mix)]
    part = path.with_suffix(".part")
    w = gguf.GGUFWriter(part, shape.arch)
    metadata(w, shape, mix)
    for tensor in listed:
        announce(w, *tensor)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    for name, dims, kind in listed:
        w.write_tensor_data(weights(rng, name, dims, kind))
    w.close()
    part.rename(path)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-m", "--model", nargs="+", choices=SHAPES, default=list(SHAPES))
    p.add_argument("-q", "--quant", nargs="+", choices=MIXES, default=list(MIXES))
    p.add_argument("-o", "--output", type=Path, default=Path(tempfile.gettempdir()) / "influence-synthetic")
    args = p.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for model, mix in itertools.product(args.model, args.quant):
        path = args.output / f"{model}-{mix}.gguf"
        if not path.exists():
            write(path, SHAPES[model], mix)
        print(f"{path}  {path.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
