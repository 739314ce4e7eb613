"""Every column of every table of a run folder is explained: in its schema, and in docs/tables.md."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import clipscan
from clipscan import pipeline
from clipscan.run import Run
from clipscan.run.calibrating import calibrate
from clipscan.run.columns import TABLES, meaning, page


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that leaves tables behind, on vectors; the trusted model's and iforest's columns aside."""
    folder = tmp_path_factory.mktemp("columns")
    rng = np.random.default_rng(0)
    for name, rows in (("data", 500), ("clean", 400)):
        image = rng.standard_normal((rows, 16)).astype(np.float32)
        text = image * (np.arange(rows) >= 60)[:, None] + 0.3 * rng.standard_normal((rows, 16))
        image[3] = np.nan
        for side, vectors in (("img", image), ("text", text.astype(np.float32))):
            (folder / f"{name}/{side}_emb").mkdir(parents=True)
            np.save(folder / f"{name}/{side}_emb/{side}_emb_0.npy", vectors)
    done = clipscan.scan(folder / "data", out=folder / "run", k=5, reference="100x2,200x2", method="slof")
    run, clean = Run(done.out), pipeline.embed(folder / "clean", out=folder / "c")
    calibrate(run, clean, 0.1)
    pipeline.partition(run, share=0.8)
    return done.out


def test_every_column_of_every_table_has_a_meaning(run: Path) -> None:
    met = set()
    for path in run.rglob("*.parquet"):
        name = path.relative_to(run).as_posix()
        (table,) = [table for table in TABLES if fnmatch(name, table)]
        met.add(table)
        for column in pq.read_schema(path).names:
            assert meaning(table, column), f"{name} has a column {column!r} that nothing explains"
    assert met == set(TABLES), "every table that is explained was written"
    assert meaning("suspects.parquet", "nonsense") == "" == meaning("bad.parquet", "slof")


def test_the_schema_of_scores_and_suspects_tells_the_meaning(run: Path) -> None:
    for name in ("suspects.parquet", "groups.parquet", "scores/scores_00000.parquet"):
        schema = pq.read_schema(run / name)
        assert all(field.metadata[b"description"] for field in schema)
    about = pq.read_schema(run / "suspects.parquet").field("slof@100x2_rank").metadata[b"description"]
    assert about == b"place among all samples by slof@100x2, 1 the most suspicious"


def test_the_page_of_tables_is_that_of_the_code() -> None:
    docs = Path(__file__).parent.parent / "docs/tables.md"
    assert docs.read_text() == page(), (
        "python -c 'from clipscan.run import columns; print(columns.page(), end=\"\")'"
    )
    for score in clipscan.scores.METHODS:
        assert meaning("suspects.parquet", score)
