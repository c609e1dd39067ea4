#!/usr/bin/env bash
# `ptq bisect` finds a change planted in one layer of the demo model by name, and which part of it; what it cannot compare it refuses.
. "$(dirname "$0")/../lib.sh"
fail() {
    echo "FAIL: $*"
    [ -f "$work/log" ] && tail -20 "$work/log"
    exit 1
}
copy_tree
build=$(basename "$BUILD_DIR")
# rtn with the faults whose bits the option `what` has. blk.2.ffn_down: 1 every fifth code is 4 off, 2 scales are half larger,
# 4 zeros are another, 8 groups are of the columns in reverse; 16: scales of blk.1.attn_o are 3/8 larger, 32: of blk.3.ffn_up half.
cat >"$work/methods/plant.h" <<'END'
#include <stddef.h>
#include <string.h>
struct plan {
    int what;
};
static const struct ptq_opt options[] = {
    {.name = "what", .type = PTQ_OPT_INT, .offset = offsetof(struct plan, what), .max = 63, .help = "faults"}, {.name = NULL}};

static void plant(struct ptq_ctx *ctx, const struct ptq_layer *layer, int what, struct ptq_part *part, struct ptq_part_arrays *at)
{
    const int64_t cols = layer->w.cols, n = layer->w.rows * cols;
    const int here = what & (!strcmp(layer->name, "blk.2.ffn_down") ? 15 : !strcmp(layer->name, "blk.1.attn_o") ? 16 : !strcmp(layer->name, "blk.3.ffn_up") ? 32 : 0);
    int32_t *perm = here & 8 ? ptq_alloc(ctx, PTQ_ARENA_RESULT, cols, sizeof *perm) : NULL;
    for (int64_t i = 0; here & 1 && i < n; i += 5)
        at->codes[i] ^= 4;
    for (int64_t g = 0; g < at->n_groups; g++) {
        at->scale[g] *= here & 34 ? 1.5f : here & 16 ? 1.375f : 1;
        at->zero[g] += !(here & 4) ? 0 : at->zero[g] > 7 ? -2 : 2;
    }
    for (int64_t k = 0; perm && k < cols; k++)
        perm[k] = (int32_t)(cols - 1 - k);
    part->perm = perm;
}
END
sed -e 's/PTQ_METHOD(rtn)/PTQ_METHOD(planted)/; s/"rtn"/"planted"/; s/#include "ptq.h"/&\n#include "plant.h"/' \
    -e 's/^    out->n_parts = 1;/    plant(ctx, layer, ((const struct plan *)opts)->what, \&out->part[0], \&at);\n&/' \
    -e 's/^    .quantize = quantize,/    .opts_size = sizeof(struct plan),\n    .opts = options,\n&/' methods/rtn.c >"$work/methods/planted.c"
make -C "$work" --no-print-directory BUILD="$build" program >"$work/log" 2>&1 || fail "the planted method does not build"
ptq="$work/build/$build/ptq"
sweep() { # windows out methods
    "$ptq" sweep "$work/configs/demo.ini" --no-report --quiet \
        --set "sweep.methods=$3 sweep.bits=4 sweep.group_size=64 sweep.scale=f32 eval.windows=$1 calib.nsamples=2 run.out=$2" >"$work/log" 2>&1 || fail "sweep"
}
sweep 48 "$work/a" rtn,gptq,planted:what=1,planted:what=4,planted:what=6,planted:what=8,planted:what=15,planted:what=16,planted:what=17,planted:what=49
run=$work/a/demo
"$ptq" bisect "$run" "$run" --old label=rtn --new label=planted:what=17 --quiet --format jsonl >"$work/found" 2>"$work/log" || fail "bisect: exit $?"
guilty() { sed -n 's/.*"layers":"\([^"]*\)".*"guilty":"yes".*/\1/p' "$work/found" | tr '\n' ' '; }
[ "$(guilty)" = "blk.1.attn_o blk.2.ffn_down " ] || { cat "$work/found"; fail "guilty: $(guilty)"; }
grep 'blk.2.ffn_down' "$work/found" | grep -q '[1-9][0-9]* codes, 0 scales .*, 0 zeros' || fail "codes of blk.2.ffn_down alone differ"
grep 'blk.1.attn_o' "$work/found" | grep -q '"0 codes, [1-9][0-9]* scales (at most 0.375), 0 zeros' || fail "scales of blk.1.attn_o alone differ"
# two layers differ of 28: the ends, one between, and the parts (whole form and the one part that differs) of both
"$ptq" bisect "$run" "$run" --old label=rtn --new label=planted:what=17 --quiet >"$work/found" 2>"$work/log" || fail "bisect"
grep -q '2 of 28 layers differ; 7 probes' "$work/found" || { cat "$work/found"; fail "probes"; }
"$ptq" bisect "$run" "$run" --pick label=rtn --quiet | grep -q 'all 28 layers are the same' || fail "the same row twice"

# What the sweep says of a model: the mean of its windows, which are of equal length.
nll() { sed -n 's/.*"kind":"model".*"label":"'"$1"'".*"nll_windows":\[\([^]]*\)\].*/\1/p' "$run/cells.jsonl" | awk -F, '{ for (i = 1; i <= NF; i++) s += $i; printf "%.12f", s / NF }'; }
number() { sed -n "s/.*\"layers\":\"$1\".*\"$2\":\"\{0,1\}\([-+0-9.e]*\).*/\1/p" "$work/found"; } # layers, column
# is LABEL LABEL LAYERS COLUMN: the cell is the second model's NLL less the first's, to the digits printed
is() {
    awk -v a="$(nll "$1")" -v b="$(nll "$2")" -v x="$(number "$3" "$4")" 'BEGIN { d = b - a - x; exit !(a && b && x != "" && d * d < 3e-13) }' ||
        fail "$3, $4: $(number "$3" "$4"), the sweep says $(nll "$2") less $(nll "$1"): $(cat "$work/found")"
}
found() { # old new flags...
    local old=$1 new=$2
    shift 2
    "$ptq" bisect "$run" "$run" --old "label=$old" --new "label=$new" --quiet --format jsonl "$@" >"$work/found" 2>"$work/log" || fail "bisect $old $new: exit $?"
}
# Each hybrid is a model of the sweep: with one layer's faults, with one part of them, and there and back.
found rtn planted:what=49
is rtn planted:what=16 blk.1.attn_o dnll
is rtn planted:what=16 blk.1.attn_o grid
is planted:what=16 planted:what=17 blk.2.ffn_down dnll
is rtn planted:what=1 blk.2.ffn_down alone
is rtn planted:what=1 blk.2.ffn_down codes
is planted:what=17 planted:what=49 blk.3.ffn_up dnll
found rtn planted:what=4
is rtn planted:what=4 blk.2.ffn_down grid
found rtn planted:what=15
is rtn planted:what=15 blk.2.ffn_down dnll
is rtn planted:what=1 blk.2.ffn_down codes
is rtn planted:what=6 blk.2.ffn_down grid
is rtn planted:what=8 blk.2.ffn_down order
grep -q '[1-9][0-9]* codes, [1-9][0-9]* scales (at most 0.5), [1-9][0-9]* zeros, order' "$work/found" || fail "every part differs: $(cat "$work/found")"
found planted:what=15 rtn
is planted:what=15 rtn blk.2.ffn_down dnll
[ "$(guilty)" = "blk.2.ffn_down " ] || fail "an improvement has its layer as well: $(cat "$work/found")"
grep -q 'scales (at most 0.333)' "$work/found" || fail "scales a third smaller: $(cat "$work/found")"
# Two layers that cancel: no sure difference of the whole, and both are found.
found planted:what=16 planted:what=8
[ "$(guilty)" = "blk.1.attn_o blk.2.ffn_down " ] || fail "layers that cancel: $(cat "$work/found")"
"$ptq" bisect "$run" "$run" --old label=planted:what=16 --new label=planted:what=8 --quiet >"$work/out" || fail "bisect"
grep -q 'difference .* \[-.*, +' "$work/out" || fail "they do not cancel: $(cat "$work/out")"
grep -q "^NLL   $(printf '%.9f -> %.9f' "$(nll planted:what=16)" "$(nll planted:what=8)")," "$work/out" || fail "not the losses of the sweep: $(cat "$work/out")"
# Ranges add up to the whole, however far they were halved.
for probes in 3 4 9 200; do
    found planted:what=17 gptq --probes $probes --share 0
    awk -v a="$(nll planted:what=17)" -v b="$(nll gptq)" -v p=$probes '{
            match($0, /"n":"?[0-9]+/); k = substr($0, RSTART, RLENGTH); sub(/.*[:"]/, "", k); n += k
            match($0, /"dnll":"?[-+0-9.e]+/); d = substr($0, RSTART, RLENGTH); sub(/.*[:"]/, "", d); sum += d
            split_not += /out of probes/ }
        END { d = sum - (b - a); exit !(n == 28 && d * d < NR * NR * 3e-13 && NR > 1 && (p == 200) == (split_not == 0) && (p > 3 || NR == 2)) }' "$work/found" ||
        fail "ranges of $probes probes do not add up to $(nll gptq) less $(nll planted:what=17): $(cat "$work/found")"
done

sweep 32 "$work/b" rtn
"$ptq" bisect "$run" "$work/b/demo" --pick label=rtn --quiet >"$work/out" 2>"$work/log"
code=$?
[ $code = 3 ] && grep -q 'not comparable' "$work/log" || fail "another number of windows: exit $code"
"$ptq" bisect "$run" "$run" --quiet >"$work/out" 2>"$work/log"
code=$?
[ $code = 2 ] && grep -q 'label planted:what=1' "$work/log" || fail "two rows: exit $code"
"$ptq" bisect "$run" "$run" --pick label --quiet >"$work/out" 2>"$work/log"
code=$?
[ $code = 2 ] && grep -q 'FIELD=VALUE' "$work/log" || fail "a bad pick: exit $code"
cp "$run/cells.jsonl" "$work/rows"
sed -i '/"label":"rtn"/s/"nll_windows":\[[0-9.]*/"nll_windows":[9/' "$run/cells.jsonl"
"$ptq" bisect "$run" "$run" --old label=rtn --new label=gptq --quiet >"$work/out" 2>"$work/log"
code=$?
[ $code = 5 ] && grep -q 'its row says' "$work/log" || fail "a row of another loss: exit $code"
mv "$work/rows" "$run/cells.jsonl"
"$ptq" bisect "$run" "$run" --pick labl=rtn --quiet >"$work/out" 2>"$work/log"
code=$?
[ $code = 2 ] && grep -q "unknown field of a row 'labl'; did you mean 'label'" "$work/log" || fail "an unknown field: exit $code"
# forty bits of the stored forms: mostly in their bytes (5), sometimes in a header, which makes a form absent (2)
perl -0777 -pi -e 'for my $k (1 .. 40) { substr($_, int(length() * $k / 41), 1) ^= "\x01" }' "$run"/forms.pack
for side in rtn planted:what=17; do
    "$ptq" bisect "$run" "$run" --old "label=$side" --new "label=$side" --quiet >"$work/out" 2>>"$work/log"
    echo $?
done >"$work/codes"
grep -qx 5 "$work/codes" && ! grep -qx 0 "$work/codes" && grep -q 'does not have the bytes that were written' "$work/log" || fail "changed forms: $(cat "$work/codes")"
rm "$run"/forms.pack
"$ptq" bisect "$run" "$run" --old label=rtn --new label=planted:what=17 --quiet >"$work/out" 2>"$work/log"
code=$?
[ $code = 2 ] && grep -q 'is not here' "$work/log" || fail "forms are gone: exit $code"
finish "planted layers found by name and part"
