#!/usr/bin/env bash
# The house: top-level entries, a second make does nothing, missing packages are named, install works away from the tree.
. "$(dirname "$0")/../lib.sh"
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

make --no-print-directory BUILD="$build" install PREFIX="$work" NO_INSTALL=1 >"$work/log" 2>&1 || { cat "$work/log"; fail "make install"; }
(cd "$work" && PTQ_DATA="$work/share/ptqbench" bin/ptq inspect demo | grep -q tok_embd) || fail "the installed program does not find its demo model"
(cd "$work" && PTQ_DATA="$work/share/ptqbench" bin/ptq list presets | grep -q gptq-paper) || fail "the installed program does not find its presets"
finish "layout, second make, missing packages, install"
