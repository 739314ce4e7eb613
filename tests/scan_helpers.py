"""Tars of small pictures, and scans of them."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image
from run_helpers import checkpoint  # noqa: F401

import clipscan
import clipscan.pipeline

pytest.importorskip("torch", reason="needs clipscan[embed]")


def picture(rng, kind="PNG", side=24):
    buffer = io.BytesIO()
    colour, noise = rng.integers(0, 200, 3), rng.integers(0, 55, (side, side, 3))
    Image.fromarray((colour + noise).astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def pairs(rng, first, count):
    for i in range(first, first + count):
        yield f"{i:05d}.png", picture(rng)
        yield f"{i:05d}.txt", f"picture number {i}".encode()


def tars(folder, shards=4, per_shard=60):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for shard in range(shards):
        write_tar(folder / f"{shard:05d}.tar", pairs(rng, shard * per_shard, per_shard))
    return folder


def scan(source, out, checkpoint, **options):
    return clipscan.scan(source, out=out, pretrained=checkpoint, k=4, reference="50x3", workers=1, **options)
