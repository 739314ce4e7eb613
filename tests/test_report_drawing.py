"""The histogram and the words of the page: true to the numbers, readable for any of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from clipscan.report import glossary, histogram, visible_text

numbers = st.floats(allow_nan=True, allow_infinity=True, width=64)


def bins_of(scores: object, cut: float = math.nan) -> histogram.Bins | None:
    array = np.asarray(scores, dtype=np.float64)
    halves = [array[: len(array) // 2], array[len(array) // 2 :]]
    return histogram.bin_scores(lambda: halves, cut)


def test_every_score_is_in_one_bar() -> None:
    scores = np.random.default_rng(0).lognormal(size=1000)
    bins = bins_of(scores, cut=3.0)
    assert bins is not None
    assert bins.counts.sum() == 1000
    assert bins.beyond == (scores >= 3.0).sum()


def test_a_tail_over_decades_gets_a_logarithmic_axis() -> None:
    assert bins_of(np.geomspace(0.9, 1e6, 50)).log
    assert not bins_of(np.linspace(0.9, 3, 50)).log
    assert not bins_of(np.linspace(-1, 1e6, 50)).log


@pytest.mark.parametrize("scores", [[], [math.nan], [math.nan, math.inf]])
def test_without_a_finite_score_there_is_nothing_to_draw(scores: list[float]) -> None:
    assert bins_of(scores) is None


def test_the_cut_line_stands_between_the_bars_it_parts() -> None:
    bins = bins_of(np.linspace(0, 10, 1001), cut=7.5)
    assert bins is not None
    drawing = histogram.draw(bins)
    assert drawing.cut is not None
    assert drawing.cut.label == "7.500"
    assert all(bar.x + bar.width <= drawing.cut.at + 1 for bar in drawing.bars if not bar.cut)
    assert all(bar.x + bar.width > drawing.cut.at for bar in drawing.bars if bar.cut)


@given(st.lists(numbers, min_size=1, max_size=30), numbers)
def test_any_scores_can_be_drawn_inside_the_frame(scores: list[float], cut: float) -> None:
    with np.errstate(all="ignore"):
        bins = bins_of(scores, cut)
        if bins is None:
            return
        drawing = histogram.draw(bins)
    assert bins.counts.sum() == sum(score == score for score in scores)
    for bar in drawing.bars:
        assert histogram.LEFT - 1 <= bar.x <= histogram.WIDTH - histogram.RIGHT + 1
        assert histogram.TOP - 1 <= bar.y <= histogram.HEIGHT - histogram.BOTTOM
    assert len(drawing.x_ticks) <= 16


@given(st.text())
def test_no_hidden_character_reaches_the_page(stranger: str) -> None:
    for shown in (visible_text.visible(stranger), visible_text.plain(stranger)):
        assert not any(visible_text.is_hidden(char) for char in shown)
    assert isinstance(visible_text.visible(stranger), Markup)


def test_ordinary_writing_of_any_script_is_left_alone() -> None:
    for caption in ("a naïve café", "مرحبا", "नमस्ते", "花が咲く", "Z\u0301", "❤\ufe0f", "a\u00a0b"):
        assert visible_text.visible(caption) == caption


def test_a_heap_of_combining_marks_cannot_paint_over_its_neighbours() -> None:
    assert visible_text.plain("e" + "\u0301" * 40) == "e[U+0301 × 40]"


def test_long_text_is_cut_with_an_ellipsis() -> None:
    assert visible_text.visible("word " * 100, 20) == "word word word word…"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (4.67, "4.670"),
        (1234.5, "1234"),
        (12345.6, "12,346"),
        (2e9, "2.00e+09"),
        (0, "0.000"),
        (math.nan, "–"),
    ],
)
def test_numbers_have_four_digits(value: float, shown: str) -> None:
    assert visible_text.number(value) == shown


@pytest.mark.parametrize(
    ("setting", "rows", "draws"),
    [("1024x8", (1024,), 8), ("256x8,1024x4", (256, 1024), 8), (2048, (2048,), 1), ("all", (), 1)],
)
def test_the_reference_setting_is_read(setting: object, rows: tuple[int, ...], draws: int) -> None:
    found = glossary.reference_of(setting)
    assert (found.rows, found.draws) == (rows, draws)


def test_the_rate_limit_is_the_rule_of_p_times_r_over_k() -> None:
    assert glossary.rate_limit(16, glossary.reference_of("1024x8")) == pytest.approx(0.4 * 16 / 1024)
    assert glossary.rate_limit(16, glossary.reference_of("all")) is None
