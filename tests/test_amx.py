"""The AMX kernel: its source with arrays for tiles, on every processor; and when the real one may be used.

What tiles change are shapes: rows and columns come in 32, codes in steps of 64, quarters in whole steps.
"""

import errno

import numpy as np
import pytest
from compare import assert_same_table

from clipscan import _core
from clipscan.engine import Counts, Neighbors, as_rows, cpu, reference

MEMORY = 1 << 30
ALL_THERE = {"compiled": True, "avx512": True, "tile": True, "int8": True}


def rows(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def within(x, k, name, threads=2):
    return cpu.within(as_rows(x), k, threads, MEMORY, Counts(), name)


def same(tables, expected):
    return all((a == b).all() for a, b in zip(tables, expected, strict=True))


@pytest.mark.parametrize("n", [2, 31, 32, 33, 63, 64, 65, 95, 97, 385])
@pytest.mark.parametrize("d", [1, 63, 64, 65, 200])
def test_rows_around_the_edges_of_tiles_and_steps(n, d):
    x, k, ids = rows(n, d, seed=n), min(5, n - 1), np.arange(n)
    distance, index = within(x, k, "amx_plain")
    assert_same_table(Neighbors(distance, index), x, x, *reference.knn(x, x, k, ids, ids))
    assert same((distance, index), within(x, k, "base"))


@pytest.mark.parametrize("d", [255, 256, 320, 512, 1000, 4100])  # from four steps on tiles are left early
def test_wide_rows_and_early_leaving(d):
    x = rows(300, d)
    x[::2] += 3 * rows(1, d, seed=1)  # two clusters: most pairs are far apart after a quarter
    assert same(within(x, 9, "amx_plain"), within(x, 9, "base"))


def test_nearly_all_rows_are_neighbours():
    x = np.round(rows(140, 70) * 4) / 4  # with ties
    assert same(within(x, 139, "amx_plain"), within(x, 139, "base"))


@pytest.mark.parametrize("m", [1, 31, 33, 700])
def test_spans_that_begin_and_end_within_a_panel(m):
    x, y = rows(70, 40), rows(m, 40, seed=1)
    spans = sorted({(0, m), (m // 3, m), (m // 3, m // 3 + m // 2 + 1)})
    arguments = (as_rows(x), as_rows(y), min(3, m), None, None, spans, 2, MEMORY, Counts())
    ours, theirs = cpu.between(*arguments, "amx_plain"), cpu.between(*arguments, "base")
    assert all(same(a, b) for a, b in zip(ours, theirs, strict=True))


def test_groups_of_copies_and_rows_of_one_identity():
    x = np.repeat(rows(90, 33), 3, axis=0)
    assert same(within(x, 7, "amx_plain"), within(x, 7, "base"))
    ids = np.arange(270) // 9
    arguments = (as_rows(x), as_rows(x), 7, ids, ids, [(0, 270)], 2, MEMORY, Counts())
    assert same(cpu.between(*arguments, "amx_plain")[0], cpu.between(*arguments, "base")[0])


def test_codes_at_their_limits_do_not_overflow():
    x = np.sign(rows(96, 4096))  # all codes of a row large
    x[0] *= 50  # cut to 127
    assert same(within(x, 5, "amx_plain"), within(x, 5, "base"))


def test_threads_configure_their_own_tiles():
    x = rows(3000, 24)  # several blocks, and pivots whose distances are products as well
    assert same(within(x, 5, "amx_plain", threads=4), within(x, 5, "base"))


def test_the_plain_twin_is_never_chosen():
    assert "amx_plain" not in _core.instruction_sets()


def ask(answer, asked):
    def permit():
        asked.append(True)
        return answer

    return permit


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("tile", "no AMX for int8"),
        ("int8", "no AMX for int8"),
        ("compiled", "without -mamx-int8"),
        ("avx512", "needs AVX-512 VNNI"),
    ],
)
def test_whatever_is_missing_is_the_reason_and_the_system_is_not_asked(missing, reason):
    asked = []
    assert reason in _core.why_not_amx_where(**ALL_THERE | {missing: False}, permit=ask(0, asked))
    assert not asked


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSPC])
def test_a_refusal_of_the_system_is_the_reason(error):
    asked = []
    said = _core.why_not_amx_where(**ALL_THERE, permit=ask(error, asked))
    assert said.startswith("the operating system keeps no tile registers") and len(asked) == 1


def test_amx_is_used_where_nothing_is_missing():
    assert _core.why_not_amx_where(**ALL_THERE, permit=lambda: 0) == ""


def test_a_kernel_that_may_not_be_used_is_left_out_in_silence(capfd):
    usable = _core.instruction_sets()
    assert ("amx" in usable) == (_core.why_not_amx() == "")
    if "amx" in usable:
        assert usable[:2] == ["amx", "avx512"]
    else:
        with pytest.raises(ValueError, match="no instruction set 'amx'"):
            within(rows(9, 4), 3, "amx")
    assert capfd.readouterr() == ("", "")
