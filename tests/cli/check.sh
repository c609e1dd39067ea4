#!/usr/bin/env bash
# `ptq check` on a small sweep of the demo model: it passes as it is, and one fault a hard rule, put into rows or stored
# forms, ends in exit code 5 with the layer's name. `ptq sweep` checks what it finished.
. "$(dirname "$0")/../lib.sh"
export PTQ_DATA=$root
settings="run.out=$work/results run.name=small sweep.methods=rtn,gptq sweep.bits=3 sweep.group_size=-1 calib.nsamples=4
    eval.windows=2"
sweep() { "$PTQ" sweep "$root/configs/demo.ini" --set "$settings" --no-report; }
run=$work/results/small

expect 0 sweep
says 'check: 0 of [0-9]+ rules checked are violated, [0-9]+ with warnings; [0-9]+ of [0-9]+ were not'
expect 0 "$PTQ" check "$run"
shows '^identity_is_rtn +hard +ok +1 settings'
shows '^hessian_not_zero +hard +ok +28 layer cells'
shows '^calibration_counts +hard +ok +1 settings'
for rule in codes_in_range round_trip ledger_is_bytes; do shows "^$rule +hard +ok +56 forms"; done
shows '^gptq_not_above_rtn +hard +ok +28 layer cells'
shows '^boa_not_above_gptq +warning +not checked'
shows '^PASSED: 0 of'
expect 0 "$PTQ" check "$run" --format jsonl
shows '"rule":"round_trip","kind":"hard","result":"ok"'

# Every rule of the table stands in the help, with its kind.
"$PTQ" check --help >"$work/help"
expect 0 "$PTQ" check --rules --format csv
while IFS=, read -r rule _; do
    [ "$rule" = rule ] || grep -qw -- "$rule" "$work/help" || fault "ptq check --help does not list $rule"
done <"$work/out"

# violates RULE PLACE SED-PROGRAM: rows with the fault
violates() {
    local copy=$work/faulty
    rm -rf "$copy"
    cp -r "$run" "$copy"
    sed -i -E "$3" "$copy/cells.jsonl"
    cmp -s "$copy/cells.jsonl" "$run/cells.jsonl" && fault "$1: the fault changed nothing"
    expect 5 "$PTQ" check "$copy"
    shows "^$1 +hard +VIOLATED .*$2"
    shows "^$1: .*likely: "
    shows '^VIOLATED: '
}
one='/"label":"gptq".*"layer":"blk.1.ffn_down"/'
violates hessian_not_zero 'gptq b3 row blk.1.ffn_down: tr H = 0' "$one s/\"trace\":[0-9.e+-]+/\"trace\":0.0/"
violates calibration_counts 'gptq b3 row blk.0.attn_k and all 28 layers' 's/"codes_hash":"[0-9a-f]+"/"codes_hash":"00"/'
violates round_trip 'gptq b3 row blk.1.ffn_down: the row.s codes' "$one s/\"codes_hash\":\"[0-9a-f]+\"/\"codes_hash\":\"00\"/"
violates ledger_is_bytes 'gptq b3 row blk.1.ffn_down: the row says' "$one s/\"bits_stored\":[0-9.]+/\"bits_stored\":3.0/"
violates gptq_not_above_rtn 'gptq b3 row blk.1.ffn_down: tr\(dW' "$one s/\"proxy_loss\":[0-9.e+-]+/\"proxy_loss\":1e9/"

# A byte of the last stored form.
rm -rf "$work/faulty"
cp -r "$run" "$work/faulty"
size=$(stat -c %s "$run/forms.pack")
printf '\xa5\x5a\xa5\x5a' | dd of="$work/faulty/forms.pack" bs=1 seek=$((size - 8)) conv=notrunc status=none
expect 5 "$PTQ" check "$work/faulty"
shows '^round_trip +hard +VIOLATED .*blk\.[0-9]+\.[a-z_]+: the stored bytes do not match'

# No forms: said, not passed over. No run, a broken row: exit code 2.
rm "$work/faulty/forms.pack"
expect 0 "$PTQ" check "$work/faulty"
shows '^round_trip +hard +not checked +0 forms +not checked: INCOMPLETE: 56 of 56'
expect 2 "$PTQ" check "$work/absent"
echo '{"kind":' >>"$work/faulty/cells.jsonl"
expect 2 "$PTQ" check "$work/faulty"
expect 2 "$PTQ" check

# A sweep that has nothing left to run still checks the run.
sed -i -E "$one s/\"bits_stored\":[0-9.]+/\"bits_stored\":3.0/" "$run/cells.jsonl"
expect 5 sweep
says 'VIOLATED ledger_is_bytes'
says 'gptq b3 row blk.1.ffn_down'
finish "every hard rule that a run can break is told"
