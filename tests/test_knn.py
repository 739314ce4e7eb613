"""The search equals the float64 definition, on the shapes that broke other people's kernels."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from compare import assert_same_table
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import SHAPES

import clipscan
from clipscan import _core
from clipscan.engine import Counts, Neighbors, arrays, as_rows, cpu, knn, reasons, reference, search_spans
from clipscan.errors import InputError

MEMORY = 1 << 30


def exact(x, y, k, own=True):
    ids = np.arange(len(x)) if own else None
    return reference.knn(np.asarray(x, np.float32), np.asarray(y, np.float32), k, ids, ids)


def rows(n, d, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).standard_normal((n, d))).astype(np.float32)


KERNELS = [*_core.instruction_sets(), "amx_plain"]  # the last: the AMX kernel's source, its tiles arrays


# A register tile holds 4, 6, 12 or 32 queries and 8, 16 or 32 reference rows; a block 96 to 384 rows.
@pytest.mark.parametrize("n", [2, 11, 12, 13, 31, 32, 33, 63, 64, 65, 95, 96, 97, 383, 384, 385, 800, 1537])
@pytest.mark.parametrize("d", [1, 3, 16, 17, 64])
def test_self_search_equals_float64_around_tile_edges(n, d):
    x, k = rows(n, d, seed=n), min(5, n - 1)
    assert_same_table(knn(x, k=k), x, x, *exact(x, x, k))


@pytest.mark.parametrize("d", [511, 512, 513, 4096])
def test_wide_rows(d):
    x = rows(70, d)
    assert_same_table(knn(x, k=7), x, x, *exact(x, x, 7))


@pytest.mark.parametrize("d", [1, 7, 16, 33, 512])
def test_every_instruction_set_of_this_machine_reports_the_same_bits(d):
    x = as_rows(np.round(rows(130, d) * 4) / 4)  # with ties
    ids = np.arange(130)
    plain = knn(x, k=9)
    for name in KERNELS:
        among = cpu.within(x, 9, 2, MEMORY, Counts(), name)
        between = cpu.between(x, x, 9, ids, ids, [(0, 130)], 2, MEMORY, Counts(), name)[0]
        for distance, index in (among, between):
            assert (distance == plain.distance).all() and (index == plain.index).all(), name
    with pytest.raises(ValueError, match="no instruction set 'mmx'"):
        cpu.within(x, 9, 2, MEMORY, Counts(), "mmx")


def test_k_is_one_less_than_n():
    x = rows(17, 5)
    assert_same_table(knn(x, k=16), x, x, *exact(x, x, 16))


@pytest.mark.parametrize("m", [1, 15, 16, 40])
def test_a_reference_smaller_than_a_panel(m):
    x, y = rows(50, 9), rows(m, 9, seed=1)
    k = min(m, 6)
    assert_same_table(knn(x, y, k=k), x, y, *exact(x, y, k, own=False))


def test_all_rows_equal_lists_the_lowest_other_indices():
    x = np.ones((300, 24), np.float32)
    table = knn(x, k=8)
    assert (table.distance == 0).all()
    assert table.index[0].tolist() == list(range(1, 9))
    assert table.index[299].tolist() == list(range(8))


def test_every_row_twice_finds_its_copy_first():
    x = np.repeat(rows(150, 20), 2, axis=0)
    table = knn(x, k=5)
    assert (table.distance[:, 0] == 0).all()
    assert (table.index[:, 0] == np.arange(300) ^ 1).all()
    assert_same_table(table, x, x, *exact(x, x, 5))


def test_thousands_of_copies_of_one_picture():
    x = np.concatenate([np.repeat(rows(1, 16), 2000, axis=0), rows(100, 16, seed=1)])
    table = knn(x, k=4)
    assert (table.distance[:2000] == 0).all()
    assert_same_table(
        Neighbors(table.distance[2000:], table.index[2000:]),
        x[2000:],
        x,
        *[part[2000:] for part in exact(x, x, 4)],
    )


def test_the_lowest_of_many_copies_are_listed_among_equally_far_rows():
    # Four groups of copies, all equally far from each other; indices of the groups interleave.
    x = np.tile(np.eye(4, 5, dtype=np.float32), (30, 1))
    table = knn(x, k=60)
    assert_same_table(table, x, x, *exact(x, x, 60))
    assert table.index[1, :32].tolist() == [i for i in range(120) if i % 4 == 1 and i != 1] + [0, 2, 3]


@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_copies_near_copies_and_single_rows_together(k):
    rng = np.random.default_rng(k)
    base = rows(40, 24, seed=k)
    near = base[:10] + np.float32(1e-6) * rng.standard_normal((10, 24)).astype(np.float32)
    x = np.concatenate([np.repeat(base, rng.integers(1, 7, 40), axis=0), near])
    x = x[rng.permutation(len(x))]
    assert_same_table(knn(x, k=k), x, x, *exact(x, x, k))


def test_minus_zero_is_zero_among_copies():
    x = np.zeros((20, 6), np.float32)
    x[::2] = -0.0
    assert knn(x, k=3).index[7].tolist() == [0, 1, 2]


def equidistant(n):
    """n rows, each as far from every other: no bound can tell any two pairs apart."""
    return np.eye(n, dtype=np.float32)


def test_equally_far_rows_are_all_measured_and_listed_in_order():
    x = equidistant(700)
    counts = Counts()
    distance, index = cpu.within(as_rows(x), 5, 2, MEMORY, counts)
    assert (distance == np.sqrt(np.float32(2))).all()
    assert index[0].tolist() == [1, 2, 3, 4, 5]
    assert index[699].tolist() == [0, 1, 2, 3, 4]
    assert counts.measured >= 600 * 700, "this input is meant to pass the filter"


def test_equally_far_rows_fit_the_smallest_memory():
    x = equidistant(600)
    table, small = knn(x, k=7), knn(x, k=7, max_memory=1)
    assert (table.distance == small.distance).all() and (table.index == small.index).all()


def test_a_filter_that_rules_nothing_out_between_two_sets():
    x = equidistant(500)
    table = knn(x[:100], x[100:], k=6)
    assert (table.index == np.arange(6)).all() and (table.distance == np.sqrt(np.float32(2))).all()


def test_outliers_cost_their_own_pairs_only():
    x = rows(3000, 64)
    plain, wild = Counts(), Counts()
    cpu.within(as_rows(x), 8, 2, MEMORY, plain)
    x[[5, 1700, *range(60)]] *= 1e4
    distance, index = cpu.within(as_rows(x), 8, 2, MEMORY, wild)
    few = np.array([0, 5, 6, 1699, 1700, 2999])
    ids = np.arange(3000)
    exact_few = reference.knn(x[few], x, 8, few, ids)
    assert_same_table(Neighbors(distance[few], index[few]), x[few], x, *exact_few)
    assert wild.measured < 2 * plain.measured + 2 * 61 * 3000


@pytest.mark.parametrize("d", [1, 24, 100])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_cloud_equals_float64(shape, d):
    rng = np.random.default_rng(d)
    x, y = (shape(rng, n, d).astype(np.float32) for n in (150, 220))
    assert_same_table(knn(x, k=6), x, x, *exact(x, x, 6))
    assert_same_table(knn(x, y, k=6), x, y, *exact(x, y, 6, own=False))
    assert_same_table(knn(y, x, k=6), y, x, *exact(y, x, 6, own=False))


def test_queries_far_from_the_reference():
    # Captions against images: two clouds apart, as the towers of CLIP leave them.
    x, y = rows(200, 48) + 5, rows(300, 48, seed=1) - 5
    assert_same_table(knn(x, y, k=7), x, y, *exact(x, y, 7, own=False))


@settings(deadline=None, max_examples=30)
@given(
    ends=st.lists(st.integers(6, 120), min_size=1, max_size=4, unique=True),
    begin=st.integers(0, 100),
    seed=st.integers(0, 99),
    k=st.integers(1, 6),
)
def test_spans_give_the_tables_of_separate_searches(ends, begin, seed, k):
    x, y = rows(50, 10, seed), np.round(rows(220, 10, seed + 1), 1)
    ids = np.arange(50, dtype=np.int64)
    own = np.concatenate([ids, 1000 + np.arange(170)])
    spans = [(begin, begin + end) for end in ends] + [(0, 220), (begin // 2, 220)]
    tables = search_spans(as_rows(x), as_rows(y), k, ids, own, spans)
    for (first, last), table in zip(spans, tables, strict=True):
        alone = knn(x, y[first:last], k=k, query_ids=ids, reference_ids=own[first:last])
        assert (table.index == alone.index).all() and (table.distance == alone.distance).all()


def test_a_query_with_several_selves_in_the_reference():
    x, y = rows(20, 8), rows(150, 8, seed=1)
    ids, owners = np.arange(20), np.arange(150) % 20  # seven or eight rows of every identity
    assert_same_table(
        knn(x, y, k=9, query_ids=ids, reference_ids=owners), x, y, *reference.knn(x, y, 9, ids, owners)
    )


@pytest.mark.parametrize("n", [20_001])
def test_rows_of_a_large_set_equal_float64(n):
    # Several blocks, chunks and pivots; clusters so that limits tighten early, copies that are searched once.
    rng = np.random.default_rng(0)
    x = rows(200, 20, seed=1)[rng.integers(0, 200, n)] + 0.3 * rows(n, 20, seed=2)
    x[5000:5100] = x[:100]
    few = rng.choice(n, 60, replace=False)
    for k in (1, 40):
        table = knn(x, k=k)
        part = Neighbors(table.distance[few], table.index[few])
        assert_same_table(part, x[few], x, *reference.knn(x[few], x, k, few, np.arange(n)))


def test_a_memory_map_is_not_copied(tmp_path):
    wide = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float16, (60, 8))
    wide[:] = rows(60, 8)
    source = as_rows(np.load(tmp_path / "x.npy", mmap_mode="r")).sources()[0]
    assert isinstance(source, np.memmap) and source.dtype == np.float16


def test_too_little_memory_for_a_large_search_is_refused_in_words():
    x = np.zeros((20_000, 4), np.float32)
    with pytest.raises(clipscan.InputError, match="max_memory=1000000: .* at least 36834432 bytes"):
        knn(x, k=3, max_memory=1_000_000)


INTERRUPTED = """
import numpy, signal
import clipscan
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
x = numpy.random.default_rng(0).standard_normal((60_000, 512)).astype(numpy.float32)
print("ready", flush=True)
try:
    clipscan.knn(x, k=16, threads=1)
    print("finished")
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_an_interrupt_ends_a_search_at_once():
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    time.sleep(0.7)
    child.send_signal(signal.SIGINT)
    sent = time.monotonic()
    out, _ = child.communicate(timeout=60)
    assert out == "interrupted\n"
    assert time.monotonic() - sent < 5  # a whole search takes longer; one panel takes microseconds


def test_a_zero_vector_and_a_row_far_outside():
    x = rows(200, 32)
    x[3], x[7] = 0, 1e4 * x[7]
    assert_same_table(knn(x, k=6), x, x, *exact(x, x, 6))


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12])
def test_extreme_scales(scale):
    x = rows(100, 24, scale=scale)
    assert_same_table(knn(x, k=6), x, x, *exact(x, x, 6))


def test_rows_in_a_narrow_cone_far_from_the_origin():
    # |x|^2 is a million times |x - y|^2: the expanded form alone has no correct digit here.
    x = rows(300, 64) + 1000
    assert_same_table(knn(x, k=6), x, x, *exact(x, x, 6))


def test_the_table_does_not_depend_on_threads_or_memory():
    x = rows(500, 40)
    plain = knn(x, k=9, threads=1)
    for threads, max_memory in ((2, 1 << 30), (3, 33 << 20), (5, 1)):
        table = knn(x, k=9, threads=threads, max_memory=max_memory)
        assert (table.distance == plain.distance).all() and (table.index == plain.index).all()


def test_no_row_is_its_own_neighbour():
    x = np.zeros((50, 4), np.float32)
    assert (knn(x, k=49).index != np.arange(50)[:, None]).all()


def test_identity_excludes_pairs_between_two_sets():
    x = rows(30, 6)
    ids = np.arange(30) // 3
    table = knn(x, x, k=4, query_ids=ids, reference_ids=ids)
    assert (ids[table.index] != ids[:, None]).all()


def test_too_few_allowed_rows_leave_nobody():
    x = rows(4, 3)
    table = knn(x, x, k=4, query_ids=np.zeros(4, int), reference_ids=np.array([0, 0, 0, 1]))
    assert table.index.tolist() == [[3, -1, -1, -1]] * 4
    assert np.isinf(table.distance[:, 1:]).all()


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(2, 60),
    d=st.integers(1, 40),
    seed=st.integers(0, 999),
    grid=st.sampled_from([0, 1, 2, 8]),
    offset=st.sampled_from([0.0, 3.0, 500.0]),
)
def test_any_small_set_equals_float64(n, d, seed, grid, offset):
    x = rows(n, d, seed) + np.float32(offset)
    if grid:
        x = np.round(x * grid) / grid  # many exact ties and copies
    k = 1 + seed % (n - 1)
    assert_same_table(knn(x, k=k), x, x, *exact(x, x, k))


DTYPES = [np.float16, np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_float_types_are_searched_as_float32(dtype):
    x = rows(60, 12).astype(dtype)
    assert_same_table(knn(x, k=4), x.astype(np.float32), x.astype(np.float32), *exact(x, x, 4))


def test_views_memory_maps_and_shards_give_the_table_of_the_plain_array(tmp_path):
    x = rows(90, 10)
    plain = knn(x, k=5)
    np.save(tmp_path / "x.npy", x)
    wide = np.zeros((180, 21), np.float32)
    wide[::2, 1::2] = x
    views = {
        "memory map": np.load(tmp_path / "x.npy", mmap_mode="r"),
        "strided": wide[::2, 1::2],
        "fortran": np.asfortranarray(x),
        "reversed": x[::-1].copy()[::-1],
        "shards": [x[:1], x[1:50], x[50:]],
        "lists": x.tolist() and np.array(x.tolist(), np.float32),
    }
    for name, view in views.items():
        table = knn(view, k=5)
        assert (table.index == plain.index).all() and (table.distance == plain.distance).all(), name


def test_dlpack_objects_are_read():
    class Capsule:  # nothing but the protocol
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    x = rows(20, 4)
    assert (knn(Capsule(x), k=3).index == knn(x, k=3).index).all()


def test_torch_tensors_come_back_as_torch_tensors():
    torch = pytest.importorskip("torch", reason="needs clipscan[embed]")
    x = torch.from_numpy(rows(40, 8))
    table = knn(x, k=3)
    assert isinstance(table.distance, torch.Tensor)
    tiny = x.to(torch.float8_e4m3fn)  # a type that NumPy has not
    assert (knn(tiny, k=3).index == torch.from_numpy(knn(tiny.float().numpy(), k=3).index)).all()
    half = x.to(torch.bfloat16)
    assert (knn(half, k=3).index == torch.from_numpy(knn(half.float().numpy(), k=3).index)).all()


def test_blocks_cross_shard_borders():
    parts = [rows(3, 4), rows(5, 4, 1), rows(2, 4, 2)]
    stacked, whole = arrays.as_rows(parts), np.concatenate(parts)
    assert (stacked.block(2, 9) == whole[2:9]).all()
    assert (stacked.take(np.array([9, 0, 4, 4])) == whole[[9, 0, 4, 4]]).all()


def test_nan_and_infinite_rows_are_named():
    x = rows(30, 4)
    x[4, 1], x[17, 0] = np.nan, np.inf
    with pytest.raises(clipscan.InputError, match="2 of 30 rows .* rows 4, 17"):
        knn(x, k=3)


def test_float64_rows_that_leave_float32_are_named():
    x = rows(10, 4).astype(np.float64)
    x[6] *= 1e200
    with pytest.raises(clipscan.InputError, match="rows 6"):
        knn(x, k=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"k": 20}, "use k <= 19"),
        ({"queries": np.zeros(5, np.float32)}, r"pass x\[None, :\]"),
        ({"queries": np.zeros((2, 3, 4), np.float32)}, r"shape \[n, d\]"),
        ({"queries": np.zeros((20, 4), np.int64)}, "int64; convert it first"),
        ({"queries": np.zeros((20, 0), np.float32)}, "width 0"),
        ({"queries": np.zeros((0, 4), np.float32)}, "got 0"),
        ({"reference": np.zeros((20, 5), np.float32)}, "width 4, reference rows have width 5"),
        ({"query_ids": np.arange(20)}, "both or neither"),
    ],
)
def test_bad_arguments_are_refused_in_words(change, message):
    arguments = {"queries": rows(20, 4), "k": 3} | change
    with pytest.raises(clipscan.InputError, match=message):
        knn(**arguments)


def test_a_named_backend_serves_or_says_why_not():
    x = rows(20, 4)
    assert knn(x, k=3, backend="cpu").backend == "cpu"
    assert knn(x, k=3, backend="reference").backend == "reference"
    with pytest.raises(clipscan.BackendError, match="no back-end 'cupy'"):
        knn(x, k=3, backend="cupy")
    for name, reason in reasons().items():
        if reason:
            with pytest.raises(clipscan.BackendError, match=f"back-end '{name}' "):
                knn(x, k=3, backend=name)
    with pytest.raises(clipscan.BackendError, match="at most"):
        knn(np.zeros((70000, 1), np.float32), k=66000, backend="cpu")


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), cut=st.lists(st.integers(1, 39), min_size=2, max_size=2, unique=True))
def test_merge_is_associative_and_idempotent(seed, cut):
    y = np.round(rows(40, 3, seed) * 2) / 2
    x, (low, high) = rows(12, 3, seed + 1), sorted(cut)

    def part(first, last):
        table = knn(x, y[first:last], k=min(5, last - first))
        missing = ((0, 0), (0, 5 - table.k))
        distance = np.pad(table.distance, missing, constant_values=np.inf)
        return Neighbors(distance, np.pad(table.index + first, missing, constant_values=-1))

    a, b, c, whole = part(0, low), part(low, high), part(high, 40), part(0, 40)
    for merged in (
        Neighbors.merge(Neighbors.merge(a, b), c),
        Neighbors.merge(a, Neighbors.merge(c, b)),
        Neighbors.merge(whole, a),
        Neighbors.merge(whole, whole),
    ):
        assert (merged.index == whole.index).all() and (merged.distance == whole.distance).all()


def test_graph_exports_hold_the_same_neighbours():
    scipy_sparse = pytest.importorskip(
        "scipy.sparse", reason="needs scipy (with scikit-learn in the dev extra)"
    )
    x = rows(25, 4)
    graph = knn(x, k=3)
    matrix = scipy_sparse.csr_matrix(graph.to_csr(arrays=True), shape=(25, 25))
    assert matrix[2, graph.index[2, 1]] == graph.distance[2, 1]
    assert isinstance(graph.to_csr(), scipy_sparse.csr_matrix) and (graph.to_csr() != matrix).nnz == 0
    assert knn(x[:4], x, k=3).to_csr().shape == (4, 25) and graph.map(np.copy).to_csr().shape == (25, 25)
    bare = Neighbors(graph.distance, graph.index)
    assert bare.to_csr(columns=30).shape == (25, 30)
    with pytest.raises(InputError, match=r"to_csr\(columns=m\)"):
        bare.to_csr()
    index, distance, _ = graph.to_umap()
    assert (index[:, 0] == np.arange(25)).all() and (distance[:, 0] == 0).all()
    assert (index[:, 1:] == graph.index).all() and (distance[:, 1:] == graph.distance).all()
    assert (
        index.shape == distance.shape == (25, 3 + 1)
    )  # UMAP's n_neighbors is k + 1: it counts the row itself


def test_without_scipy_a_graph_is_three_arrays(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    graph = knn(rows(25, 4), k=3)
    data, indices, indptr = graph.to_csr()
    assert (data == graph.distance.ravel()).all() and (indices == graph.index.ravel()).all()
    assert (indptr == np.arange(0, 76, 3)).all()


def test_umap_finds_the_same_graph_from_our_table_as_by_itself():
    umap = pytest.importorskip("umap", reason="needs umap-learn: pip install 'clipscan[map]'")
    x, k = rows(200, 8), 9
    how = {"n_neighbors": k + 1, "n_epochs": 1, "random_state": 0}
    ours = umap.UMAP(precomputed_knn=knn(x, k=k).to_umap(), **how).fit(x)
    difference = ours.graph_ - umap.UMAP(**how).fit(x).graph_
    assert abs(difference).max() < 1e-4


SMALL = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")


@pytest.mark.parametrize("library", ["torch", "ml_dtypes"])
@pytest.mark.parametrize("kind", [*SMALL, "bfloat16"])
def test_every_float8_is_read_as_float32_from_every_library(library, kind):
    made = pytest.importorskip(library, reason=f"needs {library}: pip install {library}")
    x = rows(40, 8)
    if library == "torch":
        small = made.from_numpy(x).to(getattr(made, kind))
        x = small.float().numpy()
    else:
        small = x.astype(getattr(made, kind))
        x = small.astype(np.float32)
    theirs, plain = knn(small, k=3), knn(x, k=3)
    assert (np.asarray(theirs.index) == plain.index).all()
    assert (np.asarray(theirs.distance) == plain.distance).all()
    assert knn([small, small], k=3).n == 80


class OnDevice:
    """An array on a GPU, of a library with NumPy's names of types."""

    def __init__(self, kind):
        self.dtype = type("dtype", (), {"name": kind, "kind": "f"})
        self.shape, self.ndim = (20, 4), 2

    def __dlpack_device__(self):
        return (2, 0)

    def astype(self, kind):
        return OnDevice(kind)


def test_types_are_known_by_name_on_a_gpu_as_well():
    for kind in ("float4_e2m1fn", "float6_e2m3fn", "int32", "complex64", "bool", "uint8"):
        with pytest.raises(InputError, match=f"got {kind}; convert it first"):
            as_rows(OnDevice(kind))
    for kind in ("float8_e5m2", "float8_e4m3fn", "float16", "bfloat16", "float32", "float64"):
        assert as_rows(OnDevice(kind)).n == 20


def test_a_type_that_kernels_do_not_read_is_converted_on_its_device():
    [small] = as_rows(OnDevice("float8_e5m2")).on_device(0)
    [large] = as_rows(OnDevice("float16")).on_device(0)
    assert small.dtype.name == "float32" and large.dtype.name == "float16"


def test_an_extended_double_is_read_as_float32():
    x = rows(20, 4)
    assert (knn(x.astype(np.longdouble), k=3).index == knn(x, k=3).index).all()
