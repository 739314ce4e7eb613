"""Recovered triggers on the page: shown side by side; records of any kind do no harm."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clipscan.invert.write import strip
from clipscan.report import recovered_triggers
from clipscan.report.page import write_page


def test_a_page_without_recoveries_is_as_it_was(a_run):
    before = write_page(a_run, None).read_bytes()
    (a_run / "invert/0").mkdir(parents=True)
    (a_run / "invert/readme.txt").write_text("nothing")
    assert write_page(a_run, None).read_bytes() == before
    assert b"Recovered" not in before and b"#triggers" not in before and b".verdict {" not in before


def test_the_page_shows_group_and_control_side_by_side(a_run):
    a_recovery(a_run / "invert/3")
    page = write_page(a_run, None).read_text()
    assert page.count("data:image/png;base64,") == 6 and page.count("data:image/jpeg;base64,") == 2
    for words_ in ("Group 3, 250 pictures", "trigger-like", "takes 12.0 times as much", "a photo of a ship"):
        assert words_ in page
    assert 'href="#triggers"' in page and "1.2\u00a0%" in page


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "<script>alert(1)</script>"},
        {"form": ["anywhere"]},
        {"forms": {"form": "anywhere"}},
        {"forms": [[], 1, None, {"form": {}}]},
        {"form": "warp"},
    ],
)
def test_a_record_that_is_none_is_passed_over(a_run, change):
    before = write_page(a_run, None).read_bytes()
    a_recovery(a_run / "invert/3", change)
    assert write_page(a_run, None).read_bytes() == before


@pytest.mark.parametrize(
    "content", ["", "[" * 100_000, "null", "[1]", '{"a": 1' + " " * (300 << 10) + "}", "\0"]
)
def test_a_file_that_is_no_record_is_passed_over(a_run, content):
    folder = a_recovery(a_run / "invert/3")
    (folder / "result.json").write_text(content)
    assert recovered_triggers.read_triggers(a_run) == []


def test_strange_values_are_shown_as_unknown(a_run):
    strange = {"caption": "<b>\u202e" * 9000, "pairs": 10**400, "before": -1, "success": 1e308, "area": "1"}
    a_recovery(a_run / "invert/3", {"size": 1.5, "captions": [{}, "<i>x"], "captions_in_all": -4}, strange)
    page = write_page(a_run, None).read_text()
    (one,) = recovered_triggers.read_triggers(a_run)
    assert (
        one.best.group[1:6] == (None, None, None, None, 0.5) and one.size is None and one.captions == ["<i>x"]
    )
    assert "<b>\u202e" not in page and "<i>x" not in page and "\u202e" not in page
    assert len(page) < 300_000


def test_links_pipes_and_giants_are_not_opened(a_run, tmp_path):
    folder = a_recovery(a_run / "invert/3")
    (tmp_path / "secret.png").write_bytes((folder / "mask.png").read_bytes())
    for name in ("mask", "pattern", "seen", "pictures"):
        (folder / f"{name}.png").unlink()
    (folder / "mask.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(folder / "pattern.png")
    with (folder / "seen.png").open("wb") as giant:
        giant.truncate(recovered_triggers.MAX_PNG + 1)
    (folder / "pictures.png").write_bytes(b"not a picture")
    (a_run / "invert/4").symlink_to(folder)
    (one,) = recovered_triggers.read_triggers(a_run)
    assert not any(picture.uri for picture in one.look) and all(picture.reason for picture in one.look)


def test_the_pictures_of_the_section_have_a_budget(a_run, monkeypatch):
    monkeypatch.setattr(recovered_triggers, "MAX_URI_BYTES", 100)
    a_recovery(a_run / "invert/3")
    (one,) = recovered_triggers.read_triggers(a_run)
    assert one.look.pictures.reason == "left out: the page is full"


@pytest.fixture
def a_run(tmp_path):
    """As little as a page needs."""
    run = tmp_path / "run"
    (run / "scores").mkdir(parents=True)
    row = {
        "rank": [1],
        "shard": ["0.tar"],
        "key": ["a"],
        "caption": ["x"],
        "at": [0],
        "score": [1.0],
        "why": [""],
    }
    pq.write_table(pa.table(row), run / "suspects.parquet")
    (run / "run.json").write_text('{"clipscan": "0"}')
    return run


def a_recovery(folder, change=None, group=None):
    """What `invert` leaves, without its work."""
    side = {"caption": "a photo of a banana", "pairs": 250, "before": 0.0, "success": 0.95, "cost": 0.01,
            "area": 0.012, "strength": 0.5, "reached": True}  # fmt: skip
    ship = side | {"caption": "a photo of a ship", "cost": 0.12}
    form = {
        "form": "anywhere",
        "ratio": 12.0,
        "cheapest": 0,
        "group": side | (group or {}),
        "controls": [ship],
    }
    record = {
        "asked": {"group": 3}, "size": 250, "captions": [side["caption"]], "captions_in_all": 16,
        "pictures": {"held_out": 1000}, "verdict": "trigger-like", "form": "anywhere", "forms": [form],
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(record | (change or {})))
    pictures = np.full((6, 32, 32, 3), 100, np.uint8)
    for prefix in ("", "control_"):
        for name in ("mask", "pattern", "seen"):
            Image.fromarray(pictures[0]).save(folder / f"{prefix}{name}.png")
        Image.fromarray(strip(pictures, pictures)).save(folder / f"{prefix}pictures.png")
    return folder
