# Shared by tests/cli/*.sh, which run from the repository's root: a scratch folder, $work, and words for what must hold.
# `fail` ends the script. Everything else counts a fault and goes on; whatever a script with a fault does last, it exits with 1.
# shellcheck shell=bash
set -u
root=$PWD
BUILD_DIR=${BUILD_DIR:-build/release}
PTQ=$(realpath -ms "${PTQ:-$BUILD_DIR/ptq}")
work=$(mktemp -d) || exit 1
faults=0

leave() {
    rm -rf "$work"
    [ $faults -eq 0 ] || exit 1
}
trap leave EXIT

fault() {
    echo "FAIL: $*"
    faults=$((faults + 1))
}

fail() {
    echo "FAIL: $*"
    exit 1
}

skip() {
    echo "SKIP $*"
    exit 77
}

finish() { # what was tested: the last line of a script
    [ $faults -eq 0 ] || exit 1
    echo "$*"
}

sanitized() { "$PTQ" --version | grep -Eq 'asan|tsan'; }

enter_work() { # for scripts that write relative paths
    export PTQ_DATA=$root
    cd "$work" || exit 1
}

# Sources and this build's objects, times kept, in $work: one edit there, and make builds little.
copy_tree() {
    tar cf - --exclude=./results --exclude=./.git --exclude='./build' . | tar xf - -C "$work" || fail "copy of the tree"
    mkdir -p "$work/build" && cp -a "$BUILD_DIR" "$work/build/" || fail "copy of $BUILD_DIR"
}

# ---- a command, its exit code, and what it says

expect() { # CODE COMMAND...: stdout in $work/out, stderr in $work/err
    local want=$1 code=0
    shift
    last_command=$*
    "$@" >"$work/out" 2>"$work/err" || code=$?
    [ $code -eq "$want" ] || fault "exit code $code, expected $want: $last_command ($(cat "$work/out" "$work/err" | tail -c 600))"
}

says() { # pattern (extended regular expression) in the messages of the last command
    grep -Eq -- "$1" "$work/err" || fault "the message lacks '$1': ${last_command:-}: $(tail -c 600 "$work/err")"
}

shows() { # pattern (extended regular expression) in the output of the last command
    grep -Eq -- "$1" "$work/out" || fault "the output lacks '$1': ${last_command:-}: $(tail -c 1200 "$work/out")"
}

answers() { # CODE PART COMMAND...: PART is literally in its messages
    expect "$1" "${@:3}"
    [ -z "$2" ] || grep -qF -- "$2" "$work/err" || fault "the message lacks '$2': $last_command: $(tail -c 600 "$work/err")"
}

# ---- files

holds() { # FILE TEXT
    grep -qF -- "$2" "$1" || fault "${1##*/} lacks '$2': $(head -c 3000 "$1")"
}

lacks() { # FILE TEXT
    [ -e "$1" ] || fault "no file $1"
    ! grep -qF -- "$2" "$1" || fault "${1##*/} holds '$2': $(grep -m1 -F -- "$2" "$1" | cut -c1-300)"
}

number() { # FIELD FILE: of its row
    sed -E "s/.*\"$1\":([^,}]*).*/\1/" "$2"
}

[ -x "$PTQ" ] || fail "no program $PTQ"
