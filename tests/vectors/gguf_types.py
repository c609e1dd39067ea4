"""Writes gguf_types.inc and gguf_small.gguf with gguf_small.json beside this script, by the `gguf` package: what
tests/unit/test_gguf.c compares with.
  gguf_types.inc  each type over 1536 values: the FNV-1a hash of the dequantized fp32 bits, and the first and last four.
                  The blocks are bytes of a counter-based generator, which the test repeats (fill below).
  gguf_small.*    a file as the package writes it, and what it holds: metadata, tensors with their values.
Usage: python3 gguf_types.py (numpy, gguf)"""
import json
import os
import numpy as np
import gguf
from gguf.constants import GGMLQuantizationType as Type, GGML_QUANT_SIZES, GGUFValueType as Value
from gguf.quants import dequantize, quantize

here = os.path.dirname(os.path.abspath(__file__))
MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
N_VALUES = 1536

# Where in a block the halves lie: bit 14 is cleared, so that scales are finite and below 2. Doubles get an exponent that fp32 has.
HALVES = {"F16": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
TYPES = ["F32", "F16", "BF16", "F64"] + [t for t in HALVES if t != "F16"]


def mix(z):
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def fill(seed, n):
    """Byte i is the lowest of number i of stream `seed`."""
    start = mix(seed + GOLDEN)
    return np.array([mix(start + i * GOLDEN & MASK) & 255 for i in range(n)], np.uint8)


def fnv1a(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = (h ^ b) * 0x100000001B3 & MASK
    return h


def values(raw, kind):
    # The package leaves F64 to numpy.
    return raw.view("<f8").astype(np.float32) if kind is Type.F64 else dequantize(raw, kind)


def write_types():
    lines = []
    for name in TYPES:
        kind = Type[name]
        block, size = GGML_QUANT_SIZES[kind]
        raw = fill(kind.value, N_VALUES // block * size).reshape(-1, size)
        for at in HALVES.get(name, []):
            raw[:, at + 1] &= 0xBF
        if kind is Type.F64:
            raw[:, 7] = raw[:, 7] & 0x80 | 0x3F
        with np.errstate(all="ignore"):
            bits = values(raw, kind).reshape(-1).astype("<f4").view("<u4")
        assert bits.size == N_VALUES
        some = ", ".join(f"0x{b:08x}" for b in [*bits[:4], *bits[-4:]])
        lines.append(f'{{"{name}", 0x{fnv1a(bits.tobytes()):016x}, {{{some}}}}},')
    with open(os.path.join(here, "gguf_types.inc"), "w") as f:
        f.write("\n".join(lines) + "\n")


PAIRS = [
    ("test.u8", 255, Value.UINT8), ("test.i8", -128, Value.INT8), ("test.u16", 65535, Value.UINT16), ("test.i16", -32768, Value.INT16),
    ("test.u32", 2**32 - 1, Value.UINT32), ("test.i32", -2**31, Value.INT32), ("test.f32", 0.15625, Value.FLOAT32),
    ("test.bool", True, Value.BOOL), ("test.text", "Grüße, 世界 \U0001f600", Value.STRING), ("test.u64", 2**63 - 1, Value.UINT64),
    ("test.i64", -2**63, Value.INT64), ("test.f64", 1e-300, Value.FLOAT64), ("test.empty", "", Value.STRING),
    ("test.texts", ["a", "", "Ġthe", "</s>"], Value.ARRAY), ("test.ints", [3, -1, 7], Value.ARRAY),
    ("test.reals", [0.5, -2.25], Value.ARRAY), ("test.flags", [True, False], Value.ARRAY),
    ("test.nested", [["x", "y z"], ["y"]], Value.ARRAY), ("test.wide", [[1, 2], [3]], Value.ARRAY),
]


def write_small():
    w = gguf.GGUFWriter(os.path.join(here, "gguf_small.gguf"), "llama")
    w.add_custom_alignment(64)
    for key, value, kind in PAIRS:
        w.add_key_value(key, value, kind)
    x = (np.arange(96, dtype=np.float32) - 44) / 8
    tensors = {}
    for name, shape, kind in [("c.rank3", (3, 4, 8), Type.F32), ("a.half", (6, 16), Type.F16), ("b.q8", (3, 32), Type.Q8_0),
                              ("d.q5", (3, 32), Type.Q5_1), ("e.q4", (1, 3, 32), Type.Q4_0), ("f.bf16", (96,), Type.BF16)]:
        raw = quantize(x.reshape(shape), kind)
        tensors[name] = {"type": kind.name, "dim": shape, "values": [float(v) for v in dequantize(raw, kind).reshape(-1)]}
        w.add_tensor(name, raw, raw_dtype=None if kind in (Type.F32, Type.F16) else kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    meta = {"general.architecture": "llama", "general.alignment": 64} | {key: value for key, value, _ in PAIRS}
    with open(os.path.join(here, "gguf_small.json"), "w") as f:
        json.dump({"meta": meta, "tensors": tensors}, f, separators=(",", ":"))
        f.write("\n")


write_types()
write_small()
