"""Datasets of every layout with their runs, and ways to change files under a run."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from data_helpers import CAPTIONS, make_tar, ten_samples
from layouts import ALL, VECTORS, sample_members
from once import once
from PIL import Image

import clipscan
from clipscan import pipeline
from clipscan.data import Sample
from clipscan.run import Run

torch = pytest.importorskip("torch", reason="needs clipscan[embed]")

SMALL = {"k": 2, "reference": "6x2", "workers": 1}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random small CLIP."""
    return once("checkpoint of changed datasets", lambda: _checkpoint(tmp_path_factory.mktemp("model")))


def _checkpoint(folder: Path) -> Path:
    from safetensors.torch import save_file

    from clipscan.embed.model import MODEL_KEY, create_network

    torch.manual_seed(0)
    path = folder / "random.safetensors"
    save_file(create_network("clipscan-conv-32").state_dict(), path, metadata={MODEL_KEY: "clipscan-conv-32"})
    return path


def painted(seed: int, count: int = 10) -> list[Sample]:
    """The ten samples with pictures that can be decoded, all of one size in bytes."""
    rng = np.random.default_rng(seed)
    samples = (ten_samples() * -(-count // 10))[:count]
    return [replace(sample, image=_bitmap(rng), caption=CAPTIONS[i % 10]) for i, sample in enumerate(samples)]


def _bitmap(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(buffer, "BMP")
    return buffer.getvalue()


def scan(source: Path, out: Path, checkpoint: Path, **options: object) -> clipscan.pipeline.Scan:
    vectors = any(path.suffix in (".npy", ".npz") for path in [*source.rglob("*"), source])
    vectors = vectors or source.name == "vectors"
    model = {} if vectors else {"pretrained": checkpoint}
    return clipscan.scan(source, out=out, fraction=0.2, **SMALL, **model, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def scanned(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Callable[[str], tuple[Path, Path]]:
    """Layout -> the folder of the dataset and its run, two of ten samples on the drop list."""

    def of(layout: str) -> tuple[Path, Path]:
        return once(("changed", layout), lambda: _scanned(layout, tmp_path_factory.mktemp("set"), checkpoint))

    return of


def _scanned(layout: str, at: Path, checkpoint: Path) -> tuple[Path, Path]:
    folder = at / ("vectors" if layout in VECTORS else "set")
    ALL[layout][0](painted(0), folder)
    assert scan(folder, at / "run", checkpoint).counts["dropped"] == 2
    return folder, at / "run"


@contextmanager
def put_back(folder: Path) -> Iterator[None]:
    """Whatever is done to the folder inside is undone."""
    copy = folder.with_name(f"{folder.name}-copy")
    shutil.copytree(folder, copy)
    try:
        yield
    finally:
        shutil.rmtree(folder)
        copy.rename(folder)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def keep_time(path: Path, data: bytes) -> None:
    """New content under the old time."""
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def reverse_rows(folder: Path) -> None:
    for path in files(folder):
        if path.suffix == ".npy":
            np.save(path, np.load(path)[::-1])
        elif path.suffix == ".npz":
            arrays = dict(np.load(path))
            np.savez(path, **{name: array[::-1] for name, array in arrays.items()})
        elif path.suffix == ".parquet":
            rows = pq.read_table(path)
            pq.write_table(rows.take(np.arange(len(rows))[::-1]), path)


def refuses(run: Path, to: Path, words: str) -> None:
    with pytest.raises(clipscan.ClipscanError, match=words):
        pipeline.apply(Run(run), to)
    assert not to.exists()
    assert not list(to.parent.glob(".*.part")), "nothing half-done is left"


def tars(folder: Path, numbers: list[int]) -> Path:
    for number in numbers:
        members = [m for s in painted(number, 10) for m in sample_members(s)]
        make_tar(folder / f"{number:05d}.tar", members)
    return folder
