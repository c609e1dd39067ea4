#!/usr/bin/env bash
# The program as a newcomer meets it: help of every verb, nearest words, exit codes, formats.
. "$(dirname "$0")/../lib.sh"
tells() { # CODE PATTERN COMMAND...: on stdout or stderr
    expect "$1" "${@:3}"
    grep -qE -- "$2" "$work/out" "$work/err" || fault "no /$2/ in the output of: $last_command ($(cat "$work/out" "$work/err" | tail -c 600))"
}

verbs=$("$PTQ" list verbs --format csv | tail -n +2 | cut -d, -f1)
[ "$(wc -w <<<"$verbs")" -ge 11 ] || fault "fewer verbs than the design names: $verbs"
for want in list run eval sweep report plot inspect capture synth doctor merge; do
    grep -qx "$want" <<<"$verbs" || fault "verb $want is missing"
done
for v in $verbs; do
    tells 0 "^usage: ptq $v" "$PTQ" "$v" --help
    tells 2 "unknown|too many|needs a value|not name" "$PTQ" "$v" --no-such-option
done
[ "$("$PTQ" | wc -l)" -le 40 ] || fault "ptq alone prints too much"
[ "$("$PTQ" | grep -c '^  ptq ')" -eq 3 ] || fault "ptq alone shows three examples"
tells 2 "did you mean 'sweep'" "$PTQ" swep
tells 2 "did you mean '--format'" "$PTQ" list --fromat csv
tells 2 "did you mean 'methods'" "$PTQ" list method
tells 2 "--format needs a value" "$PTQ" list --format
tells 2 "given twice" "$PTQ" list --format csv --format md
tells 2 "is missing; usage" "$PTQ" inspect
tells 2 "no-such-file" "$PTQ" inspect no-such-file.h5
tells 2 "not-hdf5|README" "$PTQ" inspect README.md
for format in text md csv jsonl; do
    tells 0 "gptq" "$PTQ" list methods --format $format
done
"$PTQ" list presets --format jsonl | grep -q '"preset":"gptq-paper"' || fault "preset gptq-paper is not listed"
[ "$("$PTQ" list verbs 2>&1 >/dev/null | wc -c)" -eq 0 ] || fault "results belong on stdout alone"
"$PTQ" list verbs >/dev/full 2>/dev/null && fault "a full disk under stdout went unnoticed"
[ -z "$({ "$PTQ" inspect demo --format jsonl; "$PTQ" list; } 2>&1 >/dev/null | head -1)" ] || fault "chat where there is no fault"
err=$( { "$PTQ" list options | true; } 2>&1) && [ -z "$err" ] || fault "a reader that stops early is no fault: $err"
"$PTQ" inspect demo | grep -q '^/model/blk.0.attn_q' || fault "inspect does not show the demo model's tensors"
finish "help, nearest words, formats, exit codes"
