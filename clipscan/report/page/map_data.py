"""The map for the page: positions as 16-bit numbers, and which sample of the review each point is."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

from clipscan.report.map.map_file import MapPoints
from clipscan.report.page.sample_table import NAME, Numbered

Pair = tuple[str, str]


def map_data(points: MapPoints | None, number: dict[Pair, int], listed: set[Pair]) -> dict[str, Any] | None:
    """None without a map, or where every name is too long for the page. x, y: base64 of uint16 [n]; sample:
    number of the sample in the review, or -1 and then named by shard and key, in turn; listed: of these the
    ones on the drop list."""
    if points is None or not points.pairs:
        return None
    pairs, position = points
    bounded = [max(map(len, pair)) <= NAME for pair in pairs]
    pairs = [pair for pair, fits in zip(pairs, bounded, strict=True) if fits]
    if not pairs:
        return None
    position = position[np.array(bounded)]
    shards = Numbered()
    others = [pair for pair in pairs if pair not in number]
    return {
        **dict(zip("xy", map(_packed, _even(position).T), strict=True)),
        "sample": [number.get(pair, -1) for pair in pairs],
        "shard": [shards.add(shard) for shard, _ in others],
        "key": [key for _, key in others],
        "shards": shards.listed(),
        "listed": [i for i, pair in enumerate(others) if pair in listed],
    }


def _even(position: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Both axes on one scale, 0 to 65535 along the longer one. The farthest 0.1 % are brought to the edge."""
    low, high = np.quantile(position, [0.001, 0.999], axis=0)
    size = float((high - low).max()) or 1.0
    middle = (low + high) / 2
    scaled = 0.5 + np.clip((position - middle) / (1.04 * size), -0.5, 0.5)
    return np.rint(65535 * scaled).astype(np.uint16)


def _packed(values: npt.NDArray[np.uint16]) -> str:
    return base64.b64encode(np.ascontiguousarray(values, "<u2").tobytes()).decode()
