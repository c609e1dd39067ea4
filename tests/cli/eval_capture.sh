#!/bin/bash
# ptq eval and ptq capture: figures, formats, resume, thread count, and what is said about bad input.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0
fail() {
    echo "FAIL: $*"
    failed=1
}
# expect CODE PART COMMAND...: exit code, and a part of what it says on stderr
expect() {
    local code=$1 part=$2
    shift 2
    "$@" >"$dir/out" 2>"$dir/err"
    local got=$?
    [ $got = "$code" ] || fail "$*: exit $got, expected $code: $(cat "$dir/err")"
    [ -z "$part" ] || grep -qF -- "$part" "$dir/err" || fail "$*: stderr lacks '$part': $(cat "$dir/err")"
}
number() { sed -E "s/.*\"$1\":([^,}]*).*/\1/" "$2"; }

# First window of seed 5555: 0.215870953 (../shared/demo-model/reference.json).
"$PTQ" eval demo --windows 2 --format jsonl >"$dir/a" || fail "eval demo"
grep -qE '"nll_windows":\[0\.21587[01][0-9]*,0\.22096[0-9]*\]' "$dir/a" || fail "nll of the first windows: $(cat "$dir/a")"
grep -qF '"protocol":"facts-256/first2"' "$dir/a" || fail "protocol"
for t in 1 2 3; do
    "$PTQ" eval demo --windows 7 --threads $t --format jsonl | sed -E 's/"seconds":[^,]*,//' >"$dir/t$t"
    cmp -s "$dir/t1" "$dir/t$t" || fail "$t threads give other bits than one"
done
"$PTQ" eval demo --windows 7 --outliers --format jsonl >"$dir/o"
[ "$(number nll "$dir/o")" = "$(number nll "$dir/t1")" ] || fail "the outlier variant changes the output"
for f in text md csv; do
    "$PTQ" eval demo --windows 1 --format $f | grep -q 'facts-256/first1' || fail "format $f"
done

# The bytes of a text file and their ids are the same sequence.
head -c 600 LICENSE >"$dir/text"
od -An -v -tu1 -w200 "$dir/text" >"$dir/ids"
"$PTQ" eval demo --text "$dir/text" --window 200 --format jsonl >"$dir/a" || fail "eval --text"
"$PTQ" eval demo --tokens "$dir/ids" --window 200 --format jsonl >"$dir/b" || fail "eval --tokens"
[ "$(number n_windows "$dir/a")" = 3 ] || fail "three windows of 200 bytes"
[ "$(number nll "$dir/a")" = "$(number nll "$dir/b")" ] || fail "text and ids differ"
printf '10 20 30 40 50\n60\n' >"$dir/ids"
"$PTQ" eval demo --tokens "$dir/ids" --window 3 --format jsonl >"$dir/a"
grep -qE '"nll_windows":\[[0-9.]+,[0-9.]+,null\]' "$dir/a" || fail "windows 3, 2 and 1 of ids: $(cat "$dir/a")"

printf '1 2\n3 256\n' >"$dir/ids"
expect 2 "ids:2: token 2 of the line is 256" "$PTQ" eval demo --tokens "$dir/ids"
printf '1 2\n3 four\n' >"$dir/ids"
expect 2 "'four' is not a token id" "$PTQ" eval demo --tokens "$dir/ids"
expect 2 "choose one" "$PTQ" eval demo --tokens "$dir/ids" --text LICENSE
expect 2 "nothing.h5" "$PTQ" eval "$dir/nothing.h5" --tokens "$dir/ids"
expect 2 "--window" "$PTQ" eval demo --window many
expect 2 "2 .. 256" "$PTQ" eval demo --tokens "$dir/ids" --window 257
expect 2 "give --text" "$PTQ" eval datasets/demo.h5
head -c 100000 datasets/demo.h5 >"$dir/cut.h5"
expect 2 "cut.h5" "$PTQ" eval "$dir/cut.h5" --tokens "$dir/ids"
: >"$dir/empty"
expect 2 "empty" "$PTQ" eval demo --text "$dir/empty"

c=("$PTQ" capture demo --text synth:facts:4444 --windows 3)
expect 2 "--out is required" "${c[@]}"
expect 0 "" "${c[@]}" --threads 1 --out "$dir/1.h5"
expect 0 "" "${c[@]}" --threads 3 --out "$dir/3.h5"
cmp -s "$dir/1.h5" "$dir/3.h5" || fail "capture with three threads gives another file"
expect 0 "" "${c[@]}" --out "$dir/1.h5"
cmp -s "$dir/1.h5" "$dir/3.h5" || fail "capturing again changes the file"
expect 2 "another model, text, options or instruction set" "${c[@]}" --sink-tokens 2 --out "$dir/1.h5"
expect 0 "" "${c[@]}" --sink-tokens 2 --name sink2 --f64 --out "$dir/1.h5"
"$PTQ" inspect "$dir/1.h5" | grep -qE '/stats/sink2/blk.3.ffn_down_in/hess_rest +f64 +73920' || fail "fp64 triangle of 384 inputs"
expect 6 "absent/x.h5" "${c[@]}" --out "$dir/absent/x.h5"
head -c 5000 "$dir/3.h5" >"$dir/cut.h5"
expect 6 "cut.h5" "${c[@]}" --out "$dir/cut.h5"

# A llama2.c checkpoint of 28 bytes of header (dim 8, hidden 8, 1 layer, 1 head, 1 key head, 4 tokens, 4 positions) and
# 32 + 8 + 4 * 64 + 8 + 3 * 64 + 8 + 2 * 16 floats.
{
    for n in 8 8 1 1 1 4 4; do printf "\\x0$n\\0\\0\\0"; done
    head -c $((4 * 536)) /dev/zero
} >"$dir/m.bin"
"$PTQ" inspect "$dir/m.bin" >"$dir/a" 2>"$dir/err" || fail "inspect of a checkpoint: $(cat "$dir/err")"
grep -qE '^blk.0.ffn_down +F32 +8 x 8 +64$' "$dir/a" && grep -qE '^output_norm +F32 +8 +8$' "$dir/a" || fail "tensors of a checkpoint: $(cat "$dir/a")"
grep -q '^output ' "$dir/a" && fail "a tied head has no tensor of its own"
head -c 2000 "$dir/m.bin" >"$dir/cut.bin"
expect 2 "cut.bin" "$PTQ" inspect "$dir/cut.bin"
# Weights that are not numbers: the same code as for a bare layer.
{ head -c 28 "$dir/m.bin"; head -c 128 /dev/zero; printf '\0\0\300\177'; tail -c +161 "$dir/m.bin"; } >"$dir/nan.bin"
printf '1 2 3\n' >"$dir/ids"
expect 5 "nan at row 0" "$PTQ" eval "$dir/nan.bin" --tokens "$dir/ids"

# Ctrl-C: the block in hand (if one was begun) is finished, and the same command goes on behind it.
big=("$PTQ" capture demo --text synth:facts:4444 --windows 300 --threads 1)
"${big[@]}" --out "$dir/i.h5" 2>"$dir/err" &
pid=$!
until [ -s "$dir/i.h5" ] || ! kill -0 $pid 2>/dev/null; do sleep 0.02; done
kill -TERM $pid
wait $pid
[ $? = 6 ] || fail "a stopped capture: exit code; $(cat "$dir/err")"
grep -qE 'cancelled: .*i.h5: /stats/calib holds [0-3] of 4 blocks; the same capture goes on' "$dir/err" || fail "a stopped capture: $(cat "$dir/err")"
expect 0 "" "${big[@]}" --out "$dir/i.h5"
expect 0 "" "${big[@]}" --out "$dir/j.h5"
"$PTQ" inspect "$dir/i.h5" >"$dir/a" && "$PTQ" inspect "$dir/j.h5" >"$dir/b"
cmp -s "$dir/a" "$dir/b" || fail "a capture that went on holds other objects"
if [ -w /dev/full ]; then
    "$PTQ" eval demo --windows 1 >/dev/full 2>"$dir/err"
    [ $? = 6 ] || fail "a full disk under stdout: exit code"
fi
exit $failed
