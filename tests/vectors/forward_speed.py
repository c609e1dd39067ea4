#!/usr/bin/env python3
"""Time of one forward pass at real size, ours and torch's side by side. Side script:
python3 tests/vectors/forward_speed.py PTQ [ROUNDS]; needs torch, transformers, h5py.

Random weights of SmolLM2-135M's shapes in one container and one LlamaForCausalLM, one window of
2,048 ids, as many threads as this process may use, rounds taken in turn because machines have moods.
Ours is what `ptq eval` reports: reading the weights, the pass, and the log-sum-exp in fp64; torch's is
the call that returns the logits. The mean NLL of both (fp64 log-sum-exp) is printed too."""
import json
import os
import subprocess
import sys
import tempfile
import time

import h5py
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

BLOCKS, D, HEADS, KV, FF, VOCAB, LENGTH = 30, 576, 9, 3, 1536, 49152, 2048
LINEARS = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_o": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def flops():
    """Two a multiply-add: matrices of all blocks, both products of attention (causal half), head."""
    matrices = BLOCKS * (2 * D * D + 2 * D * D * KV // HEADS + 3 * D * FF)
    attention = BLOCKS * 2 * D * LENGTH * (LENGTH + 1) // 2
    return 2 * (matrices * LENGTH + attention + D * VOCAB * LENGTH)


def container(model, path):
    state = {k: v.numpy() for k, v in model.state_dict().items()}
    with h5py.File(path, "w") as f:
        f.attrs["schema"] = 1
        m = f.create_group("model")
        m.attrs.update(architecture="llama", name="speed", rope_layout="half", dtype="f32",
                       d_model=D, n_blocks=BLOCKS, n_heads=HEADS, n_kv_heads=KV, head_dim=D // HEADS,
                       d_ff=FF, vocab_size=VOCAB, max_context=LENGTH, rope_theta=1e5, norm_eps=1e-5,
                       tied_head=1)
        m["tok_embd"] = state["model.embed_tokens.weight"]
        m["output_norm"] = state["model.norm.weight"]
        for b in range(BLOCKS):
            for ours, theirs in LINEARS.items():
                m[f"blk.{b}.{ours}"] = state[f"model.layers.{b}.{theirs}.weight"]


def main():
    ptq, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=VOCAB, hidden_size=D, intermediate_size=FF,
                         num_hidden_layers=BLOCKS, num_attention_heads=HEADS, num_key_value_heads=KV,
                         max_position_embeddings=LENGTH, rms_norm_eps=1e-5, tie_word_embeddings=True,
                         rope_parameters={"rope_type": "default", "rope_theta": 1e5},
                         initializer_range=0.05)
    model = LlamaForCausalLM(config).float().eval()
    ids = np.random.default_rng(1).integers(0, VOCAB, (1, LENGTH)).astype(np.int32)
    x = torch.from_numpy(ids.astype(np.int64))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        container(model, f"{folder}/m.h5")
        np.save(f"{folder}/ids.npy", ids)
        command = [ptq, "eval", f"{folder}/m.h5", "--tokens", f"{folder}/ids.npy", "--window",
                   str(LENGTH), "--threads", str(threads), "--format", "jsonl"]
        for r in range(rounds):
            ours = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            start = time.perf_counter()
            logits = model(x).logits[0]
            theirs = time.perf_counter() - start
            wide = logits[:-1].double()
            nll = torch.nn.functional.cross_entropy(wide, x[0, 1:]).item()
            print(f"ptq {ours['seconds']:.3f} s, {flops() / ours['seconds'] * 1e-9:.0f} GFLOP/s; "
                  f"torch {theirs:.3f} s, {flops() / theirs * 1e-9:.0f} GFLOP/s; "
                  f"NLL {ours['nll']:.9f} and {nll:.9f}", flush=True)


if __name__ == "__main__":
    main()
