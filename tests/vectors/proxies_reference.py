#!/usr/bin/env python3
"""Proxies of a finished sweep, computed again from its rows with numpy, beside what `ptq proxies` says.

    build/release/ptq proxies proxies --format csv >proxies.csv
    python3 tests/vectors/proxies_reference.py results/proxies/cells.jsonl proxies.csv

One calibration seed and one evaluation text; every row of the file counts (a folder of one configuration). Strata are those in which
paired t-intervals over windows tell half of the pairs apart. Prints both figures of each proxy and the largest difference."""
import csv
import itertools
import json
import math
import sys
from collections import defaultdict

import numpy as np

rows = {}
for line in open(sys.argv[1]):
    row = json.loads(line)
    rows[row["key"]] = row
rows = list(rows.values())
theirs = {r["proxy"]: r for r in csv.DictReader(open(sys.argv[2]))}

setting = lambda r: (r["label"], r["bits"], r["group_size"], r["grid"], r.get("a_bits", 0))
models = [r for r in rows if r["kind"] == "model" and r["status"] == "ok"]
reference = next(np.array(r["nll_windows"]) for r in rows if r["kind"] == "reference")
layers, levels, few = defaultdict(list), defaultdict(list), {}
for r in rows:
    if r["kind"] == "layer":
        layers[setting(r)].append(r)
    elif r["kind"] == "perturbed":
        levels[r["layer"]].append(r["perturbed"]["kl"] / r["perturbed"]["level"])
    elif r["kind"] == "few":
        few[r["form"]] = r["few"]
slope = {k: np.mean(v) for k, v in levels.items()}


def ranks(x):
    x = np.asarray(x)
    s = np.sort(x)
    return np.array([np.mean(np.where(s == v)[0]) for v in x])


rho = lambda a, b: np.corrcoef(ranks(a), ranks(b))[0, 1]


def values(r):
    m = [l["metrics"] for l in layers[setting(r)]]
    get = lambda key: np.array([x[key] for x in m], float)
    geo = lambda key: math.exp(np.mean(np.log(get(key))))
    size = np.array([l["rows"] * l["cols"] for l in layers[setting(r)]], float)
    out = {k: geo(k) for k in ("w_relerr", "out_relerr", "out_relerr_heldout", "out_relerr_heldout_nosink", "out_relerr_tok")}
    out["out_relerr_mean"] = get("out_relerr_heldout").mean()
    out["proxy_loss"] = get("proxy_loss").sum()
    noise = get("w_mse") * size
    out["w_noise"] = noise.sum() / (noise / get("w_relerr")).sum()
    attention = [x["attn_loss"] for x in m if x["attn_loss"] is not None]
    if attention:
        out["attn_loss"] = math.exp(np.mean(np.log(attention)))
    if slope:
        a = np.array([slope[l["layer"]] for l in layers[setting(r)]])
        trace = np.array([l["health"]["trace"] * l["rows"] for l in layers[setting(r)]])
        white = get("w_mse") / get("w_relerr") * trace / (get("proxy_loss") / get("out_relerr"))
        out["lin_w"] = (a * get("w_relerr")).sum()
        out["lin_out"] = (a / white * get("out_relerr_heldout")).sum()
    if r["form"] in few:
        out["kl_few"], out["dnll_few"] = few[r["form"]]["kl"], few[r["form"]]["dnll"]
    out["kl_mean"] = r["metrics"]["kl_mean"]
    return out


T = 1.9693  # t quantile .975 of 255 degrees; windows of the demo sweep
strata = defaultdict(list)
for r in models:
    strata[(r["bits"], r["group_size"], r.get("a_bits", 0))].append(r)
counted = []
for members in strata.values():
    pairs = list(itertools.combinations(members, 2))
    decided = 0
    for a, b in pairs:
        d = np.array(a["nll_windows"]) - np.array(b["nll_windows"])
        decided += abs(d.mean()) > T * d.std(ddof=1) / math.sqrt(len(d))
    if len(members) >= 3 and 2 * decided >= len(pairs):
        counted.append(members)
worst = 0
for name in theirs:
    total = weight = 0
    x, y = [], []
    for members in counted:
        v = [values(r)[name] for r in members]
        loss = [np.mean(np.array(r["nll_windows"]) - reference) for r in members]
        total += (len(v) - 1) * rho(v, loss)
        weight += len(v) - 1
        x += v
        y += loss
    ok = (np.array(x) > 0) & (np.array(y) > 0)
    lx, ly = np.log(np.array(x)[ok]), np.log(np.array(y)[ok])
    line = np.polyfit(lx, ly, 1)
    factor = math.exp(math.sqrt(((ly - np.polyval(line, lx)) ** 2).sum() / (len(lx) - 2)))
    ours = (total / weight, rho(x, y), factor)
    them = tuple(float(theirs[name][k]) for k in ("rho", "rho_pooled", "factor"))
    worst = max(worst, *(abs(a - b) for a, b in zip(ours, them)))
    print(f"{name:28s} rho {ours[0]:.6f} {them[0]:.6f}  pooled {ours[1]:.6f} {them[1]:.6f}  factor {ours[2]:.6f} {them[2]:.6f}")
print(f"largest difference {worst:.2e}")
