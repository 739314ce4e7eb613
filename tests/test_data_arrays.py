"""Arrays of a .safetensors, and bfloat16, which NumPy's own files do not name."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from data_helpers import put, read_all
from layouts import image_vectors, safetensors, text_vectors, write_safetensors

import clipscan
from clipscan.data import Bad, open_dataset, write_without
from clipscan.errors import DataError

ROWS = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
BITS = (ROWS.view(np.uint32) >> 16).astype(np.uint16)  # bfloat16, rounded towards 0
ROUNDED = (BITS.astype(np.uint32) << 16).view(np.float32)


def write(kind: str, to: Path, rows: np.ndarray) -> Path:
    rows = rows.view("V2")
    if kind == "npy":
        np.save(to / "a.npy", rows)
    elif kind == "npz":
        np.savez(to / "a.npz", l14_img=rows)
    else:
        put(to / "a.safetensors", safetensors(image_embeds=rows))
    return to / f"a.{kind}"


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_bfloat16_is_read_scored_and_written(
    kind: str, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if named and not importlib.util.find_spec("ml_dtypes"):
        pytest.skip("needs ml_dtypes")
    if not named:
        monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    bits = BITS.copy()
    bits[3, 0] = 0x7F80  # infinity
    dataset = open_dataset(write(kind, tmp_path, bits))
    image = dataset.vectors(dataset.shards[0]).image
    assert image.dtype.name == ("bfloat16" if named else "float32")
    assert (named and kind != "npz") or not isinstance(image, np.memmap)
    np.testing.assert_array_equal(np.delete(image.astype(np.float32), 3, 0), np.delete(ROUNDED, 3, 0))
    done = clipscan.scan(tmp_path / f"a.{kind}", out=tmp_path / "run", k=3, reference="20x2", method="slof")
    assert [bad["key"] for bad in done.table("bad").to_pylist()] == ["000000003"]

    drop = {(dataset.shards[0].name, "000000007")}
    write_without(dataset, drop, tmp_path / "clean", drop_bad=False)
    after = open_dataset(tmp_path / "clean")
    kept = after.vectors(after.shards[0]).image.astype(np.float32)
    np.testing.assert_array_equal(kept, np.delete(image.astype(np.float32), 7, 0))


def test_a_safetensors_is_mapped_and_written_without_the_dropped_rows(tmp_path: Path) -> None:
    dataset = open_dataset(write_safetensors_set(tmp_path / "set"))
    shard = dataset.shards[0]
    vectors = dataset.vectors(shard)
    assert isinstance(vectors.image, np.memmap) and (vectors.text == text_vectors()).all()
    write_without(dataset, {(shard.name, sample.key) for sample in vectors.samples[2:5]}, tmp_path / "clean")
    after = open_dataset(tmp_path / "clean")
    left = after.vectors(after.shards[0])
    assert (left.image == np.delete(image_vectors(), [2, 3, 4], 0)).all()
    assert [one.key for one in left.samples] == [one.key for one in vectors.samples[:2] + vectors.samples[5:]]
    package = pytest.importorskip("safetensors.numpy", reason="needs clipscan[embed]")
    assert (package.load_file(tmp_path / "clean/all.safetensors")["number"] == [0, 1, 5, 6, 7, 8, 9]).all()


def write_safetensors_set(to: Path) -> Path:
    from data_helpers import ten_samples

    return write_safetensors(ten_samples(), to)


def test_the_arrays_of_a_safetensors_can_be_named(tmp_path: Path) -> None:
    put(tmp_path / "a.safetensors", safetensors(mine=ROWS, other=2 * ROWS))
    with pytest.raises(DataError, match=r"\['mine', 'other'\]; none ends in _img .* --image-key"):
        open_dataset(tmp_path)
    dataset = open_dataset(tmp_path, image_key="mine", text_key="other")
    vectors = dataset.vectors(dataset.shards[0])
    assert (vectors.image == ROWS).all() and (vectors.text == 2 * ROWS).all()


def test_a_models_safetensors_beside_tables_is_no_dataset(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    put(tmp_path / "model.safetensors", safetensors(image=ROWS))
    pq.write_table(pa.table({"embedding": ROWS.tolist()}), tmp_path / "train.parquet")
    assert [shard.name for shard in open_dataset(tmp_path).shards] == ["train.parquet"]


def entry(**changed: object) -> bytes:
    one = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16], **changed}
    told = json.dumps({"image": one}).encode()
    return len(told).to_bytes(8, "little") + told + bytes(16)


SPOILT = {
    "empty": b"",
    "header of 2^63 bytes": b"\xff" * 7 + b"\x7f" + bytes(40),
    "header longer than the file": (4000).to_bytes(8, "little") + b"{}",
    "no JSON": (4).to_bytes(8, "little") + b"{{{{" + bytes(9),
    "deep JSON": (50_000).to_bytes(8, "little") + b"[" * 50_000,
    "a list": (2).to_bytes(8, "little") + b"[]",
    "entries of text": (13).to_bytes(8, "little") + b'{"image": ""}',
    "more than there is": entry(shape=[1 << 40, 2], data_offsets=[0, 8 << 40]),
    "shape and place differ": entry(shape=[3, 2]),
    "negative": entry(shape=[-2, -2]),
    "before the begin": entry(data_offsets=[-16, 0]),
    "of text": entry(shape=["2", "2"]),
    "integers": entry(dtype="I32"),
    "one row": entry(shape=[4]),
    "no width": entry(shape=[4, 0], data_offsets=[0, 0]),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_spoilt_safetensors_costs_itself_alone(fault: str, tmp_path: Path) -> None:
    put(tmp_path / "a.safetensors", safetensors(image=ROWS))
    put(tmp_path / "b.safetensors", SPOILT[fault])
    outcomes = read_all(open_dataset(tmp_path))
    assert [one.shard for one in outcomes if isinstance(one, Bad)] == ["b.safetensors"]
    assert len(outcomes) == 41
