#!/usr/bin/env bash
# ptq export and ptq import on the command line, and ptq inspect of what they write: the exported folder scores what the sweep's row
# says, what is chosen must be one row, and nothing is left behind by a refusal.
. "$(dirname "$0")/../sweep_lib.sh"
run() { "$PTQ" "$@" >"$work/out" 2>"$work/err"; }
ppl() { # model: of the ids, as the sweep scores them
    "$PTQ" eval "$1" --tokens "$work/text.ids" --window 256 --format jsonl | sed -E 's/.*"ppl":([^,]*),.*/\1/'
}
same_ppl() { # a, b, what: within 1e-6 of each other
    awk -v a="$1" -v b="$2" 'BEGIN { exit !(a > 1 && b > 1 && (a / b - 1) ^ 2 < 1e-12) }' || fail "$3: perplexity $1, not $2"
}

# ---- the demo model: the row's perplexity comes out of the folder
"$PTQ" synth facts --seed 5555 --windows 4 --out "$work/text" 2>"$work/err" || fail "facts: $(cat "$work/err")"
od -An -v -tu1 -w256 "$work/text" >"$work/text.ids"
small_config "$work/s.ini"
SET="sweep.group_size=64 eval.text=ids:$work/text.ids eval.window=256" sweep "$work/s.ini" demo || fail "sweep: $(cat "$work/err")"
exits 0 run export "$work/demo" --label gptq --bits 3 -o "$work/hf/" -q
grep -q "gptq b3 g64 asym minmax f16, 39 tensors, $N_LAYERS of the model's layers quantized" "$work/out" || fail "export says: $(cat "$work/out")"
row=$(grep '"kind":"model"' "$work/demo/cells.jsonl" | grep '"label":"gptq"' | grep '"bits":3,' | sed -E 's/.*"metrics":\{[^}]*"ppl":([^,}]*).*/\1/')
same_ppl "$(ppl "$work/hf")" "$row" "the exported folder"
plain=$(ppl demo)
awk -v a="$plain" -v b="$row" 'BEGIN { exit !((a / b - 1) ^ 2 > 1e-12) }' || fail "the quantized model scores as the plain one"
[ "$(cd "$work/hf" && echo *)" = "config.json model.safetensors quant.h5" ] || fail "files of the folder: $(ls "$work/hf")"
run inspect "$work/hf/quant.h5"
grep -Eq '^/packed/blk.0.attn_k +u8' "$work/out" && grep -Eq '^/quant/blk.0.attn_k/codes +u8 +64 x 128' "$work/out" || fail "quant.h5: $(head -5 "$work/out")"

# ---- the folder goes on: into a container, which scores the same bits
exits 0 run import "$work/hf" -o "$work/m.h5" -q
[ "$(ppl "$work/m.h5")" = "$(ppl "$work/hf")" ] || fail "container and folder differ"
exits 0 run import "$work/hf" -o "$work/half.h5" --dtype bf16 -q
run inspect "$work/half.h5"
grep -Eq '^types: bf16: 853120 values in 39 tensors, 16 bits each' "$work/out" || fail "a container in bf16: $(head -4 "$work/out")"
exits 2 run import "$work/hf" -o "$work/half.h5" --dtype int8
says "unknown value of --dtype 'int8'"
exits 2 run import "$work/hf"
says '-o OUT.h5 is required'
exits 6 run import "$work/hf" -o "$work/absent/m.h5"

# ---- types, and rows that are not one
exits 0 run export "$work/demo" --key "$(sed -nE 's/.*"kind":"model","key":"([0-9a-f]{10}).*"label":"rtn".*"bits":4,.*/\1/p' "$work/demo/cells.jsonl")" \
    -o "$work/bf16" --dtype bf16 -q
says 'rounded to bf16'
grep -q 'rtn b4 g64' "$work/out" || fail "a row by its key: $(cat "$work/out")"
run inspect "$work/bf16"
grep -Eq '^types: BF16: 853120 values' "$work/out" && grep -q '"bfloat16"' "$work/bf16/config.json" || fail "--dtype bf16: $(head -4 "$work/out")"
exits 2 run export "$work/demo" --bits 3 -o "$work/none"
says '2 model rows match; add an option that tells them apart:'
says 'key [0-9a-f]{8}  label gptq$'
exits 2 run export "$work/demo" --bits 8 -o "$work/none"
says 'no model row matches; there are:'
says 'label rtn  bits 4$'
exits 2 run export "$work/demo" --label gptq --bits 3 -o "$work/hf"
says 'is not an empty folder; name another one'
exits 2 run export "$work/demo" --label gptq --bits 3
says '-o DIR is required'
exits 2 run export "$work/nothing" -o "$work/none"
exits 2 run export "$work/demo" --label gptq --bits 3 --model synth:tiny -o "$work/none"
says 'is not the model that the row was measured on'
rm "$work/demo/forms.pack"
exits 2 run export "$work/demo" --label gptq --bits 3 -o "$work/none"
says 'the stored form of blk.0.attn_q is not here .* run the sweep again'
[ ! -e "$work/none" ] && [ ! -e "$work/none.tmp" ] || fail "a refused export left something"

# ---- inspect: any format
run inspect synth:tiny
grep -Eq '^model: synth:NAME .*, architecture llama, 39 tensors of 869504 values' "$work/out" || fail "synth:tiny: $(head -3 "$work/out")"
run inspect synth:llama-7b
grep -Eq '^and 251 more tensors \(--all shows them\)' "$work/out" || fail "291 tensors, 40 are shown: $(tail -1 "$work/out")"
[ "$("$PTQ" inspect synth:llama-7b --format csv | wc -l)" = 292 ] || fail "csv is whole"
[ "$("$PTQ" inspect synth:llama-7b --all | grep -c '^model.layers\.')" = 288 ] || fail "--all"
run inspect demo
grep -Eq '^tokenizer: bytes, 256 ids' "$work/out" || fail "the demo model's tokenizer: $(head -4 "$work/out")"
exits 2 run inspect README.md
finish ok
