"""The Triton back-end's tables are the CPU's, bit for bit.

On a machine without a GPU the last test runs all others in a process of its own, under Triton's interpreter:
that is chosen by an environment variable, once and for a whole process. What the compiler makes of the
kernels for GPUs that are not here is tested in either case.
"""

import dataclasses
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from compare import assert_same_scores, assert_same_table
from shapes import SHAPES

from clipscan import BackendError
from clipscan.engine import Counts, Neighbors, as_rows, codebook, cpu, devices, reference, triton
from clipscan.errors import DeviceLost

MISSING = [name for name in ("torch", "triton") if importlib.util.find_spec(name) is None]
if MISSING:
    pytest.skip(f"triton: needs {' and '.join(MISSING)}", allow_module_level=True)

import torch  # noqa: E402

UNAVAILABLE = triton.available()
runs = pytest.mark.skipif(UNAVAILABLE is not None, reason=f"{UNAVAILABLE}; see the last test of this file")
MEMORY = 1 << 30


def rows(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def near_copies(n, d, seed=0):
    """Rows that codes cannot tell apart: every pair is a candidate, and has to be measured."""
    return rows(1, d, seed) + np.float32(1e-6) * rows(n, d, seed + 1)


@pytest.fixture(scope="module")
def engine():
    """With small tiles, so that small inputs have many."""
    usual = triton.engines()[0]
    return type(usual)(usual.name, usual.sizes._replace(tile=64, part=64))


def another(engine, **options):
    return type(engine)(engine.name, **{"sizes": engine.sizes, **options})


@pytest.fixture(autouse=True)
def poison(monkeypatch):
    """What a kernel does not write is NaN or -1."""
    empty = torch.empty

    def poisoned(*shape, **options):
        out = empty(*shape, **options)
        return out.fill_(torch.nan if out.is_floating_point() else -1)

    monkeypatch.setattr(torch, "empty", poisoned)


def kernels(name):
    return triton._kernels(name)


def load(engine, x):
    source = as_rows(x)
    return engine.load(source, codebook.fit([source]))


def among(engine, x, k, limit=None, memory=MEMORY, counts=None):
    """The table of a self-search."""
    held = load(engine, x)
    everyone = (0, held.n)
    table, none = engine.pairs(held, everyone, everyone, k, limit, limit, memory, counts or Counts())
    assert none is None
    return table


def on_cpu(x, k):
    return cpu.within(as_rows(x), k, 2, MEMORY, Counts())


def assert_equal(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        assert (ours == theirs).all()


def assert_same_as_float64(table, x, k):
    ids = np.arange(len(x))
    assert_same_table(Neighbors(*table), x, x, *reference.knn(x, x, k, ids, ids))


# ---- codes


@runs
@pytest.mark.parametrize("d", [1, 3, 20, 64, 100, 513, 4096])
def test_codes_are_those_of_the_definition(engine, d):
    for shape in SHAPES:
        x = shape(np.random.default_rng(d), 23, d).astype(np.float32)
        book = codebook.fit([as_rows(x)])
        codes, error = reference.encode(x, book)
        held = engine.load(as_rows(x), book).codes
        code = held.code.cpu().numpy()
        assert (code[:23, : book.width] == codes).all(), shape
        assert not code[23:].any() and not code[:, book.width :].any()
        assert (held.norm.cpu().numpy() == (codes.astype(np.int64) ** 2).sum(axis=1)).all()
        bound, length = held.error.cpu().numpy(), np.linalg.norm(codes, axis=1) + error
        assert (bound >= error * (1 - 1e-6)).all(), shape
        assert (bound <= error * (1 + (d + 64) * 2.0**-24) + 100 * 2.0**-24 * length).all(), shape


# ---- the filter alone


@runs
@pytest.mark.parametrize("share", [0.01, 0.5])  # a few hits a tile, and crowded tiles
@pytest.mark.parametrize("same", [True, False])
def test_every_pair_within_a_limit_is_noted_once_for_each_side(engine, share, same):
    state, search = kernels("state"), kernels("search")
    x = rows(150, 30)
    x[7] *= 30  # one large error: a whole tile reaches its floors
    held = load(engine, x)
    code, error = (
        held.codes.code[:150].cpu().numpy().astype(np.int64),
        held.codes.error.cpu().numpy().astype(float),
    )
    squared = ((code[:, None] - code[None]) ** 2).sum(axis=2)
    least = np.sqrt(squared) - error[:, None] - error[None]
    apart = np.flatnonzero(np.arange(150) != 7)
    limit = float(np.quantile(least[np.ix_(apart, apart)][np.triu_indices(149, 1)], share))
    spans = [(0, 150), (0, 150)] if same else [(0, 71), (75, 150)]
    distance = (limit - held.units.distance_add) / held.units.distance_scale
    sides = [search.begin(held, span, 3, np.full(span[1] - span[0], distance), 192) for span in spans]
    if same:
        sides[1] = sides[0]
    work = search.Search(*sides, (None, None), Counts())
    work.visit(0, work.steps)

    for side, (first, last) in zip(sides, spans[::-1], strict=True):
        for i in range(side.n):
            position = side.first + i
            count = int(side.state.count[i])
            items = side.state.waiting[i, :count].cpu().numpy()
            others = items & 0xFFFFFFFF
            expected = [j for j in range(first, last) if j != position and least[position, j] <= limit - 1e-3]
            possible = [j for j in range(first, last) if j != position and least[position, j] <= limit + 1e-3]
            assert len(set(others)) == count and set(expected) <= set(others) <= set(possible)
            assert (items >> 32 == squared[position, others]).all()
    assert int(side.state.best.max()) == state.NO_KEY  # nobody was measured


# ---- tables


@runs
@pytest.mark.parametrize("n", [2, 63, 64, 65, 129])
def test_self_search_around_tile_edges(engine, n):
    x, k = rows(n, 3, seed=n), min(5, n - 1)
    table = among(engine, x, k)
    assert_equal(table, on_cpu(x, k))
    assert_same_as_float64(table, x, k)


@runs
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_cloud(engine, shape):
    x = shape(np.random.default_rng(24), 100, 24).astype(np.float32)
    table = among(engine, x, 6)
    assert_equal(table, on_cpu(x, 6))
    assert_same_as_float64(table, x, 6)


@runs
@pytest.mark.parametrize("d", [1, 513, 4096])
def test_narrow_and_wide_rows(engine, d):
    x = np.round(rows(40, d), 1)  # with ties
    assert_equal(among(engine, x, 7), on_cpu(x, 7))


@runs
def test_the_tiles_of_a_gpu(engine):
    hopper = kernels("sizes").HOPPER
    large = another(
        engine, sizes=engine.sizes._replace(tile=hopper.tile, part=hopper.part, depth=hopper.depth)
    )
    x = rows(290, 70)
    assert_equal(among(large, x, 4), on_cpu(x, 4))


@runs
def test_more_neighbours_than_rows_leaves_nobody(engine):
    x = rows(12, 5)
    distance, index = among(engine, x, 15)
    assert_equal((distance[:, :11], index[:, :11]), on_cpu(x, 11))
    assert np.isinf(distance[:, 11:]).all() and (index[:, 11:] == -1).all()


@runs
@pytest.mark.parametrize("resident", [None, 0])
def test_copies_are_found_and_a_selection_counts_for_itself(engine, resident):
    x = rows(90, 6)
    x[[5, 40, 88]], x[3], x[60] = x[1], 0.0, -0.0
    here = another(engine, resident=resident)
    held = load(here, x)
    first = here.first_of(held)
    assert first.dtype == np.uint32
    assert np.flatnonzero(first != np.arange(90)).tolist() == [5, 40, 60, 88]
    assert first[[5, 40, 60, 88]].tolist() == [1, 1, 3, 1]
    which = np.flatnonzero(first == np.arange(90))
    chosen = here.select(held, which)
    table, _ = here.pairs(chosen, (0, 86), (0, 86), 5, None, None, MEMORY, Counts())
    assert_equal(table, on_cpu(x[which], 5))
    assert here.first_of(chosen) is None
    odd = here.select(here.select(held, np.arange(2, 90)), np.arange(1, 88, 2))  # rows 3, 5, 7, ...
    assert here.first_of(odd) is None
    even = here.select(held, np.arange(0, 90, 2))
    assert np.flatnonzero(here.first_of(even) != np.arange(45)).tolist() == [44]  # row 88 is row 40


@runs
def test_rows_of_equal_hash_are_compared(engine, monkeypatch):
    copies = kernels("copies")
    monkeypatch.setattr(
        copies, "new_salt", lambda d, device: torch.zeros(d, dtype=torch.int64, device=device)
    )
    x = np.round(rows(60, 2))
    fresh = another(engine)
    first = fresh.first_of(load(fresh, x))
    assert first.tolist() == [int(np.flatnonzero((x == row).all(axis=1))[0]) for row in x]


@pytest.fixture
def losses(monkeypatch):
    """Walks that were repeated because rows overflowed: (the side's rows, those of them, the steps)."""
    search, seen = kernels("search"), []
    plain = search.Search.visit_again

    def visit_again(self, side, lines, piece):
        seen.append((side.n, len(lines), piece))
        plain(self, side, lines, piece)

    monkeypatch.setattr(search.Search, "visit_again", visit_again)
    return seen


@runs
def test_more_candidates_than_there_is_room_for(engine, losses):
    tight = another(engine, sizes=engine.sizes._replace(tile=16, part=16))
    n = 91  # 6 tiles: opposite ones meet once, in the last steps
    x = near_copies(n, 12)
    x[::9] = rows(len(x[::9]), 12, 5)
    near, counts = n - len(x[::9]), Counts()
    assert_equal(among(tight, x, 5, memory=1, counts=counts), on_cpu(x, 5))
    assert counts.measured >= near * (near - 1), "this input is meant to pass the filter"
    assert {piece.forward for _, _, piece in losses} == {True, False}
    assert sum(many for _, many, _ in losses) > near


@runs
def test_either_of_two_sides_may_lose_candidates(engine, losses):
    tight = another(engine, sizes=engine.sizes._replace(tile=16, part=16))
    x = near_copies(180, 5)
    x[::9] = rows(20, 5, 2)  # or codes would tell the copies apart
    held = load(tight, x)
    a, b = (0, 55), (55, 180)
    found = tight.pairs(held, b, a, 4, None, None, 1, Counts())
    for table, own, other in zip(found, (b, a), (a, b), strict=True):
        parts = as_rows(x[slice(*own)]), as_rows(x[slice(*other)])
        distance, index = cpu.between(*parts, 4, None, None, [(0, parts[1].n)], 2, MEMORY, Counts())[0]
        assert_equal(table, (distance, index + other[0]))
    assert {side for side, _, _ in losses} == {55, 125}


@runs
def test_equally_far_rows_are_listed_in_order(engine):
    distance, index = among(engine, np.eye(140, dtype=np.float32), 4, memory=1)
    assert (distance == np.sqrt(np.float32(2))).all()
    assert index[0].tolist() == [1, 2, 3, 4] and index[139].tolist() == [0, 1, 2, 3]


@runs
def test_more_neighbours_than_a_row_has_room_for(engine):
    x = np.concatenate([near_copies(120, 4), rows(60, 4, 5)])
    assert_equal(among(engine, x, 170, memory=1), on_cpu(x, 170))


# ---- limits from outside


@runs
def test_a_limit_that_is_reached_keeps_ties(engine):
    x = np.round(rows(110, 4), 1)
    expected = on_cpu(x, 6)
    counts, free = Counts(), Counts()
    among(engine, x, 6, counts=free)
    assert_equal(among(engine, x, 6, limit=expected[0][:, -1], counts=counts), expected)
    assert counts.passed < free.passed


@runs
def test_a_limit_too_tight_loses_neighbours_and_that_is_noticed(engine):
    x = rows(110, 8)
    limit = on_cpu(x, 6)[0][:, -1] / 2
    table = among(engine, x, 6, limit=limit)
    with pytest.raises(AssertionError):
        assert_same_as_float64(table, x, 6)
    index = table[1]
    nearer = on_cpu(x, 6)[0] <= limit[:, None]
    assert (index[nearer] == on_cpu(x, 6)[1][nearer]).all(), "who is within the limit is there"


# ---- two sides


@runs
@pytest.mark.parametrize(
    ("a", "b", "memory"), [((3, 130), (140, 271), MEMORY), ((0, 40), (60, 260), 1), ((66, 200), (0, 66), 1)]
)
def test_pairs_serve_both_sides_as_two_searches_would(engine, a, b, memory):
    x = np.concatenate([near_copies(210, 7), rows(61, 7, 3)]) if memory == 1 else rows(271, 7)
    held = load(engine, x)
    both = engine.pairs(held, a, b, 4, None, None, memory, Counts())
    for table, own, other in zip(both, (a, b), (b, a), strict=True):
        one_sided = engine.between(held, held, own, 4, None, None, [other], memory, Counts())[0]
        assert (table[0] == one_sided[0]).all() and (table[1] == one_sided[1] + other[0]).all()
        parts = as_rows(x[slice(*own)]), as_rows(x[slice(*other)])
        assert_equal(one_sided, cpu.between(*parts, 4, None, None, [(0, parts[1].n)], 2, MEMORY, Counts())[0])


@runs
def test_segments_and_devices_do_not_show_in_a_table(engine, monkeypatch):
    monkeypatch.setattr(devices, "SEGMENTS", 1)
    x = np.round(rows(120, 5), 1)
    x[100:110] = x[:10]  # copies
    other = another(engine)
    other.name = "another"
    several = devices.Devices([engine, other], triton.LIMITS, segment_rows=60)
    assert_equal(several.within(as_rows(x), 6, 2, None, Counts()), on_cpu(x, 6))
    assert len(several.schedule) == 3, "two segments: each among itself, and the pair"


@runs
def test_spans_identities_and_ranges_of_queries(engine):
    x, y = rows(60, 9), np.round(rows(200, 9, 1), 1)
    y[:180] += np.repeat(x, 3, axis=0) - np.float32(0.9) * y[:180]  # near rows of the same identity
    ids, owners = np.arange(60), np.arange(200) // 3
    spans = [(0, 20), (0, 130), (0, 131), (7, 9), (50, 200)]
    sets = as_rows(x), as_rows(y)
    book = codebook.fit(sets)
    held = [engine.load(part, book) for part in sets]
    tables = engine.between(*held, (10, 50), 6, ids, owners, spans, MEMORY, Counts())
    expected = cpu.between(*sets, 6, ids, owners, spans, 2, MEMORY, Counts())
    for found, whole in zip(tables, expected, strict=True):
        assert_equal(found, [part[10:50] for part in whole])


# ---- where rows come from


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


# ---- scores


@runs
def test_scores_are_those_of_the_definition(engine, monkeypatch):
    monkeypatch.setattr(kernels("density"), "BLOCK", 200)
    x = np.concatenate(
        [np.round(rows(80, 3)), np.zeros((9, 3), np.float32)]
    )  # points with more than k copies
    for k in (1, 7):
        table = on_cpu(x, k)
        exact = reference.density(*table)
        assert_same_scores(engine.density(*table), exact, rtol=1e-12)
        sample = cpu.between(
            as_rows(rows(30, 3, 1)), as_rows(x), k, None, None, [(0, 89)], 2, MEMORY, Counts()
        )[0]
        sample[0][4, k - 1 :], sample[1][4, k - 1 :] = np.inf, -1  # nobody
        assert_same_scores(engine.density(*sample, exact), reference.density(*sample, exact), rtol=1e-12)


@runs
def test_mean_cosine_is_that_of_the_definition(engine):
    a, b = rows(50, 8), rows(40, 8, 1)
    b[3] = 0
    index = np.random.default_rng(2).integers(-1, 40, (50, 5))
    index[7] = -1
    found = engine.mean_cosine(a, b, index)
    assert np.abs(found - reference.mean_cosine(a, b, index)).max() < 1e-14


# ---- refusals


class NeverDone:
    """An event behind a kernel that hangs; `looks` at it are counted, and the third has `then` happen."""

    then, looks = staticmethod(lambda: None), 0

    def record(self):
        pass

    def query(self):
        NeverDone.looks += 1
        if NeverDone.looks == 3:
            NeverDone.then()
        return False


@pytest.mark.parametrize("heard", ["here", "by another thread"])
def test_a_wait_for_a_kernel_that_hangs_ends_when_it_is_asked_to(monkeypatch, heard):
    waiting = triton._kernels("waiting")
    monkeypatch.setattr(torch.cuda, "Event", NeverDone)
    monkeypatch.setattr(NeverDone, "looks", 0)
    if heard == "here":
        monkeypatch.setattr(NeverDone, "then", staticmethod(lambda: signal.raise_signal(signal.SIGINT)))
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
    else:
        monkeypatch.setattr(NeverDone, "then", staticmethod(lambda: waiting.asked.add("cuda:0")))
    try:
        with pytest.raises(KeyboardInterrupt):
            waiting.rest(torch.device("cuda:0"))
    finally:
        waiting.asked.clear()
        if heard == "here":
            signal.signal(signal.SIGINT, before)
    assert 3 <= NeverDone.looks < 1000


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(triton.importlib.util, "find_spec", lambda name: None)
    assert "pip install torch triton" in triton.available()
    monkeypatch.undo()
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(triton, "GPU_FILES", ())
    assert "TRITON_INTERPRET=1" in triton.available()
    with pytest.raises(BackendError, match="back-end 'triton' needs a GPU"):
        triton.engines()


@runs
def test_an_unknown_device_is_refused(engine):
    with pytest.raises(BackendError, match=f"has no device cuda:77; it has {engine.name}"):
        triton.engines(["cuda:77"])


@runs
def test_errors_of_a_device_are_told_apart(engine, monkeypatch):
    loaded = kernels("loaded")

    def failing(error):
        def load(*arguments):
            raise error

        monkeypatch.setattr(loaded, "load", load)
        return as_rows(rows(3, 2))

    book = codebook.fit([as_rows(rows(3, 2))])
    with pytest.raises(DeviceLost, match=f"{engine.name}: Triton Error"):
        engine.load(failing(RuntimeError("Triton Error [CUDA]: an illegal memory access")), book)
    with pytest.raises(BackendError, match="give a smaller max_memory"):
        engine.load(failing(torch.OutOfMemoryError("tried to allocate")), book)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        engine.load(failing(RuntimeError("a mistake of ours")), book)


# ---- for a GPU, without one

COMPILED = Path(__file__).with_name("triton_compile.py")
TARGETS = ["cuda:80", "cuda:90", "hip:gfx942"]


@pytest.mark.parametrize("target", TARGETS)
def test_every_kernel_compiles_for(target, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    child = subprocess.run(
        [sys.executable, "-P", COMPILED, target], capture_output=True, text=True, env=environment, timeout=600
    )
    if child.returncode == 77:
        pytest.skip(child.stdout.strip())
    assert child.returncode == 0, child.stderr[-3000:]


@pytest.mark.skipif(UNAVAILABLE is None, reason="these tests run in this process")
def test_all_of_this_file_under_the_interpreter():
    environment = dict(os.environ, TRITON_INTERPRET="1")
    arguments = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", "not compiles_for", __file__]
    child = subprocess.run(
        [sys.executable, "-P", *arguments], capture_output=True, text=True, env=environment, timeout=1200
    )
    assert child.returncode == 0, child.stdout[-6000:] + child.stderr[-2000:]
