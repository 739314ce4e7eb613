"""DataComp's subset files: 128-bit uids as sorted pairs of uint64 in one .npy.

Source: the DataComp benchmark's resharder and baselines, which read `np.load(file)` of dtype "u8,u8":
first the upper 16 hex digits of the uid, then the lower 16, sorted by (upper, lower).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from clipscan.errors import InputError

DTYPE = np.dtype("u8,u8")
_UID = re.compile(r"[0-9a-fA-F]{32}")


def is_uid(text: str) -> bool:
    """Whether `text` is exactly 32 hex digits."""
    return _UID.fullmatch(text) is not None


def pack(uids: Iterable[str]) -> npt.NDArray[np.uint64]:
    """uids -> [n, 2] upper and lower halves, in the given order. InputError unless all are 32 hex digits."""
    listed = list(uids)
    for uid in listed:
        if not is_uid(uid):
            raise InputError(f"{uid[:80]!r} is no DataComp uid: expected 32 hex digits")
    halves = np.frombuffer(bytes.fromhex("".join(listed)), dtype=">u8")  # [2n], big-endian as hex is written
    return halves.reshape(-1, 2).astype(np.uint64)


def datacomp(halves: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
    """[n, 2] halves -> sorted structured array [m <= n] of dtype "u8,u8", each uid once."""
    halves = halves[np.lexsort((halves[:, 1], halves[:, 0]))]
    fresh = np.ones(len(halves), dtype=bool)
    fresh[1:] = (halves[1:] != halves[:-1]).any(axis=1)
    return np.ascontiguousarray(halves[fresh]).view(DTYPE).reshape(-1)
