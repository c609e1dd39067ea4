#!/usr/bin/env bash
# One new file in methods/ made from methods/TEMPLATE is in `ptq list`, in a sweep and in the contract tests, with no other edit.
set -u
fail() { echo "FAIL: $*"; exit 1; }
tree=$(mktemp -d) || exit 1
trap 'rm -rf "$tree"' EXIT
build=$(basename "$BUILD_DIR")
# Sources and this build's objects, times kept: only the new file and the registries are built.
tar cf - --exclude=./results --exclude=./.git --exclude='./build' . | tar xf - -C "$tree"
mkdir -p "$tree/build" && cp -a "$BUILD_DIR" "$tree/build/"
sed 's/NAME/mine/g' methods/TEMPLATE >"$tree/methods/mine.c"
make -C "$tree" --no-print-directory BUILD="$build" program >"$tree/log" 2>&1 || { cat "$tree/log"; fail "the template does not build"; }
ptq="$tree/build/$build/ptq"
"$ptq" list methods --format csv | grep -q '^mine,' || fail "mine is not listed"
"$ptq" sweep "$tree/configs/demo.ini" --no-report --quiet --set "sweep.methods=mine sweep.bits=4 sweep.group_size=-1 eval.windows=2 calib.nsamples=2 run.out=$tree/out" \
    >"$tree/log" 2>&1 || { cat "$tree/log"; fail "the sweep with mine failed"; }
grep -qs '"kind":"model".*"method":"mine"' "$tree"/out/cells*.jsonl || grep -qs '"method":"mine"' "$tree"/out/*/cells*.jsonl || fail "no row of mine"
make -C "$tree" --no-print-directory BUILD="$build" "build/$build/tests/unit/test_contract" >"$tree/log" 2>&1 || { cat "$tree/log"; fail "contract tests do not build"; }
(cd "$tree" && "build/$build/tests/unit/test_contract" >"$tree/log" 2>&1) || { cat "$tree/log"; fail "mine breaks the contract"; }
grep -q 'mine' "$tree/log" || fail "the contract tests did not run mine"
echo "template -> list, sweep, contract tests"
