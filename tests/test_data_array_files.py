"""No header of a .npy and no archive .npz raises anything but words, or unpacks beyond its size."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_helpers import put, read_all
from embedding_helpers import rows

from clipscan.data import Bad, open_dataset
from clipscan.errors import DataError


def header(text: str) -> bytes:
    """A .npy file of 64 zero bytes under the header `text`."""
    body = text.encode("latin1").ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body + bytes(64)


HEADERS = {
    "shape beyond 64 bits": "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 2)}",
    "negative shape": "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2)}",
    "shape of text": "{'descr': '<f4', 'fortran_order': False, 'shape': ('a', 2)}",
    "boolean shape": "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 2.5)}",
    "no type": "{'descr': None, 'fortran_order': False, 'shape': (1, 2)}",
    "endless type": "{'descr': '<f99999999999', 'fortran_order': False, 'shape': (1, 2)}",
    "type of types": "{'descr': [('a', [('b', 3)])], 'fortran_order': False, 'shape': (1, 2)}",
    "not closed": "{'descr': '<f4', 'fortran_order': (",
    "no Python": "(((((('''",
    "deep": "(" * 100,
    "a call": "{'descr': open('x'), 'fortran_order': False, 'shape': (1, 2)}",
    "NUL": "{'descr': '<f4\0', 'fortran_order': False, 'shape': (1, 2)}",
    "nothing": "",
}


@pytest.mark.parametrize("name", HEADERS)
def test_no_header_of_an_array_raises_anything_but_words(name: str, tmp_path: Path) -> None:
    put(tmp_path / "a.npy", header(HEADERS[name]))
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("l14_img.npy", header(HEADERS[name]))
    for source in ("a.npy", "b.npz"):
        dataset = open_dataset(tmp_path / source)
        with pytest.raises(DataError, match=source):
            dataset.vectors(dataset.shards[0])
        (bad,) = read_all(dataset)
        assert isinstance(bad, Bad)


def changed(to: Path, at: int, new: bytes, central: int | None = None) -> Path:
    """An .npz with bytes of its only entry's header overwritten, in the local and the central directory."""
    out = io.BytesIO()
    np.savez_compressed(out, l14_img=rows())
    data = bytearray(out.getvalue())
    where = data.index(b"PK\x01\x02") + (at + 2 if central is None else central)
    data[at : at + len(new)] = new
    data[where : where + len(new)] = new
    put(to, bytes(data))
    return to


ZIPS: dict[str, Callable[[Path], object]] = {
    "encrypted": lambda to: changed(to, 6, b"\x01\x00"),
    "unknown compression": lambda to: changed(to, 8, b"\x63\x00"),
    "lzma that is none": lambda to: changed(to, 8, b"\x0e\x00"),
    "bzip2 that is none": lambda to: changed(to, 8, b"\x0c\x00"),
    "newer than zipfile": lambda to: changed(to, 4, b"\xff\x00"),
    "deflate that is none": lambda to: changed(to, 50, b"\xff" * 40, central=0x2E),
    "a fifth of it": lambda to: put(to, changed(to, 6, b"\0\0").read_bytes()[:300]),
}


@pytest.mark.parametrize("kind", ZIPS)
def test_no_zip_raises_anything_but_words(kind: str, tmp_path: Path) -> None:
    ZIPS[kind](tmp_path / "0001.npz")
    np.savez(tmp_path / "0000.npz", l14_img=rows())
    outcomes = read_all(open_dataset(tmp_path))
    assert [(one.shard, one.key) for one in outcomes if isinstance(one, Bad)] == [("0001.npz", "")]


def test_an_npz_that_unpacks_to_a_thousand_times_its_size_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "0000.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        zeros = np.zeros((1, 8), np.float32)
        out = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            out, {"descr": "<f4", "fortran_order": False, "shape": (9 << 20, 8)}
        )
        with archive.open("l14_img.npy", "w", force_zip64=True) as entry:
            entry.write(out.getvalue())
            for _ in range(9):
                entry.write(bytes(zeros.nbytes << 20))  # 288 MiB, packed into 300 kB
    np.savez_compressed(tmp_path / "0001.npz", l14_img=np.zeros((50_000, 8), np.float32))
    outcomes = read_all(open_dataset(tmp_path))
    assert isinstance(outcomes[0], Bad) and "unpacks from" in outcomes[0].reason
    assert len(outcomes) == 1 + 50_000, "copies of a row that fit are a dataset"
