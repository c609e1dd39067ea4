#!/usr/bin/env bash
# A method that sees no statistics has one model row whatever the calibration; its layers are scored under each. Other draws, another
# held-out text or sequential statistics in the same folder are no reason to call a finished run INVALID.
. "$(dirname "$0")/../lib.sh"
small="run.out=$work sweep.methods=rtn,gptq sweep.bits=3 sweep.group_size=64 calib.nsamples=2 eval.windows=2"
for calib in calib.seed=4444,4445 calib.seed=4444 calib.seed=4450 "calib.seed=4450 calib.heldout_seed=7777" \
    "calib.seed=4444,4445 calib.stats=sequential"; do
    out=$("$PTQ" sweep configs/demo.ini --quiet --set "$small $calib" 2>&1) || fail "$calib: $out"
    grep -q '^VALID' <<<"$out" || fail "$calib: $(grep INVALID <<<"$out")"
    # out_relerr is the last but one column: every setting has its layers.
    awk '/^(rtn|gptq) / && $(NF - 1) !~ /e-/ { bad = 1 } END { exit bad }' <<<"$out" || fail "$calib: a setting without its layers: $out"
done
echo "one model row serves every calibration of a method without statistics"
# The same where its one model row only says why there is none: hera's budget of 2 bits leaves some layers nothing.
out=$("$PTQ" sweep configs/demo.ini --quiet --set "run.out=$work run.name=budget sweep.methods=rtn,hera sweep.bits=2 sweep.group_size=-1 \
calib.nsamples=2 eval.windows=2 calib.seed=4444,4445" 2>&1) || fail "hera at 2 bits: $out"
grep -q '^VALID' <<<"$out" || fail "hera at 2 bits: $(grep INVALID <<<"$out")"
finish "a skipped model row does too"
