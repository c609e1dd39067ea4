#!/usr/bin/env bash
# The house: top-level entries, a second make does nothing, missing packages are named, install works away from the tree.
set -u
fail() { echo "FAIL: $*"; exit 1; }
build=$(basename "$BUILD_DIR")

extra=$(ls -1 | grep -vxE 'Makefile|README.md|LICENSE|methods|harness|datasets|configs|results|plots|tests|build' || true)
[ -z "$extra" ] || fail "the top level holds more than the layout: $extra"
grep -q 'GNU GENERAL PUBLIC LICENSE' LICENSE || fail "LICENSE is not the GPL"

out=$(make --no-print-directory BUILD="$build" program 2>&1) || fail "make failed: $out"
out=$(make --no-print-directory BUILD="$build" program 2>&1)
grep -qE '(CC|LD|AR) ' <<<"$out" && fail "a second make built something: $out"

make help | grep -q 'make sweep' || fail "make help does not show sweep"
out=$(make BUILD=nonsense program 2>&1) && fail "BUILD=nonsense was accepted"
grep -q 'release, debug, asan or tsan' <<<"$out" || fail "BUILD=nonsense: $out"

# A machine without the development packages, where nothing may be installed: the command is printed and nothing is changed.
out=$(PKG_CONFIG_LIBDIR=/nonexistent PKG_CONFIG_PATH= make --no-print-directory deps NO_INSTALL=1 2>&1) && fail "missing packages went unnoticed"
grep -q 'missing: .*openblas' <<<"$out" || fail "missing packages are not listed: $out"
grep -q 'apt-get install .*libopenblas-dev' <<<"$out" || grep -q 'libopenblas-dev' <<<"$out" || fail "no command to install them: $out"

tree=$(mktemp -d) || exit 1
trap 'rm -rf "$tree"' EXIT
make --no-print-directory BUILD="$build" install PREFIX="$tree" NO_INSTALL=1 >"$tree/log" 2>&1 || { cat "$tree/log"; fail "make install"; }
(cd "$tree" && PTQ_DATA="$tree/share/ptqbench" bin/ptq inspect demo | grep -q tok_embd) || fail "the installed program does not find its demo model"
(cd "$tree" && PTQ_DATA="$tree/share/ptqbench" bin/ptq list presets | grep -q gptq-paper) || fail "the installed program does not find its presets"
echo "layout, second make, missing packages, install"
