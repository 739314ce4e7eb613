"""The review's part of the page: what is in it, how it is escaped, and the scripts that work on it."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_helpers import EVIL, InMemory, Page, a_run, some_samples
from run_helpers import scan_vectors

from clipscan.data.sample import Sample
from clipscan.report.album import make_album
from clipscan.report.page import bundle, picture_sizes, write_page
from clipscan.report.page.evidence import evidence
from clipscan.report.page.pack import IN_PAGE
from clipscan.report.page.review_data import domain
from clipscan.report.visible_text import is_hidden

Image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'clipscan[embed]'")
FOUND = re.compile(r"^(?:export )?(?:async )?(?:const|let|function\*?|class) +(\w+)", re.M)
HERE = Path(bundle.__file__).parent


def data_of(page: Page) -> dict[str, Any]:
    return json.loads(page.scripts[1])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return a_run(tmp_path, some_samples(), suspects=40)


def test_the_modules_have_distinct_names_and_all_are_used() -> None:
    names = [
        name for module in bundle.modules() for name in FOUND.findall((HERE / "js" / module).read_text())
    ]
    assert sorted({name for name in names if names.count(name) > 1}) == []
    assert sorted(bundle.modules()) == sorted(path.name for path in (HERE / "js").glob("*.js"))


def test_the_scripts_make_no_markup_of_text_and_load_nothing() -> None:
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|setTimeout\(['\"]|https?://(?!www\.w3\.org/2000/svg)"
    assert re.findall(forbidden, bundle.script()) == []
    assert not re.search(r"^(import|export) ", bundle.script(), re.M)


def test_suspects_groups_and_the_drop_list_are_there(run: Path) -> None:
    data = data_of(Page(write_page(run, None)))
    assert data["suspects"]["rank"] == list(range(1, 41))
    keys = [data["samples"]["key"][number] for number in data["suspects"]["sample"]]
    assert keys == [f"key{i:04d}" for i in range(40)]
    assert [data["samples"]["key"][number] for number in data["listed"]] == [f"key{i:04d}" for i in range(4)]
    [group] = data["groups"]
    members = [data["samples"]["key"][number] for number in group["members"]]
    assert members == [f"key{i:04d}" for i in range(30, 60)] and group["size"] == 41
    assert len(data["near"]) == 40 and data["near"][3][0][1] == 0.25


def test_scores_of_members_come_from_all_scores_and_the_best_copy_fits_best(run: Path) -> None:
    data = data_of(Page(write_page(run, None)))
    scores = pq.read_table(run / "scores/scores_00000.parquet").to_pydict()
    of = dict(zip(scores["key"], scores["dao"], strict=True))
    assert [data["samples"]["score"][i] for i in range(60)] == [of[key] for key in data["samples"]["key"]]
    cosine = dict(zip(scores["key"], scores["cosine"], strict=True))
    [group] = data["groups"]
    best = min((data["samples"]["key"][number] for number in group["members"]), key=cosine.__getitem__)
    assert data["samples"]["key"][group["best"]] == best


def test_every_picture_is_in_the_file_once_and_is_the_right_one(tmp_path: Path) -> None:
    samples = some_samples()
    page = Page(write_page(a_run(tmp_path, samples, suspects=40), InMemory(samples)))
    data, pack = data_of(page), page.scripts[2]
    shown = {attributes["data-sample"] for attributes in page.all("img") if "data-sample" in attributes}
    packed = 0
    for number, (start, size) in data["pictures"]["place"].items():
        if start == IN_PAGE:
            assert number in shown
            continue
        packed += size
        picture = Image.open(io.BytesIO(base64.b64decode(pack[start : start + size])))
        i = int(data["samples"]["key"][int(number)].removeprefix("key"))
        assert picture.format == "WEBP" and picture.convert("RGB").getpixel((0, 0)) == (i * 4 % 256, 120, 90)
    assert packed == len(pack) > 0
    assert len(data["pictures"]["place"]) == 60


def test_pictures_that_cannot_be_had_have_a_reason(tmp_path: Path) -> None:
    samples = some_samples()
    page = Page(write_page(a_run(tmp_path, samples, suspects=30), InMemory(samples[:28])))
    pictures = data_of(page)["pictures"]
    reasons = {pictures["reasons"][why] for start, why in pictures["place"].values() if start < IN_PAGE}
    assert reasons == {"not found in the dataset any more"}


def test_a_name_without_end_is_shown_and_cannot_be_decided_on(tmp_path: Path) -> None:
    samples = [Sample(f"{i}.tar", "k" * (1000 + i // 5), None, f"{i}" * 9000) for i in range(6)]
    data = data_of(Page(write_page(a_run(tmp_path, samples, suspects=6), None)))
    assert data["locked"] == [5]
    assert max(map(len, data["samples"]["key"])) <= 1000 and max(map(len, data["captions"])) <= 2000


@given(st.recursive(st.text() | st.none() | st.integers() | st.just(EVIL), st.lists))
def test_any_text_survives_as_json_that_ends_nothing_and_hides_nothing(value: Any) -> None:
    block = bundle.json_block(value)
    assert json.loads(block) == value
    assert not re.search("[<>&]", block) and not any(is_hidden(char) for char in block)


def test_evidence_is_the_mean_surprise_of_the_suspects_in_the_group() -> None:
    suspects = {("s", f"{i}"): {"dao_rank": 10, "cosine_rank": 1000, "misfit_rank": 1} for i in range(4)}
    found = {one.label: one.value for one in evidence([("s", "0"), ("s", "9")], suspects, 1000)}
    assert (found["density"], found["mismatch"]) == (f"{math.log(100):.1f}", "0.0")
    assert found["second witness"] == f"{math.log(1000):.1f}"
    assert found["enrichment"] == "125 ×"  # half of the group, 0.4 % of all


def test_domains_are_read_from_addresses_of_any_kind() -> None:
    assert [domain(url) for url in ("https://www.a.example/x.jpg", "not a url", "http://[bad", "")] == [
        "a.example", "", "", ""
    ]  # fmt: skip


def test_the_border_has_the_scores_and_what_held_out_pairs_say(run: Path) -> None:
    n = 60
    p = pa.array(np.linspace(1.0, 0.01, n))
    pq.write_table(
        pa.table({"shard": ["s"] * n, "key": ["k"] * n, "p": p, "decision": ["keep"] * n}),
        run / "calibration.parquet",
    )
    border = data_of(Page(write_page(run, None)))["border"]
    assert border["scores"] == sorted(border["scores"], reverse=True) and len(border["scores"]) == 40
    assert sum(border["counts"]) == n
    assert border["clean"] == sorted(p.to_pylist())[:40]


def test_two_thousand_suspects_and_two_hundred_groups_are_bounded(tmp_path: Path) -> None:
    samples = some_samples(2500)
    run = a_run(tmp_path, samples, suspects=2400)
    one = pq.read_table(run / "groups.parquet").to_pylist()[0]
    pq.write_table(pa.Table.from_pylist([{**one, "group": i} for i in range(250)]), run / "groups.parquet")
    data = data_of(Page(write_page(run, None)))
    assert len(data["suspects"]["rank"]) == 2000 and data["counts"]["suspects"] == 2400
    assert len(data["groups"]) == 200 and data["group_count"] == 250


def test_blurred_pictures_are_asked_for_by_the_style_alone(run: Path) -> None:
    assert '<body class="blur">' in write_page(run, None, blur=True).read_text()
    assert '<body class="blur">' not in write_page(run, None).read_text()


def test_pictures_are_as_large_as_lets_all_of_them_in(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, samples, pictures = np.random.default_rng(0), [], {}
    for i in range(12):
        out = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (200, 200, 3), np.uint8)).save(out, "PNG")
        samples.append(Sample("s.tar", f"k{i}", out.getvalue(), "", at=i))
        pictures[i] = picture_sizes.Picture("s.tar", f"k{i}", i, i < 6)
    monkeypatch.setattr(picture_sizes, "FEW", 0)

    def taken(room: int) -> tuple[int, int]:
        wants = picture_sizes.sized(InMemory(samples), pictures, room)
        album = make_album(InMemory(samples), wants.values())
        return wants[0].side, sum(len(thumbnail.uri) for thumbnail in album.values())

    side, largest = taken(1 << 40)
    assert side == picture_sizes.SIZES[0].large
    smaller, size = taken(largest // 2)
    assert smaller < side and size <= largest // 2
    assert taken(0)[0] == picture_sizes.SIZES[-1].large  # too many for any size: the last are left out


def test_a_page_of_many_pictures_has_fewer_in_the_sections_without_scripts(tmp_path: Path) -> None:
    samples = some_samples(1500)
    page = Page(write_page(a_run(tmp_path, samples, suspects=1400), InMemory(samples)))
    assert len(page.all("img")) == 8 * (1 + 4) + 8 and "the first 8 of 1,400" in page.text


def test_a_run_of_other_data_in_the_same_place_has_another_name(tmp_path: Path) -> None:
    """By its name the browser finds the decisions of an earlier visit."""
    names = []
    for seed in (0, 1):
        np.save(tmp_path / "vectors.npy", np.random.default_rng(seed).normal(size=(120, 8)).astype("f4"))
        run = scan_vectors(tmp_path / "vectors.npy", tmp_path / f"run{seed}").out
        page = run / "report/index.html"
        names.append(data_of(Page(page))["run"]["id"])
        assert data_of(Page(write_page(run, None)))["run"]["id"] == names[-1]
    assert names[0] != names[1]
