"""A run folder of hostile captions, its samples, and its page as a parser sees it."""

from __future__ import annotations

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
from clipscan.report.page import write_page

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
