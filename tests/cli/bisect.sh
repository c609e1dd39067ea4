#!/usr/bin/env bash
# `ptq bisect` finds a change planted in one layer of the demo model by name, and which part of it; what it cannot compare it refuses.
set -u
fail() { echo "FAIL: $*"; [ -f "$tree/log" ] && tail -20 "$tree/log"; exit 1; }
tree=$(mktemp -d) || exit 1
trap 'rm -rf "$tree"' EXIT
build=$(basename "$BUILD_DIR")
tar cf - --exclude=./results --exclude=./.git --exclude='./build' . | tar xf - -C "$tree"
mkdir -p "$tree/build" && cp -a "$BUILD_DIR" "$tree/build/"
# rtn, but every fifth code of blk.2.ffn_down is 4 off, and the scales of blk.1.attn_o are half larger.
sed -e 's/PTQ_METHOD(rtn)/PTQ_METHOD(planted)/; s/"rtn"/"planted"/; s/#include "ptq.h"/#include "ptq.h"\n#include <string.h>/' -e 's|    out->n_parts = 1;|    if (strcmp(layer->name, "blk.2.ffn_down") == 0)\
        for (int64_t i = 0; i < layer->w.rows * layer->w.cols; i += 5)\
            at.codes[i] ^= 4;\
    if (strcmp(layer->name, "blk.1.attn_o") == 0)\
        for (int64_t i = 0; i < out->part[0].scale.n; i++)\
            at.scale[i] *= 1.5f;\
    out->n_parts = 1;|' methods/rtn.c >"$tree/methods/planted.c"
make -C "$tree" --no-print-directory BUILD="$build" program >"$tree/log" 2>&1 || fail "the planted method does not build"
ptq="$tree/build/$build/ptq"
sweep() { # windows out
    "$ptq" sweep "$tree/configs/demo.ini" --no-report --quiet \
        --set "sweep.methods=rtn,planted sweep.bits=4 sweep.group_size=64 sweep.scale=f32 eval.windows=$1 calib.nsamples=2 run.out=$2" >"$tree/log" 2>&1 || fail "sweep"
}
sweep 48 "$tree/a"
run=$tree/a/demo
"$ptq" bisect "$run" "$run" --old label=rtn --new label=planted --quiet --format jsonl >"$tree/found" 2>"$tree/log" || fail "bisect: exit $?"
guilty() { sed -n 's/.*"layers":"\([^"]*\)".*"guilty":"yes".*/\1/p' "$tree/found" | tr '\n' ' '; }
[ "$(guilty)" = "blk.1.attn_o blk.2.ffn_down " ] || { cat "$tree/found"; fail "guilty: $(guilty)"; }
# the ranges tile the layers and add up to the difference of the two rows
dnll() { sed -n 's/.*"dnll":\([-0-9.e+]*\),"lo".*/\1/p' "$tree/found"; }
row_nll() { grep '"kind":"model"' "$run/cells.jsonl" | grep "\"label\":\"$1\"" | grep -o '"nll":[0-9.e+-]*' | head -1 | cut -d: -f2; }
dnll | awk -v a="$(row_nll rtn)" -v b="$(row_nll planted)" '{ s += $1 } END { d = s - (b - a); exit !(b - a != 0 && d < 1e-12 && d > -1e-12) }' ||
    { cat "$tree/found"; fail "the ranges do not add up to $(row_nll planted) - $(row_nll rtn)"; }
grep 'blk.2.ffn_down' "$tree/found" | grep -q '[1-9][0-9]* codes, 0 scales .*, 0 zeros' || fail "codes of blk.2.ffn_down alone differ"
grep 'blk.1.attn_o' "$tree/found" | grep -q '"0 codes, [1-9][0-9]* scales (at most 0.5), 0 zeros' || fail "scales of blk.1.attn_o alone differ"
# two layers differ of 28: the ends and one between; the one part that differs is the layer
"$ptq" bisect "$run" "$run" --old label=rtn --new label=planted --quiet >"$tree/found" 2>"$tree/log" || fail "bisect"
grep -q '2 of 28 layers differ; 3 probes' "$tree/found" || { cat "$tree/found"; fail "probes"; }
"$ptq" bisect "$run" "$run" --pick label=rtn --quiet | grep -q 'all 28 layers are the same' || fail "the same row twice"

sweep 32 "$tree/b"
"$ptq" bisect "$run" "$tree/b/demo" --pick label=rtn --quiet >"$tree/out" 2>"$tree/log"
code=$?
[ $code = 3 ] && grep -q 'not comparable' "$tree/log" || fail "another number of windows: exit $code"
"$ptq" bisect "$run" "$run" --quiet >"$tree/out" 2>"$tree/log"
code=$?
[ $code = 2 ] && grep -q 'label planted' "$tree/log" || fail "two rows: exit $code"
"$ptq" bisect "$run" "$run" --pick label --quiet >"$tree/out" 2>"$tree/log"
code=$?
[ $code = 2 ] && grep -q 'FIELD=VALUE' "$tree/log" || fail "a bad pick: exit $code"
"$ptq" bisect "$run" "$run" --pick labl=rtn --quiet >"$tree/out" 2>"$tree/log"
code=$?
[ $code = 2 ] && grep -q "unknown field of a row 'labl'; did you mean 'label'" "$tree/log" || fail "an unknown field: exit $code"
# one bit of a stored form: mostly in its bytes (5), sometimes in its header, which makes it absent (2)
cp "$run"/forms.pack "$tree/whole"
for place in 1 2 3 4 5; do
    perl -0777 -pe "substr(\$_, int(length() * $place / 6), 1) ^= \"\\x01\"" "$tree/whole" >"$run"/forms.pack
    for side in rtn planted; do
        "$ptq" bisect "$run" "$run" --old "label=$side" --new "label=$side" --quiet >"$tree/out" 2>>"$tree/log"
        echo "$place $?"
    done
done >"$tree/codes"
[ "$(grep -c ' [25]$' "$tree/codes")" = 5 ] && grep -q ' 5$' "$tree/codes" && grep -q 'does not have the bytes that were written' "$tree/log" ||
    fail "a changed form: $(cat "$tree/codes")"
rm "$run"/forms.pack
"$ptq" bisect "$run" "$run" --old label=rtn --new label=planted --quiet >"$tree/out" 2>"$tree/log"
code=$?
[ $code = 2 ] && grep -q 'is not here' "$tree/log" || fail "forms are gone: exit $code"
echo "planted layers found by name and part"
