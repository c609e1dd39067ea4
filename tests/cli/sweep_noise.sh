#!/usr/bin/env bash
# Shards and noise change no other number, do not depend on threads, are filled in where rows lack them, and are exactly nothing
# for methods without statistics.
. "$(dirname "$0")/../sweep_lib.sh"
config=$work/small.ini
small_config "$config"
sed -i "s/^nsamples.*/nsamples = 8/" "$config" # under sanitizers there are fewer
asked="calib.shards=4 noise.resamples=4 noise.perturb=1e-4 noise.repeats=2"

without_noise() { # rows of a folder without the noise and the interval of the held-out error
    rows "$1" | sed -E 's/,"noise":\{[^}]*\}//; s/"intervals":\{[^}]*\}/"intervals":{}/'
}

SET='' exits 0 sweep "$config" plain
SET=$asked exits 0 sweep "$config" noisy --threads 1
without_noise "$work/plain" >"$work/a"
without_noise "$work/noisy" >"$work/b"
cmp -s "$work/a" "$work/b" || fail "other fields than noise changed: $(diff "$work/a" "$work/b" | cut -c1-300 | head -4)"
grep -q '"noise"' "$work/plain/cells.jsonl" && fail "noise where none was asked for"
n=$(grep -c '"noise":{"key"' "$work/noisy/cells.jsonl")
[ "$n" = $((8 * N_LAYERS)) ] || fail "$n rows with noise, not 8 x $N_LAYERS"
n=$(grep '"kind":"layer"' "$work/noisy/cells.jsonl" | grep -cE '"intervals":\{"out_relerr_heldout":\[')
[ "$n" = $((8 * N_LAYERS)) ] || fail "$n rows with an interval, not 8 x $N_LAYERS"

SET=$asked exits 0 sweep "$config" three --threads 3
same_rows "$work/noisy" "$work/three" "one thread and three"

# The error beside the replicates is the metric; a method without statistics repeats it, gptq does not.
for method in rtn gptq; do
    grep '"kind":"layer"' "$work/noisy/cells.jsonl" | grep "\"base\":\"$method\"" |
        sed -E 's/.*"out_relerr_heldout":([0-9.e-]+).*"error":([0-9.e-]+),.*"resampled":\[([^]]*)\].*"perturbed":\[([^]]*)\].*/\1 \2 \3,\4/' >"$work/$method"
done
awk '{ n = split($3, x, ","); if ($1 != $2 || n != 6) exit 1; for (i in x) if (x[i] != $1) exit 1 }' "$work/rtn" ||
    fail "rtn has noise: $(head -1 "$work/rtn")"
awk '{ split($3, x, ","); if ($1 != $2 || x[1] == $1 || x[1] == x[2]) exit 1 }' "$work/gptq" || fail "gptq has none: $(head -1 "$work/gptq")"
# Replicates are of their own cell: rounding leaves it where it is, halves move it far more, and no two roundings are one.
awk 'function dist(a, b) { return a > b ? log(a / b) : log(b / a) }
    { split($3, x, ","); if (dist(x[5], $1) > .3) { print; exit 1 }
      half += dist(x[1], $1); rounded += dist(x[5], $1); other += x[5] != x[6] }
    END { if (!(rounded > 0 && rounded < half / 3 && other > 0)) { print half, rounded, other, NR; exit 1 } }' "$work/gptq" || fail "replicates of gptq"
grep '"base":"rtn"' "$work/noisy/cells.jsonl" | grep '"kind":"layer"' | grep -vq '"constant":true' && fail "rtn is not marked as constant"

# The interval is that of the row's own values less one shard: the jackknife of their logarithms, t(.975, 3) = 3.182446 (tables).
grep '"kind":"layer"' "$work/noisy/cells.jsonl" |
    sed -E 's/.*"out_relerr_heldout":\[([^]]*)\].*"error":([0-9.e-]+),"less_one":\[([^]]*)\].*/\1,\2,\3/' >"$work/intervals"
awk -F, '{
        for (i = 4; i <= 7; i++) { x[i] = log($i); m[NR] += x[i] / 4 }
        for (i = 4; i <= 7; i++) s[NR] += (x[i] - m[NR]) ^ 2
        half = 3.182446 * sqrt(3 / 4 * s[NR])
        low = log($1 / $3) + half; high = log($2 / $3) - half
        if (NF != 7 || half <= 0 || low * low > 1e-12 * half * half || high * high > 1e-12 * half * half || (m[NR] - log($3)) ^ 2 > .25) { print; exit 1 }
    } END { if (!NR) exit 1 }' "$work/intervals" || fail "an interval is not its replicates'"

# Rows that lack it get it, once; without the question it stays. Their statistics are other files, the totals in them the same.
cp -r "$work/plain" "$work/later"
SET=$asked exits 0 sweep "$config" later
same_rows "$work/noisy" "$work/later" "noise asked for later"
before=$(n_rows "$work/later")
SET=$asked exits 0 sweep "$config" later
[ "$(n_rows "$work/later")" = "$before" ] || fail "finished rows were made again"
SET='' exits 0 sweep "$config" later
[ "$(n_rows "$work/later")" = "$before" ] || fail "rows with noise were made again for want of none"
SET='eval.metrics=out_relerr_heldout,ppl' exits 0 sweep "$config" later
same_rows "$work/noisy" "$work/later" "fewer metrics"
SET="$asked eval.metrics=out_relerr,ppl" exits 0 sweep "$config" few
grep '"kind":"layer"' "$work/few/cells.jsonl" | grep -vq '"less_one"' && fail "no noise without the metric"
SET="$asked" exits 0 sweep "$config" few
same_rows "$work/noisy" "$work/few" "a metric more"

SET="$asked eval.metrics=out_relerr_heldout,ppl" exits 0 sweep "$config" kept
SET='' exits 0 sweep "$config" kept
same_rows "$work/noisy" "$work/kept" "rows made again without asking for noise"
SET="$asked noise.resamples=6" exits 0 sweep "$config" kept
n=$(grep -cE '"base":"gptq".*"resampled":\[([^],]*,){5}[^],]*\]' "$work/kept/cells.jsonl")
[ "$n" = $((4 * N_LAYERS)) ] || fail "six halves instead of four: $n rows made again, not 4 x $N_LAYERS"
SET="$asked calib.shards=8" exits 0 sweep "$config" kept
n=$(grep -cE '"less_one":\[([^],]*,){7}[^],]*\]' "$work/kept/cells.jsonl")
[ "$n" = $((8 * N_LAYERS)) ] || fail "other shards: $n rows made again, not 8 x $N_LAYERS"

# Lost rows come back the same.
cp -r "$work/noisy" "$work/lost"
LC_ALL=C awk 'NR % 3' "$work/noisy/cells.jsonl" >"$work/lost/cells.jsonl"
SET=$asked exits 0 sweep "$config" lost
same_rows "$work/noisy" "$work/lost" "lost rows"

# Behind quantized blocks the noise of scoring alone.
SET="calib.shards=4 calib.stats=sequential sweep.methods=gptq sweep.bits=3 sweep.group_size=-1" exits 0 sweep "$config" walk
grep '"kind":"layer"' "$work/walk/cells.jsonl" | grep -vq '"less_one":\[[^]]*\]}' && fail "sequential: scoring noise and nothing else"

refused() { # settings, message
    SET=$1 exits 2 sweep "$config" no
    says "$2"
    [ ! -e "$work/no/cells.jsonl" ] || fail "rows were written: $1"
}
refused "calib.shards=1" "one shard is the whole"
refused "calib.shards=64" "every shard needs a sequence"
refused "calib.shards=4 calib.heldout=none" "name one with .calib. heldout"
refused "noise.resamples=4" "set .calib. shards to one of"
refused "calib.shards=6 noise.resamples=4" "balanced over 4, 8, 16"
refused "calib.shards=4 noise.resamples=3" "an even number up to 6"
refused "calib.shards=4 noise.resamples=8" "an even number up to 6"
refused "calib.shards=4 noise.resamples=4 calib.stats=sequential" "a walk of its own"
refused "noise.perturb=1e-6 calib.stats=sequential" "a walk of its own"
refused "noise.perturb=1" "outside 0 .. 0.1"
SET="$asked eval.text=none sweep.layers=*" exits 2 sweep "$config" no --model 'synth:layer rows=16 cols=32 tokens=64'
says "need a model and its texts"

# The prediction counts shards and cells run again.
flops() { "$PTQ" sweep "$config" --quiet --dry-run --set "run.out=$work run.name=dry $1" | awk '$1 == "flops" { printf "%d", $2 / 1e6 }'; }
few=$(flops "$asked") many=$(flops "$asked noise.repeats=64")
[ $((10 * many)) -gt $((12 * few)) ] || fail "the prediction leaves out cells that are run again: $few and $many Mflop"
finish ok
