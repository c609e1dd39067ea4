#!/usr/bin/env bash
# Runs the tests from the repository's root, one line each: programs $BUILD_DIR/tests/unit/test_*, scripts tests/cli/*.sh.
#   tests/run.sh ['PATTERN']      a shell glob on names such as unit/test_ini or cli/layers, or on ini and layers alone
# A test passes with exit code 0, is skipped with 77, fails otherwise or after $TEST_TIMEOUT seconds. Output is shown when a
# test fails; of the others only lines that say what was skipped. The last line is "N passed, N failed, N skipped"; exit
# code 1 when a test failed or none ran (skipped tests did not run).
set -u
cd "$(dirname "$0")/.." || exit 1
export BUILD_DIR=${BUILD_DIR:-build/release}
PTQ=${PTQ:-$(realpath -m "$BUILD_DIR/ptq")}
export PTQ
limit_s=${TEST_TIMEOUT:-300}
pattern=${1:-*}

selected() { # name
    # shellcheck disable=SC2053 # the right side is meant as a pattern
    [[ $1 == $pattern || ${1#*/} == $pattern || ${1#*/test_} == $pattern ]]
}

# A program of an older source that is gone is not a test.
tests=()
for source in tests/unit/test_*.c; do
    name=$(basename "$source" .c)
    [ -e "$source" ] && selected "unit/$name" && tests+=("unit/$name")
done
for script in tests/cli/*.sh; do
    name=$(basename "$script" .sh)
    [ -e "$script" ] && selected "cli/$name" && tests+=("cli/$name")
done
if [ ${#tests[@]} -eq 0 ]; then
    echo "no test is named '$pattern'" >&2
    echo "0 passed, 0 failed, 0 skipped"
    exit 1
fi

scratch=$(mktemp -d)
running=
trap 'rm -rf "$scratch"' EXIT
# timeout(1) leads a process group of its own: Ctrl-C reaches the test through it alone.
trap '[ -n "$running" ] && kill -TERM "$running" 2>/dev/null; exit 130' INT TERM

run_one() { # name
    case $1 in
    unit/*) command=("$BUILD_DIR/tests/$1") ;;
    cli/*) command=(bash "tests/$1.sh") ;;
    esac
    # bash starts background programs with SIGINT ignored; tests of Ctrl-C need it as it is on a terminal.
    env --default-signal=INT,QUIT timeout -k 10 "$limit_s" "${command[@]}" >"$scratch/output" 2>&1 </dev/null &
    running=$!
    { wait "$running"; } 2>/dev/null # without bash's own line about a signal
    local code=$?
    running=
    return $code
}

# Tests skipped inside a test that passed: its own SKIP lines and cmocka's.
show_skips() {
    sed -nE 's/^\[  SKIPPED \] ([A-Za-z_].*)/SKIP \1/p; /^SKIP/p' "$scratch/output" | awk '!seen[$0]++'
}

passed=0 failed=0 skipped=0 number=0
failures=()
echo "1..${#tests[@]}"
for name in "${tests[@]}"; do
    number=$((number + 1))
    begin_ms=$(date +%s%3N)
    run_one "$name"
    code=$?
    took_ms=$(($(date +%s%3N) - begin_ms))
    took="$((took_ms / 1000)).$((took_ms % 1000 / 100)) s"
    case $code in
    0)
        passed=$((passed + 1))
        echo "ok $number - $name ($took)"
        ;;
    77)
        skipped=$((skipped + 1))
        reason=$(grep -am1 '^SKIP' "$scratch/output" || tail -n 1 "$scratch/output")
        reason=${reason#SKIP}
        echo "ok $number - $name # skipped: ${reason# }"
        ;;
    *)
        failed=$((failed + 1))
        failures+=("$name")
        why="exit code $code"
        [ $code -gt 128 ] && why="signal $((code - 128))"
        [ $code -eq 124 ] && why="no end after $limit_s s"
        echo "not ok $number - $name ($took): $why"
        sed 's/^/    /' "$scratch/output"
        ;;
    esac
    [ $code -eq 0 ] && show_skips
done

[ ${#failures[@]} -eq 0 ] || echo "failed: ${failures[*]}"
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
