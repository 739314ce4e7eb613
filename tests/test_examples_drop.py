"""examples/drop_*.py: each consumer of a drop list, run with the real package where it is installed."""

from __future__ import annotations

import importlib.util
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipscan.errors import InputError
from clipscan.report.write_lists import DropList, write_lists

EXAMPLES = Path(__file__).parent.parent / "examples"
SHARDS = ["a/0.tar", "b/0.tar"]
KEYS = {shard: [f"{shard[0]}{number}" for number in range(6)] for shard in SHARDS}
PAIRS = [(shard, key) for shard in SHARDS for key in KEYS[shard]]
GONE = [("a/0.tar", "a2"), ("a/0.tar", "a5"), ("b/0.tar", "b0")]
KEPT = [pair for pair in PAIRS if pair not in GONE]
LEFT = [key for _, key in KEPT]


def load(name: str) -> Any:
    path = EXAMPLES / f"drop_{name}.py"
    assert len(path.read_text().splitlines()) <= 40
    spec = importlib.util.spec_from_file_location(f"drop_{name}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tmp_path: Path) -> str:
    """A run folder with metadata of twelve samples and a drop list of three."""
    metadata = tmp_path / "run/embeddings/metadata"
    metadata.mkdir(parents=True)
    table = {"shard": [s for s, _ in PAIRS], "key": [k for _, k in PAIRS], "uid": [""] * len(PAIRS)}
    pq.write_table(pa.table(table), metadata / "metadata_00000.parquet")
    write_lists(tmp_path / "run", [(*pair, "", "test", 1.0) for pair in GONE])
    return str(tmp_path / "run")


@pytest.fixture
def tars(tmp_path: Path) -> list[str]:
    for shard in SHARDS:
        (tmp_path / "set" / shard).parent.mkdir(parents=True)
        with tarfile.open(tmp_path / "set" / shard, "w") as tar:
            for key in KEYS[shard]:
                member = tarfile.TarInfo(f"{key}.txt")
                member.size = len(key)
                tar.addfile(member, io.BytesIO(key.encode()))
    return [str(tmp_path / "set" / shard) for shard in SHARDS]


def test_webdataset(run: str, tars: list[str]) -> None:
    pytest.importorskip("webdataset", reason="needs webdataset")
    assert [sample["__key__"] for sample in load("webdataset").cleaned(run, tars)] == LEFT


def test_hugging_face_datasets(run: str, tars: list[str], tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs datasets")
    how = {"data_files": tars, "split": "train", "cache_dir": str(tmp_path / "cache")}
    whole = datasets.load_dataset("webdataset", **how)
    assert load("datasets").cleaned(run, whole)["__key__"][:] == LEFT
    stream = datasets.load_dataset("webdataset", streaming=True, **how)
    assert [row["__key__"] for row in load("datasets").cleaned_stream(run, stream)] == LEFT
    filtered = whole.filter(DropList.load(run), input_columns=["__url__", "__key__"])
    assert filtered["__key__"][:] == LEFT


def test_torch(run: str) -> None:
    pytest.importorskip("torch", reason="needs clipscan[embed]")
    example, dataset = load("torch"), [key for _, key in PAIRS]
    assert list(example.subset(run, dataset, PAIRS)) == LEFT
    sampler = example.KeptSampler(run, dataset, seed=1)
    orders = [[dataset[row] for row in sampler] for _ in range(3)]
    assert all(sorted(order) == sorted(LEFT) for order in orders) and len(sampler) == len(LEFT)
    assert orders[0] != orders[1]


def test_datatrove(run: str) -> None:
    document = pytest.importorskip("datatrove.data", reason="needs datatrove").Document
    step = load("datatrove").DropListed(run, shard="shard")
    documents = [document(text="x", id=key, metadata={"shard": shard}) for shard, key in PAIRS]
    assert [one.id for one in step.run(iter(documents))] == LEFT
    assert [one.id for one in load("datatrove").DropListed(run).run(iter(documents))] == LEFT


def test_lance(run: str, tmp_path: Path) -> None:
    lance = pytest.importorskip("lance", reason="needs pylance")
    path = str(tmp_path / "set.lance")
    lance.write_dataset(pa.table({"key": [k for _, k in PAIRS], "n": range(len(PAIRS))}), path)
    assert load("lance").clean(run, path) == 3
    assert lance.dataset(path).to_table()["key"].to_pylist() == LEFT
    assert lance.dataset(path, version=1).count_rows() == 12


def test_mosaicml_streaming(run: str, tmp_path: Path) -> None:
    streaming = pytest.importorskip("streaming", reason="needs mosaicml-streaming", exc_type=ImportError)
    source, to = str(tmp_path / "mds"), str(tmp_path / "clean")
    with streaming.MDSWriter(out=source, columns={"key": "str", "n": "int"}, size_limit=100) as out:
        for number, (_, key) in enumerate(PAIRS):
            out.write({"key": key, "n": number})
    assert load("mosaicml").rewrite(run, source, to) == (9, 12)
    assert [one["key"] for one in streaming.StreamingDataset(local=to, batch_size=1)] == LEFT


def tables() -> dict[str, Any]:
    urls = [f"file:///set/{shard}" for shard, _ in PAIRS]
    shards, keys = [s for s, _ in PAIRS], [k for _, k in PAIRS]
    found: dict[str, Any] = {
        "urls": {"__url__": urls, "__key__": keys},
        "shards": pa.table({"shard": shards, "key": keys}),
        "keys": {"key": np.array(keys)},
        "bare keys": {"__key__": keys},
    }
    for library in ("pandas", "polars"):
        if importlib.util.find_spec(library):
            found[library] = importlib.import_module(library).DataFrame({"shard": shards, "key": keys})
    return found


@pytest.mark.parametrize("kind", tables())
def test_rows_of_any_table_are_chosen_by_its_columns(run: str, kind: str) -> None:
    rows = DropList.load(run).indices(tables()[kind])
    assert rows.dtype == np.int64 and [PAIRS[row] for row in rows] == KEPT


def test_columns_that_do_not_say_which_sample_a_row_is_are_refused(run: str) -> None:
    keep = DropList.load(run)
    for table, how, words in (
        ({"caption": ["x"]}, {}, "no column '__key__' or 'key'.*has caption"),
        ({"key": ["x"]}, {"key": "id"}, "no column 'id'; it has key"),
        ({"key": [3]}, {}, "holds int, not text"),
        ({"key": ["x"], "shard": []}, {}, "'shard' has 0 rows, 'key' has 1"),
        ({"key": ["x"]}, {"url": "u", "shard": "s"}, "both name the shard"),
    ):
        with pytest.raises(InputError, match=words):
            keep.indices(table, **how)
    named = {"id": [k for _, k in PAIRS], "file": [s for s, _ in PAIRS]}
    assert len(keep.indices(named, key="id", shard="file")) == 9
    with pytest.raises(InputError, match="may have that key"):
        DropList.from_rows([("a", "x")]).indices({"key": ["x"]})
