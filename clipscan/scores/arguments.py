"""The arguments of `clipscan.score`, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clipscan.engine import Rows, as_rows
from clipscan.engine.arrays import unit
from clipscan.errors import InputError
from clipscan.scores.references import Scale
from clipscan.scores.table import ELSEWHERE, JOINT, METHODS, NEED_TEXT, SEARCHED


def chosen_methods(method: str | Sequence[str], with_text: bool, known: Sequence[str] = METHODS) -> list[str]:
    """The methods asked for, checked; "all" is every one that can be computed."""
    if method == "all":
        return [name for name in METHODS if with_text or name not in NEED_TEXT]
    methods = [method] if isinstance(method, str) else list(method)
    for name in methods:
        if name in ELSEWHERE and name not in known:
            raise InputError(f"{name!r} {ELSEWHERE[name]}")
        if name not in known:
            raise InputError(f"no score {name!r}; there are: {', '.join(known)}, or 'all'")
        if name in NEED_TEXT and not with_text:
            raise InputError(f"{name!r} compares pictures with captions: pass text= [n, d] too")
    if not methods:
        raise InputError(f"no method asked for; there are: {', '.join(METHODS)}, or 'all'")
    return methods


def rows_of(x: Any, name: str, normalize: bool) -> Rows:
    """Any library's [n, d] as Rows, each of length 1 where asked."""
    rows = as_rows(x, name)
    if not normalize:
        return rows
    return as_rows(unit(rows.block(0, rows.n)), name)


def check_pairs(image: Rows, captions: Rows | None) -> None:
    """Raises InputError unless the captions, if any, are as many and as wide as the pictures."""
    if captions is not None and captions.n != image.n:
        raise InputError(
            f"embeddings have {image.n} rows, text has {captions.n}: one caption a picture, in order"
        )
    if captions is not None and captions.d != image.d:
        raise InputError(
            f"embeddings have width {image.d}, text has {captions.d}: both towers of one CLIP model"
        )


def check_sizes(
    image: Rows, given: Rows | None, scales: Sequence[Scale], k: int, methods: Sequence[str]
) -> None:
    """Raises InputError where k is too large for the rows or for a reference, or widths differ."""
    if k < 1:
        raise InputError(f"k must be at least 1, got k={k}")
    if given is not None and given.d != image.d:
        raise InputError(f"embeddings have width {image.d}, the reference has width {given.d}")
    if set(JOINT) & set(methods) and k >= image.n:
        raise InputError(f"k={k} neighbours need more than k rows, the embeddings have {image.n}")
    if not set(methods) & set(SEARCHED):
        return
    for scale in scales:
        m = given.n if given else scale.rows if scale.fits(image.n) else image.n
        if k >= m:
            raise InputError(
                f"k={k} neighbours need more than k rows in the reference, {scale.name!r} has {m}: "
                f"use k < {m}" + ("" if given or m == image.n else " or a larger reference")
            )
