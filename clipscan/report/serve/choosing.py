"""Which rows a filter of the page lets through, as places in the order of rank."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clipscan.report.serve.ranked_rows import SOUGHT, Pair, Places, RankedRows, small

KEPT = 8  # filters whose places are remembered

Mask = npt.NDArray[np.bool_]


class Filter(NamedTuple):
    """As the page has it; "" and None let everything through."""

    text: str = ""
    verdict: str = ""
    shard: str = ""
    domain: str = ""
    low: float | None = None
    high: float | None = None
    state: str = ""


class Chooser:
    """Places by filter. members: the samples of each kind of group."""

    def __init__(self, rows: RankedRows, members: dict[str, set[Pair]]) -> None:
        self.rows, self.members = rows, members
        self._known: OrderedDict[Filter, Places] = OrderedDict()

    def places(self, chosen: Filter, words: dict[Pair, str]) -> Places:
        """Ascending. words: what is decided; answers that stand on it are not remembered."""
        if chosen in self._known:
            self._known.move_to_end(chosen)
            return self._known[chosen]
        found = np.flatnonzero(self._mask(chosen, words)).astype(np.int64)
        if not chosen.state:
            self._known[chosen] = found
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        return found

    def _mask(self, chosen: Filter, words: dict[Pair, str]) -> Mask:
        table, mask = self.rows.table, np.ones(len(self.rows), bool)
        if chosen.text:
            mask &= pc.match_substring(table[SOUGHT], small(chosen.text)).to_numpy()
        for name in ("shard", "domain"):
            if value := getattr(chosen, name):
                mask &= pc.equal(table[name], value).to_numpy()
        with np.errstate(invalid="ignore"):
            if chosen.low is not None:
                mask &= self.rows.score >= chosen.low
            if chosen.high is not None:
                mask &= self.rows.score <= chosen.high
        if chosen.verdict:
            mask &= self._of_verdict(chosen.verdict)
        return mask & self._in_state(chosen.state, words) if chosen.state else mask

    def _of_verdict(self, verdict: str) -> Mask:
        if verdict == "none":
            return ~self._named(set().union(*self.members.values()))
        return self._named(self.members.get(verdict, set()))

    def _in_state(self, state: str, words: dict[Pair, str]) -> Mask:
        if state == "undecided":
            return ~self._named(words.keys())
        if state == "dropped":
            kept = self._named({pair for pair, word in words.items() if word == "keep"})
            drop = self._named({pair for pair, word in words.items() if word == "drop"})
            listed: Mask = self.rows.table["listed"].to_numpy()
            return drop | (listed & ~kept)
        return self._named({pair for pair, word in words.items() if word == state})

    def _named(self, pairs: Collection[Pair]) -> Mask:
        mask = np.zeros(len(self.rows), bool)
        if pairs:
            keys = pa.array(sorted({key for _, key in pairs}), pa.large_string())
            places = np.flatnonzero(pc.is_in(self.rows.table["key"], value_set=keys).to_numpy())
            found = self.rows.table.select(["shard", "key"]).take(pa.array(places)).to_pylist()
            named = [(row["shard"], row["key"]) in pairs for row in found]
            mask[places[np.array(named, bool)]] = True
        return mask
