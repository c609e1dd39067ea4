#!/usr/bin/env bash
# "synth:layer ..." as the source of a sweep: the layer of `ptq synth layer`, in memory; and the configuration that reads one.
. "$(dirname "$0")/../sweep_lib.sh"
shape="rows=48 cols=64 tokens=256 spectrum=power:0.5 outliers=2:8 seed=9"
config=$work/memory.ini
sweep_of() { # source
    cat >"$config" <<INI
[model]
source = $1
name = layer
[run]
name = memory
[sweep]
methods = rtn, gptq, pq, rpq, hera
bits = 3-5
INI
}
errors() { sed -nE 's/.*("method":"[a-z]*").*("bits":[0-9]).*"metrics":\{([^}]*"w_relerr":[0-9][^}]*)\}.*/\1 \2 \3/p' "$1/cells.jsonl" | sort; }

sweep_of "synth:layer $shape"
exits 0 sweep "$config" memory
# shellcheck disable=SC2046
"$PTQ" synth layer $(for o in $shape; do echo "--$o"; done) --hess 0 --out "$work/l.h5" >/dev/null || fail "ptq synth layer $shape"
sweep_of "$work/l.h5"
exits 0 sweep "$config" file
[ "$(grep -c '"status":"ok"' "$work/memory/cells.jsonl")" -ge 12 ] || fail "fewer than 12 cells of the layer in memory"
[ "$(errors "$work/memory" | wc -l)" -ge 12 ] || fail "fewer than 12 rows with errors"
[ "$(errors "$work/memory")" = "$(errors "$work/file")" ] || fail "the layer in memory is not the layer of the file"
[ -z "$(find "$work" . -maxdepth 1 -name '*synth:layer*')" ] || fail "a file was left behind"

sweep_of "synth:layer rows=48 colls=64"
exits 2 sweep "$config" wrong
grep -q "colls.*cols" "$work/err" || fail "an unknown option of synth:layer is not named"
sweep_of "synth:layer rows"
exits 2 sweep "$config" wrong
sweep_of "synth:layer rows=0"
exits 2 sweep "$config" wrong
grep -q 'rows' "$work/err" || fail "rows=0 is not named"
sweep_of "synth:layered rows=4"
exits 2 sweep "$config" wrong

# The table of configs/qet.ini is a quick one; here its plan.
exits 0 sweep configs/qet.ini qet --dry-run
grep -Eq 'layer rows +156, 156 to do' "$work/out" || fail "configs/qet.ini: $(cat "$work/out")"
finish ok
