#!/usr/bin/env bash
# `ptq score`: a dequantized export gives its sweep row's numbers to the last digit, stored forms give its codes; checkpoints packed by
# other programs (tests/vectors/make_packed.py) are read, and those that calibration never touched are told; rows go to compare and check.
. "$(dirname "$0")/../sweep_lib.sh"
layers='blk.?.attn_k' # of all four blocks
score() { # QUANTIZED NAME [flags...]: output in $work/out, message in $work/err
    local quantized=$1 name=$2
    shift 2
    "$PTQ" score "${ORIGINAL:-demo}" "$quantized" --name "$name" --results "$work" --windows 4 --quiet --set "calib.nsamples=4" "$@" >"$work/out" 2>"$work/err"
}
field() { # FILE PATTERN-of-row FIELD: a number of a row
    grep "$2" "$1" | grep -o "\"$3\":[-0-9][^],}]*" | head -1 | cut -d: -f2
}
text() { grep "$2" "$1" | sed -n "s/.*\"$3\":\"\([^\"]*\)\".*/\1/p" | head -1; }
remark() { sed -n "s/.*\"layer\":\"$1\".*\"remark\":\"\([^\"]*\)\".*/\1/p" "$work/out"; }

# ---- our own export comes back
"$PTQ" sweep configs/demo.ini --quiet --no-report --set "run.out=$work run.name=own sweep.methods=gptq sweep.bits=4 sweep.group_size=64 \
    sweep.layers=$layers eval.windows=4 calib.nsamples=4" >/dev/null || fail "the sweep"
"$PTQ" export "$work/own" -o "$work/export" --quiet >/dev/null || fail "the export"
score "$work/export" again --layers "$layers" --out "$work/again.jsonl" || fail "score of an export: $(cat "$work/err")"
own=$work/own/cells.jsonl again=$work/again.jsonl
for m in ppl nll dnll kl_mean; do
    a=$(field "$own" '"kind":"model"' $m) b=$(field "$again" '"kind":"model"' $m)
    [ -n "$a" ] && [ "$a" = "$b" ] || fail "$m: the sweep has $a, the export $b"
done
[ "$(field "$again" '"kind":"model"' bits_stored)" = 32.0 ] || fail "an fp32 folder stores 32 bits"
"$PTQ" score demo "$work/export/quant.h5" --name forms --results "$work" --windows 4 --quiet --set calib.nsamples=4 --layers "$layers" --out "$work/forms.jsonl" >"$work/out" ||
    fail "score of stored forms"
[ "$(text "$own" '"kind":"model"' codes_hash)" = "$(text "$work/forms.jsonl" '"kind":"model"' codes_hash)" ] || fail "stored forms: other codes"
grep -q 'external:forms  *4.3125' "$work/out" || fail "stored forms: other bits"

# ---- what lies around the matrices: told where it is not the original's, and run as it is
grep -q 'whole file\|QUANTIZED has others' "$work/out" && fail "an export brings nothing of its own: $(cat "$work/out")"
change() { # TENSOR FACTOR: of $work/other's tensors, in fp32
    perl -MJSON::PP -0777 -pi -e 'my $n = unpack("Q<", $_); my $h = decode_json(substr($_, 8, $n)); my ($from, $to) = @{$h->{"'"$1"'"}{data_offsets}};
        substr($_, 8 + $n + $from, $to - $from) = pack("f<*", map { $_ * '"$2"' } unpack("f<*", substr($_, 8 + $n + $from, $to - $from)))' "$work/brought/model.safetensors"
}
whole() { sed -n 's/^external:other, whole file *- *\([0-9.]*\) .*/\1/p' "$work/out"; }
rest() { # what the file is: a line about LINE, and the perplexity of the file by `ptq eval`
    score "$work/brought" other --layers "$layers" --alone --text "$work/some.ids" --protocol ids-256 --out "$work/other.jsonl" || fail "$1: $(cat "$work/err")"
    grep -Eq "^  $1" "$work/out" && [ "$(grep -c '^  [a-z]' "$work/out")" = 1 ] || { cat "$work/out"; fail "'$1' is not told, or more than that"; }
    "$PTQ" eval "$work/brought" --tokens "$work/some.ids" --window 256 --format jsonl >"$work/eval" 2>"$work/err" || fail "eval: $(cat "$work/err")"
    awk -v a="$(whole)" -v b="$(field "$work/eval" '"nll"' nll)" 'BEGIN { exit !(a > 0 && a - b < 2e-9 && b - a < 2e-9) }' ||
        { cat "$work/out" "$work/eval"; fail "$1: the whole file"; }
    grep '"kind":"model"' "$work/other.jsonl" | grep -Eq "\"not_measured\":\[\"$1[^\"]*\"\]" || fail "$1: not in the rows"
    [ "$(field "$work/other.jsonl" '"kind":"model"' nll)" = "$matrices" ] || fail "$1: matrices count alone in the row"
}
head -c 800 LICENSE | od -An -v -tu1 -w200 >"$work/some.ids"
score "$work/export" other --layers "$layers" --alone --text "$work/some.ids" --protocol ids-256 --out "$work/other.jsonl" || fail "ids: $(cat "$work/err")"
matrices=$(field "$work/other.jsonl" '"kind":"model"' nll)
cp -r "$work/export" "$work/brought"
sed -i 's/"rope_theta": *[0-9.e+]*/"rope_theta": 500.0/' "$work/brought/config.json"
rest 'rope theta: 500, not 10000'
rm -r "$work/brought" && cp -r "$work/export" "$work/brought" && change model.norm.weight 1.25
rest 'output_norm: 25 % off'
rm -r "$work/brought" && cp -r "$work/export" "$work/brought" && change model.embed_tokens.weight 0.5
rest 'tok_embd: 50 % off'
rm -r "$work/brought" && cp -r "$work/export" "$work/brought" && change lm_head.weight 2
rest 'output: 100 % off'

# ---- plain values on symmetric grids, and on grids of several kinds
plain() { # NAME settings...: an export of rtn into $work/NAME.hf
    "$PTQ" sweep configs/demo.ini --quiet --no-report --set "run.out=$work run.name=$1 sweep.methods=rtn sweep.layers=$layers eval.windows=2 calib.nsamples=4 $2" \
        >/dev/null && "$PTQ" export "$work/$1" -o "$work/$1.hf" --quiet >/dev/null || fail "an export of rtn, $2"
}
plain symmetric "sweep.bits=4 sweep.group_size=32 sweep.sym=1"
score "$work/symmetric.hf" mine --layers "$layers" || fail "symmetric values: $(cat "$work/err")"
grep -q 'All 4 layers equal RTN' "$work/out" && [ "$(grep -c '^blk.* 4 *32 *32 *4.5 *1.0000 .* 1.000 ' "$work/out")" = 4 ] || { cat "$work/out"; fail "symmetric RTN"; }
plain wide "sweep.bits=8 sweep.group_size=32"
perl -MJSON::PP -0777 -e 'my %f; for (0, 1) { open my $h, "<:raw", $ARGV[$_]; $f{$_} = <$h> } my @n = map { unpack("Q<", $f{$_}) } 0, 1;
    my @h = map { decode_json(substr($f{$_}, 8, $n[$_])) } 0, 1; my $t = "model.layers.0.self_attn.k_proj.weight"; my @a = @{$h[0]{$t}{data_offsets}}; my @b = @{$h[1]{$t}{data_offsets}};
    substr($f{0}, 8 + $n[0] + $a[0], $a[1] - $a[0]) = substr($f{1}, 8 + $n[1] + $b[0], $b[1] - $b[0]); open my $o, ">:raw", $ARGV[0]; print $o $f{0}' \
    "$work/symmetric.hf/model.safetensors" "$work/wide.hf/model.safetensors"
score "$work/symmetric.hf" mixed --layers "$layers" || fail "mixed bits: $(cat "$work/err")"
grep -q '^1 of 4 layers lie on other bits' "$work/out" && grep -q '^blk.0.attn_k *8 .* - *- *equals RTN' "$work/out" &&
    [ "$(grep -c '^blk.[123].attn_k *4 *32 .* 1.000 ' "$work/out")" = 3 ] || { cat "$work/out"; fail "mixed bits"; }

# ---- packed by others
score tests/vectors/packed/demo packed --layers "$layers" --format jsonl --out "$work/packed.jsonl" || fail "packed: $(cat "$work/err")"
case $(remark blk.0.attn_k) in *RTN\ to*|*equals*) fail "a calibrated layer is called RTN" ;; esac
case $(remark blk.1.attn_k) in *"as AWQ's"*) ;; *) fail "awq: $(remark blk.1.attn_k)" ;; esac
case $(remark blk.2.attn_k) in "equals RTN to the code"*) ;; *) fail "compressed-tensors: $(remark blk.2.attn_k)" ;; esac
case $(remark blk.3.attn_k) in *equals*) fail "a cleared layer is called RTN" ;; *"100% of groups are one value: nothing"*) ;; *) fail "a cleared layer: $(remark blk.3.attn_k)" ;; esac
grep -q '"layer":"blk.1.attn_k".*"file_bits":4.312' "$work/out" || fail "awq takes 4 + 20 / 64 bits a weight"
# blk.0.attn_v: auto-gptq on a Hessian of nothing but its damping
score tests/vectors/packed/demo zero --layers 'blk.0.attn_v' || fail "packed: $(cat "$work/err")"
grep -q 'blk.0.attn_v.*equals RTN' "$work/out" && grep -q 'All 1 layers equal RTN' "$work/out" || { cat "$work/out"; fail "calibration never ran, and nobody says so"; }
# a text that is not here is told beside the numbers, not on stderr alone
PTQ_TEXTS=$work/none score tests/vectors/packed/demo standin --layers blk.0.attn_v --alone --text wikitext2 || fail "stand-in: $(cat "$work/err")"
grep -q '^protocol .*, text ' "$work/out" && grep -q '^wikitext2:test is not here' "$work/out" || { cat "$work/out"; fail "the text that stands in is not told"; }
# missing layers are rows with a reason, and exit code 6
score tests/vectors/packed/demo part --layers 'blk.0.attn_?' --out "$work/part.jsonl"
[ $? = 6 ] || fail "missing layers: exit code"
grep -q 'blk.0.attn_q.*is missing: there is neither model.layers.0.self_attn.q_proj.weight' "$work/part.jsonl" || fail "missing layers: reason"
grep -q '2 of 4 layers are missing' "$work/out" || fail "missing layers: count"

# ---- rows like any other
"$PTQ" compare "$work/again.jsonl" "$work/again.jsonl" >"$work/out" 2>&1 || fail "compare: $(cat "$work/out")"
mv "$work/again.jsonl" "$work/before.jsonl"
score tests/vectors/packed/demo again --layers "$layers" --out "$work/again.jsonl" || fail "the next version"
"$PTQ" compare "$work/before.jsonl" "$work/again.jsonl" >"$work/out" 2>&1
[ $? = 1 ] && grep -q 'external:again.*REGRESSED' "$work/out" || { cat "$work/out"; fail "a cleared layer is a regression"; }
"$PTQ" check "$work/packed" >"$work/out" 2>&1 || { grep VIOLATED "$work/out"; fail "the run breaks a rule"; }
"$PTQ" report "$work/packed" >"$work/out" 2>&1 && grep -q 'external:packed' "$work/out" || fail "report"

# ---- two matrices of an HDF5 file: the same one twice is no loss
"$PTQ" synth layer --rows 16 --cols 64 --tokens 64 --out "$work/layers.h5" >/dev/null || fail "synth layer"
ORIGINAL=$work/layers.h5 score "$work/layers.h5" bare --dataset weight || fail "bare layers: $(cat "$work/err")"
grep -q ' 0  *0 .*on no uniform grid' "$work/out" || { cat "$work/out"; fail "bare layers"; }
ORIGINAL=$work/layers.h5 score "$work/layers.h5" bare --dataset other; [ $? = 6 ] || fail "bare layers: a dataset that is not there"

# ---- what cannot be
score tests/vectors/packed/demo '' ; [ $? = 2 ] || fail "no name: exit code"
score "$work/nowhere" x; [ $? = 2 ] || fail "no file: exit code"
head -c 9000 tests/vectors/packed/demo/model.safetensors >"$work/cut.safetensors"
score "$work/cut.safetensors" x; [ $? = 2 ] || fail "a cut file: exit code $?"
grep -q 'cut.safetensors' "$work/err" || fail "a cut file: no name in the message"
ORIGINAL=synth:llama-7b:1 score datasets/demo.h5 x; [ $? = 2 ] || fail "another model: exit code"
grep -q 'no quantized form of it' "$work/err" || { cat "$work/err"; fail "another model: reason"; }
finish ok
