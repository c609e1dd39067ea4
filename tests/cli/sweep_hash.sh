#!/usr/bin/env bash
# The hash of the arithmetic in every form key: files that cannot decide a number are out, all others, new ones too, are in.
. "$(dirname "$0")/../lib.sh"
unset MAKEFLAGS MAKELEVEL MFLAGS
cp -r Makefile harness methods "$work" && mkdir "$work/datasets" && cp datasets/*.[ch] "$work/datasets" || fail "copy"
cd "$work" || exit 1

hash_of() { # which
    make --no-print-directory O=o o/gen/version.inc >make.log 2>&1 || fail "make: $(cat make.log)"
    sed -n "s/.*PTQ_$1_HASH \"\([0-9a-f]*\)\".*/\1/p" o/gen/version.inc
}
base=$(hash_of HARNESS) scoring=$(hash_of SCORING)
[ ${#base} = 16 ] && [ ${#scoring} = 16 ] || fail "no hashes: $base, $scoring"

edit() { # file, changes|keeps
    [ -e "$1" ] && cp "$1" saved || rm -f saved
    echo '/* edited */' >>"$1"
    local now
    now=$(hash_of HARNESS)
    [ "$2" = changes ] && [ "$now" = "$base" ] && fail "$1: an edit does not change the hash"
    [ "$2" = keeps ] && [ "$now" != "$base" ] && fail "$1: an edit changes the hash"
    if [ -e saved ]; then cp saved "$1"; else rm "$1"; fi
}
for f in core/progress.c core/ini.h core/words.c core/json.c core/paths.c core/clock.c core/status.c core/arena.c core/hash.c \
    sweep/store.c sweep/config.c sweep/predict.c analysis/board.c cli/main.c metrics/metric_ppl.c; do
    edit harness/$f keeps
done
for f in datasets/npy.c datasets/synth_facts.c datasets/filekey.c methods/gptq.c; do edit $f keeps; done
for f in ptq.h core/linalg_real.c core/num.c core/half.h core/pool.c core/rng.c quant/grid_real.c model/stats.c model/arch_llama.c \
    sweep/sequential.c sweep/placed.c sweep/layerfile.c sweep/model_phase.c sweep/layer_phase.c sweep/cell.c core/new_file.c quant/new_file.h; do
    edit harness/$f changes
done
for f in datasets/h5.c datasets/facts.c datasets/new_file.c; do edit $f changes; done
[ "$(hash_of HARNESS)" = "$base" ] || fail "the test itself left a change"
finish ok
