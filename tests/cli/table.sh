#!/usr/bin/env bash
# Papers' tables: listed, run where the machine can, printed in every format, with a verdict a cell; every committed configuration is one
# that a sweep takes; a model of another base than the paper's; broken files.
. "$(dirname "$0")/../sweep_lib.sh"
unset PTQ_TEXTS
table() { "$PTQ" table "$@" --results "$work/results" --quiet >"$work/out" 2>"$work/err"; }
verdicts() { awk -F, 'NR > 1 { print $NF }' "$1" | sort | uniq -c; }

# ---- the list, and names
"$PTQ" table >"$work/out" || fail "the list"
for name in qet gptq-opt gptq-bloom gptq-llama aespa-opt boa-opt125m boa-qwen flattenquant smoothquant awq; do shows "^$name +[0-9]+ "; done
exits 2 table gptq-optt
says "did you mean 'gptq-opt'"
exits 2 table gptq-opt --rows nothing
says "^ptq table: --rows: unknown row 'nothing'; valid: fp, "
exits 2 table gptq-opt --columns opt-125m,opt-350n
says "--columns: unknown column 'opt-350n'; did you mean 'opt-350m'"
exits 2 table qet --rows 'headline*' --columns b4
says "no number in rows 'headline\*', columns 'b4'"
exits 2 table gptq-opt --model-dir "$work/nowhere"
says "nowhere: no such folder"
exits 2 table qet --format html
says "unknown format 'html'"
exits 2 table qet --set foo.bar=1
says 'unknown section .foo'
exits 2 table qet --set 'sweep.bits=9'
says 'bits: 9 is outside'
[ ! -e "$work/results/table-qet/b4" ] || fail "cells were run before the arguments were looked at"
exits 2 table qet --no-such-flag
printf '[table]\ntitle = T\npaper = P\nversion = 1\n[column.a]\ntitle = A\n[data.d]\nmetric = w_relerr\n[row.r]\nmethods = rtn\nsource = S\ntrust = text\ntolerance = 2\nd = 1x\n' >"$work/bad.ini"
exits 2 table "$work/bad.ini"
says 'bad.ini:14: \[row.r\] d: a cell is'

# ---- a table that needs no model: the cells of one m, and its ratio (the printed numbers are those of the published code)
exits 0 table qet --rows '*-m16' --columns 'b?' --strict
shows 'QET / PQ, m = 16 +17.8% +17\.[0-9]+ .* reproduced$'
shows '13 cells: 13 reproduced\.'
before=$(n_rows "$work/results/table-qet/b4")
exits 0 table qet --rows '*-m16' --columns 'b?' --format md
shows '^\| MSE +\| 4 bits +\| QET, m = 16 '
[ "$(n_rows "$work/results/table-qet/b4")" = "$before" ] || fail "a finished cell was run again"
for kind in md csv tex; do [ -s "$work/results/table-qet/part.$kind" ] || fail "no part.$kind"; done
grep -q 'begin{tabular}' "$work/results/table-qet/part.tex" || fail "part.tex"
[ ! -e "$work/results/table-qet/table.csv" ] || fail "some cells were written as the table"
exits 0 table qet --rows 'headline*' --format csv
shows '12\.3%.*base unknown'
# printed wrong: off, and an error where that is asked for; bits changed by --set: no verdict on the paper
sed 's/^mse = 0.266 0.312/mse = 0.366 0.312/' configs/tables/qet.ini >"$work/wrong.ini"
exits 1 table "$work/wrong.ini" --rows pq-m16 --columns b4 --strict
shows '0\.366 +0\.26[0-9]+ .* off$'
exits 0 table "$work/wrong.ini" --rows pq-m16 --columns b4
exits 0 table qet --rows pq-m16 --columns b4 --set 'sweep.bits=3'
shows 'base unknown$'
shows -- '--set changed the paper'
exits 6 table qet --rows pq-m16 --columns b4,b3 --set 'model.source=nowhere.h5'
shows 'not run: failed'

# ---- no model
for name in gptq-opt boa-opt125m; do
    exits 0 table $name --format csv
    grep -q 'not run: model missing' "$work/out" || fail "$name: no cell says that its model is missing"
    grep -Eq ',(reproduced|off),' "$work/out" && fail "$name: a verdict without a model"
done
exits 0 table gptq-opt --rows rtn-4 --columns opt-1.3b --format csv
[ "$(grep -c ',not reproducible,' "$work/out")" = 2 ] || fail "cells known not to reproduce: $(cat "$work/out")"
exits 0 table boa-opt125m
[ -s "$work/results/table-boa-opt125m/table.csv" ] || fail "no table.csv of the whole table"
shows 'GPTQ, 3 bits +50\.75 .* detail missing in the paper$'
shows '^Where the printed numbers are from: .*text: in the paper itself'
exits 0 table gptq-opt --rows runtime --format csv
grep -q ',base unknown,' "$work/out" && fail "a time of another machine has no unknown base: $(cat "$work/out")"
shows ',not reproducible,'

# ---- every configuration of every table is one that a sweep takes
mkdir "$work/none" "$work/shells"
sed -n 's/^folders = //p' configs/tables/*.ini | cut -d, -f1 | sort -u | while read -r folder; do mkdir -p "$work/shells/$folder"; done
for file in configs/tables/*.ini; do
    PTQ_TEXTS=$work/none exits 0 table "$(basename "$file" .ini)" --model-dir "$work/shells" --dry-run
    grep -q 'not run: model missing' "$work/out" && fail "$file: a column whose folder is not looked for"
done

# ---- a model under the paper's name that is another one: measured, said, not run; and run where that is asked for
mkdir "$work/models"
cp datasets/demo.h5 "$work/models/opt-125m"
set="eval.text=synth:facts:5555 eval.protocol=facts-256 eval.windows=4 calib.text=synth:facts calib.draw=windows calib.nsamples=2 calib.seqlen=256 calib.seed=0,1 sweep.layers=blk.0.attn_q"
exits 0 table gptq-opt --model-dir "$work/models" --rows '*-4' --data wikitext2 --set "$set"
shows 'OPT-125M +RTN, 4 bits +37.28 +0.3 +text +base unknown$'
shows "this checkpoint's full precision is 1\.2[0-9]+, the paper's 27\.65"
[ "$(n_rows "$work/results/table-gptq-opt/opt-125m")" = 1 ] || fail "rows were run on another base"
exits 0 table gptq-opt --model-dir "$work/models" --rows '*-4' --data wikitext2 --set "$set" --any-base
shows 'OPT-125M +RTN, 4 bits +37.28 +1\.2[0-9]+ .* base unknown$'
shows 'OPT-125M +GPTQ, 4 bits +31.12 +1\.2[0-9]+ +[0-9.e-]+ +2 .* base unknown$'
shows 'OPT-350M .* not run: model missing$'
[ -s "$work/results/table-gptq-opt/configs/gptq-4.wikitext2.opt-125m.ini" ] || fail "the configuration of a cell is not kept"
grep -q ',base unknown,' "$work/results/table-gptq-opt/table.csv" && fail "some cells under other settings were written as the table"
mkdir -p "$work/self" "$work/broken/opt-125m" && echo '{}' | tee "$work/self/config.json" >"$work/broken/opt-125m/config.json"
exits 0 table gptq-opt --model-dir "$work/self" --rows rtn-4 --columns opt-125m
shows 'it is a checkpoint itself: name the folder above it'
exits 6 table gptq-opt --model-dir "$work/broken" --rows fp,rtn-4 --columns opt-125m --data wikitext2 --set "$set"
[ "$(grep -c 'OPT-125M .*not run: failed$' "$work/out")" = 2 ] || fail "rows of a checkpoint that cannot be read: $(cat "$work/out")"
PTQ_TEXTS=$work/none exits 0 table gptq-opt --model-dir "$work/models" --rows rtn-4 --columns opt-125m --data wikitext2
if [ ! -e datasets/texts/wiki.test.raw ]; then shows 'not run: text missing$'; fi

# ---- make
make -n --no-print-directory table TABLE=gptq-opt MODEL_DIR=models FORMAT=md 2>/dev/null |
    grep -Eq "ptq table .gptq-opt. --model-dir .models. --format .md." || fail "make table does not pass TABLE, MODEL_DIR and FORMAT"
finish ok
