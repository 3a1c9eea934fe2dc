"""The model: a plain Llama decoder in a page of PyTorch, with the names and the rope (two halves) of transformers."""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Config:
    """Hyperparameters, all of which the GGUF repeats."""
    vocab: int = 2048
    dim: int = 128
    n_layers: int = 5
    n_heads: int = 4
    n_kv_heads: int = 2
    hidden: int = 384
    context: int = 512
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5

    as_dict = asdict


class Norm(nn.Module):
    """RMSNorm (Zhang and Sennrich 2019)."""

    def __init__(self, dim, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rope(x, cos, sin):
    """Rotates the two halves of each head (Su et al. 2021); x is [batch, heads, time, head_dim]."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Block(nn.Module):
    """Attention with grouped queries, then SwiGLU, each behind a norm and added to the stream."""

    def __init__(self, c):
        super().__init__()
        self.c, self.hd = c, c.dim // c.n_heads
        kv = c.n_kv_heads * self.hd
        self.attn_norm, self.ffn_norm = Norm(c.dim, c.norm_eps), Norm(c.dim, c.norm_eps)
        self.q, self.k, self.v = (nn.Linear(c.dim, n, bias=False) for n in (c.dim, kv, kv))
        self.o = nn.Linear(c.dim, c.dim, bias=False)
        self.gate, self.up = (nn.Linear(c.dim, c.hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(c.hidden, c.dim, bias=False)

    def forward(self, x, cos, sin):
        b, t, d = x.shape
        h = self.attn_norm(x)
        q = self.q(h).view(b, t, -1, self.hd).transpose(1, 2)
        k = self.k(h).view(b, t, -1, self.hd).transpose(1, 2)
        v = self.v(h).view(b, t, -1, self.hd).transpose(1, 2)
        groups = self.c.n_heads // self.c.n_kv_heads
        k, v = rope(k, cos, sin).repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        a = F.scaled_dot_product_attention(rope(q, cos, sin), k, v, is_causal=True)
        x = x + self.o(a.transpose(1, 2).reshape(b, t, d))
        h = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    """Tokens [batch, time] -> logits [batch, time, vocab]; the head is the embedding table (tied)."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embed = nn.Embedding(c.vocab, c.dim)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.n_layers))
        self.norm = Norm(c.dim, c.norm_eps)
        hd = c.dim // c.n_heads
        angle = torch.outer(torch.arange(c.context).float(), c.rope_theta ** (-torch.arange(0, hd, 2).float() / hd))
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        self.init_weights()

    def init_weights(self):
        """Small normal weights; what is added to the stream starts smaller the deeper the model is."""
        for name, p in self.named_parameters():
            if p.dim() == 2:
                deep = name.endswith(("o.weight", "down.weight"))
                nn.init.normal_(p, std=0.02 if "embed" in name else p.shape[1] ** -0.5 * (0.5 / self.c.n_layers ** 0.5 if deep else 0.7))

    def forward(self, ids):
        x = self.embed(ids)
        t = ids.shape[1]
        for block in self.blocks:
            x = block(x, self.cos[:t], self.sin[:t])
        return F.linear(self.norm(x), self.embed.weight)
