#!/usr/bin/env bash
# `ptq compare` on faults: programs with one fault each (tests/faults/*.pl, built by make) quantize and score the demo model;
# rows and stored forms of a sound run are damaged. tests/faults/faults.tsv says what must come out; all of it is checked,
# and each fault must be in the table.
. "$(dirname "$0")/../sweep_lib.sh"
faulty=$BUILD_DIR/tests/faults
[ -x "$faulty/damping_x10" ] || skip "compare_faults: no faulty programs in $faulty (make test-programs)"
sanitized && skip "compare_faults: statistics of 20 models are slow under sanitizers"
export PTQ_DATA=$PWD
table=$PWD/tests/faults/faults.tsv
settings="run.out=$work sweep.methods=rtn,gptq sweep.calib.seed=4444 calib.nsamples=32 eval.windows=64"

make_run() { # PROGRAM NAME [SETTINGS]
    "$1" sweep configs/regress.ini --portable --quiet --no-report --set "$settings run.name=$2 ${3:-}" >"$work/log" 2>&1
    local code=$?
    [ $code = 0 ] || [ $code = 5 ] || fail "sweep $2: exit code $code: $(tail -3 "$work/log")"
}

checked=()
# verdict FAULT OLD NEW [flags]: compares and holds the outcome to the table's line
verdict() {
    local fault=$1 old=$2 new=$3 line setting bits quality want code
    shift 3
    line=$(grep -P "^$fault\t" "$table") || fail "$fault is not in faults.tsv"
    IFS=$'\t' read -r _ _ setting bits quality want <<<"$line"
    "$PTQ" compare "$old" "$new" "$@" >"$work/out" 2>"$work/err"
    code=$?
    [ "$code" = "$want" ] || fail "$fault: exit code $code, the table says $want: $(tail -c 900 "$work/out" "$work/err")"
    [ "$bits" = - ] || grep -qE "^bits +$bits$" "$work/out" || fail "$fault: bits are not $bits: $(cat "$work/out")"
    [ "$quality" = - ] || grep -qE "^quality +$quality$" "$work/out" || fail "$fault: quality is not $quality: $(cat "$work/out")"
    [ "$quality" = - ] || grep -qE "^$setting +$quality " "$work/out" || fail "$fault: $setting is not $quality: $(cat "$work/out")"
    checked+=("$fault")
}

make_run "$PTQ" old
make_run "$PTQ" again
verdict none "$work/old" "$work/again"
for fault in zero_off_by_one damping_x10 group_shifted wrong_hessian scales_late; do
    make_run "$faulty/$fault" $fault
    verdict $fault "$work/old" "$work/$fault"
done
make_run "$PTQ" bf16 'sweep.bits=8 sweep.scale=bf16'
make_run "$faulty/scales_late" scales_late_bf16 'sweep.bits=8 sweep.scale=bf16'
verdict scales_late_bf16 "$work/bf16" "$work/scales_late_bf16"

# Two-sided: the sound run is an improvement over a faulty baseline, or as good with other bits.
verdict undone_fault "$work/zero_off_by_one" "$work/old" --strict
shows 'ptq baseline update'
verdict other_bits "$work/scales_late" "$work/old" --strict
shows 'ptq baseline update'
make_run "$PTQ" few 'eval.windows=6'
make_run "$faulty/group_shifted" few_shifted 'eval.windows=6'
verdict few_windows "$work/few" "$work/few_shifted" --tolerance 9 --layer-tolerance 9

# Stored forms and rows of a sound run, damaged.
damaged() { rm -rf "$work/$1"; cp -r "$work/old" "$work/$1"; }
damaged flipped_bit
perl -e 'open F, "+<", $ARGV[0]; binmode F; my $at = int((-s F) * .9); seek F, $at, 0; read F, my $b, 1; seek F, $at, 0; print F chr(ord($b) ^ 4)' \
    "$work/flipped_bit/forms.pack"
verdict flipped_bit "$work/old" "$work/flipped_bit"
says 'forms.pack: the stored form of blk\..* does not have the bytes'
damaged other_codes
sed -i '0,/"codes_hash":"[0-9a-f]/s/"codes_hash":"[0-9a-f]\{8\}/"codes_hash":"01234567/' "$work/other_codes/cells.jsonl"
verdict other_codes "$work/old" "$work/other_codes"
says 'codes hash to 01234567'
damaged lost_rows
head -n -9 "$work/old/cells.jsonl" >"$work/lost_rows/cells.jsonl"
verdict lost_rows "$work/old" "$work/lost_rows"
damaged not_a_number
sed -i 's/"nll_windows":\[[0-9.e-]*/"nll_windows":[null/' "$work/not_a_number/cells.jsonl"
verdict not_a_number "$work/old" "$work/not_a_number"
says 'loss of a window is not a number'
damaged torn
sed -i '5s/.\{300\}$//' "$work/torn/cells.jsonl"
verdict torn "$work/old" "$work/torn"
says 'cells.jsonl:5: not a JSON row'

# Other data is no number.
make_run "$PTQ" truncated eval.windows=63
verdict truncated_text "$work/old" "$work/truncated"
says 'NOT COMPARABLE: .*in .*/old and '
make_run "$PTQ" text eval.text=synth:facts:5556
verdict other_text "$work/old" "$work/text"
says 'NOT COMPARABLE: .*text_key|NOT COMPARABLE: .*text is'
make_run "$PTQ" protocol "eval.text=$PWD/LICENSE eval.protocol=bytes-256"
verdict other_protocol "$work/old" "$work/protocol"
says 'NOT COMPARABLE: .*protocol'
sed 's/"calib_key":"[0-9a-f]\{4\}/"calib_key":"0000/' "$work/old/cells.jsonl" >"$work/calibration.jsonl"
verdict other_calibration "$work/old" "$work/calibration.jsonl"
says 'calib_key'

n=$(grep -cvE '^#|^fault' "$table")
[ "$n" = "$(printf '%s\n' "${checked[@]}" | sort -u | wc -l)" ] || fail "faults.tsv has $n faults, checked: ${checked[*]}"
finish "$n faults"
