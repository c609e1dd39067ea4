#!/usr/bin/env bash
# ptq synth: the text has the published SHA-256 (../shared/demo-model/reference.json, repeated here), options and errors of the verb.
. "$(dirname "$0")/../lib.sh"
set -eo pipefail

sum() { sha256sum <"$1" | cut -d' ' -f1; }
"$PTQ" synth facts --seed 5555 --windows 2000 --out "$work/a" >"$work/line"
[ "$(sum "$work/a")" = 2215b383e167c70006e46343bb8f091236e70a799ebf27419806164c55e65887 ] || fail 'text of seed 5555'
"$PTQ" synth facts --seed 4444 --windows 64 >"$work/b"
[ "$(sum "$work/b")" = 971b6526653409791102b844e396c49496e9b621949357ea06ed137662a9b5ee ] || fail 'text of seed 4444'
"$PTQ" synth facts --seed 5555 --windows 256 --entropy 1 | grep -q '0\.314100373699 bits/byte' || fail 'entropy'

# The two implementations agree on a stream that neither was tested on elsewhere.
if command -v python3 >/dev/null; then
    python3 -B datasets/demo/gen.py 31337 300 >"$work/c" 2>"$work/c.entropy"
    "$PTQ" synth facts --seed 31337 --windows 300 --out "$work/d" >"$work/d.entropy"
    cmp "$work/c" "$work/d" || fail 'gen.py and facts.c differ'
    grep -qF "$(grep -o '[0-9]\.[0-9]* bits/byte' "$work/c.entropy")" "$work/d.entropy" || fail 'entropies differ'
else
    echo 'SKIP part: python3 absent'
fi

"$PTQ" synth layer --rows 8 --cols 16 --tokens 32 --spectrum lowrank:3 --outliers 2 --sink 0.99 --out "$work/l.h5" >/dev/null
"$PTQ" synth layer --rows 8 --cols 16 --tokens 32 --spectrum lowrank:3 --outliers 2 --sink 0.99 --out "$work/m.h5" >/dev/null
cmp "$work/l.h5" "$work/m.h5" || fail 'the same options gave other bytes'
"$PTQ" synth layer --rows 8 --cols 16 --tokens 32 --name second --append 1 --out "$work/m.h5" >/dev/null
if python3 -c 'import h5py' 2>/dev/null; then
    python3 - "$work/m.h5" <<'PY'
import sys, h5py, numpy as np
with h5py.File(sys.argv[1]) as f:
    assert sorted(f["layers"]) == ["layer", "second"] and f.attrs["schema"] == 1
    g = f["layers/layer"]
    x, h = g["activations"][:].astype("f8"), g["hess"][:]
    assert np.allclose(h, 2 / 32 * x.T @ x, rtol=1e-12) and g["hess"].attrs["normalisation"] == "token"
    own = (x**2).sum(1)
    assert abs(own[0] / own.sum() - 0.99) < 1e-6 and np.linalg.matrix_rank(x, 1e-5 * own.max() ** .5) == 3
PY
else
    echo 'SKIP part: h5py absent'
fi

answers 2 layer "$PTQ" synth lyer
answers 2 'rows' "$PTQ" synth layer --row 3 --out "$work/x.h5"
answers 2 'out' "$PTQ" synth layer --rows 3
answers 2 'rows' "$PTQ" synth layer --rows 0 --out "$work/x.h5"
answers 6 'cannot create' "$PTQ" synth layer --out "$work/none/x.h5"
answers 6 'full' "$PTQ" synth facts --windows 2000 --out /dev/full
finish "texts, layers, faults"
