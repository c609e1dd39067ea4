#!/usr/bin/env bash
# ptq eval --text and --protocol, ptq list protocols, draws, texts.
. "$(dirname "$0")/../lib.sh"
export PTQ_TEXTS=$work

for p in gptq-N llamacpp-N lm-eval-word-N bos-N bytes-N ids-N facts-N; do
    "$PTQ" list protocols --format csv | grep -q "^$p," || fault "ptq list protocols lacks $p"
done
for d in first windows gptq-windows gptq-documents; do
    "$PTQ" list draws --format csv | grep -q "^$d," || fault "ptq list draws lacks $d"
done
"$PTQ" list texts --format csv | grep -qE '^wikitext2:test,wikitext,evaluation,absent,173c87a53759' || fault "ptq list texts: wikitext2:test"
printf 'no it was\n' >"$work/ptb.test.txt"
"$PTQ" list texts --format csv | grep -qF "ptb_new:test,ptb,evaluation,$work/ptb.test.txt," || fault "ptq list texts: $work/ptb.test.txt"

head -c 600 LICENSE >"$work/text"
answers 0 "" "$PTQ" eval demo --text "$work/text" --protocol llamacpp-200 --format jsonl
[ "$(number n_scored "$work/out")" = 297 ] || fault "three chunks of 200 score 99 each: $(cat "$work/out")"
[ "$(number protocol "$work/out")" = '"llamacpp-200"' ] || fault "the protocol's name"
[ "$(number text_sha256 "$work/out")" = "\"$(sha256sum <"$work/text" | cut -c1-64)\"" ] || fault "the text's hash"
answers 0 "" "$PTQ" eval demo --text "$work/text" --protocol gptq --window 200 --windows 2 --format jsonl
[ "$(number protocol "$work/out")" = '"gptq-200/first2"' ] || fault "fewer windows are another protocol"
answers 2 "did you mean 'gptq'" "$PTQ" eval demo --text "$work/text" --protocol gtpq
answers 2 "is read by the protocol facts" "$PTQ" eval demo --protocol gptq-256
answers 2 "which the protocol ids does not read" "$PTQ" eval demo --text "$work/text" --protocol ids
answers 2 "2048 tokens: the model demo takes 2 .. 256" "$PTQ" eval demo --text "$work/text" --protocol gptq-2048
answers 2 "wikitext2:test is not here: put wiki.test.raw into" "$PTQ" eval demo --text wikitext2
answers 0 "unverified, sha256 " "$PTQ" eval demo --text ptb_new --window 4
cp "$work/text" "$work/wiki.test.raw"
answers 2 "not the text wikitext2:test" "$PTQ" eval demo --text wikitext2
finish "protocols, draws, texts"
