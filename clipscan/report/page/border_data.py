"""Scores for the border that a reviewer drags: exact ones of the suspects, bins of all others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from clipscan.report import histogram
from clipscan.report.choose import method_of
from clipscan.report.facts import Facts
from clipscan.report.page.sample_table import number_or_none
from clipscan.run.markers import check_intact

EXACT = 20_000  # scores that are counted one by one


def border_data(folder: Path, facts: Facts) -> dict[str, Any] | None:
    """None where there is no histogram. scores: of the suspects, descending; counts [b] between edges [b+1];
    clean: of each of `scores` the share of clean pairs that reach it, where held-out ones were scored."""
    bins = bins_of(folder, facts)
    if bins is None:
        return None
    left, right = histogram.LEFT, histogram.WIDTH - histogram.RIGHT
    scores = pq.read_table(folder / "suspects.parquet", columns=["score"])["score"].to_numpy()
    known = -np.sort(-scores[np.isfinite(scores)])[:EXACT]
    estimate = facts.estimate
    return {
        "scores": known.tolist(),
        "clean": _clean(folder, len(known)),
        "edges": bins.edges.tolist(),
        "counts": bins.counts.tolist(),
        "log": bins.log,
        "frame": [left, right, histogram.TOP, histogram.HEIGHT - histogram.BOTTOM],
        "estimate": None
        if estimate is None or not estimate.number
        else {
            "number": estimate.number, "fewest": estimate.fewest, "most": estimate.most,
            "border": number_or_none(estimate.border),
        },
    }  # fmt: skip


def bins_of(folder: Path, facts: Facts) -> histogram.Bins | None:
    """None where the scores are missing, or all NaN, or the method has no column of its own."""
    column = method_of(facts.record)
    if not histogram.has_scores(folder, column):
        return None
    log = False if column == "consensus" else None  # it is in nats, a logarithm already
    return histogram.bin_scores(histogram.scores_of(folder, column), facts.cut, log=log)


def _clean(folder: Path, count: int) -> list[float] | None:
    """Conformal p-values of the `count` most suspicious, ascending; None for a run without calibration."""
    path = folder / "calibration.parquet"
    check_intact(path)
    if not path.exists():
        return None
    p = pq.read_table(path, columns=["p"])["p"].to_numpy().astype(np.float64)
    found: list[float] = np.sort(p[np.isfinite(p)])[:count].tolist()
    return found
