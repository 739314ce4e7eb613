"""The populations of pairs that consensus convicted, in words: what they are, how sure, and their pairs.

A population's figures are in run.json (score.populations); its pairs are a group of groups.parquet, and are
what a scan drops unasked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from clipscan.run.run_folder import run_record
from clipscan.scores.estimate import Estimate

KINDS = {
    "trait": "pictures that share a trait, such as a trigger, under captions that do not fit them",
    "target": "captions that say the same, hardly ever found without a trait that their pictures share",
    "collapse": "captions that say the same, on pictures that the model finds far more alike than they are",
    "density": "near one another by picture and caption, far from all other pairs",
    "captions": "captions that say the same, on pictures that they do not fit",
}


class Convicted(NamedTuple):
    """A convicted population of `number` pairs. size: those in its group, less those in an earlier one;
    pictures: distinct ones; misfit: mean of -ln(rank / n), 1 for clean pairs; clean: estimated share of clean
    pairs, from above. NaN without captions."""

    group: int  # in groups.parquet
    kind: str
    size: int
    number: int
    pictures: int
    misfit: float
    clean: float

    @property
    def says(self) -> str:
        """What kind of population it is; "" for an unknown kind."""
        return KINDS.get(self.kind, "")

    @property
    def figures(self) -> str:
        """How many pictures the whole population has, and how sure it is."""
        pictures = f"{self.pictures:,} distinct picture" + ("" if self.pictures == 1 else "s")
        if self.size < self.number:
            pictures = f"of a population of {self.number:,}, the others in groups before; {pictures}"
        if math.isnan(self.misfit):
            return f"{pictures}; no captions, so it is unknown whether they fit"
        told = f"{pictures}; mean misfit {self.misfit:.1f} (1 is usual)"
        if math.isnan(self.clean):
            return told
        least = 2 / max(2, self.pictures)  # the estimate if a single picture were clean
        above = "" if self.clean >= least else "above "
        return f"{told}, estimated precision {above}{100 * (1 - max(self.clean, least)):.0f} %"

    def words(self) -> str:
        return f"group {self.group}, {self.size:,} pairs: {self.says or self.kind}; {self.figures}"


def convicts(record: dict[str, Any]) -> bool:
    """Whether pairs of the run of this run.json are convicted, not set apart by a valley of their score."""
    score = record.get("score", {})
    return score.get("method") == "consensus" and isinstance(score.get("populations"), list)


def convicted_of(folder: Path) -> list[Convicted] | None:
    """Those of a run, in the order of groups.parquet; None where another score ranks, or where the run was
    made before there were any."""
    record, path = run_record(folder), folder / "groups.parquet"
    if not convicts(record) or not path.exists() or "population" not in pq.read_schema(path).names:
        return None
    told = record["score"]["populations"]
    rows = pq.read_table(path, columns=["group", "size", "population"]).to_pylist()
    return [_convicted(row, told[row["population"]]) for row in rows if 0 <= row["population"] < len(told)]


def estimate_words(estimate: Estimate, convicted: Sequence[Convicted] | None) -> str:
    """How many pairs to drop, and why so many."""
    if convicted is None:
        return estimate.words()
    if not estimate.number:
        return "no pairs are convicted"
    populations = f"{len(convicted):,} population" + ("" if len(convicted) == 1 else "s")
    return (
        f"{estimate.number:,} pairs are convicted, in {populations} "
        f"({estimate.fewest:,} of them surely; {estimate.most - estimate.number:,} more may belong there)"
    )


def _convicted(row: dict[str, Any], told: Any) -> Convicted:
    told = told if isinstance(told, dict) else {}

    def figure(name: str) -> float:
        return float(value) if isinstance(value := told.get(name), (int, float)) else math.nan

    def count(name: str) -> int:
        return value if isinstance(value := told.get(name), int) else 0

    return Convicted(
        row["group"], str(told.get("kind", "")), row["size"], count("number"), count("pictures"),
        figure("misfit"), figure("null_share"),
    )  # fmt: skip
