"""A run in a notebook: what it says, with pictures where they are to be had, and harmless."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from report_helpers import EVIL, InMemory, Page, a_run, some_samples
from run_helpers import scan_vectors

import clipscan
from clipscan.data.sample import Sample
from clipscan.errors import RunError
from clipscan.report import notebook


def test_counts_groups_and_the_way_to_the_page_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = some_samples(caption=EVIL)
    run = a_run(tmp_path, samples)
    monkeypatch.setattr(notebook, "_dataset", lambda folder: InMemory(samples))
    shown = clipscan.show(run)
    (tmp_path / "shown.html").write_text(shown._repr_html_())
    page = Page(tmp_path / "shown.html")
    assert "63 listed = 60 embedded + 3 unreadable; 10 suspects, 1 group of near-copies" in page.text
    assert "4 samples are dropped." in page.text and str(run / "report/index.html") in page.text
    assert len(page.all("img")) == 8 and page.all("img")[0]["src"].startswith("data:image/webp;base64,")
    assert shown.page == run / "report/index.html"


def test_no_name_or_caption_becomes_markup_and_nothing_is_loaded(tmp_path: Path) -> None:
    samples = [Sample(one.shard, f"{one.key}{EVIL}", None, EVIL, at=one.at) for one in some_samples()]
    run = a_run(tmp_path, samples)
    html = clipscan.show(run).html
    assert not re.search(r"<(script|style|link|iframe|object)|\bon\w+=|javascript:", html)
    assert (
        "&lt;script&gt;" in html
        and "\u202e" not in html
        and not re.search(r"(src|href)=\"(?!data:image/)", html)
    )


def test_without_pictures_asked_for_or_at_hand_there_are_none(tmp_path: Path) -> None:
    run = a_run(tmp_path, some_samples())
    assert "<img" not in clipscan.show(run, inline=False).html
    assert "<img" not in clipscan.show(str(run)).html  # the dataset is not there


def test_what_a_scan_returns_shows_itself(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    vectors = np.random.default_rng(0).normal(size=(120, 8)).astype(np.float32)
    np.save(tmp_path / "data" / "vectors.npy", vectors)
    done = scan_vectors(tmp_path / "data" / "vectors.npy", tmp_path / "run", fraction=0.05)
    assert done._repr_html_() == clipscan.show(done).html == clipscan.show(done.out).html
    assert "120 listed = 120 embedded + 0 unreadable; 6 suspects" in re.sub(r"\s+", " ", done._repr_html_())


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        clipscan.show(tmp_path)
