"""Where the Triton back-end takes rows from: any kind, on the device or the host, past two to the 31."""

import dataclasses

import numpy as np
import pytest
from triton_helpers import (
    MEMORY,
    among,
    another,
    assert_equal,
    engine,  # noqa: F401
    kernels,
    load,
    near_copies,
    on_cpu,
    poison,  # noqa: F401
    rows,
    runs,
)

from clipscan.engine import Counts

torch = pytest.importorskip("torch")


def sources(x, tmp_path):
    np.save(tmp_path / "x.npy", x.astype(np.float16))
    wide = np.zeros((2 * len(x), 2 * x.shape[1]), np.float32)
    wide[::2, 1::2] = x
    half = torch.from_numpy(x).to(torch.float16)
    return {
        "memory map of float16": np.load(tmp_path / "x.npy", mmap_mode="r"),
        "float64": x.astype(np.float64),
        "strided": wide[::2, 1::2],
        "parts of two types": [x[:1], x[1:50].astype(np.float16), x[50:]],
        "torch float16": half,
        "torch bfloat16": half.to(torch.bfloat16),
        "torch, strided": torch.from_numpy(wide)[::2, 1::2],
    }


@runs
@pytest.mark.parametrize("resident", [None, 0])
def test_rows_of_any_kind_on_the_device_or_on_the_host(engine, resident, tmp_path):
    x = np.round(rows(55, 10) * 8) / 8  # float16 and bfloat16 hold them exactly
    expected = on_cpu(x, 5)
    other = another(engine, resident=resident)
    for name, source in sources(x, tmp_path).items():
        found = among(other, source, 5)
        assert all((ours == theirs).all() for ours, theirs in zip(found, expected, strict=True)), name


@runs
def test_a_tensor_on_the_device_is_not_copied(engine):
    x = torch.from_numpy(rows(30, 6)).to(engine.device)
    held = load(engine, x)
    assert held.originals.data_ptr() == x.data_ptr()
    assert load(another(engine, resident=0), x.cpu().numpy()).originals is None


@runs
def test_originals_on_the_host_are_fetched_in_blocks(engine, monkeypatch):
    monkeypatch.setattr(kernels("search"), "GATHER_BYTES", 4 * 12 * 50)
    x = np.concatenate([near_copies(90, 12), rows(40, 12, 5)])
    assert_equal(among(another(engine, resident=0), x, 5), on_cpu(x, 5))


@runs
def test_offsets_past_two_to_the_31(engine):
    """The rows lie at the end of 2.2 GB of codes, and 2^26 numbers apart; memory that is not touched is not
    taken.
    """
    x = rows(40, 60)
    expected, small = on_cpu(x, 3), load(engine, x)
    first = (1 << 31) // 64 + 1000

    def untouched(count, dtype):
        return torch.from_numpy(np.zeros(count, dtype)).to(engine.device)

    code = untouched((first + 40 + 256) * 64, np.int8).view(-1, 64)
    code[first : first + 40] = small.codes.code[:40]
    norm, error = untouched(first + 40, np.int32), untouched(first + 40, np.float32)
    norm[first:], error[first:] = small.codes.norm, small.codes.error
    originals = untouched(40 << 26, np.float16).view(40, 1 << 26)[:, :60]
    originals[:] = torch.from_numpy(x)  # float16: other distances, near enough to be told from wrong ones
    which = untouched(first + 40, np.int64)
    which[first:] = torch.arange(40, device=engine.device)
    codes = type(small.codes)(code, norm, error)
    held = dataclasses.replace(small, n=first + 40, codes=codes, originals=originals, which=which)
    span = (first, first + 40)
    (distance, index), _ = engine.pairs(held, span, span, 3, None, None, MEMORY, Counts())
    assert (index - first == expected[1]).mean() > 0.95 and np.abs(distance - expected[0]).max() < 0.01
