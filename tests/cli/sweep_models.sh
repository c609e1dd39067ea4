#!/usr/bin/env bash
# Models that are not the demo: what a configuration says of a checkpoint that is not here, random weights in its place, fetched
# models, the papers' whole setting, texts that are absent or of one family.
. "$(dirname "$0")/../sweep_lib.sh"
unset PTQ_CACHE PTQ_TEXTS
shared=${PTQ_SHARED:-../shared}
one_layer="sweep.methods=rtn sweep.bits=3 sweep.group_size=-1 sweep.layers=blk.0.attn_q"

# ---- no checkpoint: at once, with everything that is wanted, and nothing written
for name in llama7b llama2-7b llama3-8b opt-125m opt-350m opt-1.3b opt-2.7b opt-6.7b bloom-560m qwen2.5-0.5b; do
    SET="model.source=$work/absent" exits 2 sweep "configs/$name.ini" absent
    says "$name.ini: no model at $work/absent"
    says 'config.json, .*\*\.safetensors or pytorch_model\*\.bin.*tokenizer\.json or tokenizer\.model'
    says "make sweep CONFIG=$name.ini MODEL="
    [[ $name != llama* ]] || says 'MODEL=synth:llama[23]?-[78]b runs the whole path'
done
[ ! -e "$work/absent" ] || fail "a sweep without a model left something"

# ---- random weights run the whole path; token ids stand in for texts, and that is said
tiny="calib.nsamples=4 calib.seqlen=64 eval.windows=2 sweep.group_size=32"
SET="$tiny run.out=$work"
"$PTQ" sweep configs/llama7b.ini --model synth:tiny --set "$SET model.blocks=2" >"$work/out" 2>"$work/err" || fail "synth:tiny: $(cat "$work/err")"
says '\[calib\] text = c4 is not read; token ids drawn by Zipf'
says '\[eval\] text = wikitext2 is not read'
run=$work/llama7b-synth # not the folder of the real model
[ "$(grep -c '"kind":"layer"' "$run/cells.jsonl")" = $((2 * 7 * 4)) ] || fail "synth:tiny cut to 2 blocks: $(grep -c '"kind":"layer"' "$run/cells.jsonl") layer rows"
grep '"kind":"model"' "$run/cells.jsonl" | grep -q '"source":"synth:tiny:2".*"protocol":"zipf-256/first2"' || fail "the model rows: $(grep -m1 '"kind":"model"' "$run/cells.jsonl" | cut -c1-900)"
grep -q '"status":"failed"' "$run/cells.jsonl" && fail "a failed cell of synth:tiny"
grep -q in_domain "$run/cells.jsonl" && fail "other draws of Zipf's ids are called in-domain"
grep -q out_relerr_nosink "$run/cells.jsonl" && fail "a metric that was not asked for"
cp "$run/cells.jsonl" "$work/before"
"$PTQ" sweep configs/llama7b.ini --model synth:tiny --set "$SET model.blocks=2" >/dev/null 2>&1 || fail "the second run"
cmp -s "$run/cells.jsonl" "$work/before" || fail "a second run computed something"
"$PTQ" sweep configs/llama7b.ini --model synth:tiny --threads 1 --quiet --no-report --set "$SET model.blocks=2 run.name=one" >/dev/null 2>"$work/err" || fail "one thread"
same_rows "$run" "$work/one" "one thread and all"

# ---- the whole setting
"$PTQ" sweep configs/llama7b.ini --model synth:tiny --full --quiet --set "$SET run.name=full" >/dev/null 2>"$work/err" || fail "--full: $(cat "$work/err")"
grep -q '"kind":"model".*"label":"gptq-paper".*"bits":2,.*"stats":"sequential","true_sequential":1,' "$work/full/cells.jsonl" || fail "--full is not the [full] of llama7b.ini"
grep -q '"full": true' "$work/full/run.json" || fail "run.json does not say full"
grep -q 'calib.stats = sequential\\n' "$work/full/run.json" || fail "the effective text lacks the lines of [full]"
make -n --no-print-directory sweep CONFIG=llama7b.ini FULL=1 MODEL=synth:tiny BUILD="$(basename "${BUILD_DIR:-build/release}")" 2>/dev/null |
    grep -Eq 'ptq sweep .configs/llama7b.ini. --model .synth:tiny. --full *$' || fail "make sweep FULL=1 does not give --full"

# ---- a dry run speaks in hours or days
"$PTQ" sweep configs/llama7b.ini --model synth:llama-7b --dry-run --set "run.out=$work" >"$work/out" 2>"$work/err" || fail "dry run: $(cat "$work/err")"
grep -Eq '^predicted time +about [0-9.]+ (minutes|hours|days) on' "$work/out" || fail "dry run: $(cat "$work/out")"
grep -Eq '^peak memory .* GiB' "$work/out" || fail "dry run: $(cat "$work/out")"
[ ! -e "$work/llama7b-synth-7b" ] || fail "a dry run wrote something"

# ---- [model] format
printf '[model]\nsource = datasets/demo.h5\nformat = gguf\n[sweep]\nmethods = rtn\n[calib]\ntext = synth:facts\n' >"$work/format.ini"
SET="$one_layer" exits 2 sweep "$work/format.ini" format
says '\[model\] format asks for another kind than datasets/demo.h5 is'
SET="$one_layer calib.nsamples=1 model.format=h5" exits 0 sweep "$work/format.ini" format

# ---- a fetched model: here a wheel that holds the demo model, in the place where a download would put it
if command -v python3 >/dev/null; then
    export PTQ_CACHE=$work/cache
    mkdir -p "$PTQ_CACHE"
    wheel=$PTQ_CACHE/toy_model-1.0-py3-none-any.whl
    pack() { python3 -c "import sys, zipfile; zipfile.ZipFile(sys.argv[1], 'w').write(sys.argv[2], 'toy_model/m.h5')" "$wheel" "$1"; }
    sha() { sha256sum <"$1" | cut -d' ' -f1; }
    pack datasets/demo.h5
    cat >"$work/fetched.ini" <<INI
[fetch]
package = toy-model
version = 1.0
wheel_sha256 = $(sha "$wheel") ; of the wheel
path = toy_model/m.h5
sha256 = $(sha datasets/demo.h5)
file = toy/m.h5
[calib]
text = synth:facts
nsamples = 1
[sweep]
methods = rtn
INI
    SET="$one_layer" exits 2 sweep "$work/fetched.ini" fetched
    says "its model is not here: $work/cache/toy/m.h5"
    says 'datasets/fetch.sh .*fetched.ini. fetches it once, from the Python package toy-model 1.0'
    fetch() { datasets/fetch.sh "$@" >"$work/out" 2>"$work/err"; }
    exits 1 fetch --have "$work/fetched.ini"
    exits 0 fetch "$work/fetched.ini"
    exits 0 fetch --have "$work/fetched.ini"
    cmp -s "$PTQ_CACHE/toy/m.h5" datasets/demo.h5 || fail "what was fetched is not what the wheel holds"
    SET="$one_layer" exits 0 sweep "$work/fetched.ini" fetched
    # a damaged copy is fetched again, another wheel or other contents are refused and leave nothing
    echo more >>"$PTQ_CACHE/toy/m.h5"
    exits 1 fetch --have "$work/fetched.ini"
    exits 0 fetch "$work/fetched.ini"
    cmp -s "$PTQ_CACHE/toy/m.h5" datasets/demo.h5 || fail "a damaged copy stayed"
    rm -r "$PTQ_CACHE/toy"
    sed "s/^sha256 = ./&0/" "$work/fetched.ini" >"$work/other.ini"
    exits 2 fetch "$work/other.ini"
    says 'toy_model/m.h5 in toy_model-1.0-py3-none-any.whl has SHA-256 [0-9a-f]{64}, not'
    pack Makefile
    exits 2 fetch "$work/fetched.ini"
    says 'not the wheel that was checked'
    says 'python3 -m pip download --no-deps .* toy-model==1.0'
    # no network: the command and the file are named, other configurations go on
    rm "$wheel"
    PIP_NO_INDEX=1 exits 2 fetch "$work/fetched.ini"
    says 'wanted is the wheel toy_model-1.0-\*\.whl|has no pip'
    says 'python3 -m pip download --no-deps --only-binary=:all: --dest datasets/cache toy-model==1.0'
    [ -z "$(ls -A "$PTQ_CACHE")" ] || fail "a failed fetch left $(ls -A "$PTQ_CACHE")"
    sed '/^\[fetch\]/,/^file/d' "$work/fetched.ini" >"$work/bare.ini"
    exits 2 fetch "$work/bare.ini"
    says 'no section \[fetch\]'
    sed 's,^file = .*,file = ../up,' "$work/fetched.ini" >"$work/up.ini"
    exits 2 fetch "$work/up.ini"
    says "a name below datasets/cache/ is wanted"
    unset PTQ_CACHE
else
    echo "SKIP fetched models: no python3"
fi

# ---- texts: what is missing, what stands in, and families
printf '[model]\nsource = demo\n[sweep]\nmethods = rtn\n[calib]\ntext = synth:facts\nnsamples = 2\n[eval]\ntext = wikitext2\nwindow = 64\nwindows = 2\n' >"$work/texts.ini"
mkdir "$work/none"
export PTQ_TEXTS=$work/none
one_layer=${one_layer/methods=rtn/methods=gptq} # in_domain is for methods that look at the calibration text
missing() { "$PTQ" sweep "$work/texts.ini" --missing-texts --set "$1" | tr '\n' ' '; }
if [ ! -e datasets/texts/wiki.test.raw ]; then
    [[ "$(missing "$one_layer")" =~ ^'wikitext2:test '('prose:eval ')?$ ]] || fail "missing texts: $(missing "$one_layer")"
    if [ -z "$(missing 'eval.text=prose')" ]; then
        exits 0 "$PTQ" sweep "$work/texts.ini" --no-report --set "$one_layer calib.text=prose calib.seqlen=64 run.out=$work run.name=prose"
        says '\[eval\] text = wikitext2: wikitext2:test is not here'
        says 'are both prose: rows say in_domain'
        grep -q '"kind":"model".*"in_domain":"same family".*"protocol":"[^"]*prose[^"]*".*"text":"prose:eval".*"text_note":"wikitext2:test is not here' "$work/prose/cells.jsonl" ||
            fail "the row of a text that stands in: $(grep '"kind":"model"' "$work/prose/cells.jsonl" | cut -c1-1500)"
        "$PTQ" report "$work/prose" 2>/dev/null | tr -s ' \n' ' ' | grep -q "remark wikitext2:test is not here" || fail "the report does not say that another text stands in"
    else
        echo "SKIP prose in place of WikiText-2: the package dasher-data is absent"
        SET="$one_layer" exits 2 sweep "$work/texts.ini" prose
        says 'dasher-data'
    fi
else
    echo "SKIP absent texts: datasets/texts/ holds WikiText-2"
fi
if [ -e "$shared/data/text/wiki.test.raw" ]; then
    export PTQ_TEXTS=$shared/data/text
    SET="$one_layer calib.text=wikitext2:valid calib.seqlen=64" exits 0 sweep "$work/texts.ini" family
    grep -q '"kind":"model".*"calib":"wikitext2:valid".*"in_domain":"same family"' "$work/family/cells.jsonl" || fail "two splits of one corpus are in-domain"
    "$PTQ" report "$work/family" 2>/dev/null | tr -s ' \n' ' ' | grep -q "remark calibrated on a text of the evaluation text's family: in-domain" || fail "the report does not say in-domain"
    SET="$one_layer" exits 0 sweep "$work/texts.ini" strangers
    grep -q in_domain "$work/strangers/cells.jsonl" && fail "the facts language is not of WikiText's family"
else
    echo "SKIP families of texts: ../shared absent (set PTQ_SHARED)"
fi
finish ok
