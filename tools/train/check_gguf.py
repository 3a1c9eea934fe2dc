"""Checks the GGUF against the weights it was made from, then lets it write.

    python check_gguf.py --gguf assets/influence-tiny.gguf --weights build/model.pt

The file is read with gguf-py, dequantized and run by a forward written here in numpy after the GGUF convention
(neighbouring rope pairs), so that a wrong permutation, norm or name shows. With --transformers, the same file is
also loaded by transformers, and both the logits and the tokens of the prompts are compared.
"""

import argparse
from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer

from model import Config, Llama

PROMPTS = ["Once upon a time", "<|im_start|>user\nWhat does influence download do?<|im_end|>\n<|im_start|>assistant\n"]
ASKS = ["Once upon a time", "What is influence?", "Who are you?", "What does influence download do?", "How do I search for a model?",
        "What does influence generate do?", "How can I delete a model?", "What does --temperature do?", "What is a token?",
        "What is Rust?", "Hello!", "What is the capital of France?", "Who won the war of 1654?", "Tell me a story about a fox"]


def norm(x, w, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w


def rope(x, theta):
    """x [time, heads, head_dim]; pairs (0, 1), (2, 3), ..."""
    t, _, d = x.shape
    angle = np.arange(t)[:, None] * theta ** (-np.arange(0, d, 2) / d)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b = x[..., 0::2], x[..., 1::2]
    return np.stack((a * cos - b * sin, a * sin + b * cos), -1).reshape(x.shape)


def forward(w, f, ids):
    """Logits [time, vocab] from dequantized tensors `w` and fields `f`."""
    eps, theta = f["llama.attention.layer_norm_rms_epsilon"], f["llama.rope.freq_base"]
    heads, kv = f["llama.attention.head_count"], f["llama.attention.head_count_kv"]
    x, t = w["token_embd.weight"][ids].astype(np.float64), len(ids)
    mask = np.triu(np.full((t, t), -np.inf), 1)
    for i in range(f["llama.block_count"]):
        b = {n: w[f"blk.{i}.{n}.weight"] for n in ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")}
        h = norm(x, b["attn_norm"], eps)
        q = rope((h @ b["attn_q"].T).reshape(t, heads, -1), theta)
        k = rope((h @ b["attn_k"].T).reshape(t, kv, -1), theta).repeat(heads // kv, 1)
        v = (h @ b["attn_v"].T).reshape(t, kv, -1).repeat(heads // kv, 1)
        s = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1]) + mask
        s = np.exp(s - s.max(-1, keepdims=True))
        a = np.einsum("hij,jhd->ihd", s / s.sum(-1, keepdims=True), v)
        x = x + a.reshape(t, -1) @ b["attn_output"].T
        h = norm(x, b["ffn_norm"], eps)
        g = h @ b["ffn_gate"].T
        x = x + (g / (1 + np.exp(-g)) * (h @ b["ffn_up"].T)) @ b["ffn_down"].T
    return norm(x, w["output_norm.weight"], eps) @ w["token_embd.weight"].T


@torch.no_grad()
def write(model, tok, prompt, temperature, seed, limit=300):
    """Continuation of `prompt` until a token that ends it."""
    ids = tok.encode(prompt).ids
    start, rng = len(ids), torch.Generator().manual_seed(seed)
    while len(ids) < model.c.context and len(ids) - start < limit:
        logits = model(torch.tensor([ids]))[0, -1]
        if temperature == 0:
            nxt = int(logits.argmax())
        else:
            best, where = torch.topk(logits / temperature, 40)
            nxt = int(where[torch.multinomial(torch.softmax(best, 0), 1, generator=rng)])
        if nxt in (0, 2):
            break
        ids.append(nxt)
    return tok.decode(ids[start:], skip_special_tokens=False)


def user(text):
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


def compare(label, got, want):
    """Prints how far two logit matrices are from each other, as a share of the spread."""
    print(f"{label}: max difference {np.abs(got - want).max():.5f}, spread {want.max() - want.min():.2f}, "
          f"same best token {np.mean(got.argmax(-1) == want.argmax(-1)):.3f}")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--gguf", type=Path, required=True)
    ap.add_argument("--weights", type=Path, required=True)
    ap.add_argument("--tokenizer", type=Path, default=Path("build/tokenizer.json"))
    ap.add_argument("--transformers", action="store_true")
    args = ap.parse_args()
    torch.set_num_threads(1)
    reader, tok = gguf.GGUFReader(args.gguf), Tokenizer.from_file(str(args.tokenizer))
    fields = {k: v.contents() for k, v in reader.fields.items() if k.startswith("llama.")}
    w = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64) for t in reader.tensors}
    saved = torch.load(args.weights)
    model = Llama(Config(**saved["config"]))
    model.load_state_dict(saved["weights"])
    print(saved["info"])
    for prompt in PROMPTS:
        ids = tok.encode(prompt).ids
        got = forward(w, fields, ids)
        compare("GGUF (numpy) and the trained weights", got, model(torch.tensor([ids]))[0].detach().numpy())
        if args.transformers:
            from transformers import AutoModelForCausalLM, AutoTokenizer
            hf = AutoModelForCausalLM.from_pretrained(args.gguf.parent, gguf_file=args.gguf.name, dtype=torch.float32)
            compare("GGUF (numpy) and GGUF (transformers)", got, hf(torch.tensor([ids])).logits[0].detach().numpy())
            their = AutoTokenizer.from_pretrained(args.gguf.parent, gguf_file=args.gguf.name)
            print("tokens equal:", their(prompt, add_special_tokens=False).input_ids == ids)
    for temperature in (0, 0.8):
        print(f"\n== temperature {temperature}\n\n[raw] Once upon a time{write(model, tok, 'Once upon a time', temperature, 1)}")
        for ask in ASKS:
            print(f"\n> {ask}\n{write(model, tok, user(ask), temperature, 7)}")


if __name__ == "__main__":
    main()
