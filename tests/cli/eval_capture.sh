#!/usr/bin/env bash
# ptq eval and ptq capture: figures, formats, resume, thread count, and what is said about bad input.
. "$(dirname "$0")/../lib.sh"

# First window of seed 5555: 0.215870953 (../shared/demo-model/reference.json).
"$PTQ" eval demo --windows 2 --format jsonl >"$work/a" || fault "eval demo"
grep -qE '"nll_windows":\[0\.21587[01][0-9]*,0\.22096[0-9]*\]' "$work/a" || fault "nll of the first windows: $(cat "$work/a")"
grep -qF '"protocol":"facts-256/first2"' "$work/a" || fault "protocol"
for t in 1 2 3; do
    "$PTQ" eval demo --windows 7 --threads $t --format jsonl | sed -E 's/"seconds":[^,]*,//' >"$work/t$t"
    cmp -s "$work/t1" "$work/t$t" || fault "$t threads give other bits than one"
done
"$PTQ" eval demo --windows 7 --outliers --format jsonl >"$work/o"
[ "$(number nll "$work/o")" = "$(number nll "$work/t1")" ] || fault "the outlier variant changes the output"
for f in text md csv; do
    "$PTQ" eval demo --windows 1 --format $f | grep -q 'facts-256/first1' || fault "format $f"
done

# The bytes of a text file and their ids are the same sequence.
head -c 600 LICENSE >"$work/text"
od -An -v -tu1 -w200 "$work/text" >"$work/ids"
"$PTQ" eval demo --text "$work/text" --window 200 --format jsonl >"$work/a" || fault "eval --text"
"$PTQ" eval demo --tokens "$work/ids" --window 200 --format jsonl >"$work/b" || fault "eval --tokens"
[ "$(number n_windows "$work/a")" = 3 ] || fault "three windows of 200 bytes"
[ "$(number nll "$work/a")" = "$(number nll "$work/b")" ] || fault "text and ids differ"
printf '10 20 30 40 50\n60\n' >"$work/ids"
"$PTQ" eval demo --tokens "$work/ids" --window 3 --format jsonl >"$work/a"
grep -qE '"nll_windows":\[[0-9.]+,[0-9.]+,null\]' "$work/a" || fault "windows 3, 2 and 1 of ids: $(cat "$work/a")"

printf '1 2\n3 256\n' >"$work/ids"
answers 2 "ids:2: token 2 of the line is 256" "$PTQ" eval demo --tokens "$work/ids"
printf '1 2\n3 four\n' >"$work/ids"
answers 2 "'four' is not a token id" "$PTQ" eval demo --tokens "$work/ids"
answers 2 "choose one" "$PTQ" eval demo --tokens "$work/ids" --text LICENSE
answers 2 "nothing.h5" "$PTQ" eval "$work/nothing.h5" --tokens "$work/ids"
answers 2 "--window" "$PTQ" eval demo --window many
answers 2 "2 .. 256" "$PTQ" eval demo --tokens "$work/ids" --window 257
answers 2 "give --text" "$PTQ" eval datasets/demo.h5
head -c 100000 datasets/demo.h5 >"$work/cut.h5"
answers 2 "cut.h5" "$PTQ" eval "$work/cut.h5" --tokens "$work/ids"
: >"$work/empty"
answers 2 "empty" "$PTQ" eval demo --text "$work/empty"

c=("$PTQ" capture demo --text synth:facts:4444 --windows 3)
answers 2 "--out is required" "${c[@]}"
answers 0 "" "${c[@]}" --threads 1 --out "$work/1.h5"
answers 0 "" "${c[@]}" --threads 3 --out "$work/3.h5"
cmp -s "$work/1.h5" "$work/3.h5" || fault "capture with three threads gives another file"
answers 0 "" "${c[@]}" --out "$work/1.h5"
cmp -s "$work/1.h5" "$work/3.h5" || fault "capturing again changes the file"
answers 2 "another model, text, options or instruction set" "${c[@]}" --sink-tokens 2 --out "$work/1.h5"
answers 0 "" "${c[@]}" --sink-tokens 2 --name sink2 --f64 --out "$work/1.h5"
"$PTQ" inspect "$work/1.h5" | grep -qE '/stats/sink2/blk.3.ffn_down_in/hess_rest +f64 +73920' || fault "fp64 triangle of 384 inputs"
answers 6 "absent/x.h5" "${c[@]}" --out "$work/absent/x.h5"
head -c 5000 "$work/3.h5" >"$work/cut.h5"
answers 6 "cut.h5" "${c[@]}" --out "$work/cut.h5"

# A llama2.c checkpoint of 28 bytes of header (dim 8, hidden 8, 1 layer, 1 head, 1 key head, 4 tokens, 4 positions) and
# 32 + 8 + 4 * 64 + 8 + 3 * 64 + 8 + 2 * 16 floats.
{
    for n in 8 8 1 1 1 4 4; do printf "\\x0$n\\0\\0\\0"; done
    head -c $((4 * 536)) /dev/zero
} >"$work/m.bin"
"$PTQ" inspect "$work/m.bin" >"$work/a" 2>"$work/err" || fault "inspect of a checkpoint: $(cat "$work/err")"
grep -qE '^blk.0.ffn_down +F32 +8 x 8 +64$' "$work/a" && grep -qE '^output_norm +F32 +8 +8$' "$work/a" || fault "tensors of a checkpoint: $(cat "$work/a")"
grep -q '^output ' "$work/a" && fault "a tied head has no tensor of its own"
head -c 2000 "$work/m.bin" >"$work/cut.bin"
answers 2 "cut.bin" "$PTQ" inspect "$work/cut.bin"
# Weights that are not numbers: the same code as for a bare layer.
{ head -c 28 "$work/m.bin"; head -c 128 /dev/zero; printf '\0\0\300\177'; tail -c +161 "$work/m.bin"; } >"$work/nan.bin"
printf '1 2 3\n' >"$work/ids"
answers 5 "nan at row 0" "$PTQ" eval "$work/nan.bin" --tokens "$work/ids"

# Ctrl-C: the block in hand (if one was begun) is finished, and the same command goes on behind it.
big=("$PTQ" capture demo --text synth:facts:4444 --windows 300 --threads 1)
"${big[@]}" --out "$work/i.h5" 2>"$work/err" &
pid=$!
until [ -s "$work/i.h5" ] || ! kill -0 $pid 2>/dev/null; do sleep 0.02; done
kill -TERM $pid
wait $pid
[ $? = 6 ] || fault "a stopped capture: exit code; $(cat "$work/err")"
grep -qE 'cancelled: .*i.h5: /stats/calib holds [0-3] of 4 blocks; the same capture goes on' "$work/err" || fault "a stopped capture: $(cat "$work/err")"
answers 0 "" "${big[@]}" --out "$work/i.h5"
answers 0 "" "${big[@]}" --out "$work/j.h5"
"$PTQ" inspect "$work/i.h5" >"$work/a" && "$PTQ" inspect "$work/j.h5" >"$work/b"
cmp -s "$work/a" "$work/b" || fault "a capture that went on holds other objects"
if [ -w /dev/full ]; then
    "$PTQ" eval demo --windows 1 >/dev/full 2>"$work/err"
    [ $? = 6 ] || fault "a full disk under stdout: exit code"
fi
finish "figures, formats, resume, threads, faults"
