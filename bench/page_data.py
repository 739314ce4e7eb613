"""Datasets and run folders of any size for bench/page.py: random rows, pictures as of photographs."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SHARD = "00000.tar"
WORDS = ("a photo of", "the small", "red", "old", "dog", "cat", "boat", "tree", "house", "near", "water")
SCORES = ("consensus", "misfit", "cosine", "kdist", "lid", "lof", "slof", "dao", "agree", "cross")


def picture(side: int, rng: np.random.Generator) -> bytes:
    """A JPEG of noise with the amplitudes of photographs, 1/f, in three correlated channels."""
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    f[0, 0] = 1.0
    shared, own = (np.fft.irfft2(np.fft.rfft2(rng.normal(size=(n, side, side))) / f) for n in (1, 3))
    pixels = shared + 0.3 * own
    pixels = 128 + 55 * (pixels - pixels.mean()) / pixels.std()
    out = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8).transpose(1, 2, 0)).save(out, "JPEG", quality=92)
    return out.getvalue()


def dataset(folder: Path, count: int, side: int) -> list[int]:
    """A tar of `count` pairs; where each begins."""
    rng, places = np.random.default_rng(0), []
    folder.mkdir()
    with tarfile.open(folder / SHARD, "w") as tar:
        for i in range(count):
            places.append(tar.offset)
            for name, data in ((f"{i:08d}.jpg", picture(side, rng)), (f"{i:08d}.txt", b"a caption")):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return places


def run_folder(folder: Path, n: int, suspects: int, groups: int, places: list[int]) -> None:
    """A run of n rows, row i at rank i + 1; groups of 20 follow on the suspects."""
    rng = np.random.default_rng(1)
    captions = [" ".join(rng.choice(WORDS, 8)) for _ in range(5000)]
    caption = [captions[i % 5000] for i in range(n)]
    at = np.full(n, -1, np.int64)
    at[: len(places)] = places
    key = [f"{i:08d}" for i in range(n)]
    names = {"shard": [SHARD] * n, "key": key, "caption": caption, "at": at}
    names |= {"url": [f"https://site{i % 997}.example/{i}.jpg" for i in range(n)], "uid": [""] * n}
    score = np.sort(rng.gamma(2.0, 1.0, n))[::-1]
    write(folder / "embeddings/metadata/metadata_00000.parquet", names)
    scores = {"shard": names["shard"], "key": key, "consensus": score, "cosine": rng.random(n)}
    write(folder / "scores/scores_00000.parquet", scores)
    head = {name: list(column[:suspects]) for name, column in names.items()}
    head |= {"rank": list(range(1, suspects + 1)), "score": score[:suspects], "group": [-1] * suspects}
    head |= {name: rng.random(suspects) for name in SCORES}
    head |= {f"{name}_rank": rng.integers(1, n, suspects) for name in SCORES}
    head |= {
        "alike": [-1] * suspects,
        "why": ["Sparse: its 16 nearest references reach 1.8 times as far."] * suspects,
    }

    def row(i: int) -> dict[str, Any]:
        return {"shard": SHARD, "key": key[i], "caption": caption[i], "at": int(at[i]), "distance": 0.5}

    head["neighbors"] = [[row((i + j) % n) for j in range(1, 9)] if i < 100 else [] for i in range(suspects)]
    write(folder / "suspects.parquet", head)
    listed = [
        {
            "group": g, "kind": "suspects" if g < groups // 2 else "copies", "population": -1, "size": 20,
            "verdict": "odd, but nothing that sets them apart together", "distance_bound": 0.1,
            "caption_agreement": 0.9, "distinct_captions": 20,
            "members": [row((suspects + 20 * g + j) % min(n, len(places))) for j in range(20)],
        }
        for g in range(groups)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(listed), folder / "groups.parquet")
    record = {
        "clipscan": "bench", "dataset": {"source": "bench", "format": "webdataset", "shards": [SHARD]},
        "score": {"method": "consensus", "k": 16, "reference": "1024x8"},
        "counts": {"listed": n, "embedded": n, "bad": 0},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))


def write(path: Path, columns: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
