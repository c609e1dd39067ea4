#!/usr/bin/env bash
# Proxies of perplexity: figures from rows written here that can be worked out by hand; the rows of short runs in a real sweep, made
# once, the same for any thread count; what is said where nothing can be judged.
. "$(dirname "$0")/../sweep_lib.sh"
enter_work

# ---- rows made here: four methods at 3 bits, two layers of 8 x 4, four windows
mkdir -p results/toy
setting='"model":"toy","source":"toy.h5","bits":3,"group_size":-1,"sym":0,"grid":"minmax","scale":"f16","precision":"single","stats":"fp","calib":"facts:1","calib_seed":1,"nsamples":4,"seqlen":8,"heldout":"facts:2"'
host='"host":{"threads":1,"cpu":"a CPU","isa":"avx2","blas_core":"Haswell"},"time":{"prepare_s":0,"quantize_s":0.5}'
text='"protocol":"p","rules":"r","text":"facts:3","text_key":"33","n_windows":4'
run='"n_tokens":12,"n_windows":2,"text":"facts:2","text_key":"22"'
model_row() { # label, loss, shift of the stored bits
    local l=$2
    echo "{\"schema\":1,\"kind\":\"model\",\"key\":\"m$1\",\"form\":\"f$1\",\"status\":\"ok\",$setting,\"method\":\"$1\",\"label\":\"$1\",\"base\":\"$1\",$text,\"nll_windows\":[$(awk -v l="$l" 'BEGIN { printf "%.17g,%.17g,%.17g,%.17g", 1 + l * .99, 2 + l * 1.01, 3 + l, 4 + l }')],\"codes_hash\":\"c$1\",\"metrics\":{\"dnll\":$l,\"nll\":$l,\"kl_mean\":$l,\"bits_stored\":$3},\"absent\":{},\"intervals\":{\"dnll\":[$l,$l]},$host}"
}
layer_row() { # label, layer, w_relerr, out_relerr
    # |W|^2 = 64 over 32 weights: w_mse = 2 w_relerr; tr(W H W^T) = 50; tr H = 10, so white noise has out_relerr / w_relerr = 2 * 8 * 10 / 50 = 3.2
    awk -v w="$3" -v o="$4" -v head="{\"schema\":1,\"kind\":\"layer\",\"key\":\"l$1$2\",\"form\":\"g$1$2\",\"status\":\"ok\",$setting,\"method\":\"$1\",\"label\":\"$1\",\"base\":\"$1\",\"layer\":\"blk.0.$2\",\"role\":\"x\",\"block\":0,\"rows\":8,\"cols\":4" -v tail="$host" 'BEGIN {
        printf "%s,\"metrics\":{\"bits_stored\":3.5,\"w_relerr\":%.17g,\"w_mse\":%.17g,\"out_relerr\":%.17g,\"out_relerr_heldout\":%.17g,\"proxy_loss\":%.17g},\"absent\":{},\"notes\":{},\"health\":{\"input\":\"i\",\"trace\":10.0},%s}\n", head, w, 2 * w, o, 2 * o, 50 * o, tail }'
}
noise_row() { # layer, level, kl
    echo "{\"schema\":1,\"kind\":\"perturbed\",\"key\":\"n$1$2\",\"form\":\"h$1$2\",\"status\":\"ok\",\"model\":\"toy\",\"layer\":\"blk.0.$1\",\"block\":0,\"rows\":8,\"cols\":4,\"perturbed\":{\"kl\":$3,\"dnll\":0.5,\"level\":$2,$run},$host}"
}
few_row() { echo "{\"schema\":1,\"kind\":\"few\",\"key\":\"k$1\",\"form\":\"f$1\",\"status\":\"ok\",$setting,\"method\":\"$1\",\"label\":\"$1\",\"base\":\"$1\",\"few\":{\"kl\":$2,\"dnll\":$3,$run},$host}"; }
{
    echo "{\"schema\":1,\"kind\":\"reference\",\"key\":\"r\",\"form\":\"r\",\"status\":\"ok\",\"model\":\"toy\",\"source\":\"toy.h5\",\"precision\":\"single\",$text,\"nll_windows\":[1,2,3,4],\"metrics\":{\"nll\":2.5,\"ppl\":12.2},$host}"
    model_row rtn 0.8 3.5; model_row gptq 0.2 3.5; model_row boa 0.4 3.5; model_row awq 0.1 3.5; model_row athena 0.05 3.8
    while read -r label w1 o1 w2 o2; do layer_row "$label" q "$w1" "$o1"; layer_row "$label" v "$w2" "$o2"; done <<ROWS
rtn .1 .08 .4 .08
gptq .2 .02 .2 .02
boa .3 .02 .3 .32
awq .4 .01 .4 .01
athena .1 .01 .1 .01
ROWS
    # coefficients: q (0.02/0.01 + 0.04/0.04)/2 = 1.5, v (0.03/0.01 + 0.12/0.04)/2 = 3; linearity sqrt(1/2 * 1) = .71
    noise_row q 0.01 0.02; noise_row q 0.04 0.04; noise_row v 0.01 0.03; noise_row v 0.04 0.12
    few_row rtn 0.7 0.9; few_row gptq 0.3 0.1; few_row boa 0.35 0.3; few_row awq 0.05 0.2
} >results/toy/cells.jsonl
"$PTQ" report toy --no-plots >out 2>err || fail "report: $(cat err)"
"$PTQ" proxies toy --format csv >toy.csv 2>err || fail "proxies: $(cat err)"
if command -v gnuplot >/dev/null; then
    "$PTQ" report toy >out 2>err || fail "report: $(cat err)"
    [ -s results/toy/plots/proxies.svg ] || fail "no picture"
    value() { awk -F'\t' -v p="$1" -v m="$2" '$2 == p && $4 == m { printf "%.6g", $7 }' results/toy/plots/proxy.tsv; }
    drawn() { [ "$(value "$1" "$2")" = "$3" ] || fail "$1 of $2: $(value "$1" "$2"), not $3"; }
    drawn w_relerr rtn 0.2        # sqrt(.1 * .4)
    drawn w_noise rtn 0.25        # (.1 + .4) / 2, equal |W|^2
    drawn out_relerr boa 0.08     # sqrt(.02 * .32)
    drawn out_relerr_mean boa 0.34 # twice the mean of .02, .32
    drawn proxy_loss boa 17       # 50 (.02 + .32)
    drawn lin_w rtn 1.35          # 1.5 * .1 + 3 * .4
    drawn lin_out rtn 0.225       # (1.5 + 3) / 3.2 * .16
    drawn kl_few boa 0.35
    drawn dnll_few boa 0.3
    drawn kl_mean awq 0.1
    [ -z "$(value w_relerr athena)" ] || fail "athena stores more than the stratum and takes part"
fi
row() { awk -F, -v p="$1" '$3 == p' toy.csv; }
figures() { # proxy -> models strata rho pairs wrong
    row "$1" | sed 's/"[^"]*"/t/g' | awk -F, '{ printf "%d %d %.4f %d %g", $5, $6, $7, $15, $16 }'
}
# losses: awq .1, gptq .2, boa .4, rtn .8
is() { [ "$(figures "$1")" = "$2" ] || fail "$1: $(figures "$1"), not $2"; }
is kl_mean '4 1 1.0000 6 0'
is w_relerr '4 1 -0.6325 6 4.5'      # values .2 (rtn) .2 (gptq) .3 .4: 5 of 6 the wrong way round but for the equal pair, which is half
is out_relerr '4 1 0.9487 6 0.5'     # rtn .08 and boa .08 are equal
is dnll_few '4 1 0.8000 6 1'         # gptq before awq
holds out 'proxies      rank correlation with dnll inside 1 (bits, group) strata, 4 models, intervals over'
"$PTQ" proxies toy >wrapped 2>err || fail "proxies: $(cat err)"
tr -s ' \n' ' ' <wrapped >text
holds text '4 models in 1 of 1 strata of equal bits, inputs and group, 4 settings each. Left out'
holds text 'lin_* and *_few: from the first 2 windows of facts:2 (12 tokens); four times the noise in one'
holds text '0.71 times four times the loss.'
holds text 'Left out before: 1 settings of other stored bits than their stratum'
holds text 'least rho in prefers (dnll) to (dnll) at w_relerr -0.63 3 bits, row '
holds results/toy/report.md '## Proxies of perplexity'
holds results/toy/report.html 'id="proxies"'
holds results/toy/tables/proxies.csv 'toy,p,lin_out,'

# ---- too few settings, and no perplexity
grep -vE '"boa"' results/toy/cells.jsonl >two && mkdir -p results/two && mv two results/two/cells.jsonl
"$PTQ" proxies two >out 2>err
[ $? = 6 ] && grep -q 'four settings' err || fail "three settings: $(cat err)"
"$PTQ" report two --no-plots >out 2>err || fail "report of two: $(cat err)"
tr -s ' \n' ' ' <out | grep -q 'proxies not judged, so no error of layers here says anything about perplexity' || fail "the report prints a proxy that nobody judged: $(cat out)"
grep '"kind":"layer"' results/toy/cells.jsonl >layers && mkdir -p results/layers && mv layers results/layers/cells.jsonl
"$PTQ" proxies layers >out 2>err
[ $? = 6 ] && grep -q 'no perplexity' err || fail "layers alone: $(cat err)"
"$PTQ" proxies toy --format xml >out 2>err
[ $? = 2 ] && grep -q 'csv' err || fail "format: $(cat err)"

# a run that was cut off is judged by what it has, and that is said
head -c -300 results/toy/cells.jsonl >torn && mkdir -p results/torn && mv torn results/torn/cells.jsonl
"$PTQ" proxies torn >out 2>err
grep -q 'the last line is torn' err || fail "a torn run: $(cat err)"

# ---- a sweep with short runs
cd "$root" || exit 1
small_config "$work/small.ini"
sed -i 's/^windows = .*/windows = 16\nproxies = 2/; s/^methods.*/methods = rtn, rtn:grid=mse, gptq, gptq-paper/; s/^bits.*/bits = 2/; s/^group_size.*/group_size = 64/' "$work/small.ini"
sweep "$work/small.ini" one --threads 1 || fail "sweep: $(cat "$work/err")"
SET="eval.proxies=1000" sweep "$work/small.ini" many && fail "1000 windows of a shorter text"
grep -q 'proxies = 1000, but synth:facts:6666 gives' "$work/err" || fail "1000 windows: $(cat "$work/err")"
count() { grep -c "\"kind\":\"$2\"" "$work/$1/cells.jsonl"; }
[ "$(count one perturbed)" = $((2 * N_LAYERS)) ] || fail "$(count one perturbed) rows of noise"
[ "$(count one few)" = 4 ] || fail "$(count one few) rows of few tokens"
grep '"kind":"few"' "$work/one/cells.jsonl" | grep -q '"n_windows":2,"text":"synth:facts:6666"' || fail "not the held-out text: $(grep '"kind":"few"' "$work/one/cells.jsonl")"
grep '"kind":"perturbed"' "$work/one/cells.jsonl" | grep -q '"kl":-' && fail "a KL below 0"
# The noise has its size; a loss of second order in it: four times the noise gives about four times the KL in the middle layer.
field() { sed -E "s/.*\"$1\":([-0-9.e]+).*/\1/"; } # the last of that name in a line
noise() { grep '"kind":"perturbed"' "$work/one/cells.jsonl" | grep "\"level\":$1" | sed 's/"time".*//'; }
noise 0.01 | field w_relerr | awk '{ if ($1 < .0099999 || $1 > .0100001) exit 1 }' || fail "noise of another size: $(noise 0.01 | field w_relerr)"
ratio=$(paste <(noise 0.01 | field kl) <(noise 0.04 | field kl) | awk '{ print $2 / $1 }' | sort -g | awk '{ r[NR] = $1 } END { print r[int((NR + 1) / 2)] }')
awk -v r="$ratio" 'BEGIN { exit !(r > 2.5 && r < 6) }' || fail "KL at four times the noise: $ratio times"
before=$(wc -l <"$work/one/cells.jsonl")
sweep "$work/small.ini" one || fail "again: $(cat "$work/err")"
[ "$(wc -l <"$work/one/cells.jsonl")" = "$before" ] || fail "a finished sweep made rows"
# Killed before the short runs were done, with the forms gone: only what is missing is made, forms included.
grep -v '"kind":"few"' "$work/one/cells.jsonl" | sed '/"level":0.04/d' >"$work/part"
mkdir -p "$work/two" && mv "$work/part" "$work/two/cells.jsonl"
SET='run.name=two' sweep "$work/small.ini" two --threads 3 || fail "rest: $(cat "$work/err")"
same_rows "$work/one" "$work/two" "1 thread and 3, whole and in parts"
[ "$(wc -l <"$work/two/cells.jsonl")" = "$before" ] || fail "rows that were there were made again"
# On the evaluation text itself the run over its windows is the model row's own.
SET='eval.text=synth:facts:6666 eval.windows=2 sweep.methods=rtn' sweep "$work/small.ini" same || fail "same text: $(cat "$work/err")"
kl=$(grep '"kind":"few"' "$work/same/cells.jsonl" | field kl) model=$(grep '"kind":"model"' "$work/same/cells.jsonl" | sed 's/,"absent".*//' | field kl_mean)
[ -n "$kl" ] && [ "$kl" = "$model" ] || fail "KL on the evaluation text: $kl, the model row has $model"
# Another number of windows is another run: the plan leaves the old rows out.
SET='eval.proxies=1' sweep "$work/small.ini" one || fail "other windows: $(cat "$work/err")"
[ "$(count one few)" = 8 ] || fail "other windows made $(count one few) rows"
"$PTQ" proxies "$work/one" >"$work/out" 2>"$work/err" || fail "proxies: $(cat "$work/err")"
tr -s ' \n' ' ' <"$work/out" >"$work/text"
holds "$work/text" 'the first window of'
SET='sweep.bits=3 eval.proxies=-1' sweep "$work/small.ini" bad
[ $? = 2 ] || fail "proxies = -1: $(cat "$work/err")"
"$PTQ" sweep "$work/small.ini" --set "run.out=$work run.name=dry" --dry-run >"$work/out" || fail "dry run"
grep -Eq "^rows beside them +$((2 * N_LAYERS + 4)), $((2 * N_LAYERS + 4)) to do" "$work/out" || fail "dry run: $(cat "$work/out")"
finish ok
