"""Makes datasets/demo.h5, the embedded demo model, from the weights that train.py wrote (datasets/SCHEMA.md, /model).

Usage: python3 make_h5.py demo_fp16.npz ../demo.h5        (numpy, h5py)

The same weights give the same file, byte for byte, with one version of h5py: no time stamps are stored.
"""
import sys
import h5py
import numpy as np

ATTRIBUTES = dict(architecture="llama", name="demo", d_model=128, n_blocks=4, n_heads=8, n_kv_heads=4, head_dim=16, d_ff=384,
                  vocab_size=256, max_context=256, rope_theta=10000.0, rope_layout="half", norm_eps=1e-5, tied_head=0, dtype="f16")
OUTSIDE = {"tok_embd": "emb", "output_norm": "nf", "output": "head"}
INSIDE = {"attn_norm": "n1", "attn_q": "q", "attn_k": "k", "attn_v": "v", "attn_o": "o",
          "ffn_norm": "n2", "ffn_gate": "gate", "ffn_up": "up", "ffn_down": "down"}


def tensor_names():
    """Canonical name -> name in the archive."""
    yield from ((c, f"{t}.weight") for c, t in OUTSIDE.items())
    for b in range(ATTRIBUTES["n_blocks"]):
        yield from ((f"blk.{b}.{c}", f"blocks.{b}.{t}.weight") for c, t in INSIDE.items())


def main(npz_path, h5_path):
    archive = np.load(npz_path)
    names = dict(tensor_names())
    extra = set(archive.files) - set(names.values())
    if extra:
        sys.exit(f"{npz_path}: tensors without a canonical name: {sorted(extra)}")
    with h5py.File(h5_path, "w") as f:
        f.attrs["schema"] = 1
        f.create_group("tokenizer").attrs["kind"] = "bytes"
        model = f.create_group("model")
        model.attrs.update(ATTRIBUTES)
        for canonical, name in names.items():
            tensor = archive[name].astype("<f2")
            assert np.isfinite(tensor).all(), name
            model.create_dataset(canonical, data=tensor, track_times=False)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
