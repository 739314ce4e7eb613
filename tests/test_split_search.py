"""How a search is split over devices: segments, rounds, limits, memory; and how tables are merged."""

import time

import numpy as np
import pytest
from device_helpers import ROW_MEMORY, TIES, assert_equal, crew, one, rows, within
from hypothesis import given, settings
from hypothesis import strategies as st

from clipscan.engine import Counts, Neighbors, as_rows, keys
from clipscan.engine.devices import SEGMENTS
from clipscan.engine.tasks import cut, pairs_in_order, simulate
from clipscan.errors import InputError

# ---- how it is cut


def test_one_device_with_enough_memory_does_it_in_one_task():
    devices, engines = crew(1)
    within(devices, rows(100), 4)
    assert [step.task for step in devices.schedule] == [(0, 0)]
    assert engines[0].calls == ["load", "first_of", "pairs"]


def test_a_small_search_takes_one_of_several_devices():
    devices, engines = crew(3, segment_rows=30)
    within(devices, rows(200), 4)
    assert len(devices.schedule) == 1
    assert not engines[1].calls and not engines[2].calls


def test_as_many_devices_take_part_as_have_segments_enough():
    devices, engines = crew(3, segment_rows=30, before=lambda name, call: time.sleep(0.01))
    within(devices, rows(300), 4)  # 2 x 4 x 30 = 240, 3 x 4 x 30 = 360
    assert len(devices.schedule) == 8 * 9 / 2
    assert {step.device for step in devices.schedule} == {"cpu:0", "cpu:1"}
    assert not engines[2].calls


@pytest.mark.parametrize("count", [1, 2])
def test_little_memory_means_more_segments_and_the_same_table(count):
    x = rows(130)
    devices, engines = crew(count)
    assert_equal(within(devices, x, 5, memory=ROW_MEMORY * 20), one(x, 5))
    assert len(devices.schedule) == 13 * 14 / 2  # two segments of ten rows
    assert sum(call == "first_of" for engine in engines for call in engine.calls) == 1


def test_without_a_budget_each_device_works_in_its_own():
    devices, engines = crew(1)
    engines[0].default_memory = ROW_MEMORY * 20
    assert_equal(within(devices, rows(60), 5, memory=None), one(rows(60), 5))
    assert len(devices.schedule) == 6 * 7 / 2
    x = as_rows(rows(60))
    devices.between(x, x, 5, None, None, [(0, 60)], 1, None, Counts())
    assert len(devices.schedule) == 3
    assert engines[0].budgets == {ROW_MEMORY * 20}


def test_too_little_memory_is_refused_in_words_before_anything_is_loaded():
    devices, engines = crew(2)
    x = np.zeros((20_000, 2), np.float32)
    with pytest.raises(InputError, match="max_memory=500: .* at least 8000 bytes"):
        within(devices, x, 3, memory=500)
    with pytest.raises(InputError, match="max_memory=500: .* at least 4000 bytes"):
        devices.between(as_rows(x), as_rows(x), 3, None, None, [(0, 20_000)], 1, 500, Counts())
    assert not engines[0].calls


@pytest.mark.parametrize("segments", [1, 2, 3, 8, 13, 32])
def test_every_pair_of_segments_is_queued_once_in_rounds_that_share_no_segment(segments):
    order = pairs_in_order(segments)
    assert order[:segments] == [(s, s) for s in range(segments)]
    assert sorted(order) == [(a, b) for a in range(segments) for b in range(a, segments)]
    size = segments // 2
    for begin in range(segments, len(order), max(1, size)):
        a_round = [segment for pair in order[begin : begin + size] for segment in pair]
        assert len(set(a_round)) == 2 * size


@given(n=st.integers(0, 50), parts=st.integers(1, 60))
def test_parts_are_nearly_equal_and_hold_every_row(n, parts):
    spans = cut(n, parts)
    assert [row for begin, end in spans for row in range(begin, end)] == list(range(n))
    assert {end - begin for begin, end in spans} <= {n // len(spans), -(-n // len(spans))} if n else not spans


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_devices_are_kept_busy_by_the_usual_number_of_segments(devices):
    rng = np.random.default_rng(devices)
    pairs = pairs_in_order(SEGMENTS * devices)
    for _ in range(50):  # a fifth more or less, from segment to segment and from task to task
        size = rng.lognormal(0, 0.15, SEGMENTS * devices)
        seconds = [
            (0.5 if a == b else 1.0) * (size[a] + size[b]) / 2 * rng.lognormal(0, 0.15) for a, b in pairs
        ]
        assert simulate(seconds, devices) >= 0.92


def test_the_simulation_is_one_for_even_work_and_a_share_for_one_task():
    assert simulate([1.0] * 8, 4) == 1
    assert simulate([3.0], 4) == 0.25
    assert simulate([1.0, 1.0, 2.0], 2) == pytest.approx(4 / 6)


# ---- limits and merging


def test_limits_are_the_kth_best_so_far():
    x, k = np.concatenate([TIES, TIES[:20]]), 4
    devices, engines = crew(1)
    within(devices, x, k, memory=ROW_MEMORY * 20)
    n = len(np.unique(x, axis=0))
    best = Neighbors(np.full((n, k), np.inf, np.float32), np.full((n, k), -1))
    assert len(engines[0].asked) > 10
    for a, b, limit_a, limit_b, tables in engines[0].asked:
        assert (limit_a == best.distance[slice(*a), -1]).all()
        assert (limit_b == best.distance[slice(*b), -1]).all()
        for (begin, end), table in zip((a, b), tables, strict=True):
            if table is not None:
                some = Neighbors(best.distance[begin:end], best.index[begin:end])
                merged = Neighbors.merge(some, Neighbors(*table))
                best.distance[begin:end], best.index[begin:end] = merged.distance, merged.index
    assert np.isfinite(engines[0].asked[-1][2]).all()


@settings(deadline=None, max_examples=40)
@given(n=st.integers(0, 30), k=st.integers(1, 9), seed=st.integers(0, 999), chunk=st.sampled_from([1, 50]))
def test_merged_keys_are_merged_tables(n, k, seed, chunk):
    rng = np.random.default_rng(seed)

    def table(offset):
        distance = np.sort(np.round(rng.random((n, k)), 1).astype(np.float32), axis=1)
        index = np.sort(rng.permuted(np.tile(np.arange(k), (n, 1)), axis=1), axis=1) * 2 + offset
        nobody = np.arange(k) >= rng.integers(0, k + 1, (n, 1))
        return Neighbors(np.where(nobody, np.float32(np.inf), distance), np.where(nobody, -1, index))

    both = table(0), table(1)
    merged = np.full((n, k), keys.NO_KEY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "CHUNK", chunk)
        for part in both:
            keys.merge(merged, part.distance, part.index)
        expected = Neighbors.merge(*both)
        assert (keys.distance_of(merged) == expected.distance).all()
        assert_equal(keys.unpack(merged), (expected.distance, expected.index))
