#!/usr/bin/env python3
"""Reference vectors of the architectures: tests/vectors/arch/*.json (and opt_bin.bin), read by
tests/unit/test_arch.c; of the encoder bert by tests/unit/test_bert.c. Side script: python3 tests/vectors/arch_reference.py [NAME ...]; needs
transformers and torch.

A vector file holds the config.json of a tiny checkpoint, names and shapes of its tensors, token ids,
logits of some positions x vocabulary entries and the mean NLL, by transformers in fp32 with eager
attention; of an encoder last hidden states in place of logits, and their mean over all positions
divided by its norm in place of the NLL. The weights are not stored: value i of tensor `name` is a function of (name, i) that the
test repeats bit for bit (weights() below; the seed is FNV-1a of the name). Their standard deviation
is 0.17 or more, and every feature of a model is switched off once ("moves"): logits must then move
by more than 100 x the tolerance of 2e-4, so that an engine without the feature cannot pass."""
import contextlib
import json
import os
import sys

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, BertModel

TOLERANCE = 2e-4
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "arch")
MASK = (1 << 64) - 1


# ---- weights: splitmix64's finaliser of (seed, counter), as harness/core/rng.h

def mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def fnv1a(name):
    h = 0xCBF29CE484222325
    for c in name.encode():
        h = ((h ^ c) * 0x100000001B3) & MASK
    return h


def weights(name, shape):
    """Uniform on [-a, a) by 24 random bits, in fp32: a = 0.3 (standard deviation 0.173), biases and
    positions the same, gains of norms 1 + that."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    n = int(np.prod(shape))
    with np.errstate(over="ignore"):
        seed = mix(np.array([fnv1a(name)], np.uint64) + golden)
        bits = mix(seed + np.arange(n, dtype=np.uint64) * golden) >> np.uint64(40)
    unit = (bits.astype(np.int64) - (1 << 23)).astype(np.float32) * np.float32(2.0**-23)
    w = unit * np.float32(0.3)
    if is_gain(name, shape):
        w = w + np.float32(1)
    return w.reshape(shape).astype(np.float32)


def is_gain(name, shape):
    """A vector that is no bias: test_arch.c knows gains by the same rule."""
    return len(shape) == 1 and name.endswith(".weight")


# ---- models

VOCAB, LENGTH = 96, 48
LLAMA = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=56, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
             hidden_act="silu", rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)
OPT = dict(model_type="opt", vocab_size=VOCAB, hidden_size=32, ffn_dim=56, num_hidden_layers=2,
           num_attention_heads=4, max_position_embeddings=64, activation_function="relu",
           do_layer_norm_before=True, word_embed_proj_dim=32, bos_token_id=2, eos_token_id=2,
           pad_token_id=1, torch_dtype="float16")

# config.json as checkpoints of the family carry it: the older spelling (rope_theta, rope_scaling)
# and, for mistral, the newer one (rope_parameters).
CONFIGS = {
    "llama": dict(LLAMA, model_type="llama", rope_theta=10000.0, tie_word_embeddings=False),
    "llama3": dict(LLAMA, model_type="llama", head_dim=16, rope_theta=10000.0,
                   tie_word_embeddings=True,
                   rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0,
                                     high_freq_factor=4.0, original_max_position_embeddings=32)),
    "llama_bias": dict(LLAMA, model_type="llama", num_hidden_layers=1, rope_theta=10000.0,
                       attention_bias=True, tie_word_embeddings=False,
                       rope_scaling=dict(type="linear", factor=4.0)),
    "mistral": dict(LLAMA, model_type="mistral", sliding_window=11, tie_word_embeddings=False,
                    rope_parameters=dict(rope_type="default", rope_theta=5000.0)),
    "qwen2": dict(LLAMA, model_type="qwen2", rope_theta=20000.0, tie_word_embeddings=True,
                  rms_norm_eps=1e-6, use_sliding_window=False, sliding_window=13,
                  max_window_layers=1),
    "qwen2_window": dict(LLAMA, model_type="qwen2", rope_theta=20000.0, tie_word_embeddings=False,
                         rms_norm_eps=1e-6, use_sliding_window=True, sliding_window=13,
                         max_window_layers=1, num_hidden_layers=3),
    "qwen3": dict(LLAMA, model_type="qwen3", rope_theta=10000.0, tie_word_embeddings=True,
                  rms_norm_eps=1e-6, head_dim=12, attention_bias=False),
    "opt": dict(OPT),
    "opt_350m": dict(OPT, do_layer_norm_before=False, word_embed_proj_dim=20),
    # n_inner null is 4 d
    "gpt2": dict(model_type="gpt2", vocab_size=VOCAB, n_positions=64, n_ctx=64, n_embd=24, n_layer=2,
                 n_head=3, n_inner=None, activation_function="gelu_new", layer_norm_epsilon=1e-5,
                 bos_token_id=95, eos_token_id=95),
    # three heads: slopes of a number that is no power of two; names as in bloom-560m
    "bloom": dict(model_type="bloom", vocab_size=VOCAB, n_embed=24, n_layer=2,
                  num_attention_heads=3, layer_norm_epsilon=1e-5,
                  apply_residual_connection_post_layernorm=False, seq_length=64, pad_token_id=3),
    "bloom4": dict(model_type="bloom", vocab_size=VOCAB, hidden_size=32, n_layer=1, n_head=4,
                   layer_norm_epsilon=1e-5),
    # three heads of eight; the activation is the exact one
    "bert": dict(model_type="bert", vocab_size=VOCAB, hidden_size=24, intermediate_size=40,
                 num_hidden_layers=2, num_attention_heads=3, max_position_embeddings=64,
                 type_vocab_size=2, hidden_act="gelu", layer_norm_eps=1e-12),
    # a checkpoint as pytorch_model.bin in fp16
    "opt_bin": dict(OPT, vocab_size=48, hidden_size=16, word_embed_proj_dim=16, ffn_dim=24,
                    num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=32),
}


def is_encoder(config):
    return config["model_type"] == "bert"


def build(config, state=None, dtype=torch.float32):
    c = AutoConfig.for_model(**{k: v for k, v in config.items() if k != "torch_dtype"})
    c._attn_implementation = "eager"
    if is_encoder(config):
        m = BertModel(c, add_pooling_layer=False).to(torch.float32)
    else:
        m = AutoModelForCausalLM.from_config(c, attn_implementation="eager").to(torch.float32)
    half = config["vocab_size"] == 48
    with torch.no_grad():
        for name, p in m.named_parameters():
            w = torch.from_numpy(weights(name, tuple(p.shape)))
            p.copy_(w.half().float() if half else w)
        if state:
            for name, p in m.named_parameters():
                state(name, p)
    m.eval()
    return m.to(dtype)


def run(m, ids):
    with torch.no_grad():
        if is_encoder(m.config.to_dict()):
            return m(torch.tensor([ids])).last_hidden_state[0].double().numpy()
        return m(torch.tensor([ids]), use_cache=False).logits[0].double().numpy()


def pooled(hidden):
    mean = hidden.mean(axis=0)
    return mean / np.linalg.norm(mean)


def nll(logits, ids):
    top = logits.max(axis=1, keepdims=True)
    lse = (top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True)))[:, 0]
    return float(np.mean([lse[t - 1] - logits[t - 1, ids[t]] for t in range(1, len(ids))]))


# ---- features off: name -> logits without it

@contextlib.contextmanager
def patched(where, name, value):
    old = getattr(where, name)
    setattr(where, name, value)
    try:
        yield
    finally:
        setattr(where, name, old)


def zero_biases(name, p):
    if name.endswith(".bias") and "norm" not in name.lower() and "ln_" not in name:
        p.zero_()


def zero_norm_biases(name, p):
    if name.endswith(".bias") and ("norm" in name.lower() or "ln_" in name):
        p.zero_()


def changed(config, ids, **over):
    return run(build(dict(config, **over)), ids)


def without_rope(config, ids):
    module = sys.modules[f"transformers.models.{config['model_type']}.modeling_{config['model_type']}"]
    with patched(module, "apply_rotary_pos_emb", lambda q, k, *a, **b: (q, k)):
        return run(build(config), ids)


def interleaved_rope(config, ids):
    """Pairs 2i, 2i + 1 turn instead of i, i + head_dim / 2."""
    module = sys.modules[f"transformers.models.{config['model_type']}.modeling_{config['model_type']}"]

    def turn(x, c, s):
        half = x.shape[-1] // 2
        c, s = c[:, None, :, :half], s[:, None, :, :half]
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack((a * c - b * s, a * s + b * c), -1).flatten(-2)
    with patched(module, "apply_rotary_pos_emb",
                 lambda q, k, c, s, *a, **b: (turn(q, c, s), turn(k, c, s))):
        return run(build(config), ids)


def tiled_heads(config, ids):
    """Query head h reads key head h % n_kv_heads instead of h / group."""
    module = sys.modules[f"transformers.models.{config['model_type']}.modeling_{config['model_type']}"]
    with patched(module, "repeat_kv", lambda x, n: x.repeat(1, n, 1, 1)):
        return run(build(config), ids)


def without_norms(config, ids, part):
    m = build(config)
    for _, layer in m.named_modules():
        for name in part:
            if hasattr(layer, name):
                setattr(layer, name, torch.nn.Identity())
    return run(m, ids)


def with_state(config, ids, edit):
    return run(build(config, edit), ids)


def tie(config, ids):
    m = build(config)
    with torch.no_grad():
        m.get_output_embeddings().weight.copy_(m.get_input_embeddings().weight)
    return run(m, ids)


def other_head(config, ids):
    """A head of its own where the model ties it."""
    m = build(config)
    head = m.get_output_embeddings()
    head.weight = torch.nn.Parameter(torch.from_numpy(weights("lm_head.weight", head.weight.shape)))
    return run(m, ids)


def roll_positions(name, p):
    if "embed_positions" in name or "wpe" in name:
        p.copy_(p.roll(-2, 0))


def zero_positions(name, p):
    if "embed_positions" in name or "wpe" in name or "position_embeddings" in name:
        p.zero_()


def zero_types(name, p):
    if "token_type_embeddings" in name:
        p.zero_()


def swap_types(name, p):
    if "token_type_embeddings" in name:
        p.copy_(p.flip(0))


def causal(config, ids):
    """Every token sees those before it alone."""
    m = build(config)
    n = len(ids)
    mask = torch.full((n, n), torch.finfo(torch.float32).min).triu(1)[None, None]
    with torch.no_grad():
        x = m.embeddings(torch.tensor([ids]))
        for layer in m.encoder.layer:
            x = layer(x, attention_mask=mask)
            x = x[0] if isinstance(x, tuple) else x
    return x[0].double().numpy()


def transpose_conv(name, p):
    if name.endswith("attn.c_proj.weight"):
        p.copy_(p.t().clone())


def identity_projections(name, p):
    if "project_in" in name or "project_out" in name:
        p.copy_(torch.eye(*p.shape))


def not_by_head(config, ids):
    """query_key_value read as rows Q.., K.., V.. instead of q, k, v head by head."""
    heads = config.get("n_head", config.get("num_attention_heads"))

    def edit(name, p):
        if "query_key_value" in name:
            width = p.shape[0] // (3 * heads)
            rest = p.shape[1:]
            p.copy_(p.reshape(3, heads, width, *rest).transpose(0, 1).reshape(p.shape).clone())
    return with_state(config, ids, edit)


def without_alibi(config, ids):
    from transformers.models.bloom import modeling_bloom as b
    with patched(b, "_get_alibi_slopes", lambda n, device: torch.zeros(n)):
        return run(build(config), ids)


def power_of_two_slopes(config, ids):
    """Slopes 2 ^ (-8 (h + 1) / n) as if n were a power of two."""
    from transformers.models.bloom import modeling_bloom as b
    with patched(b, "_get_alibi_slopes",
                 lambda n, device: 2.0 ** (-8.0 * torch.arange(1, n + 1) / n)):
        return run(build(config), ids)


ROPE = {"rope": without_rope, "rope_layout": interleaved_rope, "grouped_heads": tiled_heads}
NO_BIAS = {"biases": lambda c, i: with_state(c, i, zero_biases)}
LAYER_NORM = {"norm_biases": lambda c, i: with_state(c, i, zero_norm_biases)}
POSITIONS = {"positions": lambda c, i: with_state(c, i, zero_positions)}
OFFSET = {"position_offset": lambda c, i: with_state(c, i, roll_positions)}
FEATURES = {
    "llama": dict(ROPE, untied_head=tie),
    "llama3": dict(ROPE, tied_head=other_head,
                   scaling=lambda c, i: changed(c, i, rope_scaling=None)),
    "llama_bias": dict(ROPE, **NO_BIAS, scaling=lambda c, i: changed(c, i, rope_scaling=None)),
    "mistral": dict(ROPE, window=lambda c, i: changed(c, i, sliding_window=None),
                    window_border=lambda c, i: changed(c, i, sliding_window=c["sliding_window"] + 1),
                    theta=lambda c, i: changed(c, i, rope_parameters=dict(
                        rope_type="default", rope_theta=10000.0))),
    "qwen2": dict(ROPE, **NO_BIAS, no_window=lambda c, i: changed(c, i, use_sliding_window=True,
                                                                  max_window_layers=0)),
    "qwen2_window": dict(ROPE, **NO_BIAS,
                         window=lambda c, i: changed(c, i, use_sliding_window=False),
                         window_from=lambda c, i: changed(c, i, max_window_layers=0)),
    "qwen3": dict(ROPE, qk_norm=lambda c, i: without_norms(c, i, ("q_norm", "k_norm"))),
    "opt": dict(**NO_BIAS, **LAYER_NORM, **POSITIONS, **OFFSET,
                final_norm=lambda c, i: changed(c, i, _remove_final_layer_norm=True),
                activation=lambda c, i: changed(c, i, activation_function="gelu")),
    "opt_350m": dict(**NO_BIAS, **LAYER_NORM, **POSITIONS, **OFFSET,
                     post_norm=lambda c, i: changed(c, i, do_layer_norm_before=True),
                     projections=lambda c, i: with_state(c, i, identity_projections)),
    "gpt2": dict(**NO_BIAS, **LAYER_NORM, **POSITIONS,
                 conv1d=lambda c, i: with_state(c, i, transpose_conv),
                 activation=lambda c, i: changed(c, i, activation_function="relu")),
    "bloom": dict(**NO_BIAS, **LAYER_NORM, alibi=without_alibi, alibi_slopes=power_of_two_slopes,
                  fused_by_head=not_by_head,
                  embedding_norm=lambda c, i: without_norms(c, i, ("word_embeddings_layernorm",))),
    "bloom4": dict(**NO_BIAS, **LAYER_NORM, alibi=without_alibi, fused_by_head=not_by_head),
    "opt_bin": dict(**NO_BIAS),
    "bert": dict(**NO_BIAS, **LAYER_NORM, **POSITIONS,
                 types=lambda c, i: with_state(c, i, zero_types),
                 first_type=lambda c, i: with_state(c, i, swap_types),
                 norms=lambda c, i: without_norms(c, i, ("LayerNorm",)),
                 bidirectional=causal,
                 activation=lambda c, i: changed(c, i, hidden_act="relu")),
}


# ---- what GGUF calls the tensors, by the gguf package's own table

def gguf_names(config, names):
    import gguf
    arch = {v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}.get(
        "llama" if config["model_type"] == "mistral" else config["model_type"])
    if arch is None or config["model_type"] == "opt":
        return None
    blocks = config.get("num_hidden_layers", config.get("n_layer"))
    table = gguf.get_tensor_name_map(arch, blocks)
    out = {}
    for n in names:
        plain = n.removeprefix("transformer.") if config["model_type"] == "bloom" else n
        to = table.get_name(plain, try_suffixes=(".weight", ".bias"))
        assert to, n
        out[n] = to
    return out


def rope_divisors(config):
    """GGUF's tensor rope_freqs: plain frequencies over scaled ones."""
    plain = build(dict(config, rope_scaling=None)).model.rotary_emb.inv_freq.double()
    scaled = build(config).model.rotary_emb.inv_freq.double()
    return [float(f"{v:.9g}") for v in (plain / scaled)]


# ---- one vector

def make(name):
    config = CONFIGS[name]
    length = 24 if name == "opt_bin" else LENGTH
    rng = np.random.default_rng(7)
    ids = rng.integers(0, config["vocab_size"], length).tolist()
    m = build(config)
    logits = run(m, ids)
    exact = run(build(config, dtype=torch.float64), ids)
    gap = float(np.abs(logits - exact).max())
    assert gap < TOLERANCE / 4, (name, gap)
    moves = {}
    for feature, off in FEATURES[name].items():
        other = off(config, ids)
        moves[feature] = round(float(np.abs(other - logits).max()), 4)
        # The tied embedding's row of a token may be widest: what every move is held against.
        assert moves[feature] > 100 * TOLERANCE, (name, feature, moves[feature])
    positions = sorted({0, 1, 2, length // 4, length // 2, length - 2, length - 1})
    width = logits.shape[1]
    entries = sorted({0, 1, 7, width // 2, width - 2, width - 1})
    names = [n for n, _ in m.named_parameters()]
    vector = {
        "by": f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}, "
              "fp32, eager",
        "config": config,
        "ids": ids,
        **({"embedding": [float(f"{v:.9g}") for v in pooled(logits)]} if is_encoder(config)
           else {"nll": nll(logits, ids)}),
        "fp64_gap": float(f"{gap:.2g}"),
        "largest_logit": round(float(np.abs(logits).max()), 3),
        "moves": moves,
        "positions": positions,
        "entries": entries,
        "hidden" if is_encoder(config) else "logits": [[float(f"{logits[t, v]:.9g}") for v in entries] for t in positions],
        "tensors": {n: list(p.shape) for n, p in m.named_parameters()},
    }
    names_gguf = None if is_encoder(config) else gguf_names(config, names)
    if names_gguf and name not in ("bloom4", "llama_bias"):
        vector["gguf"] = names_gguf
    if name == "llama3":
        vector["rope_freqs"] = rope_divisors(config)
    if name == "opt_bin":
        # As facebook's files: fp16, the tied head stored under its own name as well.
        state = {k: v.half().clone() for k, v in m.state_dict().items()}
        state["lm_head.weight"] = state["model.decoder.embed_tokens.weight"]
        torch.save(state, os.path.join(HERE, "opt_bin.bin"))
    path = os.path.join(HERE, name + ".json")
    with open(path, "w") as f:
        f.write("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in vector.items())
                + "\n}\n")
    print(f"{name}: nll {vector.get('nll', 0):.6f}, fp64 gap {gap:.2g}, largest {vector['largest_logit']}, "
          f"{os.path.getsize(path)} bytes, moves {moves}")


if __name__ == "__main__":
    os.makedirs(HERE, exist_ok=True)
    torch.set_num_threads(1)
    for which in sys.argv[1:] or CONFIGS:
        make(which)
