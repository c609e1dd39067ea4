#!/usr/bin/env bash
# The report's tables of noise, from rows written here. Numbers: Python 3.11, mean, stdev and the jackknife written out over the
# values below, quantiles of t by integrating its density.
. "$(dirname "$0")/../lib.sh"
enter_work
mkdir -p results/toy
n=0
layer() { # label base stored layer error less_one more fields of noise
    n=$((n + 1))
    echo "{\"schema\":1,\"kind\":\"layer\",\"status\":\"ok\",\"key\":\"k$n\",\"model\":\"toy\",\"source\":\"toy.h5\",\"method\":\"$1\",\"label\":\"$1\",\"base\":\"$2\",\"bits\":2,\"group_size\":-1,\"sym\":0,\"grid\":\"minmax\",\"scale\":\"f16\",\"precision\":\"single\",\"stats\":\"fp\",\"calib\":\"facts:1\",\"calib_seed\":1,\"nsamples\":4,\"seqlen\":8,\"layer\":\"blk.0.$4\",\"role\":\"x\",\"block\":0,\"rows\":8,\"cols\":8,\"metrics\":{\"out_relerr\":7,\"out_relerr_heldout\":$5,\"bits_stored\":$3},\"absent\":{},\"noise\":{\"key\":\"n\",\"error\":$5,\"less_one\":[$6]$7},\"time\":{\"prepare_s\":0,\"quantize_s\":0.5},\"host\":{\"threads\":1,\"cpu\":\"a CPU\",\"isa\":\"avx2\",\"blas_core\":\"Haswell\"}}"
}
# Runs on other samples and with noise; "-": there are none, for a reason. near is like gptq, half was on layer a alone, where it is rtn;
# large stores 10 % more.
while read -r label base stored name error less_one resampled perturbed; do
    more=",\"resampled\":[$resampled],\"perturb\":1e-06,\"perturbed\":[$perturbed]"
    [ "$resampled" = - ] && more=',"absent":"a reason"'
    layer "$label" "$base" "$stored" "$name" "$error" "$less_one" "$more"
done <<'ROWS' | sed -E 's/([[,])\./\10./g' >results/toy/cells.jsonl
rtn   rtn  2   a 0.2   .201,.199,.2005,.1995  0.2,0.2,0.2,0.2     0.2,0.2
rtn   rtn  2   b 0.4   .398,.403,.401,.398    0.4,0.4,0.4,0.4     0.4,0.4
gptq  gptq 2   a 0.1   .101,.099,.1002,.0998  .102,.1,.104,.101   .1,.1001
gptq  gptq 2   b 0.3   .299,.302,.301,.298    .306,.302,.309,.3   .3,.3003
near  gptq 2   a 0.101 .102,.1,.1012,.1008    .103,.104,.102,.1   .101,.1011
near  gptq 2   b 0.299 .298,.301,.3,.297      .309,.3,.303,.301   .299,.2993
gone  awq  2   a 0.001 .001,.0011,.001,.001   -
gone  awq  2   b 0.001 .001,.0011,.001,.001   -
half  boa  2   a 0.2   .201,.199,.2005,.1995  0.2,0.2,0.2,0.2     0.2,0.2
half  boa  2   b 0.001 .001,.0011,.001,.001   -
large gptq 2.2 a 0.01  .01,.0101,.01,.01      0.01,0.01,0.01,0.01 0.01,0.01
large gptq 2.2 b 0.01  .01,.0101,.01,.01      0.01,0.01,0.01,0.01 0.01,0.01
ROWS
report() {
    expect 0 "$PTQ" report toy --no-plots
    sed -n '/^## Noise/,$p' results/toy/report.md >noise.md
}
report

near() { # file, awk condition for the row, first column of the values, values...
    local file=$1 row=$2 from=$3
    shift 3
    awk -F, -v want="$*" -v from="$from" "$row"' { found = 1; n = split(want, w, " ")
        for (i = 1; i <= n; i++) { d = $(from + i - 1) - w[i]; s = w[i] < 0 ? -w[i] : w[i]
            if ((d < 0 ? -d : d) > 1e-9 * s) { print "column " from + i - 1 ": " $(from + i - 1) ", not " w[i]; exit 1 } } }
        END { if (!found) print "no row" }' "$file" >fault_text
    [ -s fault_text ] && fault "${file##*/}: $row: $(cat fault_text)"
}
# n_layers error lo hi scoring calibration arithmetic cost_of_half
t=results/toy/tables
near $t/noise.csv '$5 == "rtn"' 7 2 0.28284271247461906 0.2792207632700008 0.2865116442742536 0.0040497844914419 0 0 0
near $t/noise.csv '$5 == "gptq"' 7 2 0.17320508075688773 0.164972321281843 0.181848686900314 0.00546354028465836 0.0132313962084559 0.0007067534633216284 0.015622455444877836
near $t/noise.csv '$5 == "half"' 7 1 0.2
grep -q '^toy,2,-1,16,gone,2,2,0.001[0-9]*,,,' $t/noise.csv || fault "gone has an interval: $(grep gone $t/noise.csv)"
# ratio lo hi
near $t/noise_pairs.csv '$5 == "gptq" && $6 == "near"' 7 0.9966997430656238 0.921040618484852 1.07857390639436
near $t/noise_pairs.csv '$5 == "gptq" && $6 == "rtn"' 7 0.6123724356957945 0.581528720596091 0.644852071305454
grep -q '^toy,2,-1,16,gptq,near,.*,level,2,0,0$' $t/noise_pairs.csv || fault "gptq and near: $(cat $t/noise_pairs.csv)"
grep -q '^toy,2,-1,16,gptq,rtn,.*,lower,2,2,0$' $t/noise_pairs.csv || fault "gptq and rtn: $(cat $t/noise_pairs.csv)"
grep -q '^toy,2,-1,16,half,rtn,1,1,1,level,1,0,0$' $t/noise_pairs.csv || fault "half and rtn: $(cat $t/noise_pairs.csv)"
grep -qE ',(gone|large),' $t/noise_pairs.csv && fault "gone or large is compared: $(cat $t/noise_pairs.csv)"
holds noise.md '| 2 | row | gptq | 2 | 1.73e-01 ±4.9 % | 0.55 | 1.32 | 0.07 | 1.56 | - | near |'
holds noise.md '| 2 | row | rtn | 2 | 2.83e-01 ±1.3 % | 0.40 | 0 | 0 | 0 | gptq, near | half |'
holds noise.md '| 2 | row | gone | 2 | 1.00e-03 |'
grep -q 'id="noise"' results/toy/report.html || fault 'the page has no section'
shows ' beaten by +level with$' # on the terminal, too
shows '^noise +What is chance in the geometric mean'
sections=$(grep -o '<h2 id="[a-z]*"' results/toy/report.html | cut -d'"' -f2)
[ "$sections" = "$(sed -n '/<nav>/,/<\/nav>/p' results/toy/report.html | grep -o '#[a-z]*' | tr -d '#')" ] || fault "links of the page are not its sections: $sections"
holds $t/noise.tex 'rtn & 2 & 2.83e-01 $\pm$1.3 \%'

# Two draws of each method; one holds noise of the first, the other of the second: statistics of two texts are not compared.
mkdir results/draws
again() { echo ",\"resampled\":[$1],\"perturb\":1e-06,\"perturbed\":[$2]"; }
for draw in 1 2; do
    for name in one two both; do
        error=0.1
        case $draw$name in 1one | 2two | ?both) drop=nothing ;; *) drop='"noise":\{[^}]*\},' ;; esac
        [ $draw$name = 2both ] && error=0.12
        layer $name gptq 2 a $error .101,.099,.1002,.0998 "$(again .102,.1,.104,.101 .1,.1001)" |
            sed -E "s/facts:1/facts:$draw/; s/\"calib_seed\":1/\"calib_seed\":$draw/; s/\"key\":\"k/&$draw$name/; s/$drop//; s/([[,])\\./\\10./g"
    done
done >results/draws/cells.jsonl
"$PTQ" report draws --no-plots >"$work/out" 2>"$work/err" || fault "exit code $?: $(cat "$work/err")"
d=results/draws/tables
grep -q '^toy,2,-1,16,one,2,1,' $d/noise.csv && grep -q '^toy,2,-1,16,two,2,1,' $d/noise.csv || fault "both methods are told: $(cat $d/noise.csv)"
near $d/noise.csv '$5 == "both"' 15 0.12892080916549353 # log(.12 / .1) / sqrt 2
[ -e $d/noise_pairs.csv ] && grep -q ',one,two,' $d/noise_pairs.csv && fault "noise of two draws is compared: $(cat $d/noise_pairs.csv)"

# No row holds any: no section, no files.
rm -r results/toy/tables
sed -i -E 's/"noise":\{[^}]*\},//' results/toy/cells.jsonl
report
grep -q 'Noise' results/toy/report.md && fault 'a section without noise'
grep -q '^noise ' "$work/out" && fault 'a table without noise'
[ -e $t/noise.csv ] && fault 'a file without noise'
finish "noise: intervals, pairs, layers left out"
