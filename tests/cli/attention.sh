#!/usr/bin/env bash
# Statistics of attention and caches of keys and values: ptq capture --attention, [calib] attention, [sweep] kv_tokens.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0
fail() {
    echo "FAIL: $*"
    failed=1
}
expect() { # CODE PART COMMAND...
    local code=$1 part=$2
    shift 2
    "$@" >"$dir/out" 2>"$dir/err"
    local got=$?
    [ $got = "$code" ] || fail "$*: exit $got, expected $code: $(cat "$dir/err")"
    grep -qF -- "$part" "$dir/err" || fail "$*: stderr lacks '$part': $(cat "$dir/err")"
}
capture=("$PTQ" capture demo --text synth:facts:4444 --windows 6)

# The demo model has 8 heads of 16 on 4 kv heads over 128 channels, 4 blocks: a file of fp32 triangles grows by
# 4 * 4 * (4 * 128 * 129 / 2 + (8 + 2 * 4) * 16 * 17 / 2) bytes.
expect 0 "(8 heads x 16^2, 4 kv heads x 128^2)" "${capture[@]}" --attention --out "$dir/all.h5" --threads 1
expect 0 "" "${capture[@]}" --out "$dir/plain.h5"
grep -q attention "$dir/err" && fail "a capture without attention speaks of it"
grown=$(($(stat -c %s "$dir/all.h5") - $(stat -c %s "$dir/plain.h5")))
[ $grown -ge 563200 ] && [ $grown -le 620000 ] || fail "statistics of attention take $grown bytes in the file"
expect 0 "" "${capture[@]}" --attention --out "$dir/two.h5" --threads 2
cmp -s "$dir/all.h5" "$dir/two.h5" || fail "two threads give another file than one"
expect 0 "(8 heads x 16^2)" "${capture[@]}" --attention --block-v off --out "$dir/rows.h5"
"$PTQ" inspect "$dir/rows.h5" >"$dir/listed" 2>&1 || fail "inspect: $(cat "$dir/listed")"
expect 2 "another model, text, options" "${capture[@]}" --attention --out "$dir/rows.h5"
expect 2 "goes with --attention" "${capture[@]}" --block-v off --out "$dir/x.h5"
expect 2 "did you mean 'off'" "${capture[@]}" --attention --block-v of --out "$dir/x.h5"
expect 6 "take --block-v off" "${capture[@]}" --attention --memory 100K --out "$dir/x.h5"
[ -e "$dir/x.h5" ] && fail "a refused capture left a file"

# Sweeps. Keys of methods that do not ask for attention do not depend on it.
sweep() { # NAME LINES-OF-calib LINES-OF-sweep
    printf '[model]\nsource = demo\n[calib]\ntext = synth:facts\nnsamples = 4\nseed = 4444\n%b\n[sweep]\nbits = 3\n%b\n' "$2" "$3" >"$dir/$1.ini"
    printf '[eval]\ntext = synth:facts:5555\nwindows = 2\n[run]\nout = %s\n' "$dir/results" >>"$dir/$1.ini"
    "$PTQ" sweep "$dir/$1.ini" --quiet >"$dir/out" 2>"$dir/err"
}
keys() { grep -o '"key":"[0-9a-f]*"' "$dir/results/$1/cells.jsonl" | sort; }
sweep off "attention = 0" "methods = gptq" || fail "attention = 0: $(cat "$dir/err")"
sweep on "attention = 1" "methods = gptq" || fail "attention = 1: $(cat "$dir/err")"
sweep rows "attention = rows" "methods = gptq" || fail "attention = rows: $(cat "$dir/err")"
[ "$(keys off)" = "$(keys on)" ] && [ "$(keys off)" = "$(keys rows)" ] || fail "attention changes keys of gptq"
# But attn_loss is of the statistics that there are: absent without them, another value or key with those of rows alone,
# and filled in when a method that asks for them joins.
losses() { # the last row of a cell counts
    grep '"method":"gptq"' "$dir/results/$1/cells.jsonl" | sed -nE 's/.*"layer":"([^"]*attn_[qkv])".*"metrics":\{"attn_loss":([^,}]*).*/\1 \2/p' |
        awk '{ loss[$1] = $2 } END { for (l in loss) print l, loss[l] }' | sort
}
numbers() { losses "$1" | grep -cE ' [0-9]'; }
attn_keys() { grep -o '"metric_keys":{"attn_loss":"[0-9a-f]*"' "$dir/results/$1/cells.jsonl" | sort -u; }
[ "$(numbers off)" = 0 ] && [ "$(numbers on)" = 12 ] && [ "$(numbers rows)" = 12 ] ||
    fail "attn_loss of gptq's 12 q, k, v: $(numbers off), $(numbers on), $(numbers rows)"
[ -n "$(attn_keys on)" ] && [ "$(attn_keys on)" != "$(attn_keys rows)" ] && [ "$(attn_keys on)" != "$(attn_keys off)" ] || fail "keys of attn_loss do not tell the statistics"
sweep grows "" "methods = gptq\nlayers = *.attn_?" || fail "gptq alone: $(cat "$dir/err")"
[ "$(numbers grows)" = 0 ] || fail "gptq alone has attn_loss"
sweep grows "" "methods = gptq, boa\nlayers = *.attn_?" || fail "gptq and boa: $(cat "$dir/err")"
[ "$(losses grows)" = "$(losses on)" ] || fail "attn_loss of gptq after boa joined: $(losses grows)"
sweep turns "attention = 0" "methods = gptq" || fail "attention = 0 in turns: $(cat "$dir/err")"
sweep turns "attention = 1" "methods = gptq" || fail "attention = 1 in turns: $(cat "$dir/err")"
[ "$(losses turns)" = "$(losses on)" ] || fail "attn_loss after attention = 0 became 1: $(losses turns)"
[ "$(stat -c %s "$dir"/results/on/stats.*.h5)" -gt "$(stat -c %s "$dir"/results/rows/stats.*.h5)" ] &&
    [ "$(stat -c %s "$dir"/results/rows/stats.*.h5)" -gt "$(stat -c %s "$dir"/results/off/stats.*.h5)" ] ||
    fail "attention = 0, rows and 1 hold the same"

# auto: a method asks for them. Sequential statistics hold them too, and those against full precision.
sweep auto "" "methods = boa\nlayers = *.attn_?" || fail "boa: $(cat "$dir/err")"
[ "$(stat -c %s "$dir"/results/auto/stats.*.h5)" = "$(stat -c %s "$dir"/results/on/stats.*.h5)" ] || fail "auto took no attention for boa"
sweep walk "stats = sequential" "methods = boa:upstream=0.25\nlayers = *.attn_?" || fail "boa:upstream: $(cat "$dir/err")"
for name in auto walk; do
    [ "$(grep -c '"kind":"layer".*"status":"ok"' "$dir/results/$name/cells.jsonl")" = 16 ] || fail "$name: $(grep -o '"reason":"[^"]*"' "$dir/results/$name/cells.jsonl" | head -2)"
done

# Keys and values as layers: rows of their own, no part of the model's.
sweep kv "" "methods = rtn, gptq\nkv_tokens = 100" || fail "kv_tokens: $(cat "$dir/err")"
rows="$dir/results/kv/cells.jsonl"
[ "$(grep -c '"layer":"blk.[0-3].[kv]cache".*"rows":100' "$rows")" = 16 ] || fail "rows of caches: $(grep -c cache "$rows")"
grep '"layer":"blk.0.kcache"' "$rows" | grep '"method":"rtn"' | grep -q '"status":"ok".*"w_relerr":0' || fail "rtn leaves out the keys"
grep '"layer":"blk.0.kcache"' "$rows" | grep '"method":"rtn"' | grep -q '"out_relerr":"no calibration Hessian"' || fail "out_relerr of a cache"
grep '"layer":"blk.0.vcache"' "$rows" | grep '"method":"gptq"' | grep -q '"status":"skipped".*multiply nothing' || fail "gptq takes the values"
model() { grep '"kind":"model"' "$dir/results/$1/cells.jsonl" | grep '"method":"gptq"' | grep -oE '"(ppl|bits_stored|form)":"?[0-9a-f.]*'; }
[ "$(model kv)" = "$(model off)" ] && [ -n "$(model off)" ] || fail "caches change the model's row: $(model kv) / $(model off)"
sweep kv2 "stats = sequential" "methods = rtn\nkv_tokens = 100" && fail "kv_tokens under sequential statistics was accepted"
grep -q 'set \[calib\] stats = fp' "$dir/err" || fail "kv_tokens under sequential statistics: $(cat "$dir/err")"
sweep kv3 "" "methods = rtn\nkv_tokens = 1025" && fail "more kv_tokens than tokens were accepted"
grep -q 'has 1024 tokens' "$dir/err" || fail "too many kv_tokens: $(cat "$dir/err")"
[ $failed = 0 ] && echo "capture, keys, caches"
exit $failed
