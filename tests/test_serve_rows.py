"""The rows of `clipscan serve` and their pictures, whatever the texts are and the network does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_helpers import InMemory, a_run, some_samples

from clipscan.data.sample import Sample
from clipscan.report.serve.choosing import Chooser, Filter
from clipscan.report.serve.ranked_rows import RankedRows
from clipscan.report.serve.showing import Pictures
from clipscan.run import Run


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[RankedRows]:
    found = RankedRows(a_run(tmp_path, some_samples()), {("00001.tar", "key0003")})
    yield found
    found.close()


def test_texts_of_more_than_2_gib_fit_in_a_column(rows: RankedRows) -> None:
    texts = [name for name in rows.table.column_names if name not in ("at", "score", "listed")]
    assert len(texts) == 5
    assert {str(rows.table.schema.field(name).type) for name in texts} == {"large_string"}
    assert rows.table["listed"].to_pylist() == [i == 3 for i in range(60)]
    assert rows.place_of("00001.tar", "key0007") == 7 and rows.place_of("00000.tar", "key0007") is None


@pytest.mark.parametrize(
    "letter", ["\u0130", "\u1e9e", "\u03a3", "\u00c9"]
)  # Arrow and Python differ in some
def test_a_text_is_found_in_whatever_letters_it_stands(tmp_path: Path, letter: str) -> None:
    rows = RankedRows(a_run(tmp_path, some_samples(caption=f"a word of {letter}{letter}")), set())
    assert Chooser(rows, {}).places(Filter(text=f"WORD OF {letter}{letter}"), {}).tolist() == [0]
    rows.close()


def test_a_picture_that_could_not_be_read_is_tried_again(tmp_path: Path) -> None:
    down = [True]

    class Remote(InMemory):
        def fetch(self, *asked: Any) -> Iterator[Sample]:
            if down[0]:
                raise OSError("connection reset")
            return super().fetch(*asked)

    samples = some_samples()
    pictures = Pictures(Run(a_run(tmp_path, samples), Remote(samples)))
    asked = ("00001.tar", "key0003", -1, 160)
    assert pictures.make(*asked) == "cannot read the shard: connection reset"
    down[0] = False
    assert pictures.make(*asked)[0] == "image/webp"
    pictures.close()
