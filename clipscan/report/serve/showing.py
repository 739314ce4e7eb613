"""Pictures and neighbours of single samples, when the page asks for them."""

from __future__ import annotations

import base64
import threading
from collections import OrderedDict
from typing import Any

import numpy as np

from clipscan.errors import RunError
from clipscan.report.album import GONE
from clipscan.report.serve.ranked_rows import RankedRows
from clipscan.report.thumbnails import Thumbnail, Thumbnailer
from clipscan.run.markers import rows_in
from clipscan.run.run import Run
from clipscan.run.selecting import SHOWN_NEIGHBORS, nearest

QUALITY = 85
REMEMBERED = 2000  # pictures; about 5 kB each
SIDES = (96, 160, 400)  # longest sides that are made


class Pictures:
    """Thumbnails of the dataset's pictures, read from their shards and encoded anew."""

    def __init__(self, run: Run, workers: int = 2) -> None:
        self.run = run
        self.shards = {shard.name: shard for shard in run.dataset.shards}
        self._workers = [(threading.Lock(), Thumbnailer()) for _ in range(workers)]
        self._turn = 0
        self._known: OrderedDict[tuple[str, str, int], Thumbnail] = OrderedDict()

    def make(self, shard: str, key: str, at: int, side: int) -> tuple[str, bytes] | str:
        """(type, bytes) of the picture, or why there is none. at: where it begins, -1: looked for. A shard
        that cannot be read, as after a fault of the network, is tried again when asked for again."""
        side = min((one for one in SIDES if one >= side), default=SIDES[-1])
        if (shard, key, side) not in self._known:
            try:
                self._known[shard, key, side] = self._read(shard, key, at, side)
            except RunError as fault:
                return str(fault)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        made = self._known[shard, key, side]
        if not made.uri:
            return made.reason
        head, _, text = made.uri.partition(",")
        return head.removeprefix("data:").removesuffix(";base64"), base64.b64decode(text)

    def close(self) -> None:
        """End the workers."""
        for _, worker in self._workers:
            worker.close()

    def _read(self, shard: str, key: str, at: int, side: int) -> Thumbnail:
        if shard not in self.shards:
            return Thumbnail(reason="there is no such shard")
        try:
            sample = next(iter(self.run.dataset.fetch(self.shards[shard], {key: at})), None)
        except Exception as wrong:  # a network, a changed file: the page goes on without this picture
            raise RunError(f"cannot read the shard: {wrong}"[:200]) from wrong
        if sample is None or not sample.image:
            return Thumbnail(reason="the sample holds no picture") if sample else GONE
        self._turn += 1
        lock, worker = self._workers[self._turn % len(self._workers)]
        with lock:
            return worker.make(sample.image, side, QUALITY)


class NeighbourTables:
    """The nearest samples of a row: from the exact graph, mapped, or by a search for that row."""

    def __init__(self, run: Run, rows: RankedRows) -> None:
        self.run, self.rows = run, rows
        files = sorted((run / "embeddings/metadata").glob("*.parquet"))
        self.shards = [int(path.stem.rpartition("_")[2]) for path in files]
        self.starts = np.concatenate([[0], np.cumsum([rows_in(path) for path in files], dtype=np.int64)])
        self._lock = threading.Lock()

    def of(self, place: int) -> list[tuple[dict[str, Any], float]]:
        """(row as the page shows it, distance), the nearest first."""
        row = int(self.rows.order[place])
        index, distance = self._from_graph(row)
        known = index >= 0
        places = self.rows.by_row[index[known]]
        return list(zip(self.rows.rows(places), distance[known].tolist(), strict=True))

    def _from_graph(self, row: int) -> tuple[Any, Any]:
        part = int(np.searchsorted(self.starts, row, "right")) - 1
        paths = self.run.index(self.shards[part]), self.run.distance(self.shards[part])
        if all(path.exists() for path in paths):
            tables = [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]
            index, distance = (table[row - self.starts[part]][:SHOWN_NEIGHBORS] for table in tables)
            return index.astype(np.int64), distance.astype(np.float64)
        with self._lock:
            table = nearest(self.run, np.array([row]))
        return table.index[0], table.distance[0]
