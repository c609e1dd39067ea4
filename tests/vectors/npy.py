"""Writes npy/*.npy beside this script, as numpy saves them: what tests/unit/test_npy.c reads, and refuses (bad_*).
Usage: python3 npy.py (numpy)"""
import os
import numpy as np
from numpy.lib import format as npf

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "npy")
os.makedirs(here, exist_ok=True)
path = lambda name: os.path.join(here, name + ".npy")
x = np.arange(6).reshape(2, 3)
for t in "f2 f4 f8".split():
    np.save(path(t), (x / 7).astype("<" + t))
for t in "i1 u1 i2 u2 i4 u4 i8 u8".split():
    np.save(path(t), np.array([np.iinfo(t).min, 1, np.iinfo(t).max // (2 if t == "u8" else 1)], t))
np.save(path("rank3"), np.arange(24, dtype="i4").reshape(2, 3, 4))
np.save(path("empty"), np.zeros((0, 3), "f4"))
with open(path("version2"), "wb") as f:
    npf.write_array(f, x.astype("i8"), version=(2, 0))
np.save(path("bad_fortran"), np.asfortranarray(x.astype("f4")))
np.save(path("bad_big_endian"), x.astype(">f4"))
np.save(path("bad_scalar"), np.float32(1))
np.save(path("bad_rank4"), np.zeros((1, 1, 1, 1), "f4"))
np.save(path("bad_complex"), np.zeros(2, "c8"))
np.save(path("bad_text"), np.array(["a"]))
np.save(path("bad_object"), np.array([None], object), allow_pickle=True)
np.save(path("bad_over"), np.array([1, 2**63], "u8"))
