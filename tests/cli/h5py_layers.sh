#!/usr/bin/env bash
# The Python script of datasets/README.md, run as it stands there, then `ptq run` on its file, then the result read with h5py.
. "$(dirname "$0")/../lib.sh"
set -eo pipefail
python3 -c 'import h5py, numpy' 2>/dev/null || skip 'h5py_layers: python3 with numpy and h5py absent'
readme=$root/datasets/README.md
cd "$work"

awk '/^```python$/ { on = 1; next } on && /^```$/ { exit } on' "$readme" >script.py
[ "$(grep -c . script.py)" -ge 15 ] || fail "no python block in $readme"
python3 script.py

# Another bit width for each group rule: one that divides the row, one that does not, whole rows, the whole tensor; symmetric last.
run() {
    "$PTQ" run layer.h5 -l my_layer -o "$@" >stdout.txt || fail "ptq run -o $*: exit $?"
    [ -s stdout.txt ] || fail "ptq run -o $* prints nothing"
}
run g128.h5 -m rtn -b 4 -g 128
run g96.h5 -m rtn -b 3 -g 96
run row.h5 -m rtn -b 8 -g -1
run tensor.h5 -m rtn -b 2 -g 0
run sym.h5 -m rtn -b 4 -g 64 --sym --scale f32

cat >check.py <<'PY'
import sys
import h5py
import numpy as np

with h5py.File("layer.h5") as f:
    w = f["layers/my_layer/weight"][:]
    hess = f["layers/my_layer/hess"][:]


def check(path, bits, group):
    rows, cols = w.shape
    with h5py.File(path) as f:
        q = f["quant/my_layer"]
        codes, scale, zero, dequant = (q[k][:] for k in ("codes", "scale", "zero", "dequant"))
        packed = f["packed/my_layer"]
        assert packed.dtype == np.uint8 and packed.ndim == 1, "packed is 1-D uint8"
        n_packed = packed.shape[0]
    width = cols if group == -1 else group
    n_groups = 1 if group == 0 else -(-cols // width)
    assert codes.shape == (rows, cols) and codes.dtype.kind == "u", (codes.shape, codes.dtype)
    assert codes.max() < 2**bits and len(np.unique(codes)) > 2 ** (bits - 1), "codes use their width"
    assert scale.shape == zero.shape == ((1, 1) if group == 0 else (rows, n_groups)), (scale.shape, zero.shape)
    assert scale.dtype == zero.dtype == dequant.dtype == np.float32
    g = np.zeros(cols, int) if group == 0 else np.arange(cols) // width
    s, z = np.broadcast_to(scale, (rows, n_groups))[:, g], np.broadcast_to(zero, (rows, n_groups))[:, g]
    # One rounding to fp32: the product of an fp32 and a small integer is exact in fp64.
    want = (s.astype("f8") * (codes.astype("f8") - z)).astype("f4")
    assert (dequant == want).all(), f"dequant is not scale * (codes - zero): {abs(dequant - want).max()}"
    # Round to nearest: no weight further than half a step from its value (clipped ends: the range holds every weight, up to the
    # rounding of the scale to fp16, 2^-11 of the range, and of the zero to an integer, half a step).
    step = abs(w.astype("f8") - dequant) / s
    assert step.max() <= 1.01 + 2**bits / 2048, f"{path}: an error of {step.max()} steps"
    # The packed bytes: codes, a 16 or 32-bit scale and at most 8 bits of zero a group, whole bytes a section.
    lo, hi = rows * cols * bits / 8 + scale.size * 2, rows * cols * bits / 8 + scale.size * 5 + 3
    assert lo <= n_packed <= hi, (n_packed, lo, hi)
    d = dequant.astype("f8") - w
    return np.trace(d @ hess @ d.T) / np.trace(w @ hess @ w.T)


cases = [("g128.h5", 4, 128), ("g96.h5", 3, 96), ("row.h5", 8, -1), ("tensor.h5", 2, 0), ("sym.h5", 4, 64)]
for path, bits, group in cases:
    print(path, "relative output error", check(path, bits, group))
PY
python3 check.py || fail "the files are not what h5py should read"
finish "five files read with h5py"
