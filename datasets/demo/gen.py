"""The facts language of the demo model, in Python: what datasets/facts.c must reproduce byte for byte (specification: datasets/README.md).

Usage: python3 gen.py SEED WINDOWS > TEXT      text of WINDOWS windows of 256 bytes; exact entropy on stderr
"""
import math
import sys

CONSONANTS, VOWELS = "bdfghjklmnprstvz", "aeiou"
WORLD_SEED, N_PEOPLE, N_ATTR, WINDOW_BYTES = 2025, 1000, 6, 256
N_VALUES = [64, 32, 64, 16, 100, 16]
COPY = 6  # attribute number of a copied digit
TEMPLATES = [
    ["was born in ", "hails from ", "grew up in "],               # 0 town
    ["works as a ", "has the job of ", "earns money as a "],      # 1 job
    ["is paid by ", "serves at ", "got hired by "],               # 2 employer
    ["likes to eat ", "loves the taste of ", "buys "],            # 3 fruit
    ["moved house in ", "got married in ", "left school in "],    # 4 year
    ["prefers ", "always wears ", "paints walls "],               # 5 colour
]


class Rng:
    """splitmix64"""

    def __init__(self, seed):
        self.s = seed & (1 << 64) - 1

    def u64(self):
        m = (1 << 64) - 1
        self.s = (self.s + 0x9E3779B97F4A7C15) & m
        z = self.s
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & m
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & m
        return z ^ (z >> 31)

    def below(self, n):
        return self.u64() % n

    def shuffled(self, n):
        x = list(range(n))
        for i in range(n - 1, 0, -1):
            j = self.below(i + 1)
            x[i], x[j] = x[j], x[i]
        return x


def word_list(rng, n, suffix, capital, used):
    out = []
    while len(out) < n:
        w = "".join(CONSONANTS[rng.below(16)] + VOWELS[rng.below(5)] for _ in range(2))
        if w in used:
            continue
        used.add(w)
        out.append((w.capitalize() if capital else w) + suffix)
    return out


class World:
    def __init__(self, n_people=N_PEOPLE):
        rng, used = Rng(WORLD_SEED), set()
        towns = word_list(rng, 64, "n", True, used)
        jobs = word_list(rng, 32, "r", False, used)
        employers = word_list(rng, 64, "x", True, used)
        fruits = word_list(rng, 16, "", False, used)
        colours = word_list(rng, 16, "sh", False, used)
        self.values = [towns, jobs, employers, fruits, [str(y) for y in range(1900, 2000)], colours]
        self.names = word_list(rng, n_people, "", True, used)
        self.attr = [[rng.below(n) for n in N_VALUES] for _ in range(n_people)]

    def clause(self, person, a, t):
        return TEMPLATES[a][t] + self.values[a][self.attr[person][a]]


class Document:
    """One document: its text, the draws behind it, and the spans (attribute, begin, end) of its values.
    n_people < 1000 draws from the first people only (the curriculum of training)."""

    def __init__(self, world, rng, n_people=0):
        self.world = world
        self.person = rng.below(n_people or len(world.names))
        digits = [rng.below(10) for _ in range(3)]
        self.order = rng.shuffled(N_ATTR)
        self.template = [rng.below(3) for _ in range(N_ATTR)]
        copies = rng.shuffled(3)
        self.spans = []
        s = "%s [#%d+%d%%%d] " % (world.names[self.person], *digits)
        for k, (a, t) in enumerate(zip(self.order, self.template)):
            s += ", " if k else ""
            clause = world.clause(self.person, a, t)
            self.spans.append((a, len(s) + len(TEMPLATES[a][t]), len(s) + len(clause)))
            s += clause
        s += ". "
        for k in copies:
            s += "#+%"[k] + str(digits[k])
            self.spans.append((COPY, len(s) - 1, len(s)))
        self.text = s

    def prefix_bits(self, n):
        """-log2 P(a document starts with the first n bytes of this one)"""
        w, seen, name = self.world, self.text[:n], self.world.names[self.person]
        if n <= len(name):
            return -math.log2(sum(x.startswith(seen) for x in w.names) / len(w.names))
        bits = math.log2(len(w.names))
        bits += sum(math.log2(10) for k in (7, 9, 11) if n > k)  # the digits of "Bozi [#4+6%3] "
        at = len(name) + 10
        for k in range(N_ATTR):
            at += 2 if k else 0
            if n <= at:
                return bits
            open_attrs = self.order[k:]
            clause = w.clause(self.person, self.order[k], self.template[k])
            part = seen[at:at + len(clause)]
            same = sum(w.clause(self.person, a, t).startswith(part) for a in open_attrs for t in range(3))
            bits -= math.log2(same / (3 * len(open_attrs)))
            if len(part) < len(clause):
                return bits
            at += len(clause)
        return bits + (math.log2(3) if n > at + 2 else 0) + (1 if n > at + 4 else 0)


def window(world, rng, n_people=0):
    """(text of 256 bytes, exact bits of bytes 1..255, spans that lie wholly inside)"""
    s, bits, spans = "", 0.0, []
    while len(s) < WINDOW_BYTES:
        s += "\n"
        begin = len(s)
        doc = Document(world, rng, n_people)  # drawn even when the newline was the last byte
        if begin == WINDOW_BYTES:
            break
        s += doc.text
        bits += doc.prefix_bits(min(len(doc.text), WINDOW_BYTES - begin))
        spans += [(a, begin + x, begin + y) for a, x, y in doc.spans if begin + y <= WINDOW_BYTES]
    return s[:WINDOW_BYTES], bits, spans


def main(seed, n):
    world, rng, total = World(), Rng(seed), 0.0
    for _ in range(n):
        text, bits, _ = window(world, rng)
        sys.stdout.write(text)
        total += bits
    print("entropy %.12f bits/byte" % (total / n / (WINDOW_BYTES - 1)), file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(int(sys.argv[1]), int(sys.argv[2]))
