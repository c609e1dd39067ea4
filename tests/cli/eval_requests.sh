#!/bin/bash
# ptq eval --requests: sums of log-likelihoods against windows scored by ptq eval --tokens, order, pipes, truncation, threads, and
# what is said about bad lines.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0
fail() {
    echo "FAIL: $*"
    failed=1
}
# refuse LINE PART: the request is refused, and why
refuse() {
    printf '{"context":[1],"continuation":[2]}\n\n%s\n' "$1" >"$dir/bad"
    "$PTQ" eval demo --requests "$dir/bad" >"$dir/out" 2>"$dir/err"
    [ $? = 2 ] || fail "$1: accepted"
    [ -s "$dir/out" ] && fail "$1: rows before the fault: $(cat "$dir/out")"
    grep -F -- "bad:3: " "$dir/err" | grep -qF -- "$2" || fail "$1: stderr lacks '$2': $(cat "$dir/err")"
}
field() { sed -nE "${3:-1}s/.*\"$1\":([^,}]*).*/\1/p" "$2"; }
# near A B: equal to six digits
near() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(a != "" && b != "" && d * d <= 1e-12 * b * b) }'; }
# nll IDS...: summed NLL of all but the first id
nll() {
    echo "$*" >"$dir/ids"
    "$PTQ" eval demo --tokens "$dir/ids" --format jsonl >"$dir/row" || fail "eval of $*"
    awk -v m="$(field nll "$dir/row")" -v n="$(field n_scored "$dir/row")" 'BEGIN { printf "%.12g", m * n }'
}

cat >"$dir/in" <<'END'
{"id": "b", "context": [72, 101], "continuation": [108, 108, 111]}
{"id": [1, {"k": null}], "context": [72], "continuation": [101]}

{"context": [72, 101, 108], "continuation": [108, 111]}
{"id": 4, "context_text": "He ", "continuation_text": "said"}
{"id": 5, "context": [72, 101, 32], "continuation": [115, 97, 105, 100]}
END
"$PTQ" eval demo --requests "$dir/in" >"$dir/rows" || fail "requests"
[ "$(wc -l <"$dir/rows")" = 5 ] || fail "five rows: $(cat "$dir/rows")"
[ "$(field id "$dir/rows" 1)" = '"b"' ] || fail "ids in the order of the requests: $(cat "$dir/rows")"
grep -qF '"id":[1,{"k":null}],' "$dir/rows" || fail "an id of any kind comes back"
[ "$(field id "$dir/rows" 3)" = null ] || fail "no id: null"
whole=$(nll 72 101 108 108 111)
near "$(field logprob "$dir/rows" 1)" "$(awk -v a="$whole" -v b="$(nll 72 101)" 'BEGIN { printf "%.12g", b - a }')" ||
    fail "logprob of three tokens: $(field logprob "$dir/rows" 1), windows give $whole"
near "$(field logprob "$dir/rows" 2)" "-$(nll 72 101)" || fail "logprob of one token"
[ "$(field n_tokens "$dir/rows" 1)" = 3 ] || fail "n_tokens"
# Texts: white space at the context's end belongs to the continuation.
[ "$(field n_tokens "$dir/rows" 4)" = 5 ] || fail "the space counts: $(sed -n 4p "$dir/rows")"
near "$(field logprob "$dir/rows" 4)" "$(awk -v a="$(nll 72 101 32 115 97 105 100)" -v b="$(nll 72 101)" 'BEGIN { printf "%.12g", b - a }')" ||
    fail "logprob of a text"

"$PTQ" eval demo --requests - <"$dir/in" | cmp -s - "$dir/rows" || fail "standard input gives other rows"
for t in 1 2 3; do
    "$PTQ" eval demo --requests "$dir/in" --threads $t | cmp -s - "$dir/rows" || fail "$t threads give other rows"
done

# Greedy: the likeliest byte behind a beginning of the demo's language is greedy and the others are not.
for b in $(seq 0 255); do echo "{\"id\": $b, \"context\": [116, 104, 101, 32], \"continuation\": [$b]}"; done >"$dir/all"
"$PTQ" eval demo --requests "$dir/all" >"$dir/rows" || fail "256 requests"
[ "$(grep -c '"greedy":true' "$dir/rows")" = 1 ] || fail "one byte is the likeliest"
best=$(sed -E 's/.*"logprob":([^,]*).*"greedy":([a-z]*).*/\1 \2/' "$dir/rows" | sort -g | tail -1)
[ "${best#* }" = true ] || fail "the likeliest byte is greedy: $best"
awk -F'"logprob":' '{ split($2, p, ","); s += exp(p[1]) } END { exit !(s > .999999 && s < 1.000001) }' "$dir/rows" ||
    fail "probabilities of all bytes add up to 1"

# A window of 4 inputs keeps the last five ids of seven.
echo '{"context": [1, 2, 72, 101, 108], "continuation": [108, 111]}' >"$dir/long"
"$PTQ" eval demo --requests "$dir/long" --window 4 >"$dir/rows" || fail "a long context"
[ "$(field truncated "$dir/rows")" = 2 ] || fail "truncated: $(cat "$dir/rows")"
near "$(field logprob "$dir/rows")" "$(awk -v a="$whole" -v b="$(nll 72 101 108)" 'BEGIN { printf "%.12g", b - a }')" ||
    fail "logprob behind a truncated context"
: >"$dir/none"
[ -z "$("$PTQ" eval demo --requests "$dir/none")" ] || fail "no request, no row"

refuse '{"context":[1],"continuation":[]}' 'the continuation is empty'
refuse '{"context":[],"continuation":[1]}' '"context" is empty'
refuse '{"context":[1],"continuation":[256]}' '"continuation"[0] is 256: outside the vocabulary'
refuse '{"context":[-1],"continuation":[2]}' '"context"[0] is -1'
refuse '{"context":[1.5],"continuation":[2]}' '"context"[0] is not a whole number'
refuse '{"context":"1","continuation":[2]}' 'lists of token ids'
refuse '{"context":[1]}' 'lists of token ids'
refuse '{"context":[1],"continuations":[2]}' "unknown key 'continuations'; did you mean 'continuation'"
refuse '{"context_text":"a","continuation_text":7}' 'are texts'
refuse '{"context_text":"","continuation_text":"a"}' 'no BOS or EOS'
refuse '{"context_text":" ","continuation_text":"a"}' 'white space alone'
refuse '[1,2]' 'a request is'
refuse '{"context":[1],' ''
refuse "{\"context\":[1],\"continuation\":[$(seq -s, 1 250),1,2,3,4,5,6,7]}" 'a continuation of 257 tokens'
"$PTQ" eval demo --requests "$dir/in" --text LICENSE 2>"$dir/err" && fail "--requests with --text"
grep -qF -- '--requests and --text' "$dir/err" || fail "--requests with --text: $(cat "$dir/err")"
exit $failed
