#!/usr/bin/env bash
# ptq eval --requests: sums of log-likelihoods against windows scored by ptq eval --tokens, order, pipes, truncation, threads, and
# what is said about bad lines.
. "$(dirname "$0")/../lib.sh"
# refuse LINE PART: the request is refused, and why
refuse() {
    printf '{"context":[1],"continuation":[2]}\n\n%s\n' "$1" >"$work/bad"
    expect 2 "$PTQ" eval demo --requests "$work/bad"
    [ -s "$work/out" ] && fault "$1: rows before the fault: $(cat "$work/out")"
    grep -F -- "bad:3: " "$work/err" | grep -qF -- "$2" || fault "$1: stderr lacks '$2': $(cat "$work/err")"
}
field() { sed -nE "${3:-1}s/.*\"$1\":([^,}]*).*/\1/p" "$2"; }
# near A B: equal to six digits
near() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(a != "" && b != "" && d * d <= 1e-12 * b * b) }'; }
# nll IDS...: summed NLL of all but the first id
nll() {
    echo "$*" >"$work/ids"
    "$PTQ" eval demo --tokens "$work/ids" --format jsonl >"$work/row" || fault "eval of $*"
    awk -v m="$(field nll "$work/row")" -v n="$(field n_scored "$work/row")" 'BEGIN { printf "%.12g", m * n }'
}

cat >"$work/in" <<'END'
{"id": "b", "context": [72, 101], "continuation": [108, 108, 111]}
{"id": [1, {"k": null}], "context": [72], "continuation": [101]}

{"context": [72, 101, 108], "continuation": [108, 111]}
{"id": 4, "context_text": "He ", "continuation_text": "said"}
{"id": 5, "context": [72, 101, 32], "continuation": [115, 97, 105, 100]}
END
"$PTQ" eval demo --requests "$work/in" >"$work/rows" || fault "requests"
[ "$(wc -l <"$work/rows")" = 5 ] || fault "five rows: $(cat "$work/rows")"
[ "$(field id "$work/rows" 1)" = '"b"' ] || fault "ids in the order of the requests: $(cat "$work/rows")"
grep -qF '"id":[1,{"k":null}],' "$work/rows" || fault "an id of any kind comes back"
[ "$(field id "$work/rows" 3)" = null ] || fault "no id: null"
whole=$(nll 72 101 108 108 111)
near "$(field logprob "$work/rows" 1)" "$(awk -v a="$whole" -v b="$(nll 72 101)" 'BEGIN { printf "%.12g", b - a }')" ||
    fault "logprob of three tokens: $(field logprob "$work/rows" 1), windows give $whole"
near "$(field logprob "$work/rows" 2)" "-$(nll 72 101)" || fault "logprob of one token"
[ "$(field n_tokens "$work/rows" 1)" = 3 ] || fault "n_tokens"
# Texts: white space at the context's end belongs to the continuation.
[ "$(field n_tokens "$work/rows" 4)" = 5 ] || fault "the space counts: $(sed -n 4p "$work/rows")"
near "$(field logprob "$work/rows" 4)" "$(awk -v a="$(nll 72 101 32 115 97 105 100)" -v b="$(nll 72 101)" 'BEGIN { printf "%.12g", b - a }')" ||
    fault "logprob of a text"

"$PTQ" eval demo --requests - <"$work/in" | cmp -s - "$work/rows" || fault "standard input gives other rows"
for t in 1 2 3; do
    "$PTQ" eval demo --requests "$work/in" --threads $t | cmp -s - "$work/rows" || fault "$t threads give other rows"
done

# Greedy: the likeliest byte behind a beginning of the demo's language is greedy and the others are not.
for b in $(seq 0 255); do echo "{\"id\": $b, \"context\": [116, 104, 101, 32], \"continuation\": [$b]}"; done >"$work/all"
"$PTQ" eval demo --requests "$work/all" >"$work/rows" || fault "256 requests"
[ "$(grep -c '"greedy":true' "$work/rows")" = 1 ] || fault "one byte is the likeliest"
best=$(sed -E 's/.*"logprob":([^,]*).*"greedy":([a-z]*).*/\1 \2/' "$work/rows" | sort -g | tail -1)
[ "${best#* }" = true ] || fault "the likeliest byte is greedy: $best"
awk -F'"logprob":' '{ split($2, p, ","); s += exp(p[1]) } END { exit !(s > .999999 && s < 1.000001) }' "$work/rows" ||
    fault "probabilities of all bytes add up to 1"

# A window of 4 inputs keeps the last five ids of seven.
echo '{"context": [1, 2, 72, 101, 108], "continuation": [108, 111]}' >"$work/long"
"$PTQ" eval demo --requests "$work/long" --window 4 >"$work/rows" || fault "a long context"
[ "$(field truncated "$work/rows")" = 2 ] || fault "truncated: $(cat "$work/rows")"
near "$(field logprob "$work/rows")" "$(awk -v a="$whole" -v b="$(nll 72 101 108)" 'BEGIN { printf "%.12g", b - a }')" ||
    fault "logprob behind a truncated context"
: >"$work/none"
[ -z "$("$PTQ" eval demo --requests "$work/none")" ] || fault "no request, no row"

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
answers 2 '--requests and --text' "$PTQ" eval demo --requests "$work/in" --text LICENSE
finish "requests: sums, order, truncation, faults"
