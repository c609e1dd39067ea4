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
# rtn, but every fifth code of blk.2.ffn_down is 4 off, and the scales of blk.1.attn_o are half larger.
sed -e 's/PTQ_METHOD(rtn)/PTQ_METHOD(planted)/; s/"rtn"/"planted"/; s/#include "ptq.h"/#include "ptq.h"\n#include <string.h>/' -e 's|    out->n_parts = 1;|    if (strcmp(layer->name, "blk.2.ffn_down") == 0)\
        for (int64_t i = 0; i < layer->w.rows * layer->w.cols; i += 5)\
            at.codes[i] ^= 4;\
    if (strcmp(layer->name, "blk.1.attn_o") == 0)\
        for (int64_t i = 0; i < out->part[0].scale.n; i++)\
            at.scale[i] *= 1.5f;\
    out->n_parts = 1;|' methods/rtn.c >"$work/methods/planted.c"
make -C "$work" --no-print-directory BUILD="$build" program >"$work/log" 2>&1 || fail "the planted method does not build"
ptq="$work/build/$build/ptq"
sweep() { # windows out
    "$ptq" sweep "$work/configs/demo.ini" --no-report --quiet \
        --set "sweep.methods=rtn,planted sweep.bits=4 sweep.group_size=64 sweep.scale=f32 eval.windows=$1 calib.nsamples=2 run.out=$2" >"$work/log" 2>&1 || fail "sweep"
}
sweep 48 "$work/a"
run=$work/a/demo
"$ptq" bisect "$run" "$run" --old label=rtn --new label=planted --quiet --format jsonl >"$work/found" 2>"$work/log" || fail "bisect: exit $?"
guilty() { sed -n 's/.*"layers":"\([^"]*\)".*"guilty":"yes".*/\1/p' "$work/found" | tr '\n' ' '; }
[ "$(guilty)" = "blk.1.attn_o blk.2.ffn_down " ] || { cat "$work/found"; fail "guilty: $(guilty)"; }
# the ranges tile the layers and add up to the difference of the two rows
dnll() { sed -n 's/.*"dnll":\([-0-9.e+]*\),"lo".*/\1/p' "$work/found"; }
row_nll() { grep '"kind":"model"' "$run/cells.jsonl" | grep "\"label\":\"$1\"" | grep -o '"nll":[0-9.e+-]*' | head -1 | cut -d: -f2; }
dnll | awk -v a="$(row_nll rtn)" -v b="$(row_nll planted)" '{ s += $1 } END { d = s - (b - a); exit !(b - a != 0 && d < 1e-12 && d > -1e-12) }' ||
    { cat "$work/found"; fail "the ranges do not add up to $(row_nll planted) - $(row_nll rtn)"; }
grep 'blk.2.ffn_down' "$work/found" | grep -q '[1-9][0-9]* codes, 0 scales .*, 0 zeros' || fail "codes of blk.2.ffn_down alone differ"
grep 'blk.1.attn_o' "$work/found" | grep -q '"0 codes, [1-9][0-9]* scales (at most 0.5), 0 zeros' || fail "scales of blk.1.attn_o alone differ"
# two layers differ of 28: the ends and one between; the one part that differs is the layer
"$ptq" bisect "$run" "$run" --old label=rtn --new label=planted --quiet >"$work/found" 2>"$work/log" || fail "bisect"
grep -q '2 of 28 layers differ; 3 probes' "$work/found" || { cat "$work/found"; fail "probes"; }
"$ptq" bisect "$run" "$run" --pick label=rtn --quiet | grep -q 'all 28 layers are the same' || fail "the same row twice"

sweep 32 "$work/b"
"$ptq" bisect "$run" "$work/b/demo" --pick label=rtn --quiet >"$work/out" 2>"$work/log"
code=$?
[ $code = 3 ] && grep -q 'not comparable' "$work/log" || fail "another number of windows: exit $code"
"$ptq" bisect "$run" "$run" --quiet >"$work/out" 2>"$work/log"
code=$?
[ $code = 2 ] && grep -q 'label planted' "$work/log" || fail "two rows: exit $code"
"$ptq" bisect "$run" "$run" --pick label --quiet >"$work/out" 2>"$work/log"
code=$?
[ $code = 2 ] && grep -q 'FIELD=VALUE' "$work/log" || fail "a bad pick: exit $code"
"$ptq" bisect "$run" "$run" --pick labl=rtn --quiet >"$work/out" 2>"$work/log"
code=$?
[ $code = 2 ] && grep -q "unknown field of a row 'labl'; did you mean 'label'" "$work/log" || fail "an unknown field: exit $code"
# one bit of a stored form: mostly in its bytes (5), sometimes in its header, which makes it absent (2)
cp "$run"/forms.pack "$work/whole"
for place in 1 2 3 4 5; do
    perl -0777 -pe "substr(\$_, int(length() * $place / 6), 1) ^= \"\\x01\"" "$work/whole" >"$run"/forms.pack
    for side in rtn planted; do
        "$ptq" bisect "$run" "$run" --old "label=$side" --new "label=$side" --quiet >"$work/out" 2>>"$work/log"
        echo "$place $?"
    done
done >"$work/codes"
[ "$(grep -c ' [25]$' "$work/codes")" = 5 ] && grep -q ' 5$' "$work/codes" && grep -q 'does not have the bytes that were written' "$work/log" ||
    fail "a changed form: $(cat "$work/codes")"
rm "$run"/forms.pack
"$ptq" bisect "$run" "$run" --old label=rtn --new label=planted --quiet >"$work/out" 2>"$work/log"
code=$?
[ $code = 2 ] && grep -q 'is not here' "$work/log" || fail "forms are gone: exit $code"
finish "planted layers found by name and part"
