#!/usr/bin/env bash
# kill -9 at random moments, Ctrl-C and a time budget: the next runs end with the rows of an undisturbed run.
. "$(dirname "$0")/../sweep_lib.sh"
config=$work/small.ini
small_config "$config"
SET="eval.windows=$((3 * WINDOWS)) sweep.bits=2-4"
n_cells=$((12 * N_LAYERS + 12 + 1)) # 2 methods x 3 widths x 2 groups
exits 0 sweep "$config" undisturbed

RANDOM=${SEED:-$$}
echo "RANDOM seed $RANDOM"

# The sweep's own process, so that the kill reaches it and nothing else.
start() { # name [flags]
    local name=$1
    shift
    "$PTQ" sweep "$config" --quiet --no-report --set "run.out=$work run.name=$name $SET" "$@" >"$work/out" 2>"$work/err" &
    pid=$!
}

# Until the sweep has written a row more than there were, so that it is at work; then a random part of a second.
at_work() { # name, rows before; false: the sweep ended
    while kill -0 $pid 2>/dev/null; do
        [ "$(n_rows "$work/$1" 2>/dev/null || echo 0)" -gt "$2" ] && sleep "0.$((RANDOM % 3))$((RANDOM % 10))" && return 0
        sleep 0.01
    done
    return 1
}

# A process that was killed, and did not end by itself just before: 128 + 9.
killed_now() { # name, rows before
    at_work "$1" "$2" && kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
    [ $? = 137 ]
}

for mode in fp sequential; do
    [ $mode = sequential ] && SET="$SET sweep.bits=3 calib.stats=sequential" && exits 0 sweep "$config" undisturbed-$mode
    [ $mode = fp ] && mv "$work/undisturbed" "$work/undisturbed-fp"
    killed=0
    for _ in 1 2 3; do
        before=$(n_rows "$work/killed-$mode" 2>/dev/null || echo 0)
        start killed-$mode
        killed_now killed-$mode "$before" && killed=$((killed + 1))
    done
    there=$(n_rows "$work/killed-$mode")
    echo "$mode: killed $killed times, $there rows then"
    [ $killed -ge 1 ] || fail "$mode: no kill hit a running sweep"
    [ "$there" -lt "$(n_rows "$work/undisturbed-$mode")" ] || fail "$mode: the kills left nothing to do"
    exits 0 sweep "$config" killed-$mode
    same_rows "$work/undisturbed-$mode" "$work/killed-$mode" "$mode after three kills"
done
SET="eval.windows=$((3 * WINDOWS)) sweep.bits=2-4"

# Killed at every stage of a row's writing: any prefix of the file is a state that a kill may leave.
size=$(stat -c %s "$work/undisturbed-fp/cells.jsonl")
for _ in 1 2 3; do
    rm -rf "$work/cut"
    cp -r "$work/undisturbed-fp" "$work/cut"
    head -c $((size * (50 + RANDOM % 50) / 100)) "$work/undisturbed-fp/cells.jsonl" >"$work/cut/cells.jsonl"
    pack=$(stat -c %s "$work/cut/forms.pack")
    truncate -s $((pack * (50 + RANDOM % 50) / 100)) "$work/cut/forms.pack"
    exits 0 sweep "$config" cut
    same_rows "$work/undisturbed-fp" "$work/cut" "cut off at a random byte"
done

# Ctrl-C: exit code 6, says how to go on.
start interrupted
sleep 0.7
kill -INT $pid
wait $pid
code=$?
if [ $code = 6 ]; then
    says "interrupted: [0-9]+ of $n_cells cells done; run the same command again to go on"
else
    [ $code = 130 ] && fail "Ctrl-C ended the program at once"
    echo "the sweep was faster than Ctrl-C (exit code $code)"
fi
exits 0 sweep "$config" interrupted
same_rows "$work/undisturbed-fp" "$work/interrupted" "after Ctrl-C"

# Ctrl-C and a budget end a capture and an evaluation in the middle, too: neither goes on to its end.
long="$SET calib.nsamples=2000 calib.heldout=none sweep.bits=3 sweep.methods=rtn sweep.layers=blk.0.attn_q"
SET=$long exits 6 sweep "$config" capture --budget 0.5s --threads 1
says "out of budget: 0 of 5 cells done"
ls "$work"/capture/stats.*.h5 >/dev/null 2>&1 && fail "a capture went on after the budget"
ls "$work"/capture/stats.*.part >/dev/null 2>&1 || fail "the blocks that were captured are gone"
SET="$long calib.nsamples=8 eval.windows=1500" start evaluation --threads 1
until [ "$(n_rows "$work/evaluation" 2>/dev/null || echo 0)" -ge 2 ]; do sleep 0.01; done # both layer rows: the reference is next
sleep 0.1
kill -INT $pid
wait $pid
[ $? = 6 ] || fail "Ctrl-C in the evaluation: $(cat "$work/err")"
grep -q '"kind":"reference"' "$work/evaluation/cells.jsonl" && fail "the reference was evaluated to its end after Ctrl-C"

# A budget: no cell begins after it.
exits 6 sweep "$config" budget --budget 0.2s
says "out of budget: [0-9]+ of $n_cells cells done"
exits 0 sweep "$config" budget
same_rows "$work/undisturbed-fp" "$work/budget" "after a budget"
finish ok
