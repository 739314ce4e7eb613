"""Which rows a sample is compared with: `reference="1024x8,all"` and how the rows are drawn.

Density finds poison only while fewer than k of its kind are among the references (Huang et al.
2025), so the reference is part of the method. Rows are drawn by a seeded hash of their identity:
the draw depends neither on row order nor on who computes it.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np

from clipscan.engine import Rows, check_rows, hash_rows
from clipscan.engine.arrays import Array
from clipscan.errors import InputError

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # odd; steps of it visit every 64-bit number


class Scale(NamedTuple):
    """One entry of `reference=`: `draws` independent samples of `rows` rows; rows = 0 means all."""

    name: str
    rows: int
    draws: int

    def fits(self, n: int) -> bool:
        """Whether a draw is a true sample of n rows; otherwise the reference is all of them."""
        return 0 < self.rows < n


def parse_scales(reference: str | int) -> list[Scale]:
    """ "all" | M | "MxR" and comma lists of them -> Scales; InputError says what is wrong."""
    scales = []
    for entry in str(reference).split(","):
        name = entry.strip()
        rows, _, draws = name.partition("x")
        if name == "all":
            scales.append(Scale("all", 0, 1))
        elif rows.isdigit() and int(rows) > 1 and ((draws.isdigit() and int(draws) > 0) or name == rows):
            scales.append(Scale(name, int(rows), int(draws or 1)))
        else:
            raise InputError(
                f"reference={reference!r}: {name!r} is none of 'all', M (rows drawn), 'MxR' (R draws of M "
                f"rows, M > 1); several go separated by commas, as in '256x8,1024x8'"
            )
    if len({scale.name for scale in scales}) < len(scales):
        raise InputError(f"reference={reference!r} names a scale twice")
    return scales


class Identity(NamedTuple):
    """What tells rows apart: `code` [n] uint64 for drawing, `group` [n] int64 for excluding oneself.

    With given ids every row is its own group. Without, a row is known by its content: copies draw
    one another's lots in order of appearance and form one group, of which every member leaves out
    one copy, so that equal rows get equal scores and row order does not matter.
    """

    code: Array
    group: Array

    def sample(self, scale: Scale, draw: int, seed: int) -> Array:
        """Row numbers of draw number `draw`: the rows of smallest hash, in hash order. Draws nest: those
        of a smaller scale are the first of a larger one. A scale that holds everything gives all rows."""
        with np.errstate(over="ignore"):
            salt = _mix(np.uint64(seed) * GOLDEN + np.uint64(draw))
        lot = _mix(self.code ^ salt)
        if not scale.fits(len(lot)):
            return np.argsort(lot, kind="stable")
        first = np.argpartition(lot, scale.rows)[: scale.rows]
        return first[np.argsort(lot[first], kind="stable")]

    def of_sample(self, rows: Array) -> Array:
        """Groups of drawn rows for the search: one copy of each group keeps it, the rest get their own."""
        group = self.group[rows]
        again = np.ones(len(rows), bool)
        again[np.unique(group, return_index=True)[1]] = False
        group[again] = -1 - np.arange(again.sum())
        return group


def identify(rows: Rows, ids: Any = None, threads: int = 1) -> Identity:
    """Identity of each row, from `ids` (n integers or strings, all different) or from its content.

    One pass over the data; without ids it is also where NaN rows are refused.
    """
    check_rows(rows, threads)
    if ids is None:
        codes = hash_rows(rows, threads)
        _, first, group = np.unique(codes, return_index=True, return_inverse=True)
        copy = _occurrence(group.ravel(), len(first))
        with np.errstate(over="ignore"):
            return Identity(_mix(codes + copy.astype(np.uint64) * GOLDEN), group.ravel().astype(np.int64))
    return Identity(_codes(ids, rows), np.arange(rows.n, dtype=np.int64))


def _codes(ids: Any, rows: Rows) -> Array:
    values = list(ids)
    if len(values) != rows.n:
        raise InputError(f"ids: {len(values)} identities for {rows.n} rows of {rows.name}")
    words = [str(value).encode("utf-8", "surrogatepass") for value in values]
    # Keyed by a fixed person string: any 64-bit cryptographic hash would do.
    digest = b"".join(hashlib.blake2b(word, digest_size=8, person=b"clipscan").digest() for word in words)
    if len(set(words)) < len(words):
        raise InputError(
            f"ids: {len(words) - len(set(words))} identities occur more than once; they must differ"
        )
    return np.frombuffer(digest, "<u8").copy()


def _occurrence(group: Array, groups: int) -> Array:
    """0 for the first member of each group, 1 for the second, ..."""
    order = np.argsort(group, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=groups))])[:-1]
    out = np.empty(len(group), np.int64)
    out[order] = np.arange(len(group)) - start[group[order]]
    return out


def _mix(x: Any) -> Any:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014), element by element."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
