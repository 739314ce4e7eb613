"""The search equals the float64 definition, on the shapes that broke other people's kernels."""

import numpy as np
import pytest
from compare import assert_same_table
from hypothesis import given, settings
from hypothesis import strategies as st

import clipscan
from clipscan import _core
from clipscan.engine import Counts, Neighbors, arrays, as_rows, cpu, knn, reference

MEMORY = 1 << 30


def exact(x, y, k, own=True):
    ids = np.arange(len(x)) if own else None
    return reference.knn(np.asarray(x, np.float32), np.asarray(y, np.float32), k, ids, ids)


def rows(n, d, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).standard_normal((n, d))).astype(np.float32)


# A register tile holds 4, 6 or 12 queries and 8, 16 or 32 reference rows; a block at most 384 queries.
@pytest.mark.parametrize("n", [2, 11, 12, 13, 31, 32, 33, 63, 64, 65, 383, 384, 385, 800])
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
    for name in _core.instruction_sets():
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
    with pytest.raises(clipscan.BackendError, match="no back-end 'cuda'"):
        knn(x, k=3, backend="cuda")
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
    matrix = scipy_sparse.csr_matrix(graph.to_csr(), shape=(25, 25))
    assert matrix[2, graph.index[2, 1]] == graph.distance[2, 1]
    index, distance, _ = graph.to_umap()
    assert (index[:, 0] == np.arange(25)).all() and (distance[:, 0] == 0).all()
    assert (index[:, 1:] == graph.index).all()
