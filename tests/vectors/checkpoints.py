"""Makes tests/vectors/checkpoints/: small files of the safetensors and torch packages.
Value i of every tensor is ((37 i + seed) mod 101 - 50) / 8, which all float types hold; integers: times 8.
usage: python3 checkpoints.py (torch, safetensors, numpy; made with torch 2.15.0, safetensors 0.8.0)"""
import os
import torch
from safetensors.torch import save_file

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "checkpoints")
os.makedirs(here, exist_ok=True)


def values(seed, *shape):
    n = 1
    for d in shape:
        n *= d
    return ((37 * torch.arange(n, dtype=torch.float64) + seed) % 101 - 50).reshape(shape) / 8


floats = {"f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
integers = {"i64": torch.int64, "i32": torch.int32, "i16": torch.int16, "i8": torch.int8}
plain = {k: values(1, 3, 5).to(t) for k, t in floats.items()}
plain |= {k: (8 * values(2, 2, 3, 2)).to(t) for k, t in integers.items()}
plain |= {"u8": (8 * values(3, 7) + 50).to(torch.uint8), "bool": values(4, 6) > 0, "scalar": values(5)}
save_file(plain, os.path.join(here, "types.safetensors"), metadata={"format": "pt"})

base = values(6, 11, 13).float()
views = {
    "base": base,
    "tied": base,  # the same storage
    "transposed": base.t(),
    "slice": base[2:9, 3:11],
    "transposed_slice": base.t()[3:11, 2:9],
    "column": base[:, 4:5],
    "expanded": base[1:2].expand(3, 13),
    "parameter": torch.nn.Parameter(values(7, 4, 4).half()),
    "swapped": values(8, 2, 3, 4).bfloat16().permute(1, 0, 2),
}
torch.save(
    {"state_dict": plain | views, "config": {"n_heads": 4, "rope": [1.5, None, True]}, "step": -7},
    os.path.join(here, "views.pt"))
torch.save({k: plain[k] for k in ("f32", "i8")}, os.path.join(here, "protocol5.pt"), pickle_protocol=5)
torch.save({"w": base[:2]}, os.path.join(here, "legacy.pt"), _use_new_zipfile_serialization=False)
torch.save(torch.nn.Linear(2, 2), os.path.join(here, "module.pt"))
