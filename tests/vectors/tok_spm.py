#!/usr/bin/env python3
"""Trains the small tokenizers of tests/vectors/tok_spm/ and writes what the libraries encode with them.

    python3 tests/vectors/tok_spm.py ../shared

Made with sentencepiece 0.2.3, tokenizers 0.23.3 and gguf 0.19.0 from the WikiText-2 text of ../shared (another version
may train other pieces: ids.json and the models belong together).
    llama.model      as Llama's: BPE, byte fallback, identity normalization, single digits, dummy prefix, spaces kept
    symbols.model    without byte fallback, rare characters unknown, spaces squeezed, symbols of the user
    llama.json       llama.model as a tokenizer.json with ranked merges, converted by transformers' rule: every split of a
                     piece into two pieces is a merge, ordered by the piece's score and then by the ids of the parts
    bert.txt         WordPiece, trained uncased
ids.json holds for every case number and FNV-1a (tok_texts.py) of the ids of the awkward texts, of the damaged ones and of
WikiText-2 test. tok_awkward.json beside the folder holds these texts.
"""
import json
import os
import sys
import tempfile

import sentencepiece
import tokenizers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tok_texts import AWKWARD, DAMAGED, fnv, wiki

SPACE = "\u2581"
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tok_spm")
SHARED = sys.argv[1] if len(sys.argv) > 1 else "../shared"
EXTRA = ["caf\u00e9 na\u00efve \u4f60\u597d \u4e16\u754c \u65e5\u672c \u0645\u0631\u062d\u0628\u0627 "] * 40


def sentences():
    with open(f"{SHARED}/data/text/wiki.train.first1MB.txt", encoding="utf-8") as f:
        return [line.strip("\n") for line in f if line.strip()] + EXTRA + ["    indented        more                x"] * 60


def train_spm(name, **options):
    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "text")
        with open(text, "w", encoding="utf-8") as f:
            f.write("\n".join(sentences()))
        at = os.getcwd()
        os.chdir(folder)  # the model stores these names
        sentencepiece.SentencePieceTrainer.train(
            input="text", model_prefix="m", model_type="bpe", normalization_rule_name="identity", num_threads=1,
            minloglevel=2, **options)
        os.chdir(at)
        with open(os.path.join(folder, "m.model"), "rb") as f:
            data = f.read()
    with open(os.path.join(HERE, name), "wb") as f:
        f.write(data)
    return sentencepiece.SentencePieceProcessor(model_proto=data)


def merges_of(sp):
    """transformers, convert_slow_tokenizer.py, generate_merges."""
    vocab = {sp.id_to_piece(i): i for i in range(sp.get_piece_size())}
    merges = []
    for piece, i in vocab.items():
        local = []
        for k in range(1, len(piece)):
            left, right = piece[:k], piece[k:]
            if left in vocab and right in vocab:
                local.append((left, right, sp.get_score(i)))
        merges += sorted(local, key=lambda x: (vocab[x[0]], vocab[x[1]]))
    merges.sort(key=lambda x: x[2], reverse=True)
    return vocab, [(a, b) for a, b, _ in merges]


# How texts reach the model: Llama 1 and 2; Mistral and newer exports of Llama; with pieces at every space; Gemma.
VARIANTS = {
    "prepend": (normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]), None),
    "first": (None, pre_tokenizers.Metaspace(SPACE, "first", False)),
    "always": (None, pre_tokenizers.Metaspace(SPACE, "always", False)),
    "split": (None, pre_tokenizers.Metaspace(SPACE, "always", True)),
    "never": (None, pre_tokenizers.Metaspace(SPACE, "never", False)),
    "replace": (normalizers.Replace(" ", SPACE), None),
}


def make_json(sp, variant, normalized=False):
    vocab, merges = merges_of(sp)
    t = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer, t.pre_tokenizer = [x or y for x, y in zip(VARIANTS[variant], (t.normalizer, t.pre_tokenizer))]
    t.add_special_tokens([tokenizers.AddedToken(s, normalized=normalized, special=True) for s in ("<unk>", "<s>", "</s>")])
    t.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    t.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])
    return t


def train_bert():
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer, t.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t.train_from_iterator(sentences(), trainers.WordPieceTrainer(
        vocab_size=900, limit_alphabet=260, special_tokens=specials, show_progress=False))
    vocab = sorted(t.get_vocab().items(), key=lambda x: x[1])
    with open(os.path.join(HERE, "bert.txt"), "w", encoding="utf-8") as f:
        f.write("".join(word + "\n" for word, _ in vocab))
    return {word: i for word, i in vocab}


def make_bert(vocab, **flags):
    t = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    t.normalizer, t.pre_tokenizer = normalizers.BertNormalizer(**flags), pre_tokenizers.BertPreTokenizer()
    t.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return t


def case(name, encode, text, note):
    texts = AWKWARD + [b.decode("utf-8", "replace") for b in DAMAGED] + [text]
    return {"case": name, "by": note, "ids": [f"{len(ids)}:{fnv(ids)}" for ids in map(encode, texts)]}


def points_case(name, normalizer):
    """Every code point by itself, and with marks behind it that move and compose."""
    points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    texts = ["".join(chr(c) + "a" for c in points), "".join(chr(c) + "\u0301\u0323\u0308" for c in points)]
    return {"case": name, "by": "tokenizers", "ids": [f"{len(s)}:{fnv(map(ord, s))}" for s in map(normalizer.normalize_str, texts)]}


def write_texts():
    with open(os.path.join(HERE, "..", "tok_awkward.json"), "w", encoding="ascii") as f:
        json.dump({"texts": AWKWARD, "damaged_hex": [b.hex() for b in DAMAGED]}, f, indent=0)


def main():
    os.makedirs(HERE, exist_ok=True)
    text = wiki(SHARED)
    write_texts()
    llama = train_spm("llama.model", vocab_size=1000, byte_fallback=True, split_digits=True, character_coverage=0.9995,
                      add_dummy_prefix=True, remove_extra_whitespaces=False, allow_whitespace_only_pieces=True)
    symbols = train_spm("symbols.model", vocab_size=420, byte_fallback=False, character_coverage=0.998,
                        add_dummy_prefix=True, remove_extra_whitespaces=True, split_by_whitespace=False,
                        user_defined_symbols=["@-@", "@,@", "ing", SPACE + "of" + SPACE, "the", "thethe", SPACE * 3])
    cases = [case("llama.model", llama.encode, text, "sentencepiece"),
             case("symbols.model", symbols.encode, text, "sentencepiece")]
    for variant in VARIANTS:
        t = make_json(llama, variant)
        cases.append(case("llama.json:" + variant, lambda s: t.encode(s, add_special_tokens=False).ids, text, "tokenizers"))
        if variant == "prepend":
            d = json.loads(t.to_str())
            vocab = d["model"].pop("vocab")
            with open(os.path.join(HERE, "llama.json"), "w", encoding="utf-8") as f:
                d["model"]["merges"] = [" ".join(m) for m in d["model"]["merges"]]
                d["model"]["vocab"] = vocab
                json.dump(d, f, ensure_ascii=False, separators=(",", ":"))
    vocab = train_bert()
    for name, flags in (("uncased", {}), ("cased", {"lowercase": False}), ("accents", {"strip_accents": False}),
                        ("dirty", {"clean_text": False, "handle_chinese_chars": False})):
        t = make_bert(vocab, **flags)
        cases.append(case("bert.txt:" + name, lambda s: t.encode(s, add_special_tokens=False).ids, text, "tokenizers"))
    for name, normalizer in (("nfc", normalizers.NFC()), ("nfd", normalizers.NFD()), ("lower", normalizers.Lowercase())):
        cases.append(points_case("points:" + name, normalizer))
    with open(os.path.join(HERE, "ids.json"), "w", encoding="ascii") as f:
        json.dump(cases, f, indent=0)
        f.write("\n")


main()
