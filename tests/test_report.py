"""The page: counts that add up, and what it says where a run lacks something."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from report_helpers import InMemory, Page, a_run, page, some_samples  # noqa: F401

from clipscan.data.dataset import Shard
from clipscan.data.sample import Sample
from clipscan.errors import RunError
from clipscan.report.page import write_page

pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'clipscan[embed]'")


def test_counts_add_up(page: Page) -> None:
    assert "63 listed = 60 embedded + 3 unreadable" in page.text
    assert "60 embedded = 56 kept + 4 dropped" in page.text
    assert "do not add up" not in page.text


def test_counts_that_do_not_add_up_are_said_aloud(tmp_path: Path) -> None:
    run = a_run(tmp_path, some_samples())
    stated = json.loads((run / "run.json").read_text())
    stated["counts"]["listed"] = 70
    (run / "run.json").write_text(json.dumps(stated))
    assert "These counts do not add up. 7 samples are listed, but neither" in Page(write_page(run, None)).text


def test_cards_count_what_they_say_and_the_drop_list_is_told_by_its_rule(tmp_path: Path) -> None:
    run = a_run(tmp_path, some_samples())
    page = Page(write_page(run, None))
    # Sample i has rank i (j + 1) mod 60 + 1 by score j; the top 1 % of 60 is one: the first of ten suspects.
    assert "Alone 1 of 10 suspects" in page.text and "Mismatched 1 of 10 suspects" in page.text
    assert "4 samples are dropped." in page.text and "Nothing is dropped" not in page.text
    for rule, estimate, words in (
        (b'{"decisions": "mine.csv"}', 0, "4 samples are dropped: those decided on in mine.csv."),
        (b'{"apart": 4}', 4, "Those 4 are dropped unless you say otherwise."),
        (b'{"fraction": 0.1}', 4, "4 samples are dropped: the most suspicious 10 % of all."),
    ):
        table = pq.read_table(run / "drop.parquet").replace_schema_metadata({b"clipscan.rule": rule})
        pq.write_table(table, run / "drop.parquet")
        stated = json.loads((run / "run.json").read_text())
        stated["estimate"] = {"number": estimate, "fewest": estimate, "most": estimate, "border": 1.0}
        (run / "run.json").write_text(json.dumps(stated))
        page = Page(write_page(run, None))
        assert words in page.text and "Nothing is dropped" not in page.text
        assert page.html.count('<span class="tag">dropped</span>') == 4


def test_the_page_says_what_was_asked_and_how_to_go_on(page: Page, tmp_path: Path) -> None:
    for words in ("clipscan-conv-32", "1024x8", "8 random references of 1,024 samples", "up to about 0.62 %"):
        assert words in page.text
    assert f"clipscan apply {tmp_path} --to" in page.text
    assert f"DropList.load('{tmp_path}/drop.parquet')" in page.text


def test_bad_samples_are_summed_up_by_reason(page: Page) -> None:
    assert "picture of 30000 px is over the limit" in page.text
    assert "picture of 30001 px" not in page.text
    assert "bad2" in page.text


def test_without_the_dataset_there_is_a_page_without_pictures(tmp_path: Path) -> None:
    page = Page(write_page(a_run(tmp_path, some_samples()), None))
    assert not page.all("img")
    assert "The dataset was not at hand" in page.text
    assert "a flower, number 1" in page.text


def test_a_run_without_text_and_graph_says_so(tmp_path: Path) -> None:
    run = a_run(tmp_path, some_samples(caption=""), text=False, graph=False)
    page = Page(write_page(run, None))
    assert "9,000,000 rows would take 40 hours" in page.text
    assert "pictures and captions were not compared" in page.text
    assert "no caption" in page.text


def test_a_run_with_nothing_optional_still_has_a_page(tmp_path: Path) -> None:
    run = a_run(tmp_path, some_samples(), suspects=0)
    for name in ("groups.parquet", "bad.parquet", "drop.parquet"):
        (run / name).unlink()
    (run / "run.json").write_text('{"clipscan": "0"}')
    page = Page(write_page(run, None))
    assert "No sample was suspicious enough" in page.text
    assert "There is no histogram" in page.text


def test_a_dataset_that_fails_costs_the_pictures_not_the_page(tmp_path: Path) -> None:
    samples = some_samples()

    class Unplugged(InMemory):
        def fetch(self, shard: Shard, wanted: Mapping[str, int]) -> Iterator[Sample]:
            raise OSError("the disk was <b>unplugged</b>")

    page = Page(write_page(a_run(tmp_path, samples), Unplugged(samples)))
    assert "cannot read the shard: the disk was <b>unplugged</b>" in page.text
    assert not page.all("img")


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    samples = some_samples()
    run = a_run(tmp_path, samples)
    assert write_page(run, InMemory(samples)).read_bytes() == write_page(run, InMemory(samples)).read_bytes()
    assert [path.name for path in (run / "report").iterdir()] == ["index.html"]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="clipscan scan"):
        write_page(tmp_path, None)
    (tmp_path / "run.json").write_text('{"clipscan": "0"}')
    with pytest.raises(RunError, match="score stage"):
        write_page(tmp_path, None)
