"""What the API of `clipscan serve` answers, as (content type, bytes)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from clipscan.errors import RunError
from clipscan.report.serve.choosing import Chooser, Filter
from clipscan.report.serve.decision_store import DecisionStore
from clipscan.report.serve.ranked_rows import RankedRows
from clipscan.report.serve.showing import NeighbourTables, Pictures

PAGE_ROWS = 1000  # at most, of one answer

Asked = Mapping[str, str]
Answer = tuple[str, bytes]


class Answers:
    """One run. page: makes the HTML, called anew for every visit."""

    def __init__(
        self, rows: RankedRows, chooser: Chooser, pictures: Pictures, near: NeighbourTables,
        store: DecisionStore, page: Callable[[], str],
    ) -> None:  # fmt: skip
        self._rows, self._chooser, self._pictures = rows, chooser, pictures
        self._near, self._store, self._page = near, store, page

    def page(self, asked: Asked) -> Answer:
        """The page, with all decisions so far."""
        return "text/html", self._page().encode("utf-8", "replace")

    def rows(self, asked: Asked) -> Answer:
        """`count` rows from `start` on of those that a filter lets through, and how many these are."""
        texts = {name: asked.get(name, "") for name in ("text", "verdict", "shard", "domain", "state")}
        chosen = Filter(low=_number(asked.get("low", "")), high=_number(asked.get("high", "")), **texts)
        start, count = int(asked["start"]), min(PAGE_ROWS, int(asked["count"]))
        if start < 0 or count < 0:
            raise ValueError("negative")
        places = self._chooser.places(chosen, self._store.words() if chosen.state else {})
        found = self._rows.rows(places[start : start + count])
        return _json({"total": len(places), "rows": found})

    def near(self, asked: Asked) -> Answer:
        """The nearest samples of one, with their distances."""
        place = self._rows.place_of(asked["shard"], asked["key"])
        if place is None:
            raise RunError("the run holds no such sample")
        return _json([[row, distance] for row, distance in self._near.of(place)])

    def picture(self, asked: Asked) -> Answer:
        """One picture, encoded anew."""
        at, side = int(asked.get("at", "-1")), int(asked.get("side", "160"))
        made = self._pictures.make(asked["shard"], asked["key"], max(-1, at), side)
        if isinstance(made, str):
            raise RunError(made)
        return made

    def save(self, body: bytes, revision: int) -> int:
        """Save decisions; the new revision."""
        return self._store.save(body, revision)


def _number(text: str) -> float | None:
    value = float(text) if text else None
    if value is not None and not math.isfinite(value):
        raise ValueError(text)
    return value


def _json(value: Any) -> Answer:
    return "application/json", json.dumps(value, separators=(",", ":")).encode()
