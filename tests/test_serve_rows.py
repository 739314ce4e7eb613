"""The rows of `clipscan serve`, whatever their texts are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from report_helpers import a_run, some_samples

from clipscan.report.serve.ranked_rows import RankedRows


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
