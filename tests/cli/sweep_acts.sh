#!/usr/bin/env bash
# Quantized inputs: the demo model with weights of 8 bits and inputs of 16, 8 and 4. Rows score the true product, perplexity rises
# as inputs narrow, threads decide nothing, and cells of weights alone are the cells they were.
. "$(dirname "$0")/../sweep_lib.sh"
config=$work/acts.ini
small_config "$config"
SET_ACTS="sweep.methods=rtn sweep.bits=8 sweep.group_size=-1 sweep.a_bits=16,8,4"

field() { # row pattern, field: its numbers in the rows of $work/acts-1 that match
    grep -E "$1" "$work/acts-1/cells.jsonl" | sed -nE "s/.*\"$2\":(-?[0-9.e+-]+|null).*/\1/p"
}

for t in 1 3; do
    SET=$SET_ACTS exits 0 sweep "$config" acts-$t --threads $t
done
same_rows "$work/acts-1" "$work/acts-3" "threads"
[ "$(field '"kind":"layer".*"a_bits":8' out_relerr_wa | wc -l)" = "$N_LAYERS" ] || fail "not every layer of a8 is scored"
[ "$(field '"kind":"layer".*"a_bits":4' out_relerr_wa | grep -vc null)" = "$N_LAYERS" ] || fail "not every layer of a4 has out_relerr_wa"
grep '"kind":"layer"' "$work/acts-1/cells.jsonl" | grep -v '"a_bits"' | grep -q '"out_relerr_wa":"inputs stay as they are' ||
    fail "rows of weights alone do not say why out_relerr_wa is absent"

# Errors of the product: those of inputs of 4 bits are (2^4 - 1)^2 or so times those of 8.
paste <(field '"kind":"layer".*"a_bits":8' out_relerr_wa) <(field '"kind":"layer".*"a_bits":4' out_relerr_wa) |
    awk '!($1 > 0 && $2 > 20 * $1) { exit 1 }' || fail "out_relerr_wa of a8 and a4"

ppl() { field "\"kind\":\"model\".*\"bits\":8,$1" ppl; }
# Four layers (sanitizers) move the model too little for an order.
echo "$(ppl '"group_size"') $(ppl '"a_bits":8') $(ppl '"a_bits":4')" |
    awk -v all="$((N_LAYERS == 28))" '!(NF == 3 && (all ? $1 <= $2 * 1.002 && $2 * 1.01 < $3 : $1 != $2 && $2 != $3)) { exit 1 }' ||
    fail "perplexities of a16, a8, a4: $(ppl '"group_size"') $(ppl '"a_bits":8') $(ppl '"a_bits":4')"

# The cells of 16 bits are those of a sweep that knows nothing of inputs: same keys, same rows.
SET="sweep.methods=rtn sweep.bits=8 sweep.group_size=-1" exits 0 sweep "$config" plain
rows "$work/plain" >"$work/rows.a"
rows "$work/acts-1" | grep -v '"a_bits"' >"$work/rows.b"
cmp -s "$work/rows.a" "$work/rows.b" || fail "rows of a_bits = 16 differ from those without the line"

# The share of products of 4-bit operands.
SET="sweep.methods=rtn sweep.bits=4,8 sweep.group_size=-1 sweep.a_bits=4" exits 0 sweep "$config" share
grep '"kind":"layer"' "$work/share/cells.jsonl" | grep '"bits":4,' | grep -q '"macs_expand":1.0,"macs_int4_share":1.0' || fail "share of a4 b4"
grep '"kind":"layer"' "$work/share/cells.jsonl" | grep '"bits":8,' | grep -q '"macs_int4_share":0.0' || fail "share of a4 b8"

# Quantized blocks before it: the walk runs on quantized inputs as well.
for t in 1 3; do
    SET="$SET_ACTS sweep.methods=gptq calib.stats=sequential sweep.a_bits=4" exits 0 sweep "$config" seq-$t --threads $t
done
same_rows "$work/seq-1" "$work/seq-3" "sequential, threads"

# Losses of modules on sampled windows: of the full-precision model, behind quantized blocks, and of fewer tokens.
for stats in fp sequential; do
    for t in 1 3; do
        SET="sweep.methods=awq sweep.bits=3 sweep.group_size=64 model.blocks=2 calib.module_tokens=512 calib.stats=$stats" \
            exits 0 sweep "$config" module-$stats-$t --threads $t
    done
    same_rows "$work/module-$stats-1" "$work/module-$stats-3" "modules, $stats, threads"
    grep -q '"kind":"layer".*"status":"ok"' "$work/module-$stats-1/cells.jsonl" || fail "awq did nothing with $stats statistics"
done
SET="sweep.methods=awq sweep.bits=3 sweep.group_size=64 model.blocks=2 calib.module_tokens=300" exits 0 sweep "$config" module-fewer
cmp -s <(rows "$work/module-fp-1" | cut -c1-90) <(rows "$work/module-fewer" | cut -c1-90) && fail "fewer tokens give the same keys"

# ptq run says the same of one layer.
cp "${PTQ_DATA:-.}/datasets/demo.h5" "$work/stats.h5"
chmod u+w "$work/stats.h5"
"$PTQ" capture demo --text synth:facts:4444 -n 4 -o "$work/stats.h5" >"$work/out" 2>"$work/err" || fail "ptq capture: $(cat "$work/err")"
"$PTQ" run "$work/stats.h5" -m rtn -b 8 -a 4 -l blk.0.attn_q >"$work/out" 2>"$work/err" || fail "ptq run: $(cat "$work/err")"
grep -Eq '^out_relerr_wa +[0-9]' "$work/out" && grep -Eq '^a_bits +4' "$work/out" || fail "ptq run -a 4: $(cat "$work/out")"
exits 2 "$PTQ" run "$work/stats.h5" -m rtn -b 8 -a 12 -l blk.0.attn_q
says 'a_bits = 12; use 2 to 8'
finish ok
