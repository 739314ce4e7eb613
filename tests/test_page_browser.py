"""The review in a browser: by keys, by mouse and by touch; decisions kept, undone, saved and merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from browser import SUSPECTS, Opened
from run_helpers import scan_vectors
from typer.testing import CliRunner

from clipscan.cli import app

pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'clipscan[embed]'")


def test_two_hundred_suspects_are_reviewed_by_keys_alone(browser: Any, page: str) -> None:
    opened = Opened(browser, page)
    opened.press("g" + "dsu" * 66 + "ds")
    words = opened.words()
    assert [words[f"key{i:04d}"] for i in range(200)] == (["drop", "keep", "unsure"] * 67)[:200]
    assert opened.script("clipscan.decisions.counts") == {"drop": 67, "keep": 67, "unsure": 66}
    assert opened.script("clipscan.review.place") == 200
    assert opened.script("document.querySelectorAll('.tile').length") < 120  # of 220: only what is in view
    opened.check()


def test_undo_goes_back_to_the_beginning_and_to_the_sample(browser: Any, page: str) -> None:
    opened = Opened(browser, page)
    opened.press("gdsukkkx")
    assert opened.words() == {"key0001": "keep", "key0002": "unsure"}
    opened.press("z")
    assert opened.words() == {"key0000": "drop", "key0001": "keep", "key0002": "unsure"}
    opened.press("z")
    assert opened.script("clipscan.review.place") == 2
    opened.press("zzzz")
    assert opened.words() == {} and opened.page.get_by_role("button", name="Undo").is_disabled()
    opened.check()


def test_what_is_decided_is_skipped_by_advancing(browser: Any, page: str) -> None:
    opened = Opened(browser, page)
    opened.press("gjskkdu")  # the second first, then the first, which leads to the third
    assert opened.words() == {"key0000": "drop", "key0001": "keep", "key0002": "unsure"}


def test_a_group_is_decided_at_once_with_exceptions(browser: Any, page: str) -> None:
    opened = Opened(browser, page)
    assert opened.page.get_by_role("tab", name="Groups").get_attribute("aria-selected") == "true"
    opened.press("d")
    members = {f"key{i:04d}" for i in range(270, 300)}
    assert opened.words() == dict.fromkeys(members, "drop")
    opened.press("o")  # its members
    opened.until("document.querySelector('.all .shown').textContent === '30 samples'")  # at the next frame
    opened.press("ks")
    assert opened.words() == dict.fromkeys(members, "drop") | {"key0270": "keep"}
    opened.press("oz" + "z")
    assert opened.words() == {}
    opened.press("b")
    kept = [key for key, word in opened.words().items() if word == "keep"]
    assert len(opened.words()) == 30 and kept == ["key0299"]  # the lowest cosine distance
    opened.check()


def test_decisions_and_undo_survive_a_reload(browser: Any, page: str) -> None:
    opened = Opened(browser, page)
    opened.press("gdsd")
    opened.page.wait_for_timeout(300)
    assert opened.script("document.getElementById('said')?.textContent ?? ''") == ""
    again = Opened(browser, page, context=opened.context)
    assert again.script("document.getElementById('said').textContent") == "3 decisions of an earlier visit"
    assert again.words() == {"key0000": "drop", "key0001": "keep", "key0002": "drop"}
    again.press("z")
    assert again.words() == {"key0000": "drop", "key0001": "keep"}


def test_where_nothing_is_kept_the_page_says_so(browser: Any, page: str) -> None:
    context = browser.new_context()
    context.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new Error('denied'); } });"
    )
    opened = Opened(browser, page, context=context)
    assert "lost when it is closed" in opened.page.get_by_role("alert").inner_text()
    opened.press("gd")
    assert opened.words() == {"key0000": "drop"}


def test_the_border_is_dragged_and_counts(browser: Any, page: str) -> None:
    opened = Opened(browser, page)
    handle = opened.page.locator(".border .grip")
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    opened.page.mouse.move(x, y)
    opened.page.mouse.down()
    for step in range(1, 12):
        opened.page.mouse.move(x - 10 * step, y)
    opened.page.mouse.up()
    border = opened.script("clipscan.decisions.border")
    above = opened.script("(b) => clipscan.source.suspects.filter((s) => s.score > b).length", border)
    assert 4 < above < SUSPECTS
    assert f"drops {above} samples" in opened.page.locator(".histogram .told").inner_text()
    assert f"{above} will be dropped" in opened.page.locator(".progress").inner_text()
    opened.press("gs")  # keep the first, which is above the border
    assert f"{above - 1} will be dropped" in opened.page.locator(".progress").inner_text()
    opened.press("zz")  # one movement is one step
    assert opened.script("clipscan.decisions.border") is None and opened.words() == {}
    opened.check()


def test_counts_that_are_not_exact_are_told_as_such(browser: Any, page: str) -> None:
    opened = Opened(browser, page)
    lowest = opened.script("clipscan.review.border.counts.edges[0]")  # of all 300 scores, 0.9
    above = "(b) => clipscan.review.border.counts.above(b)"
    assert lowest == 0.9
    assert not opened.script(above, lowest)["exact"]  # 299 at most, by bins
    assert opened.script(above, 0.89) == {"count": 300, "exact": True}
    progress = opened.page.locator(".progress")
    opened.script("clipscan.decisions.take([['elsewhere.tar\\0key', 'unsure']])")
    opened.until("document.querySelector('.progress').textContent.endsWith('unsure4 will be dropped')")
    opened.script("clipscan.decisions.take([['elsewhere.tar\\0key', 'keep']])")
    assert "about 4 will be dropped" in progress.inner_text()


def test_filters_narrow_and_all_that_they_show_is_decided(browser: Any, page: str) -> None:
    opened = Opened(browser, page)
    opened.press("/")
    opened.page.keyboard.type("number 21")  # 21, 210 to 219
    opened.until("document.querySelector('.all .shown').textContent === '11 samples'")
    opened.page.get_by_role("combobox", name="Shard").select_option("00001.tar")
    opened.until("document.querySelector('.all .shown').textContent === '6 samples'")
    opened.page.locator(".all").get_by_role("button", name="unsure").click()
    odd = [21, 211, 213, 215, 217, 219]
    opened.until("clipscan.decisions.words.size === 6")
    assert opened.words() == {f"key{i:04d}": "unsure" for i in odd}
    opened.page.get_by_role("button", name="Clear filter").click()
    opened.page.get_by_role("combobox", name="Decision").select_option("undecided")
    opened.until(f"document.querySelector('.all .shown').textContent === '{SUSPECTS - 6} samples'")
    opened.check()


def test_lists_made_of_a_saved_file_equal_the_decisions(browser: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "vectors.npy", rng.normal(size=(300, 8)).astype(np.float32))
    run = scan_vectors(tmp_path / "data" / "vectors.npy", tmp_path / "run", fraction=0.1).out
    opened = Opened(browser, (run / "report/index.html").as_uri())
    order = opened.script("clipscan.source.suspects.map((s) => s.key)")
    listed = set(pq.read_table(run / "drop.parquet")["key"].to_pylist())
    assert len(order) == 30 and listed == set(order)
    opened.press("g" + "sdu" * 9)
    kept = set(order[0:27:3])
    expected = {True: listed - kept, False: set(order[1:27:3])}
    for corrects in (True, False):  # --add corrects the list as it is; without, decisions are all there is
        command = ["export", str(run), "--decisions", str(opened.saved(tmp_path))] + ["--add"] * corrects
        assert CliRunner().invoke(app, command).exit_code == 0
        assert set(pq.read_table(run / "drop.parquet")["key"].to_pylist()) == expected[corrects]
        told = f"{len(expected[corrects])} will be dropped"
        if corrects:
            assert told in opened.page.locator(".progress").inner_text()
    assert (
        CliRunner()
        .invoke(app, ["export", str(run), "--decisions", str(opened.saved(tmp_path, "csv"))])
        .exit_code
        == 0
    )
    assert set(pq.read_table(run / "drop.parquet")["key"].to_pylist()) == expected[False]
    opened.check()


def test_a_saved_file_is_read_again_and_conflicts_are_told(browser: Any, page: str, tmp_path: Path) -> None:
    mine, theirs = Opened(browser, page), Opened(browser, page)
    theirs.press("gdds")
    file = theirs.saved(tmp_path)
    assert [one["decision"] for one in json.loads(file.read_text())["decisions"]] == ["drop", "drop", "keep"]
    mine.press("gsd")
    mine.page.locator("input[type=file]").set_input_files(file)
    dialog = mine.page.locator("dialog")
    assert (
        "1 decision differs" in dialog.inner_text() and "here keep, in the file drop" in dialog.inner_text()
    )
    dialog.get_by_role("button", name="Mark unsure").click()
    mine.until("clipscan.decisions.words.size === 3")
    assert mine.words() == {"key0000": "unsure", "key0001": "drop", "key0002": "keep"}
    mine.press("z")
    assert mine.words() == {"key0000": "keep", "key0001": "drop"}
    (broken := tmp_path / "broken.json").write_text(
        '{"clipscan": "decisions", "version": 9, "decisions": []}'
    )
    mine.page.locator("input[type=file]").set_input_files(broken)
    assert "its version is 9" in dialog.inner_text()


def test_by_touch_alone(browser: Any, page: str) -> None:
    opened = Opened(browser, page, viewport={"width": 400, "height": 800}, has_touch=True)
    opened.page.get_by_role("tab", name="Suspects").tap()
    opened.page.locator(".tile").nth(1).tap()
    opened.page.locator(".detail").get_by_role("button", name="Drop").tap()
    assert opened.words() == {"key0001": "drop"}
    opened.page.get_by_role("button", name="Undo").tap()
    assert opened.words() == {}


def test_the_border_of_a_file_is_taken_only_when_the_reviewer_agrees(
    browser: Any, page: str, tmp_path: Path
) -> None:
    opened = Opened(browser, page)
    told = {"clipscan": "decisions", "version": 1, "run": opened.script("clipscan.review.data.run.id")}
    file, dialog = tmp_path / "mailed.json", opened.page.locator("dialog")

    def read(border: str, listed: Any = ()) -> str:
        head = json.dumps(told | {"decisions": list(listed)})[:-1]
        file.write_text(f'{head}, "border": {{"threshold": {border}}}}}')
        opened.page.locator("input[type=file]").set_input_files(file)
        return dialog.inner_text()

    scores = opened.script("clipscan.source.suspects.map((s) => s.score)")
    border = (scores[9] + scores[10]) / 2
    asked = read(repr(border))
    assert "Now 4 samples will be dropped" in asked and "it would be 10 samples" in asked
    dialog.get_by_role("button", name="Leave it as it is").click()
    assert opened.script("clipscan.decisions.border") is None
    read(repr(border))
    dialog.get_by_role("button", name="Take the border").click()
    opened.until(f"clipscan.decisions.border === {border!r}")
    for infinite in ("1e999", "-1e999"):
        assert "no finite number" in read(infinite)
        dialog.get_by_role("button", name="OK").click()
    for name in ("a\0b", "\ud800"):
        for one in ({"shard": name, "key": "k"}, {"shard": "s", "key": name}):
            assert "decision 1 is not of shard, key" in read("1", [one | {"decision": "drop"}])
            dialog.get_by_role("button", name="OK").click()
    assert opened.words() == {} and opened.script("clipscan.decisions.border") == border
    opened.check()
