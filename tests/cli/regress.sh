#!/usr/bin/env bash
# The project held to its own baseline: configs/regress.ini under --portable gives the bits and the quality of
# results/baselines/demo.jsonl, in every output format; the baseline is what `ptq baseline update` writes.
. "$(dirname "$0")/../sweep_lib.sh"
sanitized && skip "regress: the sweep of the baseline is slow under sanitizers"
grep -qw avx2 /proc/cpuinfo && grep -qw fma /proc/cpuinfo || skip "regress: --portable needs AVX2"
export PTQ_DATA=$PWD
unset PTQ_CPU
baseline=results/baselines/demo.jsonl
begin=$SECONDS
exits 0 "$PTQ" sweep configs/regress.ini --portable --quiet --no-report --set "run.out=$work"
"$PTQ" compare $baseline "$work/regress" --strict --junit "$work/junit.xml" >"$work/table" 2>"$work/err"
code=$?
[ $code = 0 ] || fail "exit code $code (4: other bits or better: ptq baseline update): $(cat "$work/table" "$work/err")"
grep -q '^bits  *SAME$' "$work/table" && grep -q '^quality  *SAME$' "$work/table" || fail "no verdicts: $(cat "$work/table")"
took=$((SECONDS - begin))

# The formats: a table a setting, XML that is well formed, a summary.
[ "$("$PTQ" compare $baseline "$work/regress" --format jsonl | grep -c '"quality":"SAME","bits":"SAME"')" = 3 ] || fail "jsonl"
"$PTQ" compare $baseline "$work/regress" --format csv | head -1 | grep -q '^setting,quality,bits' || fail "csv"
"$PTQ" compare $baseline "$work/regress" --format md >"$work/md"
grep -q '^### .*quality SAME, bits SAME' "$work/md" && grep -q '^| gptq b3 g64 | .*SAME | same | 0 ' "$work/md" || fail "md: $(cat "$work/md")"
grep -q '<testsuites tests="4" failures="0" errors="0">' "$work/junit.xml" || fail "junit: $(cat "$work/junit.xml")"
! command -v python3 >/dev/null || python3 -c 'import sys, xml.dom.minidom as m; m.parse(sys.argv[1])' "$work/junit.xml" || fail "junit is not XML"

# Updating from this run changes nothing; a baseline of a baseline is itself.
cp $baseline "$work/kept.jsonl"
exits 0 "$PTQ" baseline update "$work/regress" "$work/kept.jsonl"
cmp -s $baseline "$work/kept.jsonl" || fail "an update from an equal run changes the baseline: $(diff $baseline "$work/kept.jsonl" | cut -c1-300 | head -4)"
exits 0 "$PTQ" baseline update $baseline "$work/new.jsonl"
cmp -s $baseline "$work/new.jsonl" || fail "a baseline of a baseline differs"
[ "$(stat -c %s $baseline)" -lt 300000 ] || fail "the baseline is larger than 300 kB"
exits 0 "$PTQ" baseline update "$work/regress" "$work/absent.jsonl" --dry-run
[ ! -e "$work/absent.jsonl" ] || fail "--dry-run wrote"
exits 0 "$PTQ" baseline show $baseline
grep -q '^gptq b3 g64 .*4444' "$work/out" || fail "show: $(cat "$work/out")"
exits 2 "$PTQ" baseline upsate a b
says 'did you mean .update'

# Hostile and broken files end in a message, not in a crash.
hostile() { # exit code, message
    "$PTQ" compare $baseline "$work/bad.jsonl" >"$work/out" 2>"$work/err"
    local got=$?
    [ $got = "$1" ] || fail "exit code $got, not $1: $(head -c 300 "$work/bad.jsonl"): $(cat "$work/err")"
    [ -z "$2" ] || says "$2"
}
: >"$work/bad.jsonl" && hostile 2 'holds no whole row'
head -c 500 $baseline >"$work/bad.jsonl" && hostile 2 'torn'
sed '1s/"schema":1/"schema":2/' $baseline >"$work/bad.jsonl" && hostile 3 'schema 2'
printf '%s\n' '{"schema":1,"key":"a","metrics":7,"nll_windows":{},"layer":5,"bits":"\u0007\u001b[31m"}' >"$work/bad.jsonl" && hostile 2 'no whole row of kind layer'
printf '%s\n' '{"schema":1,"kind":"layer","key":"a","metrics":7,"nll_windows":{},"layer":5,"bits":"\u0007\u001b[31m"}' >"$work/bad.jsonl" && hostile 3 'no cell in common'
sed 's/"n_windows":256/"n_windows":1e300/' $baseline >"$work/bad.jsonl" && hostile 3 'n_windows'
sed 's/"nll_windows":\[[^,]*,/"nll_windows":[/' $baseline >"$work/bad.jsonl" && hostile 2 'nll_windows has not'
sed 's/"nll_windows":\[[^]]*\]/"nll_windows":"x"/' $baseline >"$work/bad.jsonl" && hostile 2 'nll_windows has not'
sed 's/,"nll_windows":\[[^]]*\]//' $baseline >"$work/bad.jsonl" && hostile 2 'nll_windows has not'
sed 's/"metrics":{[^}]*}/"metrics":{}/' $baseline | grep -v '"kind":"[mr]' >"$work/bad.jsonl" && hostile 6 ''
# a number that is gone is no agreement
sed 's/"out_relerr_heldout":[0-9.e-]*/"out_relerr_heldout":null/' $baseline >"$work/bad.jsonl" && hostile 6 ''
sed 's/"bits_stored":[0-9.]*/"bits_stored":null/' $baseline >"$work/bad.jsonl" && hostile 6 ''
perl -e 'print "[" x 100000, "\n"' >"$work/bad.jsonl" && hostile 2 'not a JSON row'
head -c 100000 /dev/urandom >"$work/bad.jsonl" && echo >>"$work/bad.jsonl" && hostile 2 ''
# the setting is named, not the hash that follows from it
sed 's/"nsamples":64/"nsamples":16/; s/"calib_key":"..../"calib_key":"0000/' $baseline >"$work/bad.jsonl" && hostile 3 "nsamples is '64'"
sed 's/"model_key":"57/"model_key":"00/' $baseline >"$work/bad.jsonl" && hostile 3 'model_key'

# Windows of unlike lengths: the change is a token's, that of the rows' own losses; a window that scores nothing is none.
printf '%s\n' '84 104 101 32 99 97 116 32 115 97 116' '111 110' '116' '116 104 101 32 109 97 116' >"$work/some.ids"
for damp in 0.01 1; do
    "$PTQ" sweep configs/demo.ini --quiet --no-report --set "run.out=$work run.name=ids$damp eval.text=$work/some.ids eval.protocol=ids-256 \
        sweep.methods=gptq:percdamp=$damp sweep.bits=2 sweep.group_size=64 sweep.layers=blk.3.ffn_* calib.nsamples=4" >/dev/null 2>"$work/err" ||
        fail "a sweep over ids: $(cat "$work/err")"
    sed 's/percdamp=[0-9.]*/percdamp=0.5/g' "$work/ids$damp/cells.jsonl" >"$work/ids$damp.jsonl" # two programs that differ in it, say
done
grep '"kind":"model"' "$work/ids0.01.jsonl" | grep -q '"window_tokens":\[10,1,0,6\]' || fail "tokens of the windows: $(grep -o '"window_tokens":[^]]*' "$work/ids0.01.jsonl")"
"$PTQ" compare "$work/ids0.01.jsonl" "$work/ids1.jsonl" --format csv >"$work/out" 2>"$work/err"
change=$(grep '^"\?gptq' "$work/out" | cut -d, -f"$(head -1 "$work/out" | tr , '\n' | grep -nx change | cut -d: -f1)")
nll() { grep '"kind":"model"' "$1" | grep -o '"nll":[0-9.]*' | head -1 | cut -d: -f2; }
awk -v c="$change" -v a="$(nll "$work/ids0.01.jsonl")" -v b="$(nll "$work/ids1.jsonl")" 'BEGIN { d = b - a; exit !(d != 0 && c != "" && c - d < 2e-6 && d - c < 2e-6) }' ||
    fail "windows of unlike lengths: change $change, the rows say $(nll "$work/ids0.01.jsonl") and $(nll "$work/ids1.jsonl"): $(cat "$work/out" "$work/err")"
finish "as the baseline, in $took s"
