#!/usr/bin/env bash
# Statistics of attention and caches of keys and values: ptq capture --attention, [calib] attention, [sweep] kv_tokens.
. "$(dirname "$0")/../lib.sh"
capture=("$PTQ" capture demo --text synth:facts:4444 --windows 6)

# The demo model has 8 heads of 16 on 4 kv heads over 128 channels, 4 blocks: a file of fp32 triangles grows by
# 4 * 4 * (4 * 128 * 129 / 2 + (8 + 2 * 4) * 16 * 17 / 2) bytes.
answers 0 "(8 heads x 16^2, 4 kv heads x 128^2)" "${capture[@]}" --attention --out "$work/all.h5" --threads 1
answers 0 "" "${capture[@]}" --out "$work/plain.h5"
grep -q attention "$work/err" && fault "a capture without attention speaks of it"
grown=$(($(stat -c %s "$work/all.h5") - $(stat -c %s "$work/plain.h5")))
[ $grown -ge 563200 ] && [ $grown -le 620000 ] || fault "statistics of attention take $grown bytes in the file"
answers 0 "" "${capture[@]}" --attention --out "$work/two.h5" --threads 2
cmp -s "$work/all.h5" "$work/two.h5" || fault "two threads give another file than one"
answers 0 "(8 heads x 16^2)" "${capture[@]}" --attention --block-v off --out "$work/rows.h5"
"$PTQ" inspect "$work/rows.h5" >"$work/listed" 2>&1 || fault "inspect: $(cat "$work/listed")"
answers 2 "another model, text, options" "${capture[@]}" --attention --out "$work/rows.h5"
answers 2 "goes with --attention" "${capture[@]}" --block-v off --out "$work/x.h5"
answers 2 "did you mean 'off'" "${capture[@]}" --attention --block-v of --out "$work/x.h5"
answers 6 "take --block-v off" "${capture[@]}" --attention --memory 100K --out "$work/x.h5"
[ -e "$work/x.h5" ] && fault "a refused capture left a file"

# Sweeps. Keys of methods that do not ask for attention do not depend on it.
sweep() { # NAME LINES-OF-calib LINES-OF-sweep
    printf '[model]\nsource = demo\n[calib]\ntext = synth:facts\nnsamples = 4\nseed = 4444\n%b\n[sweep]\nbits = 3\n%b\n' "$2" "$3" >"$work/$1.ini"
    printf '[eval]\ntext = synth:facts:5555\nwindows = 2\n[run]\nout = %s\n' "$work/results" >>"$work/$1.ini"
    "$PTQ" sweep "$work/$1.ini" --quiet >"$work/out" 2>"$work/err"
}
keys() { grep -o '"key":"[0-9a-f]*"' "$work/results/$1/cells.jsonl" | sort; }
sweep off "attention = 0" "methods = gptq" || fault "attention = 0: $(cat "$work/err")"
sweep on "attention = 1" "methods = gptq" || fault "attention = 1: $(cat "$work/err")"
sweep rows "attention = rows" "methods = gptq" || fault "attention = rows: $(cat "$work/err")"
[ "$(keys off)" = "$(keys on)" ] && [ "$(keys off)" = "$(keys rows)" ] || fault "attention changes keys of gptq"
# But attn_loss is of the statistics that there are: absent without them, another value or key with those of rows alone,
# and filled in when a method that asks for them joins.
losses() { # the last row of a cell counts
    grep '"method":"gptq"' "$work/results/$1/cells.jsonl" | sed -nE 's/.*"layer":"([^"]*attn_[qkv])".*"metrics":\{"attn_loss":([^,}]*).*/\1 \2/p' |
        awk '{ loss[$1] = $2 } END { for (l in loss) print l, loss[l] }' | sort
}
numbers() { losses "$1" | grep -cE ' [0-9]'; }
attn_keys() { grep -o '"metric_keys":{"attn_loss":"[0-9a-f]*"' "$work/results/$1/cells.jsonl" | sort -u; }
[ "$(numbers off)" = 0 ] && [ "$(numbers on)" = 12 ] && [ "$(numbers rows)" = 12 ] ||
    fault "attn_loss of gptq's 12 q, k, v: $(numbers off), $(numbers on), $(numbers rows)"
[ -n "$(attn_keys on)" ] && [ "$(attn_keys on)" != "$(attn_keys rows)" ] && [ "$(attn_keys on)" != "$(attn_keys off)" ] || fault "keys of attn_loss do not tell the statistics"
sweep grows "" "methods = gptq\nlayers = *.attn_?" || fault "gptq alone: $(cat "$work/err")"
[ "$(numbers grows)" = 0 ] || fault "gptq alone has attn_loss"
sweep grows "" "methods = gptq, boa\nlayers = *.attn_?" || fault "gptq and boa: $(cat "$work/err")"
[ "$(losses grows)" = "$(losses on)" ] || fault "attn_loss of gptq after boa joined: $(losses grows)"
sweep turns "attention = 0" "methods = gptq" || fault "attention = 0 in turns: $(cat "$work/err")"
sweep turns "attention = 1" "methods = gptq" || fault "attention = 1 in turns: $(cat "$work/err")"
[ "$(losses turns)" = "$(losses on)" ] || fault "attn_loss after attention = 0 became 1: $(losses turns)"
[ "$(stat -c %s "$work"/results/on/stats.*.h5)" -gt "$(stat -c %s "$work"/results/rows/stats.*.h5)" ] &&
    [ "$(stat -c %s "$work"/results/rows/stats.*.h5)" -gt "$(stat -c %s "$work"/results/off/stats.*.h5)" ] ||
    fault "attention = 0, rows and 1 hold the same"

# auto: a method asks for them. Sequential statistics hold them too, and those against full precision.
sweep auto "" "methods = boa\nlayers = *.attn_?" || fault "boa: $(cat "$work/err")"
[ "$(stat -c %s "$work"/results/auto/stats.*.h5)" = "$(stat -c %s "$work"/results/on/stats.*.h5)" ] || fault "auto took no attention for boa"
sweep walk "stats = sequential" "methods = boa:upstream=0.25\nlayers = *.attn_?" || fault "boa:upstream: $(cat "$work/err")"
for name in auto walk; do
    [ "$(grep -c '"kind":"layer".*"status":"ok"' "$work/results/$name/cells.jsonl")" = 16 ] || fault "$name: $(grep -o '"reason":"[^"]*"' "$work/results/$name/cells.jsonl" | head -2)"
done

# Keys and values as layers: rows of their own, no part of the model's.
sweep kv "" "methods = rtn, gptq\nkv_tokens = 100" || fault "kv_tokens: $(cat "$work/err")"
rows="$work/results/kv/cells.jsonl"
[ "$(grep -c '"layer":"blk.[0-3].[kv]cache".*"rows":100' "$rows")" = 16 ] || fault "rows of caches: $(grep -c cache "$rows")"
grep '"layer":"blk.0.kcache"' "$rows" | grep '"method":"rtn"' | grep -q '"status":"ok".*"w_relerr":0' || fault "rtn leaves out the keys"
grep '"layer":"blk.0.kcache"' "$rows" | grep '"method":"rtn"' | grep -q '"out_relerr":"no calibration Hessian"' || fault "out_relerr of a cache"
grep '"layer":"blk.0.vcache"' "$rows" | grep '"method":"gptq"' | grep -q '"status":"skipped".*multiply nothing' || fault "gptq takes the values"
model() { grep '"kind":"model"' "$work/results/$1/cells.jsonl" | grep '"method":"gptq"' | grep -oE '"(ppl|bits_stored|form)":"?[0-9a-f.]*'; }
[ "$(model kv)" = "$(model off)" ] && [ -n "$(model off)" ] || fault "caches change the model's row: $(model kv) / $(model off)"
sweep kv2 "stats = sequential" "methods = rtn\nkv_tokens = 100" && fault "kv_tokens under sequential statistics was accepted"
grep -q 'set \[calib\] stats = fp' "$work/err" || fault "kv_tokens under sequential statistics: $(cat "$work/err")"
sweep kv3 "" "methods = rtn\nkv_tokens = 1025" && fault "more kv_tokens than tokens were accepted"
grep -q 'has 1024 tokens' "$work/err" || fault "too many kv_tokens: $(cat "$work/err")"
finish "capture, keys, caches"
