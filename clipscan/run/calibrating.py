"""Trusted pairs as a yardstick: which rows of a run are poison, at a stated rate of mistakes.

The trusted pairs are a run of their own, embedded by the same model. Both are scored as if they were one
dataset, so that chance alone decides where a clean row stands among the trusted ones (scores/conformal.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

import clipscan
from clipscan.engine import Rows, as_rows
from clipscan.engine.arrays import Array
from clipscan.errors import RunError
from clipscan.run.files import write_table
from clipscan.run.folder import run_record
from clipscan.run.options import Compute
from clipscan.run.outputs import write_marker
from clipscan.run.overlap import scanned_too
from clipscan.scores.conformal import discoveries, fewest, p_values
from clipscan.scores.references import identify_pairs
from clipscan.scores.table import ELSEWHERE

if TYPE_CHECKING:
    from clipscan.run.run import Run


class Calibrated(NamedTuple):
    """Rows of the run and trusted pairs; how many rows are called poison, and how many it takes at least;
    (shard, key) of the pairs that are no yardstick, as their pictures are among the scanned ones."""

    rows: int
    trusted: int
    called: int
    fewest: int
    left_out: list[tuple[str, str]]


def calibrate(run: Run, trusted: Run, rate: float, compute: Compute = Compute()) -> Calibrated:
    """RUN/calibration.parquet: shard, key, p, decision ("drop" or "keep") of every row of a scored run, so
    that on average at most `rate` of those to drop are clean.

    It holds where trusted pairs come from where the dataset's clean ones do. Those whose pictures are among
    the scanned ones are left out (run/overlap.py).
    RunError where the two runs are of different models, where the run's score cannot be made of vectors
    alone, or where no trusted pair is left.
    """
    asked = run_record(run.path).get("asked", {}).get("score")
    if asked is None:
        raise RunError(f"{run.path} is not scored; run: clipscan score {run.path}")
    if asked["method"] in ELSEWHERE:
        raise RunError(
            f"{run.path} is ranked by {asked['method']!r}, which other pairs do not have; calibrate another "
            f"score: clipscan score {run.path} --method consensus --overwrite"
        )
    _check_model(run, trusted)
    how = vars(compute)
    image, text, counts = run.vectors
    known, known_text, _ = trusted.vectors
    if (text is None) != (known_text is None):
        raise RunError("one of the two runs has captions and the other has none: no score is fair to both")
    others = np.flatnonzero(~scanned_too(run, image, trusted, known, **how))
    n, m = sum(counts), len(others)
    if not m:
        raise RunError(
            f"all {known.n:,} pictures of {trusted.path} are among those of {run.path}: what is scanned "
            "cannot vouch for itself. Trusted pairs are others, known to be clean: clipscan embed CLEAN "
            "--pretrained FILE --out TRUSTED, and that folder here"
        )
    if m < known.n:
        known = as_rows(known.take(others), "image embeddings")
        known_text = known_text and as_rows(known_text.take(others), "caption embeddings")
    settings = {name: asked[name] for name in ("k", "against", "seed")}
    both, both_text = _joined(image, known), text and known_text and _joined(text, known_text)
    scored = clipscan.score(
        both,
        text=both_text,
        ids=identify_pairs(both, both_text).code.tolist(),
        method=asked["method"],
        reference=asked["reference"].partition(",")[0],
        **settings,
        **how,
    ).scores
    p = p_values(scored[:n], scored[n:])
    drop = discoveries(p, rate)
    table = run.names("shard", "key")
    table = table.append_column("p", pa.array(p))
    table = table.append_column("decision", pa.array(np.where(drop, "drop", "keep")))
    write_table(run / "calibration.parquet", table)
    write_marker(run.path, "calibration", "", {})
    return Calibrated(n, m, int(drop.sum()), fewest(n, m, rate), _left_out(trusted, others))


def _left_out(trusted: Run, others: Array) -> list[tuple[str, str]]:
    names = trusted.names("shard", "key")
    rows = np.setdiff1d(np.arange(names.num_rows), others)
    found = names.take(pa.array(rows))
    return list(zip(found["shard"].to_pylist(), found["key"].to_pylist(), strict=True))


def _check_model(run: Run, trusted: Run) -> None:
    made_by = [run_record(one.path).get("embed", {}).get("weights_sha256") for one in (run, trusted)]
    if made_by[0] != made_by[1]:
        raise RunError(
            f"{trusted.path} was not embedded with the model of {run.path}: embed the trusted pairs with the "
            "same --model and --pretrained"
        )


def _joined(first: Rows, second: Rows) -> Rows:
    return Rows([*first.parts, *second.parts], first.name)
