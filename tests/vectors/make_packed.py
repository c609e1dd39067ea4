"""Makes tests/vectors/packed/: matrices as other programs pack them, packed by those programs.
usage: python3 make_packed.py (numpy, torch, h5py, safetensors; auto-gptq 0.7.1, autoawq 0.2.9, compressed-tensors 0.20.0 unpacked
somewhere on the path; made with torch 2.15.0). Of auto-gptq and autoawq single files are loaded, since the packages want CUDA.

layouts/, layouts_v2/  16..32 x 64 matrices of known codes (test_packed.c computes them again): code (37 i + 11 j + i j) mod 2^bits,
                       zero 1 + (5 i + 3 g) mod (2^bits - 1) (never 0, which auto-gptq cannot store; a symmetric one: 2^(bits-1)), scale (1 + (5 i + 3 g) mod 17) / 64, groups of 16
demo/                  matrices of datasets/demo.h5: blk.0.attn_k by auto-gptq's GPTQ on random inputs, blk.0.attn_v the same with a
                       Hessian of nothing but the damping, blk.3.attn_k without even that, blk.1.attn_k AWQ-packed behind a norm divided by a scale, blk.2.attn_k and
                       attn_v by compressed-tensors (symmetric, asymmetric)"""
import importlib.util
import json
import os
import sys
import types
import h5py
import numpy as np
import torch
from safetensors.torch import save_file

here = os.path.dirname(os.path.abspath(__file__))


def load(package, path, name, stubs=()):
    for stub, members in stubs:
        module = types.ModuleType(stub)
        module.__dict__.update(members)
        sys.modules[stub] = module
    root = importlib.util.find_spec(package).submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location(name, os.path.join(root, path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


qlinear = load("auto_gptq", "nn_modules/qlinear/qlinear_cuda.py", "qlinear_cuda")
load("auto_gptq", "quantization/quantizer.py", "gptq_files.quantizer", [("gptq_files", {"__path__": []})])
gptq = load("auto_gptq", "quantization/gptq.py", "gptq_files.gptq")
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32


def known(rows, cols, bits, group, sym):
    i = torch.arange(rows)[:, None]
    j = torch.arange(cols)[None]
    g = torch.arange(cols // group)[None]
    codes = (37 * i + 11 * j + i * j) % 2**bits
    zero = torch.full((rows, cols // group), 2 ** (bits - 1)) if sym else 1 + (5 * i + 3 * g) % (2**bits - 1)
    return codes, zero, (1 + (5 * i + 3 * g) % 17).float() / 64


def linear(w):
    l = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
    l.weight.data = w.clone()
    return l


def as_gptq(w, bits, group, scale, zero, g_idx=None):
    """auto-gptq's own packing; w lies on the grid."""
    q = qlinear.QuantLinear(bits, group, w.shape[1], w.shape[0], False, weight_dtype=torch.float32)
    g_idx = torch.arange(w.shape[1], dtype=torch.int32) // group if g_idx is None else g_idx
    q.pack(linear(w), scale.clone(), zero.float().clone(), g_idx)
    return {"qweight": q.qweight, "qzeros": q.qzeros, "scales": scale.t().half().contiguous(), "g_idx": q.g_idx.int()}


def as_awq(w, group, scale, zero):
    source = open(os.path.join(importlib.util.find_spec("awq").submodule_search_locations[0], "modules/linear/gemm.py")).read()
    space = {"torch": torch, "nn": torch.nn, "warnings": None, "Function": object, "get_best_device": lambda: "cpu"}
    exec(source[source.index("class WQLinear_GEMM"):], space)
    q = space["WQLinear_GEMM"].from_linear(linear(w), 4, group, scales=scale.t().contiguous(), zeros=zero.t().contiguous().float())
    return {"qweight": q.qweight, "qzeros": q.qzeros, "scales": q.scales}


def as_compressed(codes, bits, scale, zero=None):
    middle = 2 ** (bits - 1)
    out = {"weight_packed": pack_to_int32((codes - middle).to(torch.int8), bits), "weight_scale": scale.bfloat16(),
           "weight_shape": torch.tensor(codes.shape)}
    if zero is not None:
        out["weight_zero_point"] = pack_to_int32((zero - middle).to(torch.int8), bits, packed_dim=0)
    return out


def save(folder, tensors, config):
    folder = os.path.join(here, "packed", folder)
    os.makedirs(folder, exist_ok=True)
    flat = {f"{base}.{leaf}" if leaf else base: t.contiguous() for base, parts in tensors.items() for leaf, t in parts.items()}
    save_file(flat, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    json.dump(config, open(os.path.join(folder, "config.json"), "w"), indent=1)


def expand(zero, scale, group):
    return zero.repeat_interleave(group, 1), scale.repeat_interleave(group, 1)


layouts = {}
for bits in (2, 3, 4, 8):
    codes, zero, scale = known(32, 64, bits, 16, False)
    z, s = expand(zero, scale, 16)
    layouts[f"gptq{bits}"] = as_gptq(s * (codes - z), bits, 16, scale, zero)
# act order: column j belongs to group (j mod 4)
codes, zero, scale = known(32, 64, 4, 16, False)
g_idx = (torch.arange(64) % 4).int()
layouts["gptq_order"] = as_gptq(scale[:, g_idx.long()] * (codes - zero[:, g_idx.long()]), 4, 16, scale, zero, g_idx)
z, s = expand(zero, scale, 16)
layouts["awq"] = as_awq(s * (codes - z), 16, scale, zero)
for bits in (3, 4, 8):
    codes, zero, scale = known(32, 64, bits, 16, False)
    layouts[f"compressed{bits}"] = as_compressed(codes, bits, scale, zero)
codes, _, scale = known(32, 64, 4, 16, True)
layouts["compressed_sym"] = as_compressed(codes, 4, scale)
save("layouts", layouts, {"model_type": "none"})
# version 2 stores the zero itself: auto-gptq, which takes 1 away, is given one more
codes, zero, scale = known(32, 64, 4, 16, False)
z, s = expand(zero, scale, 16)
v2 = as_gptq(s * (codes - z), 4, 16, scale, zero)
v2["qzeros"] = as_gptq(s * (codes - z - 1), 4, 16, scale, zero + 1)["qzeros"]
save("layouts_v2", {"gptq_v2": v2}, {"model_type": "none", "quantization_config": {"checkpoint_format": "gptq_v2"}})

# ---- matrices of the demo model
torch.manual_seed(7)
model = h5py.File(os.path.join(here, "..", "..", "datasets", "demo.h5"), "r")["model"]


def weight(name):
    node = model[name] if name in model else model["tensors"][name]
    raw = node[()]
    if raw.dtype == np.uint16:
        raw = (raw.astype(np.uint32) << 16).view(np.float32)
    return torch.tensor(raw.astype(np.float32))


def by_gptq(w, group, inputs, damping=1e-6):
    g = gptq.GPTQ(linear(w))
    g.quantizer.configure(4, perchannel=True, sym=False, mse=False)
    if inputs is None:
        g.H, g.nsamples = torch.eye(w.shape[1]) * damping, 1  # calibration saw nothing
    else:
        g.add_batch(inputs, None)
    scale, zero, g_idx = g.fasterquant(group_size=group, actorder=False, percdamp=0.01)
    return as_gptq(g.layer.weight.data, 4, group, scale, zero, g_idx.int())


torch.cuda.synchronize = lambda *a: None
mix = torch.randn(128, 128) * torch.linspace(0.05, 3, 128)
inputs = torch.randn(1, 512, 128) @ mix
demo = {}
demo["model.layers.0.self_attn.k_proj"] = by_gptq(weight("blk.0.attn_k"), 64, inputs)
demo["model.layers.0.self_attn.v_proj"] = by_gptq(weight("blk.0.attn_v"), 64, None)

# without any damping every input counts as dead, and auto-gptq clears the matrix
demo["model.layers.3.self_attn.k_proj"] = by_gptq(weight("blk.3.attn_k"), 64, None, 0)


def rtn(w, group, bits=4, sym=False):
    x = w.reshape(w.shape[0], -1, group)
    lo, hi = x.amin(2).clamp(max=0), x.amax(2).clamp(min=0)
    if sym:
        scale = (2 * torch.maximum(-lo, hi) / (2**bits - 1)).bfloat16().float()
        zero = torch.full_like(scale, 2 ** (bits - 1))
    else:
        scale = ((hi - lo) / (2**bits - 1)).half().float()
        zero = torch.round(-lo / scale)
    codes = (torch.round(x / scale[..., None]) + zero[..., None]).clamp(0, 2**bits - 1)
    return codes.reshape(w.shape).long(), zero.long(), scale


# AWQ: columns multiplied by s, the norm before them divided by it
s = torch.exp2((torch.arange(128) % 5 - 2).float())
w = weight("blk.1.attn_k") * s
codes, zero, scale = rtn(w, 64)
z, sc = expand(zero, scale, 64)
demo["model.layers.1.self_attn.k_proj"] = as_awq(sc * (codes - z), 64, scale, zero)
demo["model.layers.1.input_layernorm.weight"] = {"": weight("blk.1.attn_norm") / s}
codes, zero, scale = rtn(weight("blk.2.attn_k"), 64, sym=True)
demo["model.layers.2.self_attn.k_proj"] = as_compressed(codes, 4, scale)
codes, zero, scale = rtn(weight("blk.2.attn_v"), 64)
scale = scale.bfloat16().float()
demo["model.layers.2.self_attn.v_proj"] = as_compressed(codes, 4, scale, zero)
save("demo", demo, {"model_type": "llama", "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 64}})
