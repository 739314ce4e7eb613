"""`clipscan.score`: how suspicious every row of an embedding array is, or of a neighbour graph."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

import clipscan
from clipscan.engine import Neighbors, check_rows, cores, like
from clipscan.engine import density as table_density
from clipscan.engine.arrays import Array
from clipscan.errors import InputError
from clipscan.scores.all_scores import AllScores
from clipscan.scores.arguments import (
    Question,
    Samples,
    check_sizes,
    chosen_methods,
    is_drawn,
    question_of,
    samples_of,
)
from clipscan.scores.copies import most_of, remark
from clipscan.scores.detect_clip import detect_clip
from clipscan.scores.hubs import anti_hubs
from clipscan.scores.local import Searcher
from clipscan.scores.populations import populated
from clipscan.scores.references import check_seed, identify
from clipscan.scores.renamed import warn_if_renamed
from clipscan.scores.result import ScoreResult
from clipscan.scores.slices import in_slices
from clipscan.scores.table import FROM_GRAPH, LOCAL, METHODS, OF_GRAPH

log = logging.getLogger("clipscan.scores")

DEFAULT_REFERENCE = "1024x8"
DEFAULT_K = 16


def score(
    embeddings: Any = None,
    *,
    text: Any = None,
    pictures: Any = None,
    graph: Neighbors | None = None,
    k: int | None = None,
    method: str | Sequence[str] | None = None,
    reference: Any = DEFAULT_REFERENCE,
    against: str = "image",
    ids: Any = None,
    normalize: bool = False,
    compat: str | None = None,
    batches: Any = 2048,
    seed: int = 0,
    backend: str = "auto",
    devices: str = "auto",
    threads: int | None = None,
    max_memory: int | None = None,
) -> ScoreResult:
    """Suspicion of each row; higher = more suspicious, always.

    embeddings [n, d]: image vectors, one row a sample, as they leave the encoder (not normalised:
    poison shows in the norm too), float16, bfloat16, float32 or float64, from NumPy, a memory map,
    torch, CuPy or JAX. text [n, d]: caption vectors in the same order. pictures [n, p]: features of the same
    pictures that the model under suspicion had no part in (clipscan.embed.untrained.untrained_features, or
    vectors of another model): consensus and misfit then ask an innocent witness.

    method: one name or several: consensus, kdist, lid, lid_mom, lof, slof, dao, logdao, iforest; with text
    also cosine (1 - cosine of the pair), agree and cross (see scores/local.py), and misfit
    (scores/witness.py). "all" takes every one that the input allows. The default is consensus
    (scores/consensus.py), and dao where that has nothing to draw: from a graph, with an array of reference
    rows, or with compat. Formula, range, source of each: docs/methods.md.

    reference: what a row is compared with (consensus draws references of its own). "MxR" (default
    "1024x8") = R independent random draws of M rows, scores averaged (of dao the logarithm), their standard
    deviation kept in `spread`, the drawn rows in `references`; M = one draw; "all" = the whole set;
    several separated by commas; or an array [m, d] of reference rows (then no row is taken for its own
    neighbour). A draw larger than the set is the whole set. A row's own entry is never among its neighbours.
    A reference holds different rows: copies count once, except among their own kind (scores/references.py);
    `record["copies"]` says how often one row was met, and the log, where that is k times or more. A `graph`
    is taken as it is.
    Rows are drawn by a seeded hash of `ids` (n integers or strings), or of their content where no ids are
    given, so that scores do not depend on row order. Poison is sparse only while the reference holds
    fewer than k of its kind: keep (poison rate) x M / k below about 0.4 (Huang et al. 2025).

    against="image+text" adds the captions of the reference to its images, each distinct caption once.
    graph: a table from `clipscan.knn(embeddings)` instead of embeddings, for the scores that need no more,
    and for antihub: 1 / (1 + how many rows count this one among their neighbours).
    compat="detect-clip": what the authors' released code computes, bugs included, on `batches`; see
    scores/detect_clip.py.

    k: neighbours, 16 unless given (compat: what the released script uses, 16 or for lid 64).

    Cost is linear in n for drawn references. Raises InputError in words for whatever does not fit,
    BackendError where the named back-end cannot serve.
    """
    check_seed(seed)
    if method is None:
        method = "consensus" if is_drawn(reference) and graph is None and compat is None else "dao"
    for name in [method] if isinstance(method, str) else method:
        warn_if_renamed(name, stacklevel=2)
    if graph is not None:
        return _score_graph(graph, method)
    samples = samples_of(embeddings, text, pictures, normalize)
    record = {"clipscan": clipscan.__version__, "n": samples.image.n, "metric": "euclidean"}
    record |= {"normalized": normalize, "seed": seed}
    if compat is not None:
        columns = _as_released(compat, samples, method=method, batches=batches, k=k, seed=seed)
        spread = {name: np.zeros(samples.image.n) for name in columns}
        record |= {"compat": compat, "k": k}
        return ScoreResult(columns, spread, {}, record, convert=like(embeddings))

    k = DEFAULT_K if k is None else k
    question = question_of(method, reference, against, normalize, text is not None)
    check_sizes(samples.image, question, k)
    scales = [scale.name for scale in question.scales]
    record |= {"k": k, "reference": scales, "against": against, "backend": backend}
    searcher = Searcher(k, backend, devices, threads or cores(), max_memory)
    scorer = _scorer(samples, question, searcher, ids, seed)
    columns, spread = in_slices(scorer.columns, samples.image)
    record["copies"] = scorer.most_copies
    population = None
    if "consensus" in question.methods:
        record |= {"populations": [one.record() for one in scorer.populations]}
        population = populated(scorer.populations, samples.image.n)
    _warn(remark(scorer.most_copies, k))
    return ScoreResult(columns, spread, scorer.drawn, record, population, like(embeddings))


def _scorer(samples: Samples, question: Question, searcher: Searcher, ids: Any, seed: int) -> AllScores:
    """The references, drawn and measured. InputError for rows that are not finite."""
    for rows in (samples.text, question.given, samples.pictures):
        if rows is not None:
            check_rows(rows, searcher.threads)
    return AllScores(
        samples.image, samples.text, identify(samples.image, ids, searcher.threads), question.methods,
        question.scales, searcher, question.joint, seed, question.given, pictures=samples.pictures,
    )  # fmt: skip


def _score_graph(graph: Neighbors, method: str | Sequence[str]) -> ScoreResult:
    table = graph.map(np.asarray)
    known = (*METHODS, *OF_GRAPH)
    methods = list(FROM_GRAPH) if method == "all" else chosen_methods(method, with_text=True, known=known)
    if other := [name for name in methods if name not in FROM_GRAPH]:
        raise InputError(
            f"{', '.join(other)} cannot be computed from a graph alone; from it: {', '.join(FROM_GRAPH)}"
        )
    columns = table_density(table) if set(methods) & set(LOCAL) else {}
    if columns:
        _warn(remark(most_of(table), table.k, in_graph=True))
    if "antihub" in methods:
        columns["antihub"] = anti_hubs(table)
    record = {
        "n": table.n,
        "copies": most_of(table),
        "k": table.k,
        "reference": [table.scale],
        "metric": "euclidean",
    }
    spread = {name: np.zeros(table.n) for name in methods}
    columns = {name: columns[name] for name in methods}
    return ScoreResult(columns, spread, {}, record, convert=like(graph.distance))


def _warn(remark: str) -> None:
    if remark:
        log.warning("%s", remark)


def _as_released(compat: str, samples: Samples, **how: Any) -> dict[str, Array]:
    """Columns [n] as the released code computes them; how: the other arguments of `detect_clip`."""
    if compat != "detect-clip":
        raise InputError(f"compat={compat!r}: the one released behaviour kept is 'detect-clip'")
    image, captions = samples.image, samples.text
    text = None if captions is None else captions.block(0, captions.n)
    return detect_clip(image.block(0, image.n), text, **how)
