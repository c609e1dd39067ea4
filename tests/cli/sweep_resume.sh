#!/usr/bin/env bash
# A finished cell is never run again, and what was lost (rows, forms, a torn line) is made again to the same result.
. "$(dirname "$0")/../sweep_lib.sh"
config=$work/small.ini
small_config "$config"

exits 0 sweep "$config" all
cp -r "$work/all" "$work/undisturbed"
[ "$(n_rows "$work/all")" = $((8 * N_LAYERS + 8 + 1)) ] || fail "$(n_rows "$work/all") rows, not 8 x $N_LAYERS layers + 8 models + 1 reference"

# Again: not one row is added.
exits 0 sweep "$config" all
cmp -s "$work/all/cells.jsonl" "$work/undisturbed/cells.jsonl" || fail "a second run changed cells.jsonl"

# A torn last line is cut off; its cell runs again; the next row does not stick to it.
head -c -100 "$work/undisturbed/cells.jsonl" >"$work/all/cells.jsonl"
exits 0 sweep "$config" all
same_rows "$work/undisturbed" "$work/all" "after a torn line"
[ "$(n_rows "$work/all")" = "$(n_rows "$work/undisturbed")" ] || fail "after a torn line: another number of lines"

# Rows lost, forms there; rows and forms lost; a broken form.
for loss in rows 'rows forms' 'rows broken' 'rows forms stats' 'rows forms torn'; do
    rm -rf "$work/all"
    cp -r "$work/undisturbed" "$work/all"
    LC_ALL=C awk 'NR % 3' "$work/undisturbed/cells.jsonl" >"$work/all/cells.jsonl"
    case $loss in *forms*) rm "$work/all/forms.pack" ;; esac
    case $loss in *stats*) rm "$work/all"/stats.* ;; esac
    case $loss in *torn*) for file in "$work/all"/stats.*; do truncate -s 1000 "$file"; done ;; esac
    case $loss in *broken*) # a byte in the middle of each kilobyte
        size=$(stat -c %s "$work/all/forms.pack")
        for ((at = 5000; at < size; at += 20000)); do
            printf '\377' | dd of="$work/all/forms.pack" bs=1 seek="$at" conv=notrunc status=none
        done ;;
    esac
    exits 0 sweep "$config" all
    same_rows "$work/undisturbed" "$work/all" "after losing $loss"
done

# A broken line in the middle is an error with its number, and nothing is changed.
sed '3s/^{/[/' "$work/undisturbed/cells.jsonl" >"$work/all/cells.jsonl"
cp "$work/all/cells.jsonl" "$work/before"
exits 2 sweep "$config" all
says 'cells.jsonl:3: not a JSON row'
cmp -s "$work/before" "$work/all/cells.jsonl" || fail "a refused file was changed"

# A metric that is wanted later is computed from stored forms: the time of quantization stays that of the first run.
SET="eval.metrics=w_relerr,ppl" exits 0 sweep "$config" metric
[ "$(grep -c out_relerr "$work/metric/cells.jsonl")" = 0 ] || fail "a metric that was not asked for is in the rows"
exits 0 sweep "$config" metric
same_rows "$work/undisturbed" "$work/metric" "after adding metrics"
quantize_times() { # of the gptq layer rows, by key: first or last of each
    grep '"kind":"layer".*"base":"gptq"' "$work/metric/cells.jsonl" | $1 | sed -E 's/.*"key":"([0-9a-f]*)".*"quantize_s":([^,]*),.*/\1 \2/' |
        LC_ALL=C sort -u -k1,1
}
[ "$(quantize_times cat)" = "$(quantize_times tac)" ] || fail "adding a metric quantized again"

# A narrower list of metrics takes none away, also where rows are written anew (here: one metric of each row is made stale by hand).
sed -E 's/("metric_keys":\{[^}]*"w_relerr":")[0-9a-f]{4}/\10000/' "$work/undisturbed/cells.jsonl" >"$work/metric/cells.jsonl"
SET="eval.metrics=w_relerr" exits 0 sweep "$config" metric
[ "$(n_rows "$work/metric")" = $((2 * 8 * N_LAYERS + 8 + 1)) ] || fail "not just the layer rows were written anew: $(n_rows "$work/metric")"
same_rows "$work/undisturbed" "$work/metric" "after a sweep of one metric"

# Rows of another sharding: the newer one counts, whatever its file is called (cells.1-of-2.jsonl comes before cells.jsonl).
SET="eval.metrics=w_relerr,ppl" exits 0 sweep "$config" mixed
for shard in 1/2 2/2; do SET="eval.metrics=w_relerr,ppl,kl_mean,out_relerr" exits 0 sweep "$config" mixed --shard $shard; done
cat "$work/mixed"/cells*.jsonl >"$work/before"
SET="eval.metrics=w_relerr,ppl,kl_mean,out_relerr" exits 0 sweep "$config" mixed
cat "$work/mixed"/cells*.jsonl | cmp -s "$work/before" - || fail "rows that shards had finished were computed again"
"$PTQ" report "$work/mixed" --format csv >"$work/out" 2>"$work/err" || fail "report: $(cat "$work/err")"
grep -q kl_mean "$work/out" || fail "the report shows older rows without kl_mean: $(head -2 "$work/out")"

# --dry-run only looks: the lock of a running sweep, torn ends and files stay as they are.
cp -r "$work/undisturbed" "$work/look"
head -c -100 "$work/undisturbed/cells.jsonl" >"$work/look/cells.jsonl"
truncate -s -10 "$work/look/forms.pack"
(cd "$work/look" && find . -type f -exec sha256sum {} + | sort) >"$work/before"
exits 0 flock "$work/look/cells.jsonl" flock "$work/look/forms.pack" \
    "$PTQ" sweep "$config" --dry-run --set "run.out=$work run.name=look" >"$work/out" 2>"$work/err"
grep -Eq 'rows +[0-9]+, 1 to do' "$work/out" || fail "a dry run beside a sweep: $(cat "$work/out")"
(cd "$work/look" && find . -type f -exec sha256sum {} + | sort) | cmp -s "$work/before" - || fail "a dry run changed a file"

# Parts of captures that nobody will go on with are removed; those of these texts are not.
parts() { (cd "$work/look" && echo stats.*.part); }
own=$(cd "$work/look" && ls stats.*.h5 | head -1)
rm "$work/look/$own"
touch "$work/look/stats.0123456789abcdef.h5.0.part" "$work/look/$own.1.part"
rm "$work/look/cells.jsonl" "$work/look/forms.pack"
exits 0 sweep "$config" look
[ "$(parts)" = "$own.1.part" ] || fail "parts of captures that are left: $(parts)"

# Another sweep in the same folder is refused while one runs.
exits 2 flock "$work/all/cells.jsonl" "$PTQ" sweep "$config" --quiet --set "run.out=$work run.name=all"
says 'another sweep is writing here'

# keep_forms = 0 leaves no forms, and nothing is computed for it later.
SET="run.keep_forms=0" exits 0 sweep "$config" bare
[ ! -e "$work/bare/forms.pack" ] || fail "keep_forms = 0 kept the forms"
SET="run.keep_forms=0" exits 0 sweep "$config" bare
same_rows "$work/undisturbed" "$work/bare" "without forms"
[ "$(n_rows "$work/bare")" = "$(n_rows "$work/undisturbed")" ] || fail "rows were computed twice without forms"

# Shards write their own files; together, and merged, they are the undisturbed run.
for shard in 1/3 2/3 3/3; do
    exits 0 sweep "$config" shards --shard $shard
done
same_rows "$work/undisturbed" "$work/shards" "three shards"
cp "$work/undisturbed/cells.jsonl" "$work/all/cells.jsonl"
exits 0 "$PTQ" merge "$work/merged" "$work/shards" "$work/all"
same_rows "$work/undisturbed" "$work/merged" "merged"
exits 2 "$PTQ" merge "$work/merged" "$work/shards"
says 'holds [0-9]+ rows already'
# One metric changed by hand: these are not the same results.
sed -E '1s/"w_mse":[0-9.e-]+/"w_mse":0.125/' "$work/undisturbed/cells.jsonl" >"$work/all/cells.jsonl"
exits 2 "$PTQ" merge "$work/merged2" "$work/shards" "$work/all"
says 'differs from one merged before'
SET="sweep.bits=3" exits 0 sweep "$config" other
exits 2 "$PTQ" merge "$work/merged3" "$work/undisturbed" "$work/other"
says 'another configuration'
exits 0 "$PTQ" merge --force "$work/merged3" "$work/undisturbed" "$work/other"

# A narrower configuration in the same folder: its table holds its own rows only, the others stay in the file.
SET="sweep.bits=3 sweep.methods=rtn" exits 0 sweep "$config" undisturbed
grep -q gptq "$work/out" && fail "the table shows rows that the configuration does not want"
grep -q gptq "$work/undisturbed/cells.jsonl" || fail "rows of the wider configuration were lost"

# Statistics of another precision are not used: they are made anew, and the old ones go.
one="sweep.methods=gptq sweep.bits=3 sweep.group_size=64 sweep.layers=blk.0.attn_q calib.heldout=none"
for pair in single:f32 double:f64; do
    SET="$one run.precision=${pair%:*}" exits 0 sweep "$config" precision
    stats=("$work"/precision/stats.*)
    [ ${#stats[@]} = 1 ] || fail "statistics of several precisions: ${stats[*]}"
    "$PTQ" inspect "${stats[0]}" | grep -Eq "/stats/calib/blk.0.attn_in/hess_rest +${pair#*:} " || fail "statistics of another precision than ${pair%:*}"
done
SET="$one run.precision=double" exits 0 sweep "$config" double
double_rows() { rows "$1" | grep '"precision":"double"'; }
[ -n "$(double_rows "$work/double")" ] && [ "$(double_rows "$work/double")" = "$(double_rows "$work/precision")" ] || fail "double precision behind single gives other rows"
finish ok
