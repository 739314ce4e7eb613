"""Ten samples, how files of them are put somewhere, and how a dataset is read to its end."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from clipscan.data import Bad, Dataset, Sample, open_dataset

JPEG = b"\xff\xd8\xff\xe0 no reader decodes "

CAPTIONS = [
    "a photo of a cat",
    'quotes "inside", and a comma',
    "zwei Zeilen\nund <b>ein</b> Ümlaut",
    "日本の猫",
    "a\ttab",
    "0",
    "= 1 + 1",
    "emoji 🐈 and \u202e direction",
    "x" * 3000,
    "the last one",
]


def ten_samples() -> list[Sample]:
    """Ten samples; shard and `at` are left for each layout to fill."""
    return [
        Sample(
            shard="",
            key=f"sub/{i:09d}" if i % 2 else f"{i:09d}",
            image=JPEG + bytes([i]) * (i * 311 + 1),
            caption=caption,
            uid=f"{i:032x}",
            sha256=f"{i:064x}",
            url=f"https://example.org/{i}.jpg?a=1&b=ü",
        )
        for i, caption in enumerate(CAPTIONS)
    ]


def about(sample: Sample) -> dict[str, str]:
    return {"uid": sample.uid, "sha256": sample.sha256, "url": sample.url}


def add(tar: tarfile.TarFile, name: str, data: bytes, **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data))


def make_tar(path: Path, members: Iterable[tuple[str, bytes]], mode: str = "w", **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, **options) as tar:  # type: ignore[call-overload]
        for name, data in members:
            add(tar, name, data)
    return path


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def read_all(dataset: Dataset) -> list[Sample | Bad]:
    return [outcome for shard in dataset.shards for outcome in dataset.read(shard)]


def good(dataset: Dataset) -> list[Sample]:
    """All samples, shard and place removed, by key; none may be Bad."""
    outcomes = read_all(dataset)
    assert not [outcome for outcome in outcomes if isinstance(outcome, Bad)]
    samples = [replace(outcome, shard="", at=-1) for outcome in outcomes if isinstance(outcome, Sample)]
    return sorted(samples, key=lambda sample: sample.key.rsplit("/", 1)[-1])


def tree(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of every file."""
    paths = [Path(base) / name for base, _, names in os.walk(folder) for name in names]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


PAIR = [("ok.jpg", JPEG), ("ok.txt", b"fine")]


def only_bad(source: Path, **options: str) -> Bad:
    """Reads the source: the one good pair "ok" must survive, and one Bad is returned."""
    outcomes = read_all(open_dataset(source, **options))
    bad = [outcome for outcome in outcomes if isinstance(outcome, Bad)]
    assert [o.key for o in outcomes if isinstance(o, Sample)] == ["ok"]
    assert len(bad) == 1, bad
    return bad[0]
