#!/usr/bin/env bash
# Calibration, held-out and evaluation texts: one text under two names is refused or said.
. "$(dirname "$0")/../sweep_lib.sh"
config=$work/small.ini
small_config "$config"
SET="sweep.bits=3 sweep.group_size=64 sweep.layers=blk.0.attn_q"

# Held-out errors on the calibration text would be calibration errors.
same_text="calib.heldout_seed=4444"
SET="$SET $same_text" exits 2 sweep "$config" bad
says 'small.ini: \[calib\] heldout = synth:facts \(heldout_seed = 4444\) is the very text of \[calib\] text = synth:facts \(seed = 4444\)'
SET="$SET calib.heldout=synth:facts:4444" exits 2 sweep "$config" bad
says 'is the very text of'
SET="$SET calib.text=synth:facts:6666" exits 2 sweep "$config" bad
says 'is the very text of'
SET="$SET sweep.calib.seed=1,6666" exits 2 sweep "$config" bad
says '\(seed = 6666\)'
[ ! -e "$work/bad/cells.jsonl" ] || fail "a refused configuration left rows"
sed -i '/^heldout_seed/d' "$config" # the default is another draw
for seed in 0 1 4444; do SET="$SET calib.seed=$seed" exits 0 sweep "$config" default; done

# The seed in a row is the one that was drawn with.
SET="$SET calib.text=synth:facts:77" exits 0 sweep "$config" fixed
grep -q '"kind":"layer".*"calib":"synth:facts:77","calib_seed":77,' "$work/fixed/cells.jsonl" || fail "calib_seed of a fixed seed"
grep -q in_domain "$work/fixed/cells.jsonl" && fail "rows say in_domain of another text"

# Calibrated on the evaluation text, of which it is half as long: allowed and said, in rows, on stderr and in the report.
exits 0 "$PTQ" sweep "$config" --set "run.out=$work run.name=domain $SET calib.text=synth:facts:5555"
says '\[eval\] text = synth:facts:5555 holds the calibration text \(seed 5555\)'
[ "$(grep '"in_domain":"same text"' "$work/domain/cells.jsonl" | grep -c '"label":"gptq"')" = 1 ] || fail "in_domain is not in the model row of gptq"
grep '"label":"rtn"' "$work/domain/cells.jsonl" | grep -q in_domain && fail "rtn looks at no calibration text"
exits 0 "$PTQ" sweep "$config" --set "run.out=$work run.name=blind $SET calib.text=synth:facts:5555 sweep.methods=rtn"
grep -q 'in_domain' "$work/err" && fail "in_domain is said of rtn alone"
exits 0 "$PTQ" sweep "$config" --set "run.out=$work run.name=grids $SET calib.text=synth:facts:5555 sweep.methods=rtn:grid=hess"
says 'rows say in_domain' # grids that see the Hessian
grep '"in_domain"' "$work/domain/cells.jsonl" | grep -vq '"kind":"model"' && fail "in_domain is in a row of another kind"
"$PTQ" report "$work/domain" 2>"$work/err" | tr -s ' \n' ' ' >"$work/out" # lines are wrapped
grep -Eq ' calibration synth:facts:5555[^;]*;[^;]*;[^;]*; calibrated on the evaluation text: in-domain' "$work/out" || fail "the calibration line: $(cat "$work/out" "$work/err")"
grep -Eq ' remark calibrated on the evaluation text: in-domain' "$work/out" || fail "the remark: $(cat "$work/out")"
grep -q in-domain "$work/domain/report.html" || fail "the page"
"$PTQ" report "$work/fixed" 2>/dev/null | grep -q in-domain && fail "the report of another text says in-domain"

# Windows drawn from the file that is evaluated.
head -c 20000 "$PTQ" | base64 -w 0 >"$work/text.txt"
SET="$SET calib.text=$work/text.txt calib.seqlen=64 eval.text=text:$work/text.txt eval.window=64 calib.heldout=none" exits 0 sweep "$config" file
grep -q '"in_domain":"same text"' "$work/file/cells.jsonl" || fail "in_domain of one file"

# The same contents under other names; windows of other lengths, so that none of them are equal. A file of other bytes is another text.
mkdir "$work/sub"
ln -s ../text.txt "$work/sub/link.txt"
cp "$work/text.txt" "$work/sub/copy.txt"
sed s/A/B/g "$work/text.txt" >"$work/sub/other.txt"
SET="$SET calib.text=$work/text.txt calib.seqlen=48 eval.window=64 calib.heldout=none"
for name in sub/../text.txt sub/link.txt sub/copy.txt; do
    SET="$SET eval.text=$work/$name" exits 0 sweep "$config" names
    grep -q '"in_domain":"same text"' "$work/names/cells.jsonl" || fail "in_domain of one text under two names: $name"
    rm -r "$work/names"
done
SET="$SET eval.text=$work/sub/other.txt" exits 0 sweep "$config" names
grep -q in_domain "$work/names/cells.jsonl" && fail "in_domain of another text"
finish ok
