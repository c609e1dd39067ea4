"""Texts that tokenizers trip over, shared by the side scripts of the tokenizer tests."""

AWKWARD = [
    "",
    " ",
    "  ",
    "a",
    " a",
    "a ",
    "  two leading, two trailing  ",
    "Hello world",
    "Hello  world   with    runs     of      spaces",
    "tab\there\nnewline\r\ncarriage\rreturn\n\n\nthree",
    "1234567890 3.14159 1,000,000 12th 0x1F",
    "don't can't I'll we've he'd they're I'm it's DON'T",
    "caf\u00e9 cafe\u0301 na\u00efve \u00c5ngstr\u00f6m \u1e9e Stra\u00dfe \ufb01n",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002 \u65e5\u672c\u8a9e\u30c6\u30ad\u30b9\u30c8 \ud55c\uad6d\uc5b4 \u1112\u1161\u11ab",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 \u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f1e9\U0001f1ea \u2764\ufe0f",
    "no\u00a0break\u2009thin\u200bzero\u3000wide\u2028line\u0085next\u1680ogham",
    "control\x00\x01\x07\x1b\x7fs\u00adoft\u200e\u202a marks \ufeff BOM",
    "\u2581under\u2581\u2581score \u2581 alone\u2581",
    "\u2581",
    "x\u0323\u0307 q\u0307\u0323 \u1e69 s\u0323\u0307 \u0344 \u212b \u2126 \u1e9b\u0323",
    "\u0130stanbul I\u0307 \u0131 \u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2 \u039f\u03a3 \u01c5 \u1f88 \u2160 \u24b6",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22 \u0f56\u0f7c\u0f51 \u0915\u093c \u0958 \u1ee7\u0306",
    "\U0001d400\U0001d4d0 \U00020000\U0002a6d6 \U000e0041 \ue000 \ufdd0 \uffff \U0010ffff",
    "<s> </s> <unk> [CLS] [SEP] [UNK] [MASK] <0x0A> <|endoftext|>",
    "a<s>b </s>c <s> d",
    "http://example.com/path?query=1&x=%20#frag user@host.org C++ #include <stdio.h>",
    "def f(x):\n    if x:\n\t\treturn {'a': [1, 2], \"b\": x ** 2}\n",
    "\u201ccurly\u201d \u2018quotes\u2019 \u2014 dash \u2026 \u00ab\u00bb \u00bf\u00a1 \u2030 \u20ac \u00a3 \u00a9 \u2122 \u00bd \u00b2",
    "Antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "a" * 99 + " " + "b" * 100 + " " + "c" * 101 + " " + "\u00e9" * 101,
    "\ufffd replaced \ufffd\ufffd",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "the the the the thethethe of@-@the = Heading =\n",
]

# Not UTF-8: what Python's decoder makes of it with errors="replace" is what must be encoded.
DAMAGED = [
    b"ok \xff\xfe bad",
    b"cut \xe2\x82",
    b"\xc0\x80 overlong \xe0\x80\x80",
    b"surrogate \xed\xa0\x80 \xf4\x90\x80\x80 end",
    b"\xf0\x9f\x98 half \xf0\x9f\x98\x80 whole",
]


def wiki(shared):
    """WikiText-2 test as the papers join it: a blank line (one space) is an empty row."""
    with open(f"{shared}/data/text/wiki.test.raw", encoding="utf-8", newline="") as f:
        lines = f.readlines()
    return "\n\n".join("" if line == " \n" else line for line in lines)


def fnv(ids):
    """FNV-1a over ids, 64 bits: what the tests compare for long texts."""
    h = 0xCBF29CE484222325
    for i in ids:
        h = (h ^ i) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"
