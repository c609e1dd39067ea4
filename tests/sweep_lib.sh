# Shared by tests/cli/sweep_*.sh and others that sweep: a small sweep, and comparison of rows.
# shellcheck shell=bash
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The thread sanitizer makes layers fifty times slower: four of the 28 are enough there.
if sanitized; then
    N_LAYERS=4 LAYERS='blk.0.attn_?' WINDOWS=4
else
    N_LAYERS=28 LAYERS='*' WINDOWS=16
fi

# A sweep of the demo model that takes about a second: 8 cells of N_LAYERS layers each.
small_config() { # file
    cat >"$1" <<INI
[model]
source = demo
[calib]
text = synth:facts
seed = 4444
nsamples = $((WINDOWS / 2))
heldout = synth:facts
heldout_seed = 6666
[sweep]
methods = rtn, gptq
bits = 3,4
group_size = -1,64
layers = $LAYERS
[eval]
text = synth:facts:5555
windows = $WINDOWS
INI
}

sweep() { # CONFIG NAME [flags...]: into $work/NAME; message in $work/err
    local config=$1 name=$2
    shift 2
    "$PTQ" sweep "$config" --quiet --no-report --set "run.out=$work run.name=$name ${SET:-}" "$@" >"$work/out" 2>"$work/err"
}

# The rows of a run without what may differ (time and host are the last two fields), the last row of each key, sorted.
rows() { # folder
    cat "$1"/cells*.jsonl | awk '{ match($0, /"key":"[0-9a-f]*"/); last[substr($0, RSTART, RLENGTH)] = $0 } END { for (k in last) print last[k] }' |
        sed 's/,"time":{.*//' | LC_ALL=C sort
}

same_rows() { # folder A, folder B, what
    rows "$1" >"$work/rows.a"
    rows "$2" >"$work/rows.b"
    [ -s "$work/rows.a" ] || fail "$3: no rows in $1"
    cmp -s "$work/rows.a" "$work/rows.b" && return
    diff "$work/rows.a" "$work/rows.b" | cut -c1-400 | head -4
    fail "$3: the rows differ"
}

n_rows() { cat "$1"/cells*.jsonl | wc -l; }

exits() { # CODE COMMAND...: as `expect`; what comes after depends on it
    expect "$@"
    [ $faults -eq 0 ] || exit 1
}
