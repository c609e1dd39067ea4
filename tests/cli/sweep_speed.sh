#!/usr/bin/env bash
# [bench] speed = 1: a row of kind "speed" for every model row, once a machine; the report has tokens a second beside the loss, and a
# form without a kernel says why.
. "$(dirname "$0")/../sweep_lib.sh"
config=$work/speed.ini
small_config "$config"
SET_SPEED="sweep.methods=rtn,gptq:act_order=1,hera sweep.bits=3,4 sweep.group_size=64,8 bench.speed=1 bench.ms=1 bench.batch=4"
SET=$SET_SPEED exits 0 sweep "$config" speed
rows=$work/speed/cells.jsonl
speeds() { grep -c '"kind":"speed"' "$rows"; }
[ "$(speeds)" = 8 ] || fail "8 model rows, $(speeds) speed rows"
[ "$(grep '"kind":"speed"' "$rows" | grep '"group_size":64' | grep -c '"tokens_s":[1-9].*"batch_gflops":[0-9]')" = 4 ] || fail "speeds of groups of 64"
[ "$(grep '"kind":"speed"' "$rows" | grep '"group_size":8,' | grep '"status":"skipped"' | grep -c 'multiples of 16')" = 4 ] || fail "groups of 8 have no kernel, which the row should say"
grep '"kind":"speed"' "$rows" | grep -q '"label":"hera"' && fail "speeds of a model that there is not: hera has no groups"
field() { sed -n "s/.*\"$1\":\([-0-9.e+]*\).*/\1/p"; } # of rows on stdin
# Rates hold together: bytes and products a token times tokens a second, products of the layers that the run has.
macs=$(grep '"kind":"layer".*"label":"rtn".*"bits":3,"group_size":64,' "$rows" | sed 's/.*"rows":\([0-9]*\),"cols":\([0-9]*\).*/\1 \2/' | awk '{ n += $1 * $2 } END { print n }')
measured() { grep '"kind":"speed"' "$rows" | grep '"tokens_s"' | grep "$1"; }
hold_together() { # BATCH
    local n=0 row
    while read -r row; do
        n=$((n + 1))
        set -- "$1" "$(field bits <<<"$row")" "$(for f in tokens_s gbs bytes macs batch batch_tokens_s batch_gflops fp32_tokens_s fp32_batch_gflops spread batch_spread; do
            [ -z "$(field $f <<<"$row")" ] && echo absent
            field $f <<<"$row"
        done | tr '\n' ' ')"
        awk -v macs="$macs" -v want="$1" -v bits="$2" 'function same(a, b) { return (a - b) ^ 2 < 1e-18 * b * b }
            { if (!(NF == 11 && same($2 * 1e9, $3 * $1) && $4 == macs && $5 == want && same($7 * 1e9, 2 * macs * $6))) exit 1
              if (!(8 * $3 >= bits * macs && 8 * $3 <= (bits + 1.5) * macs && $8 != $1 && $9 != $7 && $10 >= 0 && $11 >= 0)) exit 1 }' <<<"$3" ||
            fail "batch $1, $2 bits, $macs products: $3"
    done < <(measured "\"batch\":$1\.")
    [ "$n" -gt 0 ] || fail "no speed of batch $1"
}
hold_together 4
SET=$SET_SPEED exits 0 sweep "$config" speed
[ "$(speeds)" = 8 ] || fail "speeds were measured again: $(speeds) rows"
SET="$SET_SPEED bench.batch=512" exits 0 sweep "$config" speed
[ "$(speeds)" = 16 ] || fail "another batch is another measurement: $(speeds) rows"
hold_together 512
# 512 tokens take longer than one.
paste -d' ' <(measured '"batch":512\.' | field batch_tokens_s) <(measured '"batch":512\.' | field tokens_s) |
    awk '!(512 / $1 > 4 / $2) { print; exit 1 }' || fail "512 tokens in the time of one"
# Other threads and another processor are other measurements; inputs of integers are told; caches of K and V multiply nothing.
SET=$SET_SPEED exits 0 sweep "$config" speed --threads 3
[ "$(speeds)" = 24 ] || fail "three threads are another measurement: $(speeds) rows"
cp -r "$work/speed" "$work/scalar"
SET="$SET_SPEED" PTQ_CPU=scalar exits 0 sweep "$config" scalar
[ "$(grep '"kind":"speed"' "$work/scalar/cells.jsonl" | grep -c '"isa":"scalar"')" = 8 ] || fail "another instruction set is another measurement"
grep '"kind":"speed"' "$rows" | grep -q '"integer_inputs":true' && fail "integers without a_bits"
# The table has the last measurement of each form, in the model's row.
"$PTQ" report "$work/speed" --print-only --format csv >"$work/csv" || fail "report"
for name in tokens_s batch_gflops; do
    k=$(head -1 "$work/csv" | tr , '\n' | grep -nx $name | cut -d: -f1)
    [ -n "$k" ] || fail "the table has no $name: $(head -1 "$work/csv")"
    shown=$(awk -F, -v k="$k" '$6 == "rtn" && $8 == 3 && $9 == 64 { print $k }' "$work/csv")
    last=$(grep '"kind":"speed".*"label":"rtn".*"bits":3,"group_size":64,' "$rows" | tail -1 | field $name)
    [ -n "$shown" ] && [ "$shown" = "$last" ] || fail "$name: the table says $shown, the last row $last"
done
"$PTQ" report "$work/speed" --no-plots >"$work/out" 2>"$work/err" || fail "report: $(cat "$work/err")"
grep -Eq '^\| tokens.?_s \| tokens a second' "$work/speed/report.md" && grep -Eq '^\| batch.?_gflops \| GFLOP/s' "$work/speed/report.md" ||
    fail "definitions: $(grep -E '^\| (tokens|batch)' "$work/speed/report.md")"
SET="$SET_SPEED sweep.methods=rtn sweep.group_size=64 sweep.a_bits=8" exits 0 sweep "$config" acts
[ "$(grep -c '"kind":"speed".*"integer_inputs":true' "$work/acts/cells.jsonl")" = 2 ] || fail "speeds of inputs of 8 bits"
SET="$SET_SPEED sweep.methods=rtn sweep.group_size=64 sweep.kv_tokens=64" exits 0 sweep "$config" caches
[ "$(grep -c '"kind":"speed".*"tokens_s"' "$work/caches/cells.jsonl")" = 2 ] || fail "speeds beside caches of K and V"
grep '"kind":"speed"' "$work/caches/cells.jsonl" | field macs | awk -v n="$macs" '$1 != n { exit 1 }' || fail "caches of K and V multiply nothing: not $macs products"
# full precision: the middle one of the fp32 speeds beside the cells
column=$(head -1 "$work/csv" | tr , '\n' | grep -nx tokens_s | cut -d: -f1)
shown=$(grep ',reference,' "$work/csv" | cut -d, -f"$column")
wanted=$(grep '"kind":"speed"' "$rows" | grep -o '"fp32_tokens_s":[0-9.e+]*' | cut -d: -f2 | sort -g | awk '{ v[NR] = $1 } END { printf "%.17g", (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }')
awk -v a="$shown" -v b="$wanted" 'BEGIN { exit !(a > 0 && a / b > 1 - 1e-9 && a / b < 1 + 1e-9) }' || fail "full precision: $shown tokens a second, the rows have $wanted"
"$PTQ" compare "$work/speed" "$work/speed" >"$work/same" 2>&1 || fail "a run with speeds and itself: $(tail -3 "$work/same")"
# Rows of weights are the same with and without it.
SET="${SET_SPEED/bench.speed=1/bench.speed=0}" exits 0 sweep "$config" plain
grep -v '"kind":"speed"' "$rows" | grep -o '"codes_hash":"[0-9a-f]*"' | sort >"$work/a"
grep -o '"codes_hash":"[0-9a-f]*"' "$work/plain/cells.jsonl" | sort >"$work/b"
[ -s "$work/a" ] && cmp -s "$work/a" "$work/b" || fail "other codes with speed = 1"
! grep -q '"kind":"speed"' "$work/plain/cells.jsonl" || fail "speed rows without speed = 1"
finish ok
