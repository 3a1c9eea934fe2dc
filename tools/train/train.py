"""Trains the model on `corpus.npz` for a given wall-clock time: Muon for matrices, AdamW for the rest.

    python train.py --data build --out build/model.pt --minutes 40

The learning rate follows the clock (warm-up, level, straight line to zero), so that a run always ends annealed,
however busy the machine is. The weights before the line begins are kept as OUT.level.pt to go on from (--init).
"""

import argparse
import json
import math
import os
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


def documents(ids):
    """The flat corpus -> list of documents, each ending with its <|endoftext|> (id 0)."""
    return np.split(ids, np.flatnonzero(ids == 0)[:-1] + 1) if len(ids) else []


def padded(docs):
    """Documents -> ids [batch, longest], filled with -1."""
    rows = np.full((len(docs), max(map(len, docs))), -1, dtype=np.int64)
    for row, ids in zip(rows, docs):
        row[: len(ids)] = ids
    return torch.from_numpy(rows)


def grouped(docs, tokens):
    """Documents of like length, about `tokens` ids in a batch: little filling, and nothing to see but one's own document."""
    batch = []
    for ids in sorted(docs, key=len):
        if batch and (len(batch) + 1) * len(ids) > tokens:
            yield padded(batch)
            batch = []
        batch.append(ids)
    if batch:
        yield padded(batch)


def batches(docs, tokens, seed):
    """Endless batches: sorted by length within a few hundred documents, in random order."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(docs))
        for i in range(0, len(order), 512):
            near = list(grouped([docs[j] for j in order[i:i + 512]], tokens))
            rng.shuffle(near)
            yield from near


def loss_of(model, rows):
    """Mean loss in nats per token; filling does not count."""
    return F.cross_entropy(model(rows[:, :-1].clamp(min=0)).flatten(0, 1), rows[:, 1:].flatten(), ignore_index=-1)


@torch.no_grad()
def evaluate(model, docs):
    """Loss per token over held-out documents."""
    total = count = 0
    for rows in grouped(docs, 4096):
        n = int((rows[:, 1:] >= 0).sum())
        total, count = total + loss_of(model, rows).item() * n, count + n
    return total / count if count else float("nan")


def level_at(done, warm, fall):
    """Factor of the learning rate at the share `done` of the time."""
    return min(1.0, done / warm, (1 - done) / fall)


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
    ap.add_argument("--batch", type=int, default=2560, help="tokens in a step")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--muon-lr", type=float, default=0.02)
    ap.add_argument("--adam-lr", type=float, default=3e-3)
    ap.add_argument("--fall", type=float, default=0.5, help="share of the time in which the learning rate falls")
    ap.add_argument("--nice", type=int, default=0, help="give way to other programs (19: as far as possible)")
    ap.add_argument("--seed", type=int, default=1)
    return ap.parse_args()


def save(model, path, info):
    torch.save({"config": model.c.as_dict(), "weights": model.state_dict(), "info": info}, path)


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    data = np.load(args.data / "corpus.npz")
    train, held, held_books = (documents(data[k]) for k in ("train", "held", "held_books"))
    model = Llama(Config())
    if args.init:
        model.load_state_dict(torch.load(args.init)["weights"])
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
    muon = Muon(matrices, lr=args.muon_lr)
    adam = torch.optim.AdamW(others, lr=args.adam_lr, betas=(0.9, 0.98), weight_decay=0.0)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(train)} documents", flush=True)
    os.nice(args.nice)
    start, tokens, step, kept, mean = None, 0, 0, False, None
    for rows in batches(train, args.batch, args.seed):
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
        step, tokens = step + 1, tokens + int((rows[:, 1:] >= 0).sum())
        mean = loss.item() if mean is None or not math.isfinite(mean) else 0.97 * mean + 0.03 * loss.item()
        torch.set_num_threads(threads_for(args.threads))
        if step % 20 == 0 or done >= 1:
            print(f"step {step} done {done:.3f} loss {mean:.4f} tokens/s {tokens / max(1e-9, time.time() - start):.0f}", flush=True)
        if step % 500 == 0 or done >= 1:
            print(f"  held out {evaluate(model, held[:100]):.4f}", flush=True)
        if done >= 1:
            break
    info = {"steps": step, "tokens": tokens, "minutes": round((time.time() - start) / 60, 2), "train_loss": round(mean, 4)}
    save(model, args.out, info)  # before the long look at the held-out text
    info |= {"held_out_loss": round(evaluate(model, held), 4), "held_out_books": round(evaluate(model, held_books), 4)}
    save(model, args.out, info)
    args.out.with_suffix(".json").write_text(json.dumps(info))
    print(json.dumps(info))


if __name__ == "__main__":
    main()
