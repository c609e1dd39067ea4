#!/usr/bin/env bash
# An encoder end to end: ptq eval prints its embeddings, a sweep scores them against full precision. A tiny BERT of random weights,
# written here; then the first cells of configs/minilm.ini, where its model has been fetched.
. "$(dirname "$0")/../sweep_lib.sh"
command -v perl >/dev/null || skip "sweep_encoder: perl writes the tiny model"
model=$work/bert
mkdir "$model"
cp tests/vectors/tok_spm/bert.txt "$model/vocab.txt"
cat >"$model/config.json" <<'JSON'
{"model_type": "bert", "vocab_size": 900, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
 "max_position_embeddings": 64, "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12}
JSON
# Safetensors: the length of the header, the header, the values, here of a congruential generator.
perl -e '
    my @t = (["embeddings.word_embeddings.weight", 900, 32], ["embeddings.position_embeddings.weight", 64, 32],
             ["embeddings.token_type_embeddings.weight", 2, 32], ["embeddings.LayerNorm.weight", 32], ["embeddings.LayerNorm.bias", 32]);
    for my $b (0, 1) {
        for (["attention.self.query", 32, 32], ["attention.self.key", 32, 32], ["attention.self.value", 32, 32],
             ["attention.output.dense", 32, 32], ["intermediate.dense", 64, 32], ["output.dense", 32, 64]) {
            push @t, ["encoder.layer.$b.$_->[0].weight", $_->[1], $_->[2]], ["encoder.layer.$b.$_->[0].bias", $_->[1]];
        }
        push @t, map { (["encoder.layer.$b.$_.LayerNorm.weight", 32], ["encoder.layer.$b.$_.LayerNorm.bias", 32]) } "attention.output", "output";
    }
    my ($header, $values, $state) = ("", "", 1);
    for (@t) {
        my ($name, @shape) = @$_;
        my ($n, $at) = (1, length $values);
        $n *= $_ for @shape;
        for (1 .. $n) {
            $state = ($state * 69069 + 1) % 4294967296;
            $values .= pack "f<", ($state / 4294967296 - .5) * .6 + ($name =~ /LayerNorm.weight/ ? 1 : 0);
        }
        $header .= ($header ? "," : "") . sprintf q("%s":{"dtype":"F32","shape":[%s],"data_offsets":[%d,%d]}), $name, join(",", @shape), $at, length $values;
    }
    print pack("Q<", length($header) + 2), "{$header}", $values' >"$model/model.safetensors"

# ---- ptq eval
{ for i in $(seq 40); do echo "the cat $i and the other one of the house were $((i * i)) years of age . not one"; done; } >"$work/text.txt"
"$PTQ" eval "$model" --text "$work/text.txt" >"$work/out" 2>"$work/err" || fail "ptq eval: $(cat "$work/err")"
grep -Eq '^protocol +sentences-64$' "$work/out" || fail "the window is not the model's: $(cat "$work/out")"
grep -Eq '^n_sentences +40$' "$work/out" && grep -Eq '^d_embedding +32$' "$work/out" && grep -Eq '^embedding_3 ' "$work/out" || fail "ptq eval: $(cat "$work/out")"
grep -q ppl "$work/out" && fail "a perplexity of an encoder"
hash=$(awk '$1 == "embeddings_hash" { print $2 }' "$work/out")
"$PTQ" eval "$model" --text "$work/text.txt" --threads 1 --format jsonl >"$work/out" 2>"$work/err" || fail "jsonl: $(cat "$work/err")"
grep -q "\"embeddings_hash\":\"$hash\"" "$work/out" || fail "one thread gives other bits"
[ "$(grep -o '"embeddings":\[\[.*\]\]' "$work/out" | tr -cd ',' | wc -c)" = $((40 * 32 - 1)) ] || fail "jsonl does not hold 40 x 32 values"
"$PTQ" eval "$model" --text "$work/text.txt" --protocol gptq-32 >"$work/out" 2>"$work/err"
[ $? = 2 ] || fail "a perplexity protocol on an encoder is no error"
says 'the protocol gptq scores predicted tokens, and bert is an encoder'
echo '{"context": [1], "continuation": [2]}' | "$PTQ" eval "$model" --requests - >"$work/out" 2>"$work/err"
[ $? = 2 ] || fail "requests on an encoder are no error"
says 'standard input: the model .*/bert is an encoder, which predicts no tokens, .*; name a model that predicts tokens'
"$PTQ" eval demo --text "$work/text.txt" --protocol sentences-32 >"$work/out" 2>"$work/err"
[ $? = 2 ] || fail "sentences on a decoder are no error"
says 'is no encoder'

# ---- ptq sweep
sed 's/cat/dog/' "$work/text.txt" >"$work/calib.txt"
cat >"$work/tiny.ini" <<INI
[model]
source = $model
[calib]
text = $work/calib.txt
nsamples = 24
[sweep]
methods = rtn, gptq
bits = 3,8
group_size = 32
[eval]
text = $work/text.txt
windows = 30
INI
exits 0 sweep "$work/tiny.ini" tiny
run=$work/tiny
[ "$(grep -c '"kind":"model"' "$run/cells.jsonl")" = 4 ] || fail "four model rows are wanted"
grep -q '"status":"failed"' "$run/cells.jsonl" && fail "a failed cell: $(grep -m1 '"status":"failed"' "$run/cells.jsonl" | cut -c1-600)"
grep '"kind":"model"' "$run/cells.jsonl" >"$work/models"
grep -q '"protocol":"sentences-64/first30"' "$work/models" || fail "the protocol: $(head -1 "$work/models" | cut -c1-900)"
grep -q '"nsamples":24,.*"calib_draw":"sentences-64/24"' "$work/models" || fail "the calibration: $(head -1 "$work/models" | cut -c1-900)"
grep -q in_domain "$work/models" && fail "another text is called in-domain"
grep -q nll_windows "$work/models" && fail "an encoder has no NLL"
[ "$(grep -c '"ppl":null.*"ppl":"an encoder predicts no tokens"' "$work/models")" = 4 ] || fail "ppl is not absent with its reason"
[ "$(grep -Ec '"intervals":\{.*"embed_dcos":\[' "$work/models")" = 4 ] || fail "embed_dcos has no interval"
"$PTQ" report "$run" --format csv >"$work/main.csv" 2>"$work/err" || fail "report: $(cat "$work/err")"
column() { awk -F, -v name="$1" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next } $at["label"] != "" { print $at["label"], $at["bits"], $at[name] }' "$work/main.csv"; }
for label in gptq rtn; do
    read -r coarse fine < <(column embed_dcos | awk -v l="$label" '$1 == l { v[$2] = $3 } END { print v[3], v[8] }')
    awk -v c="$coarse" -v f="$fine" 'BEGIN { exit !(c > 0 && f > 0 && c > 20 * f) }' || fail "$label: 1 - cosine $coarse at 3 bits, $fine at 8"
done
column on_front | grep -q ' 1$' || fail "nothing is on the Pareto front"
"$PTQ" report "$run" 2>/dev/null | head -4 | tr -s ' \n' ' ' >"$work/out"
grep -q 'nn10' "$work/out" && grep -q 'dcos' "$work/out" && ! grep -q ppl "$work/out" || fail "the table's columns: $(cat "$work/out")"
cp "$run/cells.jsonl" "$work/before"
exits 0 sweep "$work/tiny.ini" tiny
cmp -s "$run/cells.jsonl" "$work/before" || fail "a second run computed something"
exits 0 sweep "$work/tiny.ini" one --threads 1
same_rows "$run" "$work/one" "one thread and all"
SET="calib.stats=sequential" exits 0 sweep "$work/tiny.ini" sequential
[ "$(grep -c '"kind":"model".*"status":"ok".*"stats":"sequential"' "$work/sequential/cells.jsonl")" = 4 ] || fail "stats = sequential"
SET="eval.propagation=5" exits 0 sweep "$work/tiny.ini" one
[ "$(grep -c '"kind":"propagation".*"status":"ok".*"total":\[[0-9.e-]*,[0-9.e-]*\]' "$work/one/cells.jsonl")" = 4 ] || fail "errors block by block of an encoder"
SET="calib.draw=windows" exits 2 sweep "$work/tiny.ini" windows
says 'the draw windows is for models that predict tokens'
SET="eval.protocol=llamacpp-32" exits 2 sweep "$work/tiny.ini" perplexity
says 'scores predicted tokens'
[ ! -e "$work/perplexity/cells.jsonl" ] || fail "a refused configuration left rows"

# ---- the real one
datasets/fetch.sh --have configs/minilm.ini || { echo "SKIP configs/minilm.ini: not fetched (datasets/fetch.sh configs/minilm.ini)"; echo ok; exit 0; }
unset PTQ_TEXTS
SET="calib.text=$work/calib.txt eval.text=$work/text.txt calib.nsamples=24 eval.windows=30 sweep.methods=rtn sweep.bits=2,8 sweep.group_size=128"
exits 0 sweep configs/minilm.ini minilm
"$PTQ" report "$work/minilm" --format csv >"$work/main.csv" 2>"$work/err" || fail "report: $(cat "$work/err")"
column embed_cos_mean | awk '$2 == 8 { ok += $3 > .995 } $2 == 2 { ok += $3 < .9 } END { exit ok != 2 }' || fail "all-MiniLM-L6-v2 at 2 and 8 bits: $(column embed_cos_mean)"
finish ok
