"""A partition into safe and risky pairs: its lists, and its drawing for the page.

    RUN/partition/risky.parquet    the risky pairs as a drop list (DropList.load), least fitting first
    RUN/partition/safe.parquet     the safe ones, likewise, best fitting first
    RUN/partition/risky.txt, safe.txt, safe_uids.npy    as drop.txt, keep.txt and keep_uids.npy

The run folder may come from a stranger: numbers are read as numbers only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipscan.errors import RunError
from clipscan.report import histogram
from clipscan.report.drop_schema import DROP_SCHEMA
from clipscan.report.identities import bad_pairs, batches
from clipscan.report.write_lists import Written, with_shards, write_lists
from clipscan.run.file_io import read_json, write_table
from clipscan.run.markers import check_intact
from clipscan.run.partitioning import FOLDER
from clipscan.scores.mixture import TOO_FEW, Component, Mixture


def write_partition(folder: Path) -> Written:
    """The lists of a run that partition_stage has split; `dropped` of what comes back are the risky pairs."""
    table = pq.read_table(folder / FOLDER / "partition.parquet")
    table = table.append_column("score", pc.subtract(1.0, table["cosine"]))
    shards = {*(shard for shard, _ in bad_pairs(folder)), *table["shard"].unique().to_pylist()}
    safe = _rows(table.filter(table["safe"]).sort_by("score"), "safe")
    risky = _rows(table.filter(pc.invert(table["safe"])).sort_by([("score", "descending")]), "risky")
    written = write_lists(folder, risky, to=folder / FOLDER, names=("safe", "risky"))
    write_table(folder / FOLDER / "safe.parquet", with_shards(safe, shards))
    return written


def _rows(table: pa.Table, side: str) -> pa.Table:
    """Rows of DROP_SCHEMA; the score is 1 - cosine, higher = more suspicious."""
    pairs = zip(table["cosine"].to_pylist(), table["posterior"].to_pylist(), strict=True)
    reasons = [_reason(side, cosine, posterior) for cosine, posterior in pairs]
    table = table.append_column("reason", pa.array(reasons, pa.string()))
    return table.select(DROP_SCHEMA.names).cast(DROP_SCHEMA)


def _reason(side: str, cosine: float | None, posterior: float | None) -> str:
    if cosine is None:
        return f"{side}: its cosine is not known"
    fits = "" if posterior is None else f", safe with probability {posterior:.4f}"
    return f"{side}: cosine {cosine:.4f}{fits}"


class Split(NamedTuple):
    """A partition as the page shows it."""

    pairs: int
    safe: int
    words: str  # of the mixture
    rule: str
    drawing: histogram.Drawing | None
    curves: list[str]  # points of the low and the high component; none where the mixture does not separate


def read_split(folder: Path) -> Split | None:
    """The partition of a run; None where there is none.

    Raises RunError where the record is not as partition_stage writes it.
    """
    path = folder / FOLDER / "partition.json"
    check_intact(path)
    if not path.exists():
        return None
    record = read_json(path)
    try:
        pairs, safe = int(record["pairs"]), int(record["safe"])
        mixture = None if record["mixture"] is None else _mixture(record["mixture"])
        rule = _rule(record)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RunError(
            f"{path} is no record of a partition ({error!r}); run clipscan partition again"
        ) from error
    words = mixture.words() if mixture else TOO_FEW
    bins = histogram.bin_scores(lambda: _column(folder, safe_only=False), _border(folder), log=False)
    if bins is None:
        return Split(pairs, safe, words, rule, None, [])
    curves = [] if mixture is None or not mixture.separates else [
        histogram.curve(bins, _expected(component, bins)) for component in (mixture.low, mixture.high)
    ]  # fmt: skip
    return Split(pairs, safe, words, rule, histogram.draw(bins), curves)


def _rule(record: dict[str, Any]) -> str:
    whose = "the trusted model" if record["by"] == "trusted" else "the model that embedded the run"
    if "share" in record:
        return f"Safe is the share of {float(record['share']):g} with the highest cosines in {whose}"
    return f"Safe from a probability of {float(record['threshold']):g} of the high component on, in {whose}"


def _mixture(record: dict[str, Any]) -> Mixture:
    def component(one: dict[str, Any]) -> Component:
        numbers = [float(one[name]) for name in Component._fields]
        if not (all(map(math.isfinite, numbers)) and numbers[1] > 0 and 0 <= numbers[2] <= 1):
            raise ValueError(f"no component: {numbers}")
        return Component(*numbers)

    return Mixture(component(record["low"]), component(record["high"]), float(record["gain"]))


def _column(folder: Path, *, safe_only: bool) -> Iterable[histogram.Floats]:
    for batch in batches([folder / FOLDER / "partition.parquet"], ["cosine", "safe"]):
        cosine = batch.column(0).to_numpy(zero_copy_only=False).astype(np.float64)
        yield cosine[batch.column(1).to_numpy(zero_copy_only=False).astype(bool)] if safe_only else cosine


def _border(folder: Path) -> float:
    """The lowest safe cosine, NaN where no pair is safe."""
    lowest = [float(cosine.min()) for cosine in _column(folder, safe_only=True) if len(cosine)]
    return min(lowest, default=math.nan)


def _expected(component: Component, bins: histogram.Bins) -> histogram.Floats:
    """How many values a component puts into each bin, [b]."""
    z = (bins.edges - component.mean) / (component.deviation * math.sqrt(2))
    below = np.array([0.5 * (1 + math.erf(value)) for value in z])
    return component.weight * float(bins.counts.sum()) * np.diff(below)
