"""Trains the demo model on the facts language (CPU, one thread, about 21 minutes).

Usage: python3 train.py [--out demo] [--steps 11000] ...     (torch, numpy); the defaults are those of datasets/demo.h5
       python3 make_h5.py demo_fp16.npz ../demo.h5

The text is reproducible to the bit; the weights are not expected to be (PyTorch versions and CPUs differ).
Without the curriculum of people (first 50, then 200, 500, all) no facts were learned in 3 million bytes. Copying appears late, in the
last fifth of the schedule.
"""
import argparse
import math
import time
import numpy as np
import torch
import torch.nn.functional as F
from gen import COPY, Rng, World, window
from model import Llama

TRAINING_SEED, PROGRESS_SEED, N_PROGRESS = 1002, 999999, 64


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", default="demo", help="writes OUT_fp16.npz")
    p.add_argument("--steps", type=int, default=11000)
    p.add_argument("--batch", type=int, default=8, help="windows of 256 bytes a step")
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--warm", type=int, default=60, help="steps of linear warm-up; cosine to 2 %% after")
    p.add_argument("--decay", type=float, default=0.1, help="weight decay, matrices only")
    p.add_argument("--curriculum", default="50:700,200:1200,500:2000", help="people:until step, ...")
    p.add_argument("--report", type=int, default=250, help="steps between progress lines")
    p.add_argument("--compile", type=int, default=1, help="0: no torch.compile")
    return p.parse_args()


def batch(world, rng, n, n_people=0):
    windows = [window(world, rng, n_people) for _ in range(n)]
    return torch.tensor(np.array([list(w[0].encode()) for w in windows])), windows


@torch.no_grad()
def progress(model, ids, windows):
    """Bits per byte on held-out windows, share of facts recalled, share of digits copied."""
    nats, hits, total = 0.0, [0, 0], [0, 0]
    for i in range(0, len(windows), 16):
        x = ids[i:i + 16]
        logits, y = model(x[:, :-1]).float(), x[:, 1:]
        nats += F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum").item()
        right = (logits.argmax(-1) == y).numpy()
        for row, w in zip(right, windows[i:i + 16]):
            for attr, begin, end in w[2]:
                total[attr == COPY] += 1
                hits[attr == COPY] += bool(row[begin - 1:end - 1].all())
    return nats / len(windows) / 255 / math.log(2), hits[0] / total[0], hits[1] / total[1]


def main():
    a = options()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    world, rng, model = World(), Rng(TRAINING_SEED), Llama()
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW([dict(params=matrices, weight_decay=a.decay), dict(params=vectors, weight_decay=0)],
                                  lr=a.lr, betas=(0.9, 0.98), eps=1e-8)
    curriculum = [tuple(map(int, c.split(":"))) for c in a.curriculum.split(",") if c]
    held_out, held_windows = batch(world, Rng(PROGRESS_SEED), N_PROGRESS)
    floor = sum(w[1] for w in held_windows) / N_PROGRESS / 255

    def loss(x, y):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x)
        return F.cross_entropy(logits.float().flatten(0, 1), y.flatten())

    loss_fn, start = torch.compile(loss) if a.compile else loss, time.time()
    for step in range(a.steps):
        rate = a.lr * min(1, (step + 1) / a.warm) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / a.steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        n_people = next((people for people, until in curriculum if step < until), 0)
        x, _ = batch(world, rng, a.batch, n_people)
        value = loss_fn(x[:, :-1].contiguous(), x[:, 1:].contiguous())
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % a.report == 0 or step + 1 == a.steps:
            bits, recall, copied = progress(model, held_out, held_windows)
            print(f"step {step + 1}  {time.time() - start:.0f} s  held out {bits:.4f} bits/byte (entropy {floor:.4f})  "
                  f"recall {recall:.3f}  copy {copied:.3f}", flush=True)
    np.savez(a.out + "_fp16.npz", **{k: v.numpy().astype(np.float16) for k, v in model.state_dict().items()})


if __name__ == "__main__":
    main()
