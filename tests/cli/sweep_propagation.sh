#!/usr/bin/env bash
# [eval] propagation = N: a row of kind "propagation" for every model row, on N windows; made once, the same bits for any thread count,
# whatever else is swept; in the report a table, its files and a picture. No other row changes.
. "$(dirname "$0")/../sweep_lib.sh"
config=$work/prop.ini
small_config "$config"
BASE="sweep.methods=rtn,gptq sweep.bits=3,8 sweep.group_size=64"
of_kind() { cat "$1"/cells*.jsonl | grep '"kind":"propagation"'; }
count() { of_kind "$1" | wc -l; }
bodies() { of_kind "$1" | sed 's/,"time":{.*//' | LC_ALL=C sort; }
run=$work/run

SET="$BASE eval.propagation=1000" exits 2 sweep "$config" many
says 'propagation = 1000, but synth:facts:5555 gives'
SET="$BASE" exits 0 sweep "$config" plain
SET="$BASE eval.propagation=3" exits 0 sweep "$config" run --threads 1
[ "$(count "$run")" = 4 ] || fail "4 model rows, $(count "$run") rows of errors"
[ "$(of_kind "$run" | grep -c '"status":"ok".*"propagation":{"windows":3,"tokens":768,"sink_tokens":1,"blocks":{"norm":')" = 4 ] || fail "what a row holds: $(of_kind "$run" | head -1)"
# Into rows that are there, by several threads: the same, and no other row is made again.
SET="$BASE eval.propagation=3" exits 0 sweep "$config" plain --threads 3
[ "$(count "$work/plain")" = 4 ] || fail "rows of errors beside finished rows: $(count "$work/plain")"
same_rows "$run" "$work/plain" "1 thread and the rows at once, 3 threads and one after the other"
[ "$(n_rows "$run")" = "$(n_rows "$work/plain")" ] || fail "finished rows were made again"
SET="$BASE eval.propagation=3" exits 0 sweep "$config" run
[ "$(count "$run")" = 4 ] || fail "made again: $(count "$run")"

# Other windows are another measurement, and the last one asked for is the one that is shown.
SET="$BASE eval.propagation=2" exits 0 sweep "$config" run
[ "$(count "$run")" = 8 ] || fail "two windows: $(count "$run") rows"
"$PTQ" report "$run" >"$work/text" 2>"$work/err" || fail "report: $(cat "$work/err")"
grep -q 'total behind' "$work/text" || fail "no table: $(cat "$work/text")"
[ "$(wc -l <"$run/tables/propagation.csv")" = 17 ] || fail "4 models of 4 blocks in the table: $(cat "$run/tables/propagation.csv")"
# What the numbers must be, without sinks and with them: at 8 bits small, at 3 larger; the first block inherits nothing; parts add up.
awk -F, -v least="$([ "$N_LAYERS" = 28 ] && echo 1e-4 || echo 1e-6)" '
    NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
    {
        for (k = 0; k < 2; k++) {
            with = k ? "_with_sinks" : ""
            t = $at["total" with]; l = $at["local" with]; o = $at["own" with]; i = $at["inherited" with]; c = $at["cosine" with]
            if ($at["block"] == 0 && !(i == 0 && t == l && c == "")) bad("the first block")
            d = o + i + 2 * c * sqrt(o * i) - t
            if (d > 1e-9 * t || d < -1e-9 * t) bad("does not add up")
            if ($at["bits"] == 8 ? !(t > 0 && t < 1e-4) : !(t > least && t < 1)) bad("total")
        }
    }
    function bad(why) { print why ": " $0; failed = 1 }
    END { exit failed }' "$run/tables/propagation.csv" || fail "numbers"
grep -q '\\toprule' "$run/tables/propagation.tex" || fail "no LaTeX"
grep -q 'id="propagation"' "$run/report.html" && grep -q '^## Error block by block' "$run/report.md" || fail "the pages lack the table"
if command -v gnuplot >/dev/null; then
    [ -s "$run/plots/propagation.svg" ] || fail "no picture"
    [ "$(wc -l <"$run/plots/block.tsv")" = 9 ] || fail "two methods of one width in the picture: $(cat "$run/plots/block.tsv")"
fi
# One that no longer asks shows none.
SET="$BASE" exits 0 sweep "$config" run
"$PTQ" report "$run" >"$work/text" 2>"$work/err" || fail "report"
! grep -q 'total behind' "$work/text" && [ ! -e "$run/tables/propagation.csv" ] || fail "errors that nobody asked for"

# Verbs that read rows.
for sides in "$run $work/plain" "$work/plain $run"; do
    # shellcheck disable=SC2086
    "$PTQ" compare $sides >"$work/same" 2>&1 || fail "compare $sides: $(tail -3 "$work/same")"
done
"$PTQ" check "$work/plain" >"$work/same" 2>&1 || fail "check: $(tail -5 "$work/same")"
for shard in 1/2 2/2; do SET="$BASE eval.propagation=3" exits 0 sweep "$config" "part${shard%/2}" --shard $shard; done
"$PTQ" merge "$work/merged" "$work/part1" "$work/part2" >/dev/null 2>"$work/err" || fail "merge: $(cat "$work/err")"
[ "$(bodies "$work/merged")" = "$(bodies "$work/plain")" ] || fail "merged shards differ from one run"
"$PTQ" report "$work/merged" --print-only | grep -q 'total behind' || fail "no table of merged shards"
SET="$BASE eval.propagation=4" exits 0 sweep "$config" plain --dry-run
grep -Eq '^rows beside them +4, 4 to do' "$work/out" || fail "dry run: $(cat "$work/out")"

# Without a sink position all tokens are the rest, and their errors are those that were told with sinks.
TWO="sweep.methods=rtn sweep.bits=3 sweep.group_size=64 eval.propagation=3"
SET="$TWO" exits 0 sweep "$config" sink
SET="$TWO calib.sink_tokens=0" exits 0 sweep "$config" sinkless
field() { of_kind "$work/$1" | grep -o "\"$2\":{\"norm\".*" | cut -d'}' -f1 | cut -d: -f2-; }
[ "$(field sinkless blocks)" = "$(field sinkless with_sinks)" ] || fail "no sinks: $(field sinkless blocks) and $(field sinkless with_sinks)"
totals() { field "$1" "$2" | grep -o '"total":[^]]*'; }
[ "$(totals sink blocks)" != "$(totals sink with_sinks)" ] || fail "sinks make no difference: $(field sink blocks)"
numbers() { field "$1" with_sinks | grep -oE '[0-9.]+(e[-+][0-9]+)?'; }
paste <(numbers sink) <(numbers sinkless) | awk '{ d = $1 - $2; n++; if (d > 1e-9 * $1 || d < -1e-9 * $1) failed = 1 } END { exit failed || n < 20 }' ||
    fail "with sinks: $(field sink with_sinks), all tokens: $(field sinkless with_sinks)"

# Forms that went away are made again for it; forms behind quantized blocks and quantized inputs have errors too.
rm "$run"/forms*.pack
SET="$BASE eval.propagation=4" exits 0 sweep "$config" run
[ "$(count "$run")" = 12 ] || fail "without forms.pack: $(count "$run") rows"
SEQ="sweep.methods=gptq sweep.bits=4 sweep.group_size=64 sweep.a_bits=8,16 calib.stats=sequential calib.nsamples=2"
SET="$SEQ" exits 0 sweep "$config" seq
rm "$work"/seq/forms*.pack
SET="$SEQ eval.propagation=2" exits 0 sweep "$config" seq
[ "$(of_kind "$work/seq" | grep -c '"status":"ok"')" = 2 ] || fail "sequential: $(of_kind "$work/seq" | cut -c1-300)"
[ "$(of_kind "$work/seq" | grep -c '"a_bits":8')" = 1 ] || fail "quantized inputs"

# A model that cannot be has no errors either, which its row says; the report gives the reason once.
CANNOT="sweep.methods=rtn,hera sweep.bits=3 sweep.group_size=64 eval.propagation=2"
SET="$CANNOT" exits 0 sweep "$config" cannot
[ "$(of_kind "$work/cannot" | grep '"method":"hera"' | grep -c '"reason":"blk.0.attn_q: hera cannot do groups')" = 1 ] ||
    fail "the errors of no model: $(of_kind "$work/cannot" | cut -c1-400)"
"$PTQ" report "$work/cannot" --no-plots >"$work/text" 2>"$work/err" || fail "report: $(cat "$work/err")"
[ "$(grep -c hera "$work/cannot/tables/not_run.csv")" = 2 ] || fail "the layers' reason and the model's: $(cat "$work/cannot/tables/not_run.csv")"

# All windows. What is no number, or has no text, is said.
SET="sweep.methods=rtn sweep.bits=3 sweep.group_size=64 sweep.layers=blk.1.* eval.propagation=$WINDOWS" exits 0 sweep "$config" all
of_kind "$work/all" | grep -q "\"windows\":$WINDOWS," || fail "all windows"
SET="eval.propagation=-1" exits 2 sweep "$config" bad
says 'propagation'
SET="eval.propagation=some" exits 2 sweep "$config" bad
says "propagation.*'some'"
sed '/^\[eval\]/,$d' "$config" >"$work/textless.ini"
SET="eval.propagation=2" exits 2 sweep "$work/textless.ini" bad
says 'propagation = 2: needs an \[eval\] text'
finish ok
