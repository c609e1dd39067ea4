#!/usr/bin/env bash
# `ptq bench` on small shapes: which rows it has, what stands in them, formats, options. Nothing here is about how fast.
. "$(dirname "$0")/../lib.sh"
enter_work
bench() { "$PTQ" bench -q --time 0.005 "$@"; }
small() { bench --shape 96x160 --no-baselines "$@"; }

# The default table has every operation; every number of a row is finite and positive.
expect 0 small --format csv
cp out all.csv
for op in matmul_i8 matmul_f32 vq pack unpack bits_pack bits_unpack rowq_minmax rowq_mse actq hadamard; do
    grep -q "^$op," all.csv || fault "the default table has no $op"
done
for row in 'int4 g128,96,160,1' 'int3 g128,96,160,1' 'int2 g128,96,160,1' 'table4 g128,96,160,1' 'int4 g128,96,160,8' \
    'int4 g128,96,160,24' 'int4 g128,96,160,128' 'int4 g128,96,160,512'; do
    grep -q "^matmul_i8,$row," all.csv || fault "the default table has no matmul_i8 $row"
done
# Columns by name; the note, which may hold commas, comes last. Operations of a product: 2 rows cols batch.
awk -F, '
    NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
    function is(name) { return $at[name] }
    function bad(what) { print $1, $2, what; faults++ }
    {
        n = split("us gbs gvals share best_share share_memory limit_gbs rounds copies", positive, " ")
        for (i = 1; i <= n; i++) if (!(is(positive[i]) + 0 > 0)) bad(positive[i] " = " is(positive[i]))
        larger = is("share_ops") + 0 > is("share_memory") + 0 ? is("share_ops") : is("share_memory")
        if (is("share") != larger) bad("share is not the larger of the two")
        if (is("bound") != "memory" && is("bound") != "ops") bad("bound")
        if (is("marked") + 0 > is("rounds") + 0) bad("marked")
        product = $1 ~ /^matmul/
        if (product && (is("gops") * is("us") * 1e3 / (2 * 96 * 160 * is("batch")) - 1) ^ 2 > 1e-6) bad("gops")
        if (is("memory_probe") != (product || $1 == "vq" ? "read" : "copy")) bad("memory_probe")
    }
    END { exit faults > 0 }' all.csv || fault "numbers of the default table"
expect 0 small --op matmul_i8,pack --format jsonl
[ "$(grep -cE '^\{"op":"[a-z_0-9]+","weights":"[^"]+","rows":96.*,"us":[0-9.e+-]+,.*,"note":"[^"]*"\}$' out)" -eq 2 ] ||
    fault "JSON Lines: $(cat out)"

# The same columns in CSV; text and Markdown say what machine it was.
expect 0 small --op matmul_i8 --format csv
[ "$(head -1 out | tr , '\n' | wc -l)" -ge 30 ] || fault "CSV has few columns: $(head -1 out)"
shows '^matmul_i8,int4 g128,96,160,1,'
[ "$(wc -l <out)" -eq 2 ] || fault "CSV: $(wc -l <out) lines"
expect 0 small --op matmul_i8 --format md
shows 'last cache .* BLAS core'
shows '^limits, best probe: .*GB/s'
shows '^\| matmul_i8 \| int4 g128 '
expect 0 small --op matmul_i8
shows '^op +weights +rows'

# What is asked for: bits, groups, tables, batches, shapes, threads.
expect 0 small --op matmul_f32,matmul_i8 --bits 2,3,4,8 --batch 1,5 --group 32 --threads 1 --format csv
[ "$(wc -l <out)" -eq 17 ] || fault "4 widths, 2 batches, 2 operations: $(wc -l <out) lines"
shows '^matmul_f32,int8 g32,96,160,5,1,'
expect 0 small --bits 3,4 --table --group -1 --format csv
shows '^matmul_i8,table3 row,'
expect 0 bench --shape 32x16,33x17 --op pack --no-baselines --format csv
shows '^pack,int4,33,17,'
expect 0 bench --model tiny --op hadamard --format csv
for shape in 128,128 64,128 352,128 128,352; do shows "^hadamard,-,$shape,"; done
expect 0 bench --model demo --op actq --format csv
shows '^actq,-,'
printf '[model]\nsource = gone/model\nstand_in = synth:tiny\n[sweep]\nmethods = rtn\n' >some.ini
expect 0 bench --model some.ini --op actq --format csv
shows '^actq,-,352,128,'

# Instruction sets: the scalar kernels alone, and all that have a kernel of their own, each once.
expect 0 small --isa scalar --format csv
grep -vE '_scalar,|^op,' out >rest && fault "--isa scalar ran another kernel: $(head -1 rest)"
expect 0 small --isa all --op matmul_i8,pack --format csv
shows '_scalar,'
[ -z "$(tail -n +2 out | cut -d, -f1,2,8 | sort | uniq -d)" ] || fault "--isa all repeats a kernel: $(cat out)"
PTQ_CPU=scalar expect 0 small --op matmul_i8 --format csv
shows 'matmul_i8_scalar,'
PTQ_CPU=scalar expect 2 small --isa avx2
says 'its best is scalar'

# Rivals stand beside the products, once a shape and batch.
expect 0 bench --shape 96x160 --op matmul_i8,matmul_f32 --batch 1,4 --format csv
shows '^sgemv,fp32,96,160,1,.*openblas'
[ "$(grep -c '^sgemm,fp32,96,160,4,' out)" -eq 1 ] || fault "sgemm is not there once: $(cut -c1-40 out)"
grep -q '^u8s8s32,int8,96,160,4,.*oneDNN' out || shows 'without oneDNN|not installed'

# A row that is not possible says why; the others are there.
expect 0 small --op vq --bits 2,3 --format csv
shows '^vq,vq3,.*codes of 8 bits'
shows '^vq,vq2,.*vq_add'
expect 0 bench --shape 1000000x65536 --op actq
shows 'needs .* GiB, a quarter of the free memory'

# Files.
expect 0 small --op matmul_i8 --format csv --out "$work/table.csv"
[ -s table.csv ] && [ ! -s out ] || fault "--out wrote nothing, or stdout was written"
expect 2 small --op matmul_i8 --plot picture.pdf
says '\.svg or \.png'
expect 2 small --op matmul_i8 --threads 1000
says 'processors'
processors=$(OMP_NUM_THREADS='' nproc) # all of them are taken, one more is not
expect 0 small --op matmul_i8 --threads "$processors"
expect 2 small --op matmul_i8 --threads $((processors + 1))
says "$processors processors"
if command -v gnuplot >/dev/null; then
    expect 0 small --op matmul_i8,matmul_f32 --batch 1,8 --plot "$work/it's a roof.svg"
    grep -q 'int8 dot' "it's a roof.svg" || fault "the picture lacks the line of the int8 limit"
    [ "$(grep -c '^matmul' "it's a roof.tsv")" -eq 4 ] || fault "the picture's data: $(cat "it's a roof.tsv")"
    expect 6 small --op pack --plot none.svg
    says 'no row counts operations'
fi

# Faults.
expect 2 small --op matmul
says "unknown operation 'matmul'"
expect 2 small --bits 5
says '--bits 5: give 2, 3, 4 or 8'
expect 2 small --bits 8 --table
expect 2 small --group 20
says 'multiple of 16'
expect 2 small --isa sse9
says "unknown instruction set 'sse9'"
expect 2 small --batch 0
expect 2 bench --shape 96
says 'ROWSxCOLS'
expect 2 bench --shape 96x70000
expect 2 bench --shape 0x16
expect 2 bench --shape 96x160 --model tiny
says 'give one of them'
expect 2 bench --model no-such-model
says 'no-such-model'
expect 2 small --threads -1
expect 2 small --time x
expect 2 small --format xml
expect 2 small --op ''
expect 2 small --op matmul_i8 one-word

expect 0 "$PTQ" bench --help
shows 'Not timed'
shows '90 % of the best'
finish "rows, columns, options, rivals, picture, faults"
