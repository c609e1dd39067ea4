#!/usr/bin/env bash
# [bench] speed = 1: a row of kind "speed" for every model row, once a machine; the report has tokens a second beside the loss, and a
# form without a kernel says why.
. "$(dirname "$0")/../sweep_lib.sh"
config=$work/speed.ini
small_config "$config"
SET_SPEED="sweep.methods=rtn,gptq:act_order=1 sweep.bits=3,4 sweep.group_size=64,8 bench.speed=1 bench.ms=1 bench.batch=4"
SET=$SET_SPEED exits 0 sweep "$config" speed
rows=$work/speed/cells.jsonl
speeds() { grep -c '"kind":"speed"' "$rows"; }
[ "$(speeds)" = 8 ] || fail "8 model rows, $(speeds) speed rows"
[ "$(grep '"kind":"speed"' "$rows" | grep '"group_size":64' | grep -c '"tokens_s":[1-9].*"batch_gflops":[0-9]')" = 4 ] || fail "speeds of groups of 64"
[ "$(grep '"kind":"speed"' "$rows" | grep '"group_size":8,' | grep '"status":"skipped"' | grep -c 'multiples of 16')" = 4 ] || fail "groups of 8 have no kernel, which the row should say"
SET=$SET_SPEED exits 0 sweep "$config" speed
[ "$(speeds)" = 8 ] || fail "speeds were measured again: $(speeds) rows"
SET="$SET_SPEED bench.batch=5" exits 0 sweep "$config" speed
[ "$(speeds)" = 16 ] || fail "another batch is another measurement: $(speeds) rows"
"$PTQ" report "$work/speed" --print-only --format csv >"$work/csv" || fail "report"
head -1 "$work/csv" | grep -q tokens_s || fail "the table has no tokens_s: $(head -1 "$work/csv")"
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
