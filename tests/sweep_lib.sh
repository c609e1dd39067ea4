# Shared by tests/cli/sweep_*.sh: a scratch folder, a small sweep, and comparison of rows.
# shellcheck shell=bash
set -u
PTQ=${PTQ:?the program to test}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAIL: $*"
    exit 1
}

# The thread sanitizer makes layers fifty times slower: four of the 28 are enough there.
if "$PTQ" --version | grep -Eq 'asan|tsan'; then
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

exits() { # code, command...
    local want=$1
    shift
    "$@"
    local got=$?
    [ "$got" = "$want" ] || fail "exit code $got, not $want: $* ($(tail -c 600 "$work/err"))"
}

says() { # pattern (extended regular expression) in the messages
    grep -Eq -- "$1" "$work/err" || fail "the message lacks '$1': $(tail -c 600 "$work/err")"
}
