"""Held-out clean pairs as a yardstick: which rows of a run are poison, at a stated rate of mistakes.

The held-out clean pairs are a run of their own, embedded by the same model. Both runs are scored as one
dataset, so chance alone decides where a clean row stands among the held-out ones (scores/conformal.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

import clipscan
from clipscan.engine import Rows, as_rows
from clipscan.engine.arrays import Array
from clipscan.errors import RunError
from clipscan.run.file_io import write_table
from clipscan.run.markers import write_marker
from clipscan.run.options import Compute
from clipscan.run.overlap import scanned_too
from clipscan.run.run_folder import run_record
from clipscan.scores.conformal import discoveries, fewest, p_values
from clipscan.scores.references import identify_pairs
from clipscan.scores.renamed import present_name
from clipscan.scores.table import ELSEWHERE

if TYPE_CHECKING:
    from clipscan.run.run import Run


class Calibrated(NamedTuple):
    """Numbers of rows of the run, of held-out clean pairs, of rows called poison, and the fewest that so many
    clean pairs can convict; (shard, key) of the clean pairs left out, whose pictures the run holds too."""

    rows: int
    clean: int
    called: int
    fewest: int
    left_out: list[tuple[str, str]]


def calibrate(run: Run, clean: Run, rate: float, compute: Compute = Compute()) -> Calibrated:
    """Write RUN/calibration.parquet: shard, key, p, decision ("drop" or "keep") of every row of a scored run.
    On average at most `rate` of those to drop are clean.

    This holds if the pairs of `clean` come from the same source as the dataset's clean ones. Those whose
    pictures the run holds too are left out (run/overlap.py).
    RunError if the two runs are of different models, if the run's score needs more than vectors, or if no
    clean pair is left.
    """
    asked = run_record(run.path).get("asked", {}).get("score")
    if asked is None:
        raise RunError(f"{run.path} is not scored; run: clipscan score {run.path}")
    if present_name(asked["method"]) in ELSEWHERE:
        raise RunError(
            f"{run.path} is ranked by {asked['method']!r}, which the clean pairs do not have; calibrate "
            f"another score: clipscan score {run.path} --method consensus --overwrite"
        )
    _check_model(run, clean)
    how = vars(compute)
    image, text, counts = run.vectors
    clean_image, clean_text, _ = clean.vectors
    if (text is None) != (clean_text is None):
        raise RunError("one of the two runs has captions and the other has none: no score is fair to both")
    others = np.flatnonzero(~scanned_too(run, image, clean, clean_image, **how))
    n, m = sum(counts), len(others)
    if not m:
        raise RunError(
            f"all {clean_image.n:,} pictures of {clean.path} are among those of {run.path}. A calibration "
            "needs other pairs, known to be clean: clipscan embed CLEAN_DATASET --pretrained FILE --out "
            f"CLEAN, then clipscan calibrate {run.path} CLEAN"
        )
    if m < clean_image.n:
        clean_image = as_rows(clean_image.take(others), "image embeddings")
        clean_text = clean_text and as_rows(clean_text.take(others), "caption embeddings")
    settings = {name: asked[name] for name in ("k", "against", "seed")}
    both, both_text = _joined(image, clean_image), text and clean_text and _joined(text, clean_text)
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
    return Calibrated(n, m, int(drop.sum()), fewest(n, m, rate), _left_out(clean, others))


def _left_out(clean: Run, others: Array) -> list[tuple[str, str]]:
    names = clean.names("shard", "key")
    rows = np.setdiff1d(np.arange(names.num_rows), others)
    found = names.take(pa.array(rows))
    return list(zip(found["shard"].to_pylist(), found["key"].to_pylist(), strict=True))


def _check_model(run: Run, clean: Run) -> None:
    made_by = [run_record(one.path).get("embed", {}).get("weights_sha256") for one in (run, clean)]
    if made_by[0] != made_by[1]:
        raise RunError(
            f"{clean.path} was not embedded with the model of {run.path}: embed the clean pairs with the "
            "same --model and --pretrained"
        )


def _joined(first: Rows, second: Rows) -> Rows:
    return Rows([*first.parts, *second.parts], first.name)
