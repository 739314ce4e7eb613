"""The page: counts that add up, strangers' text harmless, and nothing loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipscan.data.dataset import Dataset, Record, Shard
from clipscan.data.sample import Sample
from clipscan.errors import RunError
from clipscan.report.page import bundle, write_page

Image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'clipscan[embed]'")

SCORES = ("dao", "kdist", "cosine", "agree", "cross")
EVIL = '<script>alert(1)</script> "quoted" & \u202egnp.exe\u202c \u200bhidden'


def png(colour: tuple[int, int, int] = (200, 90, 40), size: tuple[int, int] = (32, 32)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


class InMemory(Dataset):
    """Samples in a dict; remembers what was fetched."""

    format = "webdataset"

    def __init__(self, samples: list[Sample]) -> None:
        self.samples = {(sample.shard, sample.key): sample for sample in samples}
        names = sorted({sample.shard for sample in samples})
        super().__init__("/data/flowers", [Shard(name, name, -1, "") for name in names])

    def records(self, shard: Shard, rows: Mapping[int, str] | None = None) -> Iterator[Record]:
        raise NotImplementedError("the page fetches, it does not read")

    def fetch(self, shard: Shard, wanted: Mapping[str, int]) -> Iterator[Sample]:
        return (self.samples[shard.name, key] for key in wanted if (shard.name, key) in self.samples)


def some_samples(n: int = 60, caption: str = EVIL) -> list[Sample]:
    """Row i lies in one of two shards; row 0 has the given caption."""
    return [
        Sample(
            shard=f"{i % 2:05d}.tar",
            key=f"key{i:04d}",
            image=png((i * 4 % 256, 120, 90)),
            caption=caption if i == 0 else f"a flower, number {i}",
            at=512 * i,
        )
        for i in range(n)
    ]


def a_run(
    folder: Path, samples: list[Sample], *, suspects: int = 10, text: bool = True, graph: bool = True
) -> Path:
    """A finished run over `samples`, by the contract: sample i has rank i + 1; 3 more were unreadable."""
    n = len(samples)
    scores = SCORES if text else SCORES[:2]
    values = {name: np.linspace(3.0, 0.9, n) ** (1 + i) for i, name in enumerate(scores)}
    identity = {name: [getattr(sample, name) for sample in samples] for name in ("shard", "key")}
    more = {name: [getattr(sample, name) for sample in samples] for name in ("uid", "url", "caption", "at")}
    columns: dict[str, Any] = {**identity, **more}
    write(folder / "embeddings/metadata/metadata_00000.parquet", columns)
    write(folder / "scores/scores_00000.parquet", {**identity, **values})
    ranks = {f"{name}_rank": [(i * (j + 1)) % n + 1 for i in range(n)] for j, name in enumerate(scores)}
    head = {name: list(column)[:suspects] for name, column in {**columns, **values, **ranks}.items()}
    head |= {"rank": list(range(1, suspects + 1)), "score": list(values["dao"][:suspects])}
    head["why"] = ["Far from its neighbours; they have other captions."] * suspects
    head["neighbors"] = [[near(samples[(i + j) % n], j) for j in range(1, 10)] for i in range(suspects)]
    write(folder / "suspects.parquet", head)
    reasons = [f"picture of {30000 + i} px is over the limit" for i in range(3)]
    bad = {"shard": ["00000.tar"] * 3, "key": ["bad0", "bad1", "bad2"], "reason": reasons}
    write(folder / "bad.parquet", bad)
    counts = {"listed": n + 3, "embedded": n, "bad": 3, "suspects": suspects, "dropped": 4}
    run: dict[str, Any] = {
        "clipscan": "0.1.0",
        "dataset": {"source": "/data/flowers", "format": "webdataset", "shards": 2},
        "embed": {"model": "clipscan-conv-32", "weights_hash": "ab" * 32, "image_size": 32},
        "score": {"method": "dao", "k": 16, "reference": "1024x8", "seed": 0, "fraction": 0.1},
        "counts": counts,
    }
    if graph:
        write(folder / "groups.parquet", groups(samples, text))
        run["counts"]["groups"] = 1
    else:
        run["graph"] = {"skipped": "9,000,000 rows would take 40 hours"}
    dropped = {**{name: column[:4] for name, column in identity.items()}, "score": [3.0] * 4}
    write(folder / "drop.parquet", dropped)
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def near(sample: Sample, j: int) -> dict[str, Any]:
    about = {"shard": sample.shard, "key": sample.key, "caption": sample.caption, "at": sample.at}
    return {**about, "distance": 0.25 * j}


def groups(samples: list[Sample], text: bool) -> dict[str, Any]:
    members = [near(sample, 0) for sample in samples[-30:]]
    return {
        "group": [0],
        "size": [41],
        "distance_bound": [0.031],
        "caption_agreement": [0.93 if text else math.nan],
        "distinct_captions": [30],
        "top_caption": [samples[-1].caption],
        "members": [members],
    }


def write(path: Path, columns: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path)


class Page(HTMLParser):
    """A page taken apart: its tags with their attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.scripts: list[str] = []  # what stands in script elements: ours, and data
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        self.text = re.sub(r"\s+", " ", "".join(self.pieces))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        inside = bool(self.tags) and self.tags[-1][0] == "script" and self.cdata_elem == "script"
        (self.scripts if inside else self.pieces).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def page(tmp_path: Path) -> Page:
    samples = some_samples()
    return Page(write_page(a_run(tmp_path, samples), InMemory(samples)))


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


def test_text_of_the_worst_kind_keeps_the_page_bounded(tmp_path: Path) -> None:
    caption, key = "\u200b\u200c" * 9000, "\u202d\u202e" * 5000
    samples = [Sample("s" * 5000, f"{key}{i}", None, caption) for i in range(120)]
    page = write_page(a_run(tmp_path, samples, suspects=110), None)
    assert page.stat().st_size < 8 << 20


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="clipscan scan"):
        write_page(tmp_path, None)
    (tmp_path / "run.json").write_text('{"clipscan": "0"}')
    with pytest.raises(RunError, match="score stage"):
        write_page(tmp_path, None)
