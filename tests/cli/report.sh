#!/usr/bin/env bash
# `ptq report` and `ptq plot` from rows written here: what stands on stdout and stderr, files, exit codes.
. "$(dirname "$0")/../lib.sh"
enter_work
mkdir -p results/toy
setting='"model":"toy","source":"toy.h5","sym":0,"grid":"minmax","scale":"f16","precision":"single","stats":"fp","calib":"facts:1","calib_seed":1,"nsamples":4,"seqlen":8'
text='"protocol":"bytes-8","rules":"windows of 8","text":"facts:5","text_key":"00112233445566778899aabbccddeeff","n_windows":4'
host='"host":{"threads":1,"cpu":"a CPU","isa":"avx2","blas_core":"Haswell"}'
{
    echo "{\"schema\":1,\"kind\":\"reference\",\"key\":\"r\",\"status\":\"ok\",\"model\":\"toy\",$text,\"metrics\":{\"ppl\":4},\"absent\":{},$host}"
    i=0
    while read -r label bits group stored ppl dnll lo hi; do
        i=$((i + 1))
        common="\"schema\":1,\"status\":\"ok\",$setting,\"method\":\"$label\",\"label\":\"$label\",\"base\":\"$label\",\"bits\":$bits,\"group_size\":$group,$host,\"time\":{\"prepare_s\":0,\"quantize_s\":0.5}"
        echo "{$common,\"kind\":\"model\",\"key\":\"m$i\",$text,\"metrics\":{\"ppl\":$ppl,\"dnll\":$dnll,\"bits_stored\":$stored},\"absent\":{},\"intervals\":{\"dnll\":[$lo,$hi]}}"
        echo "{$common,\"kind\":\"layer\",\"key\":\"l$i\",\"layer\":\"blk.0.attn_q\",\"role\":\"attn_q\",\"block\":0,\"rows\":8,\"cols\":8,\"metrics\":{\"out_relerr\":0.0$bits},\"absent\":{}}"
    done <<ROWS
rtn 3 -1 3.5 5 0.25 0.2 0.3
gptq 3 -1 3.5 4.5 0.125 0.1 0.15
ROWS
} >results/toy/cells.jsonl

expect 0 "$PTQ" report toy --no-plots
holds out 'rtn                3    row   3.500  5.0000  +0.250 ±0.050  3.00e-02  0.500'
holds out 'VALID: 5 cells finished'
says 'results/toy/report.html'
[ "$(tail -1 out)" = 'VALID: 5 cells finished' ] || fault "the last line is '$(tail -1 out)'"
for file in report.html report.md tables/main.csv tables/main.tex tables/layers.csv tables/not_run.csv; do
    [ -s "results/toy/$file" ] || fault "$file was not written"
done
[ ! -e results/toy/plots/loss_bits.svg ] || fault "--no-plots drew a picture"

cp out table
expect 0 "$PTQ" report results/toy --print-only
cmp -s out table || fault "NAME and results/NAME print different tables"
for format in md csv jsonl latex; do
    expect 0 "$PTQ" report toy --print-only --format $format
    [ -s out ] || fault "--format $format prints nothing"
done
expect 2 "$PTQ" report toy --format cvs
says "did you mean 'csv'"
expect 2 "$PTQ" report tyo
says "did you mean 'toy'"

if command -v gnuplot >/dev/null; then
    expect 0 "$PTQ" report toy
    [ -s results/toy/plots/loss_bits.svg ] || fault "no plots/loss_bits.svg"
    grep -q 'figure id="loss_bits-1"' results/toy/report.html || fault "report.html holds no picture"
    grep -q 'Bars: 95 % intervals over windows' results/toy/report.html || fault "a picture of models without its intervals"
    expect 0 "$PTQ" plot toy ppl_bits -o a.svg
    holds out a.svg
    grep -q '<svg' a.svg || fault "a.svg is no SVG"
    expect 0 "$PTQ" plot toy layers -o a.png
    [ "$(head -c 4 a.png | od -An -tx1 | tr -d ' ')" = 89504e47 ] || fault "a.png is no PNG"
    # A new picture is a new file; a broken one is named, with gnuplot's reason, and costs nothing else.
    cp -r "$root/plots" plots
    printf '# title: Bad\n# data: model\nload style\nplot nonsense(\n' >plots/bad.gp
    expect 0 env PTQ_DATA="$work" "$PTQ" report toy
    says 'bad: no picture: '
    says 'line 4'
    holds out 'VALID: 5 cells finished'
    expect 6 env PTQ_DATA="$work" "$PTQ" plot toy bad
    printf '# title: Odd\n' >plots/bad.gp
    expect 2 env PTQ_DATA="$work" "$PTQ" plot toy bad
    says "# data: model"
else
    echo "SKIP pictures: gnuplot is not installed"
fi
expect 2 "$PTQ" plot toy los_bits
says "did you mean 'loss_bits'"
expect 0 "$PTQ" plot
holds out 'ppl_bits'

# Without gnuplot: the same tables, and a word about the pictures.
expect 0 env PATH=/nonexistent "$PTQ" report toy
says 'gnuplot is not installed'
cmp -s out table || fault "the table differs without gnuplot"
expect 6 env PATH=/nonexistent "$PTQ" plot toy loss_bits
says 'gnuplot is not installed'

echo '{"schema":1,"key":' >>results/toy/cells.jsonl
expect 2 "$PTQ" report toy
says 'results/toy/cells.jsonl:6'
mkdir results/empty
expect 2 "$PTQ" report empty
says 'results/empty'
finish "tables, pictures, files, exit codes"
