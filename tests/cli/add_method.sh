#!/usr/bin/env bash
# One new file in methods/ made from methods/TEMPLATE is in `ptq list`, in a sweep and in the contract tests, with no other edit.
. "$(dirname "$0")/../lib.sh"
copy_tree
build=$(basename "$BUILD_DIR")
sed 's/NAME/mine/g' methods/TEMPLATE >"$work/methods/mine.c"
make -C "$work" --no-print-directory BUILD="$build" program >"$work/log" 2>&1 || { cat "$work/log"; fail "the template does not build"; }
ptq="$work/build/$build/ptq"
"$ptq" list methods --format csv | grep -q '^mine,' || fail "mine is not listed"
"$ptq" sweep "$work/configs/demo.ini" --no-report --quiet --set "sweep.methods=mine sweep.bits=4 sweep.group_size=-1 eval.windows=2 calib.nsamples=2 run.out=$work/out" \
    >"$work/log" 2>&1 || { cat "$work/log"; fail "the sweep with mine failed"; }
grep -qs '"kind":"model".*"method":"mine"' "$work"/out/cells*.jsonl || grep -qs '"method":"mine"' "$work"/out/*/cells*.jsonl || fail "no row of mine"
make -C "$work" --no-print-directory BUILD="$build" "build/$build/tests/unit/test_contract" >"$work/log" 2>&1 || { cat "$work/log"; fail "contract tests do not build"; }
(cd "$work" && "build/$build/tests/unit/test_contract" >"$work/log" 2>&1) || { cat "$work/log"; fail "mine breaks the contract"; }
grep -q 'mine' "$work/log" || fail "the contract tests did not run mine"
finish "template -> list, sweep, contract tests"
