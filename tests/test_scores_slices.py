"""Scores of many shards: small ones together, large ones one by one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clipscan.scores.slices import TOGETHER_ROWS, together


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30))
@settings(deadline=None, max_examples=50)
def test_small_shards_are_scored_together_and_each_gets_its_own_rows(counts):
    asked = []

    def columns(start, stop):
        asked.append(stop - start)
        return {"row": np.arange(start, stop, dtype=float)}, {}

    of, ends = together(columns, counts), np.cumsum(counts).tolist()
    for start, stop in zip([0, *ends], ends, strict=False):
        if start < stop:
            assert of(start, stop)[0]["row"].tolist() == list(range(start, stop))
    assert asked == ([sum(counts)] if sum(counts) else [])


def test_shards_larger_than_a_block_are_scored_one_by_one_and_no_row_twice():
    asked = []
    of = together(lambda start, stop: asked.append((start, stop)) or ({}, {}), [3, TOGETHER_ROWS, 5, 7])
    for start, stop in [(0, 3), (3, TOGETHER_ROWS + 3), (TOGETHER_ROWS + 3, TOGETHER_ROWS + 8)]:
        of(start, stop)
    assert asked == [(0, 3), (3, TOGETHER_ROWS + 3), (TOGETHER_ROWS + 3, TOGETHER_ROWS + 15)]
