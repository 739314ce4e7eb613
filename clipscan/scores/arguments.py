"""The arguments of `clipscan.score`, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from clipscan.engine import Rows, as_rows
from clipscan.engine.arrays import unit
from clipscan.errors import InputError
from clipscan.scores.references import Scale, parse_scales
from clipscan.scores.renamed import present_name
from clipscan.scores.table import CROSS, ELSEWHERE, JOINT, METHODS, NEED_TEXT, SEARCHED


class Samples(NamedTuple):
    """What is known of n samples: pictures [n, d], captions [n, d], untrained features [n, p]."""

    image: Rows
    text: Rows | None
    pictures: Rows | None


class Question(NamedTuple):
    """Which scores are asked for, and against what: draws at each scale, or the rows `given` [m, d]."""

    methods: list[str]
    scales: list[Scale]
    given: Rows | None
    joint: bool  # captions join the reference


def samples_of(embeddings: Any, text: Any, pictures: Any, normalize: bool) -> Samples:
    """The samples in arrays of any library. InputError where these do not fit each other."""
    image = rows_of(embeddings, "embeddings", normalize)
    captions = None if text is None else rows_of(text, "text", normalize)
    check_pairs(image, captions)
    features = None if pictures is None else rows_of(pictures, "pictures", False)
    if features is not None and features.n != image.n:
        raise InputError(f"embeddings have {image.n} rows, pictures has {features.n}: one a row, in order")
    return Samples(image, captions, features)


def is_drawn(reference: Any) -> bool:
    """Whether a reference is named, to be drawn; otherwise it is an array of rows."""
    return isinstance(reference, (str, int, np.integer))


def question_of(
    method: str | Sequence[str], reference: Any, against: str, normalize: bool, with_text: bool
) -> Question:
    """The arguments of these names, checked; "all" leaves out what given reference rows cannot serve."""
    methods = chosen_methods(method, with_text)
    if against not in ("image", "image+text") or (against == "image+text" and not with_text):
        raise InputError(f"against={against!r} must be 'image', or 'image+text' together with text=")
    joint = against == "image+text"
    if is_drawn(reference):
        return Question(methods, parse_scales(reference), None, joint)
    given = rows_of(reference, "reference", normalize)
    if method == "all":
        methods = [name for name in methods if name not in (*CROSS, *JOINT)]
    if joint or set(methods) & {*CROSS, *JOINT}:
        raise InputError(
            f"{', '.join((*CROSS, *reversed(JOINT)))} and against='image+text' need more than the rows of "
            "the reference; have it drawn: '1024x8'"
        )
    return Question(methods, [Scale("array", 0, 1)], given, joint)


def chosen_methods(method: str | Sequence[str], with_text: bool, known: Sequence[str] = METHODS) -> list[str]:
    """The methods asked for, checked, by their present names; "all" is every one that can be computed."""
    if method == "all":
        return [name for name in METHODS if with_text or name not in NEED_TEXT]
    methods = [present_name(one) for one in ([method] if isinstance(method, str) else method)]
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


def check_sizes(image: Rows, question: Question, k: int) -> None:
    """Raises InputError where k is too large for the rows or for a reference, or widths differ."""
    methods, given = question.methods, question.given
    if k < 1:
        raise InputError(f"k must be at least 1, got k={k}")
    if given is not None and given.d != image.d:
        raise InputError(f"embeddings have width {image.d}, the reference has width {given.d}")
    if set(JOINT) & set(methods) and k >= image.n:
        raise InputError(f"k={k} neighbours need more than k rows, the embeddings have {image.n}")
    if not set(methods) & set(SEARCHED):
        return
    for scale in question.scales:
        m = given.n if given else scale.rows if scale.fits(image.n) else image.n
        if k >= m:
            raise InputError(
                f"k={k} neighbours need more than k rows in the reference, {scale.name!r} has {m}: "
                f"use k < {m}" + ("" if given or m == image.n else " or a larger reference")
            )
