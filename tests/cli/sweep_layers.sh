#!/usr/bin/env bash
# Bare layers of a container: the same command, without a model.
. "$(dirname "$0")/../sweep_lib.sh"
h5=$work/layers.h5
synth() { "$PTQ" synth layer "$@" --out "$h5" >/dev/null || fail "ptq synth layer $*"; }
synth --rows 48 --cols 96 --tokens 256 --name blk.0.attn_q --seed 1
synth --rows 32 --cols 80 --tokens 256 --name blk.0.ffn_down --seed 2 --hess 0 --append 1
synth --rows 40 --cols 64 --tokens 256 --name other --seed 3 --sink .99 --seqlen 64 --append 1
config=$work/layers.ini
cat >"$config" <<INI
[model]
source = $h5
[sweep]
methods = rtn, gptq:percdamp=0.01|0.1
bits = 2-4
group_size = -1, 32
INI
exits 0 sweep "$config" all
[ "$(n_rows "$work/all")" = $((3 * 3 * 3 * 2)) ] || fail "$(n_rows "$work/all") rows, not 3 layers x 3 methods x 3 bits x 2 groups"
[ "$(grep -c '"status":"ok"' "$work/all/cells.jsonl")" = 54 ] || fail "not every row is ok"
[ "$(grep -c '"stats":"given"' "$work/all/cells.jsonl")" = 54 ] || fail "not every row says that its statistics were given"
grep '"layer":"blk.0.attn_q"' "$work/all/cells.jsonl" | grep -q '"role":"q","block":0' || fail "the role of a canonical name"
grep '"layer":"other"' "$work/all/cells.jsonl" | grep -q '"role":"other","block":-1' || fail "the role of a free name"
grep -q 'gptq:percdamp=0.1' "$work/out" || fail "the table lacks a swept option"
cp "$work/all/cells.jsonl" "$work/before"
exits 0 sweep "$config" all
cmp -s "$work/before" "$work/all/cells.jsonl" || fail "a second run computed something"

# GPTQ is better than RTN under the Hessian that both are scored with, on every layer at 2 bits and whole rows (the layers are correlated).
mean() { # method, layer
    grep "\"method\":\"$1\".*\"bits\":2,\"group_size\":-1,.*\"layer\":\"$2\"" "$work/all/cells.jsonl" | sed -E 's/.*"metrics":\{[^}]*"out_relerr":([^,}]*).*/\1/' | head -1
}
for layer in blk.0.attn_q blk.0.ffn_down other; do
    awk -v g="$(mean gptq $layer)" -v r="$(mean rtn $layer)" 'BEGIN { exit !(g > 0 && r > 0 && g < r) }' ||
        fail "$layer: GPTQ $(mean gptq $layer), RTN $(mean rtn $layer)"
done

# A pattern; the report; threads; --model in place of the file's source.
SET="sweep.layers=blk.*" exits 0 sweep "$config" some
[ "$(n_rows "$work/some")" = 36 ] || fail "layers = blk.* gave $(n_rows "$work/some") rows, not 36"
exits 0 sweep "$config" three --threads 3
same_rows "$work/all" "$work/three" "three threads"
sed -i 's/^source.*/source = absent.h5/' "$config"
exits 0 sweep "$config" three --model "$h5"
[ "$(n_rows "$work/three")" = 54 ] || fail "--model computed cells that were there"

# One layer changes: its cells alone run again.
sed -i "s|^source.*|source = $h5|" "$config"
synth --rows 40 --cols 64 --tokens 256 --name other --seed 4 --append 1
exits 0 sweep "$config" all
[ "$(n_rows "$work/all")" = $((54 + 18)) ] || fail "after one layer changed there are $(n_rows "$work/all") rows, not 54 + 18"

# --dry-run computes nothing and needs no folder.
exits 0 sweep "$config" dry --dry-run
grep -Eq 'layer rows +54, 54 to do' "$work/out" || fail "dry run: $(cat "$work/out")"
[ ! -e "$work/dry" ] || fail "a dry run made the folder"
exits 0 sweep "$config" all --dry-run
grep -Eq 'layer rows +54, 0 to do' "$work/out" || fail "dry run of a finished sweep: $(cat "$work/out")"
finish ok
