"""Writes h5py_types.h5 (and h5py_other.h5) beside this script: every type of dataset and attribute that a Python user may hand us, as h5py stores it,
and the links and layouts that must be refused. Usage: python3 h5py_types.py (numpy, h5py). Read by tests/unit/test_h5.c."""
import os
import h5py
import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
# Halves: smallest subnormal, largest subnormal, smallest normal, largest, one ulp over 1, signed zero.
halves = np.array([2**-24, -1023 * 2**-24, 2**-14, 65504, 1 + 2**-10, -0.0], "f2")
x = np.arange(6, dtype="f8").reshape(2, 3) / 7
with h5py.File(os.path.join(here, "h5py_other.h5"), "w") as f:  # what must not be reached from h5py_types.h5
    f.create_dataset("x", data=np.ones(2, "f4"), track_times=False)
    f.create_dataset("g/y", data=np.ones(2, "f4"), track_times=False)
with h5py.File(os.path.join(here, "h5py_types.h5"), "w") as f:
    put = lambda n, v, **k: f.create_dataset(n, data=v, track_times=False, **k)
    put("f/f16", halves), put("f/f16be", halves.astype(">f2"))
    put("f/f32", x.astype("f4")), put("f/f32be", x.astype(">f4")), put("f/f64", x)
    put("f/f16_inf_nan", np.array([np.inf, -np.inf, np.nan], "f2"))
    put("f/gzip", np.tile(x, (50, 40)), compression="gzip", shuffle=True, chunks=(25, 30))
    put("f/scalar", np.float32(2.5)), put("f/empty", np.zeros((0, 3), "f4"))
    bf = put("f/bf16", np.array([0x3F80, 0xC049, 0x0001, 0x7F80], "u2"))  # 1, -3.140625, 2^-133, inf
    bf.attrs["encoding"] = "bf16"
    for t in "u1 u2 u4 u8 i1 i2 i4 i8".split():
        put("i/" + t, np.array([0, 1, np.iinfo(t).max // 2], t))
    put("i/neg", np.array([-1, -128], "i1")), put("i/over", np.array([1, 2**63], "u8"))
    put("bad/rank5", np.zeros((1, 1, 1, 1, 1), "f4")), put("bad/text", np.array([b"a"], "S3"))
    put("bad/bool", np.array([True])), put("bad/complex", np.array([1j], "c8"))
    f.create_dataset("bad/never_written", (1 << 20, 1 << 10), "f4", track_times=False)
    f.create_dataset("bad/bomb", (1 << 20, 1 << 12), "f4", chunks=(16, 16), compression="gzip", track_times=False)[0, 0] = 1
    f.create_dataset("bad/outside", (2,), "f4", external=[("h5py_types.py", 0, 8)], track_times=False)
    v = h5py.VirtualLayout((2,), "f4")
    v[:] = h5py.VirtualSource("h5py_other.h5", "x", (2,))
    f.create_virtual_dataset("bad/virtual", v)
    f["bad/external"] = h5py.ExternalLink("h5py_other.h5", "/g")
    f["bad/soft_external"] = h5py.SoftLink("/bad/external/y")
    f["bad/dangling"] = h5py.SoftLink("/nowhere")
    f["f/soft"] = h5py.SoftLink("/f/f32")
    a = f.create_group("a").attrs
    a["str"], a["utf8"], a["empty"] = "llama", "é", ""
    a.create("fixed", np.bytes_(b"half")), a.create("array1", np.array([7], "i4"))
    a["int"], a["np32"], a["float"], a["f4"], a["bool"] = 42, np.int32(-3), 1e-5, np.float32(0.5), True
    a["u64"] = np.uint64(2**64 - 1)
    a["list"] = [1, 2]
