"""A scanned run, and ways to damage its files."""

import shutil

import numpy as np
import pytest
from once import once
from run_helpers import scan_vectors

from clipscan.report.keep_outputs import put_page
from clipscan.run import Run

SHARD = "00001"
EMBEDDED = [
    f"embeddings/img_emb/img_emb_{SHARD}.npy", f"embeddings/text_emb/text_emb_{SHARD}.npy",
    f"embeddings/metadata/metadata_{SHARD}.parquet", f"embeddings/bad/bad_{SHARD}.parquet",
    f"embeddings/listing/listing_{SHARD}.parquet", "bad.parquet", "listing.parquet",
]  # fmt: skip
LATER = [
    f"neighbors/distance_{SHARD}.npy", f"neighbors/index_{SHARD}.npy", f"scores/scores_{SHARD}.parquet",
    "suspects.parquet", "groups.parquet", "drop.parquet", "keep.txt", "drop.txt", "report/index.html",
]  # fmt: skip


def lose(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    """As a failing disk does: same size, a few other bytes in the middle."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4] = bytes(255 - byte for byte in data[middle : middle + 4])
    path.write_bytes(data)


@pytest.fixture(scope="session")
def embeddings(tmp_path_factory):
    """Three shards of pictures and captions; a bad row in each, so that the others are copied."""
    return once("vectors to damage", lambda: _embeddings(tmp_path_factory.mktemp("data")))


def _embeddings(data):
    rng = np.random.default_rng(0)
    for side in ("img", "text"):
        (data / f"{side}_emb").mkdir()
        for shard in range(3):
            rows = rng.standard_normal((40, 8)).astype(np.float32)
            rows[3:9] = rows[3]  # copies: a group
            rows[11, 0] = np.nan
            np.save(data / f"{side}_emb/{side}_emb_{shard}.npy", rows)
    return data


@pytest.fixture(scope="session")
def scanned(embeddings, tmp_path_factory):
    return once("run to damage", lambda: _scanned(embeddings, tmp_path_factory.mktemp("scanned") / "run"))


def _scanned(embeddings, run):
    scan_vectors(embeddings, run, fraction=0.05)
    return run


@pytest.fixture
def run(scanned, tmp_path):
    """A copy, which this process has neither made nor looked through."""
    shutil.copytree(scanned, tmp_path / "run")
    put_page(Run(tmp_path / "run"))  # it names the folder
    return tmp_path / "run"
