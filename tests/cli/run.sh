#!/usr/bin/env bash
# `ptq run`: formats, the output file, models as sources, errors with their exit codes, and the oracle's cases through the command line.
. "$(dirname "$0")/../lib.sh"
shared=$(realpath -m "${PTQ_SHARED:-../shared}")
enter_work

"$PTQ" synth layer --rows 70 --cols 160 --spectrum power:1 --out l.h5 >/dev/null || fail "no layer to run on"

# ---- the command of the documentation; the same row and the same file for any number of threads
run=(run l.h5 -m gptq-paper:percdamp=0.01 -b 3 -g 64 --sym --scale f32 -l layer)
"$PTQ" "${run[@]}" -o out.h5 >text || fail "ptq run"
for id in w_mse w_relerr w_sqnr_db w_maxabs out_relerr proxy_loss bits_nominal bits_stored bits_paper damping retries n_dead n_clipped; do
    grep -q "^$id " text || fail "no $id in the output"
done
for n in 1 2 3; do
    "$PTQ" "${run[@]}" -o "out$n.h5" -j $n --format jsonl | sed 's/"time":.*//' >"row$n" || fail "$n threads"
    cmp -s row1 "row$n" || fail "$n threads give another row"
    cmp -s out.h5 "out$n.h5" || fail "$n threads give another file"
done
grep -q '"metrics":{.*"out_relerr":0\.' row1 || fail "no metrics in the row"
for f in md csv; do
    "$PTQ" "${run[@]}" --format $f >out.$f && grep -q 'out_relerr' out.$f || fail "format $f"
done
"$PTQ" inspect out.h5 >list || fail "inspect"
for object in codes scale zero dequant; do grep -q "/quant/layer/$object " list || fail "no $object"; done
stored=$(awk '$1 == "bits_stored" { print $2 }' text)
bytes=$(awk '$1 == "/packed/layer" { print $NF }' list)
awk -v s="$stored" -v b="$bytes" 'BEGIN { d = s - 8 * b / (70 * 160); exit !(d < 1e-8 && d > -1e-8) }' ||
    fail "bits_stored $stored is not 8 * $bytes bytes / 11200"
"$PTQ" run l.h5 -m rtn-mse -b 3 | grep -q '^grid  *mse' || fail "a preset's grid is not shown"
"$PTQ" run l.h5 -m rtn-mse -b 3 --grid mse >/dev/null || fail "a flag that says what the preset says is no contradiction"
awk 'length > 120 { exit 1 }' text || fail "lines over 120 columns: $(awk 'length > 120' text)"

# ---- models: RTN needs no statistics, GPTQ asks for them
"$PTQ" run demo -m rtn -b 4 -l blk.1.ffn_down --format jsonl | grep -q '"rows":128,"cols":384' || fail "a layer of the demo model"

# ---- statistics of `ptq capture` and of a sweep, for any source of the model
capture() { "$PTQ" capture "$1" --text synth:facts:4444 --windows 2 --out "$2" "${@:3}" >/dev/null 2>stderr || fail "ptq capture $1: $(cat stderr)"; }
on() { "$PTQ" run "$@" --format jsonl | sed 's/"time":.*//;s/"source":"[^"]*"//'; }
capture demo att.h5 --attention
"$PTQ" import demo -o m.h5 >/dev/null 2>&1 || fail "ptq import"
capture m.h5 own.h5 --attention
for spec in gptq boa turboboa athena awq-layer smoothquant; do
    on demo --stats-file att.h5 -m $spec -b 3 -l blk.0.attn_q >a || fail "$spec with the statistics of ptq capture"
    on m.h5 --stats-file own.h5 -m $spec -b 3 -l blk.0.attn_q >b
    grep -q '"out_relerr":0\.' a && cmp -s a b || fail "$spec on the imported model gives another row"
done
on demo --stats-file att.h5 -m boa -b 2 -l blk.0.attn_q | grep -q '"attn_loss":[0-9]' || fail "boa without the statistics of attention"
on demo --stats-file att.h5 -m gptq -b 3 -l blk.0.ffn_down >a
"$PTQ" sweep "$root/configs/demo.ini" --quiet --no-report --set "run.out=. run.name=s sweep.methods=gptq sweep.bits=3 sweep.group_size=-1 sweep.layers=blk.0.ffn_down calib.nsamples=2 eval.windows=2" >/dev/null 2>stderr ||
    fail "a sweep of one layer: $(cat stderr)"
hash=$(grep -o '"codes_hash":"[0-9a-f]*"' a)
grep '"kind":"layer"' s/cells.jsonl | grep -q "$hash" || fail "ptq run gives other codes than the sweep of the same calibration"
found=0
for stats in s/stats.*.h5; do
    on demo --stats-file "$stats" -m gptq -b 3 -l blk.0.ffn_down | grep -q "$hash" && found=$((found + 1))
done
[ $found = 1 ] || fail "the statistics of a sweep: $found of its two files give the sweep's codes"

# ---- errors: exit code, and a message that says what is wrong
refuses() { # code, pattern, arguments of ptq run
    expect "$1" "$PTQ" run "${@:3}"
    says "$2"
    [ ! -s out ] || fault "$last_command: results although it failed"
}
cp l.h5 kept.h5
head -c 20000 l.h5 >cut.h5
refuses 2 'did you mean .layer' l.h5 -m rtn -b 4 -l leyer
refuses 2 'did you mean .gptq' l.h5 -m gtpq -b 4
refuses 2 'larger than the row \(160' l.h5 -m rtn -b 4 -g 161
refuses 2 'needs a Hessian.*ptq capture demo --text TEXT --out STATS.h5`, then add --stats-file STATS.h5' demo -m gptq -b 4 -l blk.0.attn_q
refuses 2 '--attention`, then add --stats-file' demo -m boa -b 4 -l blk.0.attn_q
refuses 2 'ptq run MODEL --stats-file att.h5 -l LAYER' att.h5 -m boa -b 2 -l blk.0.attn_q
refuses 2 'of another model than m.h5' m.h5 --stats-file att.h5 -m gptq -b 2 -l blk.0.attn_q
refuses 2 'holds bare layers' l.h5 --stats-file att.h5 -m gptq -b 2
refuses 2 'holds no /stats; make them: .ptq capture demo' demo --stats-file l.h5 -m gptq -b 2 -l blk.0.attn_q
refuses 2 'is the input' demo --stats-file att.h5 -m gptq -b 2 -l blk.0.attn_q -o att.h5
"$PTQ" run 'synth:layer rows=16 cols=32 tokens=64' -m gptq -b 4 >/dev/null || fail "a layer that is made"
refuses 2 'describe bare layers' demo -m rtn -b 2 -l blk.0.attn_q --normalisation token
"$PTQ" capture m.h5 --text synth:facts:4444 --out m.h5 2>stderr && fail "statistics into the model's own file"
grep -q 'ptq run m.h5 --stats-file STATS.h5' stderr || fail "ptq capture into the model: $(cat stderr)"
refuses 2 'minmax contradicts -m rtn-mse, whose grid is mse' l.h5 -m rtn-mse -b 3 --grid minmax
refuses 2 'contradicts --sym' l.h5 -m rtn -b 3 --sym --zero-free
refuses 2 'option grid: unknown value .foo.; valid: minmax' l.h5 -m rtn:grid=foo -b 3
refuses 2 'opq cannot do symmetric grids; set sym = 0 \(no --sym\)' l.h5 -m opq -b 3 --sym
refuses 2 'groups of columns; set group_size = -1' l.h5 -m pq -b 3 -g 32
refuses 2 'set sym = 1 \(--sym\)' l.h5 -m smooth-tensor -a 8 -b 3 -g 0
refuses 2 'bits = [3-8] is the least that does' l.h5 -m hera -b 1
refuses 2 '0.999 is outside 0.01 .. 0.99$' l.h5 -m rpq:split=0.999 -b 3
refuses 2 "unknown method 'nope'; valid" l.h5 -m nope -b 3
refuses 2 'absent.h5' absent.h5 -m rtn -b 4
refuses 2 'cut.h5' cut.h5 -m rtn -b 4
refuses 2 '1 .. 8' l.h5 -m rtn -b 9
refuses 2 'is required' l.h5 -m rtn
refuses 2 'is required' l.h5 -b 3
refuses 2 "did you mean 'mse'" l.h5 -m rtn -b 3 --grid msee
refuses 2 'is the input' l.h5 -m rtn -b 4 -o l.h5
refuses 2 'no grid at 1 bit' l.h5 -m rtn -b 1 --sym-kind absmax
refuses 2 'not a regular file' l.h5 -m rtn -b 4 -o /dev/full
refuses 6 'no-folder' l.h5 -m rtn -b 4 -o no-folder/out.h5
cmp -s l.h5 kept.h5 || fail "the input was changed"
ls | grep -q '\.tmp$' && fail "a half-written file was left"

python3 -c 'import h5py, numpy' 2>/dev/null || { finish 'SKIP run: python3 with h5py and numpy absent: bad values and oracle not tried'; exit; }
python3 - <<'PY'
import h5py
import numpy as np

r = np.random.default_rng(1)
w, x = r.standard_normal((8, 20)).astype("f4"), r.standard_normal((64, 20)).astype("f4")


def put(name, weight=w, **more):
    with h5py.File(name + ".h5", "w") as f:
        f["layers/a/weight"] = weight
        for k, v in more.items():
            f["layers/a/" + k] = v


bad = w.copy()
bad[3, 7] = np.nan
put("nan", bad)
lopsided = np.eye(20)
lopsided[0, 1] = 0.5
put("lopsided", hess=lopsided)
put("zero", hess=np.zeros((20, 20)))
put("wrong", hess=np.eye(19))
dead = x.copy()
dead[:, [2, 5]] = 0
put("dead", activations=dead)
put("few", activations=x[:3])
put("none", activations=0 * x)
put("worse", w + 10, activations=np.tile(np.float32([1, -1]), (64, 10)) + np.float32(1e-3) * x)
put("huge", activations=x * np.float32(1e20))
put("large", w * np.float32(1e8), activations=x)
put("both", activations=x, hess=np.diag(np.arange(1.0, 21)))
PY
refuses 5 'row 3, column 7' nan.h5 -m rtn -b 4
refuses 5 'not symmetric' lopsided.h5 -m gptq -b 4
refuses 5 'all zero' zero.h5 -m gptq -b 4
refuses 2 'd_in x d_in' wrong.h5 -m gptq -b 4
refuses 5 'raise percdamp' few.h5 -m gptq:percdamp=0 -b 4
refuses 5 'made from the activations overflows' huge.h5 -m gptq -b 4
"$PTQ" run large.h5 -m rtn -b 4 2>stderr | grep -Eq '^n_scale_saturated +8 ' || fail "scales at the end of f16 are not noted"
grep -q 'warning: .*8 of 8 scales' stderr || fail "scales at the end of f16: no warning: $(cat stderr)"
"$PTQ" run large.h5 -m rtn -b 4 --scale f32 2>&1 >/dev/null | grep . && fail "a warning although the scales fit"
"$PTQ" run dead.h5 -m gptq -b 4 | grep -Eq '^n_dead +2 ' || fail "dead columns are not counted"
"$PTQ" run few.h5 -m gptq -b 4 2>stderr | grep -Eq '^tokens_below_columns +3 ' || fail "a rank-deficient Hessian is an error, or not noted"
grep -q 'warning: few.h5.*3 tokens are behind a Hessian of 20 columns' stderr || fail "few tokens: no warning: $(cat stderr)"
"$PTQ" run few.h5 -m rtn -b 4 2>&1 | grep 'tokens' && fail "rtn uses no Hessian: a warning all the same"
refuses 5 'the activations are all zero, so gptq has nothing' none.h5 -m gptq -b 4
refuses 5 'the activations are all zero, so grid = hess' none.h5 -m rtn:grid=hess -b 4
"$PTQ" run none.h5 -m rtn -b 4 | grep -Eq '^out_relerr +- .*no calibration Hessian' || fail "rtn needs no activations"
# Weights that are nearly equal, inputs that cancel: what rounding leaves is larger than the output (3.2 times).
"$PTQ" run worse.h5 -m rtn -b 2 --format jsonl 2>stderr | grep -q '"worse_than_zeros":1' || fail "worse than zeros, and no note"
grep -q 'warning: worse.h5.*out_relerr >= 1' stderr || fail "worse than zeros: no warning: $(cat stderr)"
"$PTQ" run worse.h5 -m rtn -b 8 2>&1 | grep worse_than && fail "a note of zeros on a good row"
"$PTQ" run both.h5 -m gptq -b 4 | grep -Eq '^damping +0.105 ' || fail "the given Hessian is not used before activations"

[ -e "$shared/oracle/gptq2/cases.h5" ] || { finish "SKIP run: ../shared absent: oracle not tried"; exit; }
cat >oracle.py <<'PY'
import subprocess
import sys
import json
import h5py
import numpy as np

ptq, shared = sys.argv[1:]


def run(layer, args):
    out = subprocess.run([ptq, "run", layer, "-o", "o.h5", "--scale", "f32", "--format", "jsonl", *args], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    with h5py.File("o.h5") as f:
        return json.loads(out.stdout), f["quant/a/codes"][:]


o = shared + "/oracle/gptq/"
with h5py.File("o1.h5", "w") as f:
    f["layers/a/weight"], f["layers/a/hess"] = np.load(o + "W.npy"), np.load(o + "H.npy")
    f["layers/a/hess"].attrs["normalisation"] = "sequence"
for name, case in json.load(open(o + "manifest.json"))["cases"].items():
    bits, group = name.split("_")[0][1:], name.split("_")[1][1:]
    spec = "gptq:dead=reference" if "act_static" in name else "gptq-paper"
    for precision in ("single", "double"):
        row, codes = run("o1.h5", ["-m", spec, "-b", bits, "-g", group, "--precision", precision])
        assert (codes == np.load(o + name + "_codes.npy")).all(), name
        assert abs(row["metrics"]["proxy_loss"] / case["err_gptq"] - 1) < 1e-5, name
        row, codes = run("o1.h5", ["-m", "rtn", "-b", bits, "-g", group, "--precision", precision])
        assert abs(row["metrics"]["proxy_loss"] / case["err_rtn"] - 1) < 1e-5, name
n = 0
with h5py.File(shared + "/oracle/gptq2/cases.h5") as f:
    with h5py.File("o2.h5", "w") as g:
        g["layers/a/weight"], g["layers/a/hess"] = f["weight"][:], f["hess_per_sequence"][:]
    for name, c in f.items():
        if not isinstance(c, h5py.Group):
            continue
        a = {k: int(v) for k, v in c.attrs.items() if k != "loss"}
        args = ["-m", "gptq-paper:act_order=%(act_order)d:static_groups=%(static_groups)d:block=%(block)d" % a, "-b", str(a["bits"]), "-g",
                str(a["group_size"]), "--precision", "double", "--normalisation", "sequence"]
        row, codes = run("o2.h5", args + (["--sym", "--sym-kind", "gptq"] if a["sym"] else []) + (["--grid", "mse"] if a["mse"] else []))
        assert (codes == c["codes"][:]).all(), name
        assert abs(row["metrics"]["proxy_loss"] / c.attrs["loss"] - 1) < 1e-6, name
        n += 1
assert n == 9
PY
python3 oracle.py "$PTQ" "$shared" || fail "the oracle's cases"
finish "run: formats, file, errors, oracle"
