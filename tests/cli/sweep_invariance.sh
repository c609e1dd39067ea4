#!/usr/bin/env bash
# Threads and memory decide how long a sweep takes and nothing else: same keys, codes and metrics, to the last digit.
. "$(dirname "$0")/../sweep_lib.sh"
config=$work/small.ini
small_config "$config"

compare() { # name of the set, SET
    local name=$1 t
    SET=$2
    exits 0 sweep "$config" "$name-1" --threads 1
    for t in 2 3; do
        exits 0 sweep "$config" "$name-$t" --threads $t
        same_rows "$work/$name-1" "$work/$name-$t" "$name: $t threads"
    done
    grep -q '"threads":3' "$work/$name-3/cells.jsonl" || fail "three threads were not used"
    # 600 MB let two cells run side by side, half of it one; one megabyte is less than the program itself.
    for t in 600M 300M 1M; do
        exits 0 sweep "$config" "$name-$t" --threads 2 --memory $t
        same_rows "$work/$name-1" "$work/$name-$t" "$name: $t of memory"
    done
}

compare fp ""
compare sequential "calib.stats=sequential sweep.methods=gptq,gptq-paper,rtn sweep.bits=3"
# One cell: the threads work inside it.
compare one "sweep.methods=gptq sweep.bits=3 sweep.group_size=64 model.blocks=1"
compare double "sweep.methods=gptq-paper sweep.bits=2 sweep.group_size=64 run.precision=double"

# The order of the lists does not matter either.
SET="sweep.bits=4,3 sweep.methods=gptq,rtn sweep.group_size=64,-1" exits 0 sweep "$config" order
same_rows "$work/fp-1" "$work/order" "another order of the lists"
finish ok
