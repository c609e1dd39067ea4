#!/usr/bin/env bash
# The program as a newcomer meets it: help of every verb, nearest words, exit codes, formats.
set -u
fail() { echo "FAIL: $*"; exit 1; }
expect() { # expect CODE PATTERN COMMAND...
    local code=$1 pattern=$2; shift 2
    local out; out=$("$@" 2>&1); local got=$?
    [ "$got" -eq "$code" ] || fail "exit $got, not $code: $* ($out)"
    grep -qE -- "$pattern" <<<"$out" || fail "no /$pattern/ in the output of: $* ($out)"
}

verbs=$("$PTQ" list verbs --format csv | tail -n +2 | cut -d, -f1)
[ "$(wc -w <<<"$verbs")" -ge 11 ] || fail "fewer verbs than the design names: $verbs"
for want in list run eval sweep report plot inspect capture synth doctor merge; do
    grep -qx "$want" <<<"$verbs" || fail "verb $want is missing"
done
for v in $verbs; do
    expect 0 "^usage: ptq $v" "$PTQ" "$v" --help
    expect 2 "unknown|too many|needs a value|not name" "$PTQ" "$v" --no-such-option
done
[ "$("$PTQ" | wc -l)" -le 40 ] || fail "ptq alone prints too much"
[ "$("$PTQ" | grep -c '^  ptq ')" -eq 3 ] || fail "ptq alone shows three examples"
expect 2 "did you mean 'sweep'" "$PTQ" swep
expect 2 "did you mean '--format'" "$PTQ" list --fromat csv
expect 2 "did you mean 'methods'" "$PTQ" list method
expect 2 "--format needs a value" "$PTQ" list --format
expect 2 "given twice" "$PTQ" list --format csv --format md
expect 2 "is missing; usage" "$PTQ" inspect
expect 2 "no-such-file" "$PTQ" inspect no-such-file.h5
expect 2 "not-hdf5|README" "$PTQ" inspect README.md
for format in text md csv jsonl; do
    expect 0 "gptq" "$PTQ" list methods --format $format
done
"$PTQ" list presets --format jsonl | grep -q '"preset":"gptq-paper"' || fail "preset gptq-paper is not listed"
[ "$("$PTQ" list verbs 2>&1 >/dev/null | wc -c)" -eq 0 ] || fail "results belong on stdout alone"
"$PTQ" list verbs >/dev/full 2>/dev/null && fail "a full disk under stdout went unnoticed"
[ -z "$({ "$PTQ" inspect demo --format jsonl; "$PTQ" list; } 2>&1 >/dev/null | head -1)" ] || fail "chat where there is no fault"
err=$( { "$PTQ" list options | true; } 2>&1) && [ -z "$err" ] || fail "a reader that stops early is no fault: $err"
"$PTQ" inspect demo | grep -q '^/model/blk.0.attn_q' || fail "inspect does not show the demo model's tensors"
echo "help, nearest words, formats, exit codes"
