#!/usr/bin/env python3
"""Writes harness/model/tok_unicode_tables.h: what the `tokenizers` library does to every code point.

    python3 tests/vectors/unicode_tables.py > harness/model/tok_unicode_tables.h

Made with tokenizers 0.23.3. Asked are its normalizers and pre-tokenizers, not Python's unicodedata, so that the tables
have the library's version of Unicode in every class; unicodedata (14.0 was used) only gives one mark of every combining
class, against which all others are sorted.
"""
import unicodedata
from tokenizers import normalizers, pre_tokenizers

POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
NFC, NFD, LOWER = normalizers.NFC(), normalizers.NFD(), normalizers.Lowercase()


def bert(**on):
    flags = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return normalizers.BertNormalizer(**{**flags, **on})


def ranges(points):
    out = []
    for c in points:
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def show(name, kind, rows):
    print(f"static const {kind} {name}[] = {{")
    line = "   "
    for row in rows:
        word = " {" + ", ".join(f"0x{v:X}" if v > 9 else str(v) for v in row) + "},"
        if len(line) + len(word) > 98:
            print(line)
            line = "   "
        line += word
    print(line + "\n};")


def is_hangul(c):
    return 0xAC00 <= c < 0xAC00 + 11172


def combining_classes():
    """Marks whose class is below b are moved before a mark of class b: their place among known marks is their class."""
    known, top = {240: "\u0345"}, "\u0345"  # the highest class has this mark alone
    for c in POINTS:
        k, s = unicodedata.combining(chr(c)), chr(c)
        if k and NFD.normalize_str(top + s) == s + top:  # else the library does not know the mark
            known.setdefault(k, s)
    order = sorted(known)
    found = []
    for c in POINTS:
        s = chr(c)
        if NFD.normalize_str(s) != s:
            continue  # it decomposes: its parts have classes
        if NFD.normalize_str(top + s) != s + top:
            if s == top:
                found.append((c, 240))
            continue  # class 0
        below = [k for k in order if s != known[k] and NFD.normalize_str(s + known[k]) == known[k] + s]
        k = order[len(below)]
        assert NFD.normalize_str(known[k] + s) == known[k] + s, hex(c)  # not under k: it is k
        found.append((c, k))
    rows = []
    for c, k in found:
        if rows and rows[-1][1] == c - 1 and rows[-1][2] == k:
            rows[-1][1] = c
        else:
            rows.append([c, c, k])
    return rows


def decompositions():
    """Canonical steps: c -> (a, b), b 0 for a single one. Composed again by NFC: pairs; else one way."""
    full = {c: NFD.normalize_str(chr(c)) for c in POINTS if not is_hangul(c)}
    full = {c: d for c, d in full.items() if d != chr(c)}
    pairs, one_way = [], []
    for c, d in full.items():
        if len(d) == 1:
            one_way.append((c, ord(d), 0))
            continue
        head = NFC.normalize_str(d[:-1])  # composes to one code point, unless an exclusion stands in the way
        if len(head) == 1 and NFC.normalize_str(chr(c)) == chr(c):
            assert NFC.normalize_str(head + d[-1]) == chr(c), hex(c)
            pairs.append((ord(head), ord(d[-1]), c))
        else:
            assert NFC.normalize_str(chr(c)) != chr(c), hex(c)
            a = next((x for x, y in full.items() if y == d[:-1] and len(y) > 1), None) if len(d) > 2 else ord(d[0])
            assert a is not None, hex(c)
            one_way.append((c, a, ord(d[-1])))
    return sorted(pairs), sorted(one_way)


def lower_rows():
    rows, double = [], []
    for c in POINTS:
        low = LOWER.normalize_str(chr(c))
        if low == chr(c):
            continue
        if len(low) > 1:
            double.append((c, ord(low[0]), ord(low[1])))
            continue
        delta = ord(low) - c
        if rows and rows[-1][3] == delta:
            first, last, step, _ = rows[-1]
            if c - last == step or (first == last and c - last <= 2):
                rows[-1] = [first, c, c - last if first == last else step, delta]
                continue
        rows.append([c, c, 1, delta])
    return [(a, b, s, d & 0xFFFFFFFF) for a, b, s, d in rows], double


def main():
    clean, accents = bert(clean_text=True), bert(strip_accents=True)
    other = [c for c in POINTS if clean.normalize_str(chr(c)) == ""]
    chinese = [c for c in POINTS if bert(handle_chinese_chars=True).normalize_str(chr(c)) != chr(c)]
    mark = [c for c in POINTS if NFD.normalize_str(chr(c)) == chr(c) and accents.normalize_str(chr(c)) == ""]
    split = pre_tokenizers.BertPreTokenizer()
    space, punctuation = [], []
    for c in POINTS:
        pieces = [p for p, _ in split.pre_tokenize_str("a" + chr(c) + "b")]
        if pieces == ["a", "b"]:
            space.append(c)
        elif len(pieces) == 3:
            punctuation.append(c)
    pairs, one_way = decompositions()
    lower, double = lower_rows()
    print("/* Made by tests/vectors/unicode_tables.py; not edited by hand. */\n/* clang-format off */")
    for name, points in (("marks", mark), ("others", other), ("spaces", space), ("punctuations", punctuation),
                         ("chinese", chinese)):
        show(name, "struct range", ranges(points))
    print("/* {first, last, combining class} */")
    show("classes", "struct classes", combining_classes())
    print("/* {first, second, composed} in order */")
    show("pairs", "struct triple", pairs)
    print("/* {code point, first, second or 0}: decomposed, never composed again */")
    show("one_way", "struct triple", one_way)
    print("/* {first, last, step, added modulo 2^32} */")
    show("lower", "struct lower", lower)
    print("/* {code point, its two of lower case} */")
    show("lower_double", "struct triple", double)
    # pairs by their composed code point, as places in the table above
    by_code = sorted(range(len(pairs)), key=lambda i: pairs[i][2])
    print("/* places in pairs, in the order of the composed code point */\nstatic const uint16_t by_composed[] = {")
    for i in range(0, len(by_code), 16):
        print("    " + " ".join(f"{k}," for k in by_code[i:i + 16]))
    print("};\n/* clang-format on */")


main()
