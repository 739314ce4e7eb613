"""No header of a .safetensors makes more of a file than it holds, and nothing is lost when it is cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_helpers import put, read_all
from embedding_helpers import ROWS, rows
from layouts import safetensors

from clipscan.data import Bad, open_dataset, write_without
from clipscan.data.array_files import load_array
from clipscan.data.safetensors import safetensors_header
from clipscan.errors import DataError


def file_of(header: Any, data: bytes = b"") -> bytes:
    told = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(told).to_bytes(8, "little") + told + data


def entry(shape: Any, begin: Any = 0, end: Any = 0, kind: Any = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


TWICE = b'{"image":%s,"image":%s}' % ((json.dumps(entry([4, 2], 0, 32)).encode(),) * 2)
FILES = {
    "alias": file_of({"image": entry([4, 2], 0, 32), "x": entry([4, 2], 0, 32)}, bytes(32)),
    "overlap": file_of({"image": entry([4, 2], 0, 32), "x": entry([4, 2], 16, 48)}, bytes(48)),
    "hole": file_of({"image": entry([4, 2], 8, 40)}, bytes(40)),
    "trailing bytes": file_of({"image": entry([4, 2], 0, 32)}, bytes(40)),
    "cut off": file_of({"image": entry([4, 2], 0, 32)}, bytes(24)),
    "backwards": file_of({"image": entry([4, 2], 32, 0, "Q7")}, bytes(32)),
    "no rows of endless width": file_of({"image": entry([0, 2**70])}),
    "no rows of too large a width": file_of({"image": entry([0, 2**62])}),
    "a hundred dimensions": file_of({"image": entry([0] * 100)}),
    "a product of a million digits": file_of({"image": entry([10**18] * 60_000)}),
    "truth for a number": file_of({"image": entry([True, 4], 0, 16)}, bytes(16)),
    "a name twice": file_of(TWICE, bytes(32)),
    "a list for a type": file_of({"image": entry([4, 2], 0, 32, ["F32"])}, bytes(32)),
    "metadata of text": file_of({"__metadata__": "x", "image": entry([4, 2], 0, 32)}, bytes(32)),
    "no object": file_of([1, 2]),
    "deep": file_of(b"[" * 100_000),
    "nothing": b"",
}


@pytest.mark.parametrize("name", FILES)
def test_such_a_file_is_bad_and_the_scan_goes_on(name: str, tmp_path: Path) -> None:
    put(tmp_path / "a.safetensors", safetensors(image=rows()))
    put(tmp_path / "b.safetensors", FILES[name])
    with pytest.raises(DataError, match=r"b\.safetensors"):
        load_array(str(tmp_path / "b.safetensors"), "image")
    outcomes = read_all(open_dataset(tmp_path))
    assert [one.shard for one in outcomes if isinstance(one, Bad)] == ["b.safetensors"]
    assert len(outcomes) == ROWS + 1


def cut(tmp_path: Path, header: dict[str, Any], data: bytes) -> str:
    """The path of a file of which samples 1 and 3 of 4 were dropped."""
    put(tmp_path / "set" / "a.safetensors", file_of(header, data))
    dataset = open_dataset(tmp_path / "set")
    gone = {(one.shard, one.key) for one in read_all(dataset) if one.key[-1] in "13"}
    write_without(dataset, gone, tmp_path / "out")
    return str(tmp_path / "out" / "a.safetensors")


def test_metadata_and_arrays_of_any_type_stay(tmp_path: Path) -> None:
    image = np.arange(8, dtype="f4").reshape(4, 2)
    header = {
        "f8": entry([4, 2], 32, 40, "F8_E4M3"),
        "__metadata__": {"format": "pt"},
        "image": entry([4, 2], 0, 32),
        "table": entry([3], 40, 43, "NEW"),
        "one": entry([], 43, 44, "U8"),
    }
    path = cut(tmp_path, header, image.tobytes() + bytes(range(12)))
    held = safetensors_header(path)
    assert held.metadata == {"format": "pt"}
    assert {name: one.shape for name, one in held.arrays.items()} == {
        "image": (2, 2), "f8": (2, 2), "table": (3,), "one": ()
    }  # fmt: skip
    assert np.array_equal(load_array(path, "image"), image[[0, 2]])
    content = Path(path).read_bytes()
    parts = {name: content[one.at : one.at + one.size] for name, one in held.arrays.items()}
    assert parts["f8"] == bytes([0, 1, 4, 5]) and parts["table"] == bytes([8, 9, 10])
    assert parts["one"] == bytes([11])


def test_rows_that_end_within_a_byte_are_refused(tmp_path: Path) -> None:
    header = {"image": entry([4, 2], 0, 32), "f4": entry([4, 1], 32, 34, "F4")}
    with pytest.raises(DataError, match="'f4' of F4 has rows that end within a byte"):
        cut(tmp_path, header, bytes(34))
