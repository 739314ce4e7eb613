"""Which rows a sample is compared with: `reference="1024x8,all"` and how the rows are drawn.

Density finds poison only while fewer than k of its kind are among the references (Huang et al.
2025), so the reference is part of the method. Rows are drawn by a seeded hash of their identity:
the draw depends neither on row order nor on who computes it. A run knows pairs by what their vectors are:
names, which come with the way a dataset is read, do not decide.

Copies count once. A reference holds different rows: were it to hold k or more copies of one, then all
neighbours of the rows near by would lie at one and the same distance, which has no dimension, and LID, DAO
and logDAO of everybody who meets such a row would say nothing. Of its own copies a row knows how many were
met before the draw was full. They are its first neighbours, at distance 0 and as dense as it is itself; k of
them make its scores neutral. (Its LID is that of k different neighbours all the same.) So a placeholder that
occurs a thousand times does not stand alone, and nobody else's score depends on how often it occurs. Without
copies nothing of this has any effect.

Equal means equal, bit by bit (as float32): near-copies, of a picture that was encoded again, count one by
one, and k of them in a draw have the effect described above.
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


class Draw(NamedTuple):
    """Different rows of a draw, in hash order, and how often each was drawn before the draw was full."""

    rows: Array  # [m] row numbers
    times: Array  # [m] at least 1


class Identity(NamedTuple):
    """What tells rows apart: `code` [n] uint64 for drawing, `group` [n] int64 for excluding oneself,
    `content` [n] int64, equal for equal rows: 0, 1, ...

    With given ids every row is its own group. Without, a row is known by its content: copies draw
    one another's lots in order of appearance and form one group, so that equal rows get equal scores and
    row order does not matter.
    """

    code: Array
    group: Array
    content: Array

    @property
    def different(self) -> int:
        """How many different rows there are."""
        return int(self.content.max()) + 1

    def draw(self, scale: Scale, number: int, seed: int) -> Draw:
        """Different rows of smallest hash, in hash order. Draws nest: those of a smaller scale are the first
        of a larger one. A scale that holds everything gives every row once."""
        lot, different = self._lots(number, seed), self.different
        wanted = scale.rows if scale.fits(different) else different
        if different == len(lot):
            return Draw(_first(lot, wanted), np.ones(wanted, np.int64))
        taken = wanted if scale.fits(different) else len(lot)
        while True:  # until enough of them differ
            rows = _first(lot, taken)
            content, first = np.unique(self.content[rows], return_index=True)
            if len(content) >= wanted:
                break
            taken *= 2
        kept = np.sort(first)[:wanted]
        met = rows if wanted == different else rows[: kept[-1] + 1]
        times = np.bincount(np.searchsorted(content, self.content[met]), minlength=len(content))
        return Draw(rows[kept], times[np.searchsorted(content, self.content[rows[kept]])])

    def sample(self, scale: Scale, draw: int, seed: int) -> Array:
        """Row numbers of draw number `draw`, copies among them: the rows of smallest hash, in hash order.
        Draws nest. A scale that holds everything gives all rows."""
        lot = self._lots(draw, seed)
        return _first(lot, scale.rows if scale.fits(len(lot)) else len(lot))

    def of_sample(self, rows: Array) -> Array:
        """Groups of sampled rows for the search: one copy of each group keeps it, the rest get their own."""
        group = self.group[rows]
        again = np.ones(len(rows), bool)
        again[np.unique(group, return_index=True)[1]] = False
        group[again] = -1 - np.arange(again.sum())
        return group

    def _lots(self, draw: int, seed: int) -> Array:
        with np.errstate(over="ignore"):
            salt = _mix(np.uint64(seed) * GOLDEN + np.uint64(draw))
        return _mix(self.code ^ salt)  # type: ignore[no-any-return]


def check_seed(seed: int) -> None:
    """InputError for a seed that the draws cannot take."""
    if not 0 <= seed < 1 << 63:
        raise InputError(f"a seed is a whole number from 0 to 2**63 - 1, got seed={seed}")


def _first(lot: Array, count: int) -> Array:
    """Where the `count` smallest are, smallest first."""
    if count >= len(lot):
        return np.argsort(lot, kind="stable")
    first = np.argpartition(lot, count)[:count]
    return first[np.argsort(lot[first], kind="stable")]


def identify(rows: Rows, ids: Any = None, threads: int = 1) -> Identity:
    """Identity of each row, from `ids` (n integers or strings, all different) or from its content."""
    hashes, content = _contents(rows, threads)
    if ids is not None:
        return Identity(_codes(ids, rows), np.arange(rows.n, dtype=np.int64), content)
    return Identity(_lot(hashes, _occurrence(content)), content, content)


def identify_pairs(image: Rows, text: Rows | None, threads: int = 1) -> Identity:
    """Identity of each pair of a dataset by its vectors, so that neither names nor the order of rows decide;
    unlike copies without ids, every row is its own group, as copies of a picture may differ in caption.

    Where no two pictures are equal, draws are those of `identify` without ids. Copies of a picture draw lots
    in the order of their captions' hashes, those of a whole pair in order of appearance.
    """
    hashes, content = _contents(image, threads)
    said = hash_rows(text, threads) if text else np.zeros(image.n, np.uint64)
    order = np.argsort(said, kind="stable")
    copy = np.empty(image.n, np.int64)
    copy[order] = _occurrence(content[order])
    return Identity(_lot(hashes, copy), np.arange(image.n, dtype=np.int64), content)


def _contents(rows: Rows, threads: int) -> tuple[Array, Array]:
    """Hash of each row, and which rows are equal. Two passes over the data: NaN is refused in the first."""
    check_rows(rows, threads)
    hashes = hash_rows(rows, threads)
    _, content = np.unique(hashes, return_inverse=True)
    return hashes, content.ravel().astype(np.int64)


def _lot(hashes: Array, copy: Array) -> Array:
    with np.errstate(over="ignore"):
        return _mix(hashes + copy.astype(np.uint64) * GOLDEN)  # type: ignore[no-any-return]


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


def _occurrence(group: Array) -> Array:
    """0 for the first member of each group, 1 for the second, ..."""
    order = np.argsort(group, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(group))])[:-1]
    out = np.empty(len(group), np.int64)
    out[order] = np.arange(len(group)) - start[group[order]]
    return out


def _mix(x: Any) -> Any:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014), element by element."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
