"""Writes llama2c/*.bin and llama2c/q8.inc beside this script by llama2.c's own export.py: what tests/unit/test_llama2c.c reads.
Weights are (hash & 255) / 64 - 2 of the counter-based generator that the test repeats; stream = 100 * layer + place in NAMES.
q8.inc: FNV-1a of the fp32 bits that the int8 tensors of version 2 stand for, by torch.
Usage: python3 llama2c.py FOLDER_OF_LLAMA2.C (torch; export.py and model.py of https://github.com/karpathy/llama2.c)"""
import os
import sys
from types import SimpleNamespace as Space
import torch

sys.path.insert(0, sys.argv[1])
import export

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "llama2c")
MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
DIM, HIDDEN, LAYERS, HEADS, KV, VOCAB, CONTEXT = 8, 12, 2, 2, 1, 6, 4
NAMES = "tok_embd attn_norm attn_q attn_k attn_v attn_o ffn_norm ffn_gate ffn_down ffn_up output_norm output".split()


def mix(z):
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def make(name, layer, *shape):
    start = mix(100 * layer + NAMES.index(name) + GOLDEN)
    n = torch.Size(shape).numel()
    return Space(weight=torch.tensor([(mix(start + i * GOLDEN & MASK) & 255) / 64 - 2 for i in range(n)]).reshape(shape))


def model():
    kv = DIM // HEADS * KV
    layers = [Space(attention_norm=make("attn_norm", n, DIM), ffn_norm=make("ffn_norm", n, DIM),
                    attention=Space(wq=make("attn_q", n, DIM, DIM), wk=make("attn_k", n, kv, DIM), wv=make("attn_v", n, kv, DIM),
                                    wo=make("attn_o", n, DIM, DIM)),
                    feed_forward=Space(w1=make("ffn_gate", n, HIDDEN, DIM), w2=make("ffn_down", n, DIM, HIDDEN),
                                       w3=make("ffn_up", n, HIDDEN, DIM))) for n in range(LAYERS)]
    params = Space(dim=DIM, n_layers=LAYERS, n_heads=HEADS, n_kv_heads=KV, vocab_size=VOCAB, max_seq_len=CONTEXT)
    table = torch.full((CONTEXT, DIM // HEADS // 2), 77.0)
    return Space(params=params, layers=layers, tok_embeddings=make("tok_embd", 0, VOCAB, DIM), norm=make("output_norm", 0, DIM), freqs_cos=table, freqs_sin=table,
                 output=make("output", 0, VOCAB, DIM))


def fnv1a(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = (h ^ b) * 0x100000001B3 & MASK
    return h


def meant(w, group):
    q, scale, _ = export.quantize_q80(w, group)
    return (q.float() * scale[:, None]).reshape(-1)


os.makedirs(here, exist_ok=True)
path = lambda name: os.path.join(here, name)
export.legacy_export(model(), path("legacy.bin"))
export.version1_export(model(), path("v1.bin"))
export.version2_export(model(), path("v2.bin"))
with open(path("q8.inc"), "w") as f:
    m = model()
    tensors = {"tok_embd": m.tok_embeddings, "output": m.output}
    for n, layer in enumerate(m.layers):
        a, ff = layer.attention, layer.feed_forward
        tensors |= {f"blk.{n}.attn_q": a.wq, f"blk.{n}.attn_k": a.wk, f"blk.{n}.attn_v": a.wv, f"blk.{n}.attn_o": a.wo,
                    f"blk.{n}.ffn_gate": ff.w1, f"blk.{n}.ffn_down": ff.w2, f"blk.{n}.ffn_up": ff.w3}
    for name, t in tensors.items():
        f.write(f'{{"{name}", 0x{fnv1a(meant(t.weight, DIM).numpy().tobytes()):016x}}},\n')
