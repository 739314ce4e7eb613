"""The page in a browser is harmless whatever the data says, and of use to everyone: without scripts, on
paper, on any width, to screen readers.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytest
from browser import Opened
from report_helpers import InMemory, a_run, some_samples

from clipscan.data.sample import Sample
from clipscan.report.decisions import read_decisions
from clipscan.report.page import write_page
from clipscan.report.visible_text import plain

pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'clipscan[embed]'")
AXE = Path(os.environ.get("CLIPSCAN_AXE", Path(__file__).parent.parent / "node_modules/axe-core/axe.min.js"))
XSS = [
    "<img src=x onerror='window.pwned=1'>",
    "<script>window.pwned=1</script>",
    "</script><script>window.pwned=1</script>",
    "<!--<script>window.pwned=1//",
    '"><svg onload=window.pwned=1>',
    "' onfocus='window.pwned=1' autofocus='",
    "javascript:window.pwned=1",
    "{{constructor.constructor('window.pwned=1')()}}${window.pwned=1}`",
    "</style><style>body{display:none}</style>",
    "</title></textarea></noscript><iframe srcdoc='<script>parent.pwned=1</script>'>",
    "\u2028window.pwned=1\u2029//\u202e\u0000]]>",
    "__proto__",
    "a\U000e0001b\ud7ff" + "e" + "\u0301" * 40,
]


def test_nothing_that_the_data_says_becomes_a_script_or_markup(browser: Any, tmp_path: Path) -> None:
    samples = [Sample(f"{evil}.tar", f"{evil}-{i}", None, evil * 3) for i, evil in enumerate(XSS * 3)]
    opened = Opened(browser, write_page(a_run(tmp_path, samples, suspects=len(samples)), None).as_uri())
    opened.press("g")
    for evil in XSS:
        shown = plain(evil * 3, 600)
        assert "[" in shown or opened.page.locator(".detail h3 bdi").inner_text() == shown
        opened.press("ndo")
        opened.press("g")
    opened.press("/")
    opened.page.keyboard.type(XSS[0])
    opened.page.keyboard.press("Escape")
    opened.saved(tmp_path)
    opened.page.wait_for_timeout(200)
    assert (
        opened.script("document.querySelectorAll('#review script, #review iframe, #review svg').length") == 0
    )
    opened.check()


def test_a_saved_table_holds_no_formula_and_is_read_as_it_was(browser: Any, tmp_path: Path) -> None:
    keys = ["=1+2", "+a", "-b", "@c", "'=d", "''@", "'e", '="x",y', "plain", "a=b"]
    samples = [Sample("-s.tar", key, None, "a caption") for key in keys]
    opened = Opened(browser, write_page(a_run(tmp_path, samples, suspects=len(samples)), None).as_uri())
    opened.press("g" + "d" * len(keys))
    assert set(opened.words()) == set(keys)
    table = opened.saved(tmp_path, "csv")
    with table.open(newline="") as file:
        assert not any(cell[0] in "=+-@" for row in csv.reader(file) for cell in row)
    found = read_decisions(table).decisions
    assert sorted((one.shard, one.key) for one in found) == sorted(("-s.tar", key) for key in keys)


def test_hidden_characters_have_the_same_names_as_without_scripts(browser: Any, tmp_path: Path) -> None:
    captions = [
        "a\u202eb\u200b\u200b c",
        "e" + "\u0301" * 40,
        "नमस्ते",
        "❤\ufe0f",
        "\x00\x7f\t",
        "\U000e0001",
        "Z\u0301 مرحبا",
    ]
    samples = [Sample("s.tar", f"k{i}", None, caption) for i, caption in enumerate(captions)]
    opened = Opened(browser, write_page(a_run(tmp_path, samples, suspects=len(samples)), None).as_uri())
    opened.press("g")
    for caption in captions:
        found = opened.script(
            "[...document.querySelector('.detail h3 bdi').childNodes].map("
            "(n) => (n.className === 'hidden' ? `[${n.textContent}]` : n.textContent)).join('')"
        )
        assert found == plain(caption)
        opened.press("j")


def test_without_scripts_the_page_shows_summary_suspects_and_groups(browser: Any, page: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    bare = context.new_page()
    bare.goto(page)
    text = bare.inner_text("body")
    assert "303 listed" in text.replace("\n", " ") and "the first 16 of 220" in text
    assert (
        bare.locator("article.suspect").first.is_visible()
        and bare.locator("#groups article").first.is_visible()
    )
    assert not bare.locator("#review").is_visible()


def test_it_prints_what_it_shows_without_scripts(browser: Any, page: str) -> None:
    opened = Opened(browser, page)
    opened.page.emulate_media(media="print")
    assert opened.page.locator("article.suspect").first.is_visible()
    assert not opened.page.locator("#review").is_visible()


def test_pictures_are_blurred_until_they_are_asked_for(browser: Any, tmp_path: Path) -> None:
    samples = some_samples(60)
    opened = Opened(browser, write_page(a_run(tmp_path, samples), InMemory(samples), blur=True).as_uri())
    opened.press("g")
    blurred = "getComputedStyle(document.querySelector('.detail .frame img')).filter"
    opened.page.mouse.move(0, 0)
    assert "blur" in opened.script(blurred)
    opened.page.locator(".detail .frame").first.click()
    opened.page.mouse.move(0, 0)
    assert opened.script(blurred) == "none"


@pytest.mark.parametrize("width", [360, 800, 1500])
def test_no_width_makes_the_page_scroll_sideways(browser: Any, page: str, width: int) -> None:
    opened = Opened(browser, page, viewport={"width": width, "height": 800})
    for keys in ("", "g"):
        opened.press(keys)
        assert opened.script("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.skipif(
    not AXE.exists(), reason="needs axe: npm install --no-save axe-core, or CLIPSCAN_AXE=its file"
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_to_complain_of(browser: Any, page: str, scheme: str) -> None:
    context = browser.new_context(bypass_csp=True, color_scheme=scheme)
    opened = Opened(browser, page, context=context)
    opened.script(AXE.read_text(encoding="utf-8"))
    for keys in ("d", "gdsun", "?"):
        opened.press(keys)
        opened.page.wait_for_timeout(200)
        found = opened.script("axe.run(document, { resultTypes: ['violations'] })")["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
