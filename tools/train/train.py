"""Trains the model on `corpus.npz` for a given wall-clock time: Muon for matrices, AdamW for the rest.

    python train.py --data build --out build/model.pt --minutes 40

The learning rate follows the clock (warm-up, level, straight line to zero), so that a run always ends annealed,
however busy the machine is. The weights before the line begins are kept as OUT.level.pt to go on from (--init).
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from model import Config, Llama


class Muon(torch.optim.Optimizer):
    """Momentum, then the nearest orthogonal matrix by a Newton-Schulz iteration (Jordan et al. 2024), batched by shape."""

    def __init__(self, params, lr=0.02, momentum=0.95, decay=0.02):
        super().__init__(params, dict(lr=lr, momentum=momentum, decay=decay))

    @staticmethod
    def orthogonal(g, steps=5):
        tall = g.shape[-2] > g.shape[-1]
        x = g.mT if tall else g
        x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
        for _ in range(steps):
            a = x @ x.mT
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        return x.mT if tall else x

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for p in group["params"]:
                shapes.setdefault(tuple(p.shape), []).append(p)
            for shape, ps in shapes.items():
                grads = []
                for p in ps:
                    m = self.state[p].setdefault("m", torch.zeros_like(p))
                    m.lerp_(p.grad, 1 - group["momentum"])
                    grads.append(p.grad.lerp(m, group["momentum"]))
                scale = max(1, shape[0] / shape[1]) ** 0.5
                for p, u in zip(ps, self.orthogonal(torch.stack(grads))):
                    p.mul_(1 - group["lr"] * group["decay"]).add_(u, alpha=-group["lr"] * scale)


def loss_of(model, rows):
    """Mean loss in nats per token; filling (an <|endoftext|> after an <|endoftext|>) does not count."""
    x, y = rows[:, :-1], rows[:, 1:].clone()
    y[(x == 0) & (y == 0)] = -100
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=-100)


@torch.no_grad()
def evaluate(model, rows, limit=32):
    """Loss on held-out rows."""
    if len(rows) == 0:
        return float("nan")
    return float(np.mean([loss_of(model, rows[i:i + 8]).item() for i in range(0, min(limit, len(rows)), 8)]))


def level_at(done, warm, fall):
    """Factor of the learning rate at the share `done` of the time."""
    return min(1.0, done / warm, (1 - done) / fall)


def batches(rows, size, seed):
    """Endless shuffled batches of rows."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(rows))
        for i in range(0, len(rows) - size + 1, size):
            yield torch.from_numpy(rows[order[i:i + size]].astype(np.int64))


def threads_for(limit):
    """Threads that pay on a shared machine: all of them only while nobody else computes (Linux's count of runnable tasks)."""
    try:
        running = int(Path("/proc/loadavg").read_text().split()[3].split("/")[0])
    except OSError:
        return limit
    return max(1, min(limit, limit + 1 - running))


def arguments():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", type=Path, default=Path("build"))
    ap.add_argument("--out", type=Path, default=Path("build/model.pt"))
    ap.add_argument("--init", type=Path, help="go on from these weights")
    ap.add_argument("--minutes", type=float, default=40)
    ap.add_argument("--batch", type=int, default=6, help="rows of 512 tokens in a step")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--muon-lr", type=float, default=0.02)
    ap.add_argument("--adam-lr", type=float, default=3e-3)
    ap.add_argument("--fall", type=float, default=0.5, help="share of the time in which the learning rate falls")
    ap.add_argument("--seed", type=int, default=1)
    return ap.parse_args()


def save(model, path, info):
    torch.save({"config": model.c.as_dict(), "weights": model.state_dict(), "info": info}, path)


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    data = np.load(args.data / "corpus.npz")
    held, held_books = (torch.from_numpy(data[k].astype(np.int64)) for k in ("held", "held_books"))
    model = Llama(Config())
    if args.init:
        model.load_state_dict(torch.load(args.init)["weights"])
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
    muon = Muon(matrices, lr=args.muon_lr)
    adam = torch.optim.AdamW(others, lr=args.adam_lr, betas=(0.9, 0.98), weight_decay=0.0)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(data['train'])} rows", flush=True)
    start, tokens, step, kept, mean = None, 0, 0, False, None
    for rows in batches(data["train"], args.batch, args.seed):
        loss = loss_of(model, rows)
        loss.backward()
        start = start or time.time()
        done = min(1.0, (time.time() - start) / (args.minutes * 60))
        factor = max(0.0, level_at(done, 0.01, args.fall)) if step >= 20 else (step + 1) / 20
        if done > 1 - args.fall and not kept:
            save(model, args.out.with_suffix(".level.pt"), {"step": step, "tokens": tokens})
            kept = True
        for opt, rate in ((muon, args.muon_lr), (adam, args.adam_lr)):
            for group in opt.param_groups:
                group["lr"] = rate * factor
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        muon.step()
        adam.step()
        muon.zero_grad()
        adam.zero_grad()
        step, tokens = step + 1, tokens + rows.shape[0] * (rows.shape[1] - 1)
        mean = loss.item() if mean is None or not math.isfinite(mean) else 0.97 * mean + 0.03 * loss.item()
        torch.set_num_threads(threads_for(args.threads))
        if step % 20 == 0 or done >= 1:
            print(f"step {step} done {done:.3f} loss {mean:.4f} tokens/s {tokens / max(1e-9, time.time() - start):.0f}", flush=True)
        if step % 500 == 0 or done >= 1:
            print(f"  held out {evaluate(model, held):.4f}, books {evaluate(model, held_books):.4f}", flush=True)
        if done >= 1:
            break
    info = {"steps": step, "tokens": tokens, "minutes": round((time.time() - start) / 60, 2), "train_loss": round(mean, 4),
            "held_out_loss": round(evaluate(model, held, 200), 4), "held_out_books": round(evaluate(model, held_books, 64), 4)}
    save(model, args.out, info)
    args.out.with_suffix(".json").write_text(json.dumps(info))
    print(json.dumps(info))


if __name__ == "__main__":
    main()
