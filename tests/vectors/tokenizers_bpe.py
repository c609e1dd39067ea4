#!/usr/bin/env python3
"""Writes tests/vectors/tok_bpe/cases.json: byte-level BPE tokenizers of all supported families over one small vocabulary, and
what the `tokenizers` library (0.23.3) encodes with them.

    python3 tests/vectors/tokenizers_bpe.py ../shared

The vocabulary is trained on WikiText-2 and on signs *without* a pre-tokenizer, so merges cross the borders of words, numbers
and lines: ids then change with every border that a pre-tokenizer draws elsewhere. A case is a tokenizer.json without
vocabulary and merges, the same for all: tokens are the letters of `alphabet`, then what each merge makes. `lacks`: letters that
the vocabulary of this case does without, and without the merges that need them; `extra`: tokens behind the others that no merge
makes; ids are counted over what is left.
`ids`: FNV-1a over the ids of each text, of tok_awkward.json first, then of `texts`; `plain`: over those of all texts in a row,
without special tokens; `wiki`: number and FNV-1a of the ids of WikiText-2 test.
`llama1`: ids of the texts by tok_spm/llama.json with its special tokens looked for in normalized text, as Llama 1 has them.
"""
import json
import os
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tok_texts import AWKWARD, DAMAGED, fnv, wiki

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tok_bpe")
SHARED = sys.argv[1] if len(sys.argv) > 1 else "../shared"
SIGNS = ("  it's I'LL don't we'Ve 12345 67 2000,1999\n\n\n x\t\ty  \r\n\r\n  a  b   c 1st 3.14 'S 'RE (foo) [bar] {x}; a=b; … ，。 "
         "\u00fcn\u00efc\u00f6d\u00e9 na\u00efve ")
TEXTS = [
    "it'\u017f 'S 'RE \u212a'S ''s '\u017fx we'LL'd",
    "a\u180eb \u180e \u0085\u0085 \u200b\u200b x\u00a0\u00a0 y \u3000\u3000z",
    "1 12 123 1234 12345 x1y22z333 \u0661\u0662\u0663\u0664 \u00b2\u00b3\u00b9\u00bc \u2167\u2167 \U0001d7d8\U0001d7d9\U0001d7da\U0001d7db",
    "(there) a|b [c] d. e, f! g? h\u2026i\u3002j\uff0ck\u3001l\u0964m\u06d4n\u060c )(|",
    "e\u0301 \u1e69 o\u0323\u0302 x\u0301\u0327 \uac01 \u1100\u1161\u11a8 \u2126 \ufb01 \u0958 \u0344\u0301",
    "<|endoftext|>a<|endoftext|> b <|im_start|>user\nhi<|im_end|>\n<|im_start|><|endoftext|>",
    "x  <mask>  y<mask>\n<r>  z <r>\u3000\u3000w <r><mask>  <r>",
    "<to<tool><tool2> <tool caf\u00e9! cafe\u0301! CAF\u00c9!",
    "Camel CASE HTTPServer fooBAR \u01c5ab \u0130x's \u00dfE'LL",
    "\n \n  \n\t\n x \r\r\n\n  y\r\n  ",
    "<s> a <s>b <unk>  c</s> </s>  <unk>",
    "a" * 300 + " " * 200 + "\n" * 100 + "9" * 77 + ", the of the" * 20,
    "x__y\u203f_z \u24b6\u24d0 \u0301\u0301 \u0939\u093f\u0928 1st,2nd;3rd",
]
GPT2 = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
LLAMA3 = (r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"""
          r"""|\s+(?!\S)|\s+""")
QWEN2 = LLAMA3.replace("{1,3}", "")
BLOOM = " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"
CAPITALS = (r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
            r"""|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
            r"""|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+""")
Pre = pre_tokenizers


def base():
    """The letters in the order of their ids, and the merges."""
    with open(f"{SHARED}/data/text/wiki.train.first1MB.txt", encoding="utf-8") as f:
        text = f.read()[:300000]
    chunks = [text[i:i + 150] for i in range(0, len(text), 150)] + [SIGNS * 3] * 40
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = Pre.ByteLevel(add_prefix_space=False, use_regex=False)
    tok.train_from_iterator(chunks, trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=Pre.ByteLevel.alphabet(), max_token_length=8, show_progress=False))
    model = json.loads(tok.to_str())["model"]
    order = sorted(model["vocab"], key=model["vocab"].get)
    merges = [m if isinstance(m, list) else m.split(" ") for m in model["merges"]]
    assert order[256:] == [a + b for a, b in merges]
    return order[:256], merges


ALPHABET, MERGES = base()


def cut(lacks, extra):
    """The vocabulary and merges without some letters and what is made of them, and with more tokens."""
    merges = [(a, b) for a, b in MERGES if not set(a + b) & set(lacks)]
    tokens = [c for c in ALPHABET if c not in lacks] + [a + b for a, b in merges] + extra
    return {token: i for i, token in enumerate(tokens)}, merges


def byte_level(regex=False, prefix=False):
    return Pre.ByteLevel(add_prefix_space=prefix, use_regex=regex)


def sequence(*steps):
    return Pre.Sequence([*steps, byte_level()])


def split(pattern, behaviour="isolated", invert=False):
    return Pre.Split(Regex(pattern), behaviour, invert)


def before(token):
    return lambda tok: processors.TemplateProcessing(
        single=f"{token} $A", special_tokens=[(token, tok.token_to_id(token))])


def around(tok):
    ends = [("<s>", tok.token_to_id("<s>")), ("</s>", tok.token_to_id("</s>"))]
    return processors.Sequence([processors.ByteLevel(), processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=ends)])


def roberta(tok):
    return processors.RobertaProcessing(("</s>", tok.token_to_id("</s>")), ("<s>", tok.token_to_id("<s>")))


END = "<|endoftext|>"
CHAT = [END, "<|im_start|>", "<|im_end|>"]
MASKS = [AddedToken("<mask>", lstrip=True), AddedToken("<r>", rstrip=True)]
CASES = {
    "gpt2": dict(pre=byte_level(True), special=[END]),
    "roberta": dict(pre=byte_level(True, True), special=["<s>", "</s>", *MASKS], post=roberta),
    "smollm2": dict(pre=Pre.Sequence([Pre.Digits(True), byte_level(True)]), special=CHAT, lacks="\u0105\u00f5\u0101x9"),
    "numbers": dict(pre=Pre.Sequence([Pre.Digits(False), byte_level(True, True)])),
    "llama3": dict(pre=sequence(split(LLAMA3)), special=["<s>", "</s>"], post=around, extra=["Camel", "333", "\u0120LL"], ignore_merges=True),
    "qwen2": dict(pre=sequence(split(QWEN2)), norm=normalizers.NFC(), special=CHAT,
                  added=[AddedToken("<tool>", normalized=False), AddedToken("cafe\u0301!", normalized=True)]),
    "bloom": dict(pre=sequence(split(BLOOM)), special=["<unk>", "<s>", "</s>", "<pad>"]),
    "opt": dict(pre=byte_level(True), special=["</s>", "<pad>"], post=before("</s>")),
    "capitals": dict(pre=sequence(split(CAPITALS)), added=["the", " of the", "th"]),
    "words": dict(pre=sequence(Pre.Whitespace())),
    "signs": dict(pre=sequence(Pre.WhitespaceSplit(), Pre.Punctuation())),
    "removed": dict(pre=sequence(Pre.Split(" ", "removed"), Pre.Split("(", "isolated"), split(r"\w+", "removed", True))),
    "runs": dict(pre=sequence(split(r"[\s\d]", "contiguous"), split(r"[a-z]*", "isolated"))),
}


def make(pre, norm=None, post=None, special=(), added=(), lacks="", extra=(), **options):
    vocab, merges = cut(lacks, list(extra))
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, **options))
    tok.pre_tokenizer = pre
    tok.decoder = decoders.ByteLevel()
    if norm:
        tok.normalizer = norm
    tok.add_special_tokens(list(special))
    tok.add_tokens(list(added))
    if post:
        tok.post_processor = post(tok)
    return tok


ALL = AWKWARD + [d.decode("utf-8", errors="replace") for d in DAMAGED] + TEXTS


def llama1():
    with open(os.path.join(HERE, "..", "tok_spm", "llama.json"), encoding="utf-8") as f:
        root = json.load(f)
    for token in root["added_tokens"]:
        token["normalized"] = True
    tok = Tokenizer.from_str(json.dumps(root))
    return [fnv(tok.encode(t).ids) for t in ALL]


def case(name, text):
    tok = make(**CASES[name])
    ids = [fnv(tok.encode(t).ids) for t in ALL]
    long = tok.encode(text, add_special_tokens=False).ids
    tok.encode_special_tokens = True
    plain = [i for t in ALL for i in tok.encode(t, add_special_tokens=False).ids]
    shown = json.loads(tok.to_str())
    for key in ("vocab", "merges"):
        del shown["model"][key]
    return {"name": name, "lacks": CASES[name].get("lacks", ""), "extra": CASES[name].get("extra", []), "tokenizer": shown, "ids": ids, "plain": fnv(plain),
            "wiki": [len(long), fnv(long)]}


text = wiki(SHARED)
lines = [json.dumps(case(name, text), ensure_ascii=False) for name in CASES]
with open(os.path.join(HERE, "cases.json"), "w", encoding="utf-8") as f:
    f.write('{"alphabet": ' + json.dumps("".join(ALPHABET), ensure_ascii=False) + ",\n")
    f.write('"merges": ' + json.dumps([" ".join(m) for m in MERGES], ensure_ascii=False) + ",\n")
    f.write('"texts": ' + json.dumps(TEXTS) + ",\n")
    f.write('"llama1": ' + json.dumps(llama1()) + ",\n")
    f.write('"cases": [\n' + ",\n".join(lines) + "\n]}\n")
