"""Writes the trained weights and the tokenizer as one GGUF file: `llama`, Q8_0 matrices, F32 norms, tied head.

    python export_gguf.py --weights build/model.pt --tokenizer build/tokenizer.json --out assets/influence-tiny.gguf
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NAMES = {"attn_norm": "attn_norm", "ffn_norm": "ffn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
         "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}


def interleave(w, heads):
    """Rows of each head from (first half, second half) to pairs: GGUF's llama rotates neighbours."""
    rows, cols = w.shape
    return w.reshape(heads, 2, rows // heads // 2, cols).swapaxes(1, 2).reshape(rows, cols)


def tensors(weights, config):
    """(GGUF name, float32 array) of every tensor."""
    for name, value in weights.items():
        w = value.numpy().astype(np.float32)
        if name == "embed.weight":
            yield "token_embd.weight", w
        elif name == "norm.weight":
            yield "output_norm.weight", w
        else:
            _, block, part, _ = name.split(".")
            if part in ("q", "k"):
                w = interleave(w, config["n_heads"] if part == "q" else config["n_kv_heads"])
            yield f"blk.{block}.{NAMES[part]}.weight", w


def add_hyperparameters(out, c):
    """What the file says about the model, besides the vocabulary."""
    out.add_name("influence-tiny")
    out.add_description("A very small model that tells short stories and answers questions about influence.")
    out.add_license("MIT OR Apache-2.0")
    out.add_languages(["en"])
    out.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    out.add_quantization_version(gguf.GGML_QUANT_VERSION)
    out.add_vocab_size(c["vocab"])
    out.add_context_length(c["context"])
    out.add_embedding_length(c["dim"])
    out.add_block_count(c["n_layers"])
    out.add_feed_forward_length(c["hidden"])
    out.add_head_count(c["n_heads"])
    out.add_head_count_kv(c["n_kv_heads"])
    out.add_rope_dimension_count(c["dim"] // c["n_heads"])
    out.add_rope_freq_base(c["rope_theta"])
    out.add_layer_norm_rms_eps(c["norm_eps"])


def add_tokenizer(out, path):
    """Byte-level BPE. Two tokens end a text: <|im_end|> (eos, after an answer) and <|endoftext|> (eot, after a document)."""
    model = json.loads(path.read_text(encoding="utf-8"))
    vocab = sorted(model["model"]["vocab"].items(), key=lambda kv: kv[1])
    special = {t["id"] for t in model["added_tokens"]}
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["model"]["merges"]]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list([t for t, _ in vocab])
    out.add_token_types([gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for _, i in vocab])
    out.add_token_merges(merges)
    ids = dict(vocab)
    out.add_bos_token_id(ids["<|endoftext|>"])
    out.add_eos_token_id(ids["<|im_end|>"])
    out.add_eot_token_id(ids["<|endoftext|>"])
    out.add_pad_token_id(ids["<|endoftext|>"])
    out.add_add_bos_token(False)
    out.add_chat_template(TEMPLATE)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--weights", type=Path, default=Path("build/model.pt"))
    ap.add_argument("--tokenizer", type=Path, default=Path("build/tokenizer.json"))
    ap.add_argument("--out", type=Path, default=Path("build/influence-tiny.gguf"))
    args = ap.parse_args()
    saved = torch.load(args.weights)
    out = gguf.GGUFWriter(args.out, "llama")
    add_hyperparameters(out, saved["config"])
    add_tokenizer(out, args.tokenizer)
    for name, w in tensors(saved["weights"], saved["config"]):
        if w.ndim == 1:
            out.add_tensor(name, w)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            out.add_tensor(name, gguf.quants.quantize(w, kind), raw_dtype=kind)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    print(f"{args.out}: {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
