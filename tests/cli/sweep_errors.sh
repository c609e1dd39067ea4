#!/usr/bin/env bash
# Bad input to a sweep: place, reason, remedy, exit code; and what was finished stays.
. "$(dirname "$0")/../sweep_lib.sh"
config=$work/small.ini
small_config "$config"

refused() { # what, sed script over the configuration, pattern
    sed "$2" "$config" >"$work/bad.ini"
    cmp -s "$config" "$work/bad.ini" && fail "$1: the script changed nothing"
    exits 2 sweep "$work/bad.ini" bad
    says "$3"
    [ ! -e "$work/bad/cells.jsonl" ] || fail "$1: a refused configuration left rows"
}

# What stands in the file: line and nearest word.
refused "unknown key" 's/^bits/bitts/' "bad.ini:11: unknown key in \[sweep\]: 'bitts'; did you mean 'bits'"
refused "unknown section" 's/^.sweep./[sweeep]/' "bad.ini:10: unknown section 'sweeep'; did you mean 'sweep'"
refused "unknown method" 's/rtn, gptq/rtn, gtpq/' "bad.ini:10: .*gtpq.*did you mean 'gptq'"
refused "unknown option" 's/rtn, gptq/gptq:percdam=1/' "bad.ini:10: .*percdam.*did you mean 'percdamp'"
refused "unknown grid" 's/^bits/grid = minmx\n&/' "bad.ini:11: .*minmx.*did you mean 'minmax'"
refused "bits out of range" 's/^bits.*/bits = 3,9/' 'bad.ini:11: \[sweep\] bits: 9 is outside 1 .. 8'
refused "no number" 's/^bits.*/bits = three/' "bad.ini:11: \[sweep\] bits: 'three'"
refused "listed twice" 's/rtn, gptq/rtn, rtn/' "bad.ini:10: .*'rtn' is listed twice"
refused "one key twice" 's/^bits/wbits = 3\n&/' 'bad.ini:12: \[sweep\] bits is the same as wbits in line 11'
refused "activations" 's/^bits/a_bits = 12\n&/' 'bad.ini:11: .*2 to 8 bits; 16 leaves them'
refused "stats" 's/^seed/stats = sequental\n&/' "did you mean 'sequential'"
refused "metric" 's/^windows/metrics = pppl\n&/' "pppl.*did you mean 'ppl'"
refused "no methods" '/^methods/d' '\[sweep\] methods is missing'
refused "missing model" 's/^source.*/source = absent.h5/' 'absent.h5'
refused "missing text" 's/^text = synth:facts$/text = absent.txt/' 'absent.txt'
refused "group" 's/^group_size.*/group_size = 200/' 'group of 200 is larger than the row of blk.0.attn_q \(128 columns\)'
refused "no layer" 's/^layers.*/layers = blk.9.*/' 'layers = blk.9.\* matches no layer'
exits 2 "$PTQ" sweep "$work/absent.ini"
says 'absent.ini'
SET="run.name=a/b" exits 2 sweep "$config" bad
says "'a/b' is no folder name"
SET="sweep.bits=3 sweep.bit=3" exits 2 sweep "$config" bad
says "command line: unknown key in \[sweep\]: 'bit'; did you mean 'bits'"
exits 2 sweep "$config" bad --shard 3/2
says 'I/N'
exits 2 sweep "$config" bad --bugdet 3
says "did you mean '--budget'"

# Inputs of layers.
h5=$work/layer.h5
layers() { # SET words
    SET="sweep.methods=gptq sweep.bits=3 sweep.group_size=-1 $1"
    printf '[model]\nsource = %s\n' "$h5" >"$work/layers.ini"
}
synth() { "$PTQ" synth layer --rows 64 --cols 64 --tokens 64 --hess 0 --name l "$@" --out "$h5" >/dev/null || fail "ptq synth layer"; }
layers ""
synth
exits 0 sweep "$work/layers.ini" layers
cp "$work/layers/cells.jsonl" "$work/before"
size=$(stat -c %s "$h5")
# Weights and activations fill most of the file: at a quarter and at three quarters lie numbers, and bytes of ones are NaN.
for quarter in 1 3; do
    synth
    printf '\377\377\377\377\377\377\377\377' | dd of="$h5" bs=4 seek=$((size * quarter / 16)) conv=notrunc status=none
    exits 5 sweep "$work/layers.ini" layers
    says "layer.h5: /layers/l: (weight|activations): row [0-9]+, column [0-9]+ is -?nan"
done
synth
truncate -s $((size / 2)) "$h5"
exits 2 sweep "$work/layers.ini" layers
says 'layer.h5'
echo text >"$h5"
exits 2 sweep "$work/layers.ini" layers
says 'layer.h5'
cmp -s "$work/before" "$work/layers/cells.jsonl" || fail "bad inputs changed the rows of good ones"
synth
layers "sweep.group_size=65"
exits 2 sweep "$work/layers.ini" layers
says 'group of 65 is larger than the row of l \(64 columns\)'

# A method that needs a Hessian on a layer that has none: skipped, a row with the reason, no error.
if command -v python3 >/dev/null && python3 -c 'import h5py' 2>/dev/null; then
    python3 -c "
import h5py, numpy
with h5py.File('$h5', 'w') as f:
    f['/layers/l/weight'] = numpy.random.default_rng(1).standard_normal((8, 16)).astype('f4')"
    layers "sweep.methods=rtn,gptq"
    exits 0 sweep "$work/layers.ini" skipped
    grep '"base":"gptq"' "$work/skipped/cells.jsonl" | grep -Eq '"status":"skipped","?.*"reason":"[^"]+"' || fail "no skipped row: $(cat "$work/skipped/cells.jsonl")"
    grep '"base":"rtn"' "$work/skipped/cells.jsonl" | grep -q '"status":"ok"' || fail "rtn needs no Hessian"
    layers "sweep.methods=gptq"
    exits 2 sweep "$work/layers.ini" nothing
    says 'nothing was quantized: every cell was skipped'
    grep -q '^INVALID: .*nothing was quantized' "$work/out" || fail "a run of nothing: $(tail -2 "$work/out")"
    layers "sweep.methods=rtn,gptq"
    python3 -c "
import h5py, numpy
with h5py.File('$h5', 'w') as f:
    f['/layers/l/weight'] = numpy.random.default_rng(1).standard_normal((8, 16)).astype('f4')
    f['/layers/l/activations'] = numpy.zeros((20, 16), 'f4')"
    exits 6 sweep "$work/layers.ini" zeros
    grep '"base":"gptq"' "$work/zeros/cells.jsonl" | grep -q 'the activations are all zero' || fail "zero activations: no reason"
    grep '"base":"rtn"' "$work/zeros/cells.jsonl" | grep -q '"status":"ok"' || fail "rtn needs no activations"
    python3 -c "
import h5py, numpy
with h5py.File('$h5', 'w') as f:
    f['/layers/l/weight'] = numpy.random.default_rng(1).standard_normal((8, 16)).astype('f4')
    f['/layers/l/activations'] = numpy.random.default_rng(2).standard_normal((5, 16)).astype('f4')"
    exits 0 sweep "$work/layers.ini" few
    grep '"base":"gptq"' "$work/few/cells.jsonl" | grep -q '"tokens_below_columns":5' || fail "5 tokens, 16 columns: no note"
    grep '"base":"rtn"' "$work/few/cells.jsonl" | grep -q 'tokens_below' && fail "rtn uses no Hessian"
    python3 -c "
import h5py, numpy
with h5py.File('$h5', 'w') as f:
    f['/layers/l/weight'] = numpy.ones((8, 16), 'f4')
    h = numpy.eye(16); h[0, 1] = 0.5
    f['/layers/l/hess'] = h"
    exits 5 sweep "$work/layers.ini" skipped
    says 'hess: not symmetric'
else
    echo "SKIP layers without or with a wrong Hessian: python3 with h5py absent"
fi
SET=

# Folders that cannot be written.
echo file >"$work/file"
exits 6 "$PTQ" sweep "$config" --quiet --set "run.out=$work/file"
says "cannot make the folder: Not a directory"
mkdir "$work/closed"
chmod 500 "$work/closed"
if ! touch "$work/closed/x" 2>/dev/null; then
    exits 6 "$PTQ" sweep "$config" --quiet --set "run.out=$work/closed"
    says "Permission denied"
else
    echo "SKIP a folder without write permission: this user may write everywhere"
fi

# A full disk (here first: a limit on file sizes) while rows and forms are written: exit code 6, finished rows stay, the next run goes on.
synth --rows 256 --cols 256
layers "sweep.methods=rtn,gptq sweep.bits=2-8"
exits 0 sweep "$work/layers.ini" whole
(
    trap '' XFSZ
    ulimit -f 100 # blocks of 1024 bytes; forms of 65536 weights are 16 KiB and more
    sweep "$work/layers.ini" full
)
[ $? = 6 ] || fail "exit code at the limit of file sizes: $(cat "$work/err")"
says 'cannot write: File too large; raise the limit'
[ "$(rows "$work/full" | wc -l)" -ge 1 ] || fail "finished rows were lost"
exits 0 sweep "$work/layers.ini" full
same_rows "$work/whole" "$work/full" "after the limit was raised"

# No memory says nothing about a cell: it leaves no row, and the next run does it. The limit comes when the first layer is done, so that the
# large one does not fit; how much it needs beside what is there already lies between these numbers.
if command -v prlimit >/dev/null && ! sanitized; then
    synth --rows 512 --cols 512 --name a
    synth --rows 2048 --cols 1024 --name b --append 1
    layers "sweep.methods=rtn,gptq sweep.bits=2-8"
    hit=0
    for spare in 30 40; do
        rm -rf "$work/memory"
        "$PTQ" sweep "$work/layers.ini" --threads 1 --quiet --no-report --set "run.out=$work run.name=memory $SET" >/dev/null 2>"$work/err" &
        pid=$!
        until [ -s "$work/memory/cells.jsonl" ] || ! kill -0 $pid 2>/dev/null; do sleep 0.01; done
        prlimit --pid $pid --as=$((($(awk '/VmSize/ { print $2 }' /proc/$pid/status) + spare * 1024) * 1024)) 2>/dev/null
        wait $pid
        code=$?
        grep -q '"status":"failed"' "$work/memory/cells.jsonl" && fail "out of memory became a failed row"
        [ $code = 6 ] && grep -Eq 'out of memory: .*; [0-9]+ of 28 cells done; give more memory' "$work/err" && hit=$((hit + 1))
    done
    [ $hit -ge 1 ] || fail "no cell ran out of memory: $(cat "$work/err")"
    exits 0 sweep "$work/layers.ini" memory
    [ "$(grep -c '"status":"ok"' "$work/memory/cells.jsonl")" = 28 ] || fail "cells that had no memory were not run again"
    synth --rows 256 --cols 256
    layers "sweep.methods=rtn,gptq sweep.bits=2-8"
else
    echo "SKIP out of memory: no prlimit, or a sanitizer's address space"
fi

mkdir "$work/disk"
if mount -t tmpfs -o size=150k none "$work/disk" 2>/dev/null; then
    trap 'umount "$work/disk"; leave' EXIT
    SET="$SET run.out=$work/disk" exits 6 sweep "$work/layers.ini" full
    says 'cannot write: No space left on device; free some space, then run the same command again'
    [ "$(rows "$work/disk/full" | wc -l)" -ge 1 ] || fail "finished rows were lost on the full disk"
    mount -o remount,size=20m "$work/disk"
    SET="$SET run.out=$work/disk" exits 0 sweep "$work/layers.ini" full
    same_rows "$work/whole" "$work/disk/full" "after space was made"
else
    echo "SKIP a full disk: no right to mount a small one"
fi
finish ok
