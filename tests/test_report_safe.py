"""The page is safe: strangers' text harmless, nothing loaded from anywhere, pictures our own."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from pathlib import Path

import pytest
from report_helpers import InMemory, Page, a_run, page, png, some_samples  # noqa: F401

from clipscan.data.sample import Sample
from clipscan.report.page import bundle, write_page

Image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'clipscan[embed]'")


def test_no_caption_becomes_markup(page: Page) -> None:
    ours = [bundle.HERALD, bundle.script()]
    assert page.all("script") == [{}, {"type": "application/json", "id": "data"},
                                  {"type": "text/plain", "id": "pack"}, {}]  # fmt: skip
    assert [page.scripts[0], page.scripts[-1]] == ours
    assert "<script>alert(1)</script>" in page.text  # shown, as text
    without_ours = page.html.replace(f"<script>{ours[0]}", "").replace(f"<script>{ours[1]}", "")
    assert re.findall("<script[^>]*>", without_ours) == [
        '<script type="application/json" id="data">', '<script type="text/plain" id="pack">'
    ]  # fmt: skip
    assert not re.search("[<>&]", page.scripts[1])
    handlers = [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert not handlers


def test_hidden_characters_are_shown_by_name(page: Page) -> None:
    assert "\u202e" not in page.html
    assert "\u200b" not in page.html
    assert "U+202E" in page.text
    assert any("[U+200B]" in (attributes.get("title") or "") for attributes in page.all("bdi"))


def test_the_policy_allows_pictures_by_value_and_one_style_by_hash(page: Page) -> None:
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    style = re.search(r"<style>(.*?)</style>", page.html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy is not None
    assert policy.startswith(f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'")
    hashes = [base64.b64encode(hashlib.sha256(page.scripts[i].encode()).digest()).decode() for i in (0, -1)]
    assert f"script-src 'sha256-{hashes[0]}' 'sha256-{hashes[1]}';" in policy
    assert not [tag for tag, attributes in page.tags if "style" in attributes]


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "xlink:href"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:", "#")), target
    style = page.html[page.html.index("<style>") : page.html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_pictures_are_ours_not_the_strangers_bytes(page: Page) -> None:
    uris = [image["src"] or "" for image in page.all("img")]
    assert len(uris) == 10 * (1 + 8) + 24
    assert all(uri.startswith("data:image/png;base64,") for uri in uris)
    first = Image.open(io.BytesIO(base64.b64decode(uris[0].split(",", 1)[1])))
    assert first.size == (32, 32)
    assert first.getpixel((0, 0)) == (0, 120, 90)


def test_small_pictures_are_enlarged_by_whole_pixels(page: Page) -> None:
    portrait = page.all("img")[0]
    assert (portrait["width"], portrait["class"]) == ("160", "pixels")


def test_pictures_that_cannot_be_shown_have_a_reason(tmp_path: Path) -> None:
    samples = some_samples()
    broken = {0: b"not a picture", 1: png()[:40], 2: b""}
    held = [s if i not in broken else replaced(s, broken[i]) for i, s in enumerate(samples) if i != 3]
    page = Page(write_page(a_run(tmp_path, samples, suspects=4), InMemory(held)))
    assert "not a picture in one of the formats" in page.text
    assert "the sample holds no picture" in page.text
    assert "not found in the dataset any more" in page.text


def replaced(sample: Sample, image: bytes) -> Sample:
    return Sample(sample.shard, sample.key, image, sample.caption, at=sample.at)


def test_text_of_the_worst_kind_keeps_the_page_bounded(tmp_path: Path) -> None:
    caption, key = "\u200b\u200c" * 9000, "\u202d\u202e" * 5000
    samples = [Sample("s" * 5000, f"{key}{i}", None, caption) for i in range(120)]
    page = write_page(a_run(tmp_path, samples, suspects=110), None)
    assert page.stat().st_size < 8 << 20
