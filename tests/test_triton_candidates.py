"""The Triton back-end's filter: which pairs it notes, copies, and more candidates than there is room for."""

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

from clipscan.engine import Counts, as_rows, cpu

torch = pytest.importorskip("torch")


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
