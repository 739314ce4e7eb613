"""Has the model of a run learnt the pairs that are scanned? If not, a scan that finds nothing means
nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clipscan.engine import Rows, cores
from clipscan.engine.arrays import Array
from clipscan.run.options import Compute, Ranking
from clipscan.run.run_folder import fingerprint
from clipscan.run.scoring import VECTORS
from clipscan.scores.references import Scale, identify, identify_pairs
from clipscan.scores.retrieval import Retrieval, different, retrieval

if TYPE_CHECKING:
    from clipscan.run.run import Run

NO_CAPTIONS = "no captions are embedded, so it is unknown whether the model has learnt these samples"
EVERY_ROW = Scale("all", 0, 1)


def retrieval_stage(run: Run, ranking: Ranking, compute: Compute) -> None:
    """`retrieval` in run.json, of up to 1,000 pairs drawn by their vectors; or why there is none."""

    def work() -> dict[str, Any]:
        image, text, _ = run.vectors
        if text is None:
            return {"retrieval": {"skipped": NO_CAPTIONS}}
        rows = _drawn(run, image, text, ranking.seed, compute.threads or cores())
        return {"retrieval": retrieval(image.take(rows), text.take(rows)).record() | {"skipped": None}}

    made_of = fingerprint(ranking.seed, run.contents("embed", *VECTORS))
    run.update(retrieval=run.task("retrieval", made_of, work)["retrieval"])


def learnt_words(record: dict[str, Any]) -> tuple[str, str]:
    """The record in run.json, in words: (the figures, what they mean); "" for nothing."""
    told = record.get("retrieval")
    if found := Retrieval.read(told):
        return found.words(), found.doubt()
    return "", str(told.get("skipped") or "") if isinstance(told, dict) else ""


def _drawn(run: Run, image: Rows, text: Rows, seed: int, threads: int) -> Array:
    """Numbers of rows no two of which are of one picture or one caption."""
    pairs = identify_pairs(image, text, threads)
    order = pairs.sample(EVERY_ROW, 0, seed)
    said = _captions(run)
    return different(order, identify(text, threads=threads).content if said is None else said, pairs.content)


def _captions(run: Run) -> Array | None:
    """A number for each caption, the same for equal ones; None where some are not known. Vectors of one
    caption may differ by rounding, as they come from different batches."""
    column = run.names("caption")["caption"].dictionary_encode().unify_dictionaries()
    if "" in (known := column.chunk(0).dictionary.to_pylist()) or None in known:
        return None
    return np.concatenate([chunk.indices.to_numpy() for chunk in column.chunks])
