#!/bin/bash
# ptq eval --text and --protocol, ptq list protocols, draws, texts.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export PTQ_TEXTS=$dir
failed=0
fail() {
    echo "FAIL: $*"
    failed=1
}
expect() { # CODE PART COMMAND...
    local code=$1 part=$2
    shift 2
    "$@" >"$dir/out" 2>"$dir/err"
    local got=$?
    [ $got = "$code" ] || fail "$*: exit $got, expected $code: $(cat "$dir/err")"
    [ -z "$part" ] || grep -qF -- "$part" "$dir/err" || fail "$*: stderr lacks '$part': $(cat "$dir/err")"
}
number() { sed -E "s/.*\"$1\":([^,}]*).*/\1/" "$2"; }

for p in gptq-N llamacpp-N lm-eval-word-N bos-N bytes-N ids-N facts-N; do
    "$PTQ" list protocols --format csv | grep -q "^$p," || fail "ptq list protocols lacks $p"
done
for d in first windows gptq-windows gptq-documents; do
    "$PTQ" list draws --format csv | grep -q "^$d," || fail "ptq list draws lacks $d"
done
"$PTQ" list texts --format csv | grep -qE '^wikitext2:test,wikitext,evaluation,absent,173c87a53759' || fail "ptq list texts: wikitext2:test"
printf 'no it was\n' >"$dir/ptb.test.txt"
"$PTQ" list texts --format csv | grep -qF "ptb_new:test,ptb,evaluation,$dir/ptb.test.txt," || fail "ptq list texts: $dir/ptb.test.txt"

head -c 600 LICENSE >"$dir/text"
expect 0 "" "$PTQ" eval demo --text "$dir/text" --protocol llamacpp-200 --format jsonl
[ "$(number n_scored "$dir/out")" = 297 ] || fail "three chunks of 200 score 99 each: $(cat "$dir/out")"
[ "$(number protocol "$dir/out")" = '"llamacpp-200"' ] || fail "the protocol's name"
[ "$(number text_sha256 "$dir/out")" = "\"$(sha256sum <"$dir/text" | cut -c1-64)\"" ] || fail "the text's hash"
expect 0 "" "$PTQ" eval demo --text "$dir/text" --protocol gptq --window 200 --windows 2 --format jsonl
[ "$(number protocol "$dir/out")" = '"gptq-200/first2"' ] || fail "fewer windows are another protocol"
expect 2 "did you mean 'gptq'" "$PTQ" eval demo --text "$dir/text" --protocol gtpq
expect 2 "is read by the protocol facts" "$PTQ" eval demo --protocol gptq-256
expect 2 "which the protocol ids does not read" "$PTQ" eval demo --text "$dir/text" --protocol ids
expect 2 "2048 tokens: the model demo takes 2 .. 256" "$PTQ" eval demo --text "$dir/text" --protocol gptq-2048
expect 2 "wikitext2:test is not here: put wiki.test.raw into" "$PTQ" eval demo --text wikitext2
expect 0 "unverified, sha256 " "$PTQ" eval demo --text ptb_new --window 4
cp "$dir/text" "$dir/wiki.test.raw"
expect 2 "not the text wikitext2:test" "$PTQ" eval demo --text wikitext2
exit $failed
