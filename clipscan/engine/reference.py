"""The definition: what every back-end must compute, written in plain NumPy and float64.

Slow on purpose. A back-end is right when its tables equal these up to ties and float32 rounding.

Edge rules, the same everywhere:
- A pair of equal identity is never a neighbour; "nobody" is (+inf, -1).
- Neighbours at distance 0 are left out of LID's mean of logarithms; k of them make LID 0.
- k equal distances have no finite dimension; LID is capped at MAX_LID.
- A reference row inside k+1 copies of one point has no density to compare with (its k-distance is
  0): it is left out of the means of LOF, SLOF, DAO. Where all are left out these scores are neutral:
  1, or 0 for logDAO.
- Copies are rows like others here. That a reference holds none, and what a row then knows of its own, is
  said and done where references are drawn: scores/references.py, scores/copies.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from clipscan.engine import codebook
from clipscan.engine.arrays import Rows
from clipscan.engine.codebook import Codebook
from clipscan.engine.limits import Counts, Limits
from clipscan.engine.neighbors import Array

LIMITS = Limits()
MAX_LID = 1e4
MAX_SCORE = 1e300  # DAO is a power; capped so that a mean over draws stays finite


def knn(
    queries: Array,
    reference: Array,
    k: int,
    query_id: Array | None = None,
    reference_id: Array | None = None,
) -> tuple[Array, Array]:
    """queries [n, d], reference [m, d] -> distance [n, k] float64, index [n, k], by (distance, index)."""
    distance = np.full((len(queries), k), np.inf)
    index = np.full((len(queries), k), -1, np.int64)
    reference = np.asarray(reference, np.float64)
    for i, query in enumerate(np.asarray(queries, np.float64)):
        to = np.sqrt(((query - reference) ** 2).sum(axis=1))  # [m]
        allowed = np.arange(len(reference))
        if query_id is not None and reference_id is not None:
            allowed = allowed[reference_id != query_id[i]]
        nearest = allowed[np.argsort(to[allowed], kind="stable")][:k]
        distance[i, : len(nearest)], index[i, : len(nearest)] = to[nearest], nearest
    return distance, index


def within(rows: Rows, k: int, threads: int, memory: int, counts: Counts) -> tuple[Array, Array]:
    """Rows among themselves; each is known by its number."""
    own = np.arange(rows.n)
    block = rows.block(0, rows.n)
    return knn(block, block, k, own, own)


def between(
    queries: Rows,
    reference: Rows,
    k: int,
    query_id: Array | None,
    reference_id: Array | None,
    spans: Sequence[tuple[int, int]],
    threads: int,
    memory: int,
    counts: Counts,
) -> list[tuple[Array, Array]]:
    """A table for each span of the reference; indices count from its first row."""
    rows, others = queries.block(0, queries.n), reference.block(0, reference.n)
    return [
        knn(rows, others[a:b], k, query_id, None if reference_id is None else reference_id[a:b])
        for a, b in spans
    ]


def encode(rows: Array, book: Codebook) -> tuple[Array, Array]:
    """Rows [n, d] -> int8 codes [n, width] and what they leave out, |y - q| [n], in code units.

    y is the rotated, scaled row, q its code. With c = `factor(book)`, for any two rows
        | c |x_i - x_j| - |q_i - q_j| | <= error_i + error_j,
    by the triangle inequality, since the rotation keeps distances; |q_i - q_j| is a root of an integer. This
    is the one bound that every back-end discards pairs by. The error is float64 here and lacks the
    allowance for float32 rounding that the kernels add.
    """
    y = codebook.rotate(np.asarray(rows, np.float32), book.centre, book.sign) * np.float32(book.gain)
    codes = np.rint(np.clip(y, -127, 127))
    return codes.astype(np.int8), np.sqrt(((y - codes).astype(np.float64) ** 2).sum(axis=1))


def factor(book: Codebook) -> float:
    """Code units per unit of distance: the gain, and the stretch of an unnormalised Hadamard transform."""
    power_of_two = book.width & (book.width - 1) == 0
    return book.gain * (float(np.sqrt(book.width)) if power_of_two else 1.0)


def density(
    distance: Array, index: Array, reference: Mapping[str, Array] | None = None, threads: int = 1
) -> dict[str, Array]:
    """One value a row: kdist, lid, lid_mom, lrd, lof, slof, dao, logdao, from a table [n, k].

    `reference` holds kdist, lid and lrd [m] of the rows that `index` points to; without it the
    table is a self-search and its own rows serve. Sources: kdist Ramaswamy et al. 2000; LID Levina
    and Bickel 2004, Amsaleg et al. 2015; LOF Breunig et al. 2000; SLOF Schubert et al. 2014; DAO
    Anderberg et al. 2024; logDAO is what the code of Huang et al. 2025 computes.
    """
    rows = [(r[i >= 0].astype(np.float64), i[i >= 0]) for r, i in zip(distance, index, strict=True)]
    out = {
        "kdist": np.array([r[-1] if len(r) else 0.0 for r, _ in rows]),
        "lid": np.array([_lid_mle(r) for r, _ in rows]),
        "lid_mom": np.array([_lid_moments(r) for r, _ in rows]),
    }
    kdist = out["kdist"] if reference is None else reference["kdist"]
    out["lrd"] = np.array([_lrd(r, kdist[o]) for r, o in rows])

    lid = out["lid"] if reference is None else reference["lid"]
    lrd = out["lrd"] if reference is None else reference["lrd"]
    ratios = [
        _ratios(out["kdist"][i], out["lrd"][i], kdist[o], lid[o], lrd[o]) for i, (_, o) in enumerate(rows)
    ]
    for name, column in zip(("lof", "slof", "dao", "logdao"), np.array(ratios).reshape(-1, 4).T, strict=True):
        out[name] = column
    return out


def mean_cosine(a: Array, b: Array, index: Array, threads: int = 1) -> Array:
    """out[i] = mean over j of cos(a_i, b_index[i, j]); a zero vector has cosine 0, "nobody" is left out."""
    a, b = (_normalised(np.asarray(x, np.float64)) for x in (a, b))
    return np.array(
        [(b[j[j >= 0]] @ row).mean() if (j >= 0).any() else 0.0 for row, j in zip(a, index, strict=True)]
    )


def _normalised(rows: Array) -> Array:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)


def _lid_mle(r: Array) -> float:
    used = r[r > 0]
    return 1.0 / max(np.log(r[-1] / used).mean(), 1.0 / MAX_LID) if len(used) else 0.0


def _lid_moments(r: Array) -> float:
    mean = r.mean() if len(r) else 0.0
    return mean / max(r[-1] - mean, mean / MAX_LID) if mean > 0 else 0.0


def _lrd(r: Array, kdist: Array) -> float:
    reach = np.maximum(kdist, r)
    return 1.0 / reach.mean() if reach.sum() > 0 else np.inf


def _ratios(
    own: float, own_lrd: float, kdist: Array, lid: Array, lrd: Array
) -> tuple[float, float, float, float]:
    there = kdist > 0
    if not there.any():
        return 1.0, 1.0, 1.0, 0.0
    kdist, lid, lrd = kdist[there], lid[there], lrd[there]
    ratio = own / kdist
    power = lid * np.log(np.maximum(ratio, np.finfo(np.float64).tiny))
    top = power.max()
    dao = min(np.exp(min(top + np.log(np.exp(power - top).mean()), np.log(MAX_SCORE))), MAX_SCORE)
    return (lrd / own_lrd).mean(), ratio.mean(), dao, power.mean()
