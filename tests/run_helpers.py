"""Small scans that several test files take apart."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

import clipscan


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A random small CLIP: enough to run everything, found nothing worth finding."""
    torch = pytest.importorskip("torch", reason="needs clipscan[embed]")
    from safetensors.torch import save_file

    from clipscan.embed.model import MODEL_KEY, create_network

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    save_file(create_network("clipscan-conv-32").state_dict(), path, metadata={MODEL_KEY: "clipscan-conv-32"})
    return path


def tars(folder, shards, per_shard):
    """Tars of small pictures with captions; the last pair of each is bad."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for i in range(shard * per_shard, (shard + 1) * per_shard):
                buffer = io.BytesIO()
                Image.fromarray(rng.integers(0, 255, (16, 16, 3)).astype(np.uint8)).save(buffer, "PNG")
                add(tar, f"{i:05d}.png", buffer.getvalue() if i % per_shard < per_shard - 1 else b"none")
                add(tar, f"{i:05d}.txt", f"picture number {i}".encode())
    return folder


def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def scan_vectors(source, out, **options):
    return clipscan.scan(source, out=out, **{"k": 4, "reference": "30x2", "threads": 1} | options)


def scan_pictures(source, out, checkpoint, **options):
    return scan_vectors(source, out, pretrained=checkpoint, workers=1, **options)


def contents(folder):
    """Name -> bytes of every file of a run; how long a task took is no result."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != ".lock":
            data = path.read_bytes()
            if path.parent.name == "_tasks":
                data = {name: value for name, value in json.loads(data).items() if name != "seconds"}
            found[path.relative_to(folder).as_posix()] = data
    return found
