"""The one record that every reader yields and everything above consumes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One image-text pair, born whole. `(shard, key)` is its identity within the dataset.

    `image` holds the encoded bytes as they lie in the dataset (None for precomputed embeddings).
    `at` says where in the shard the sample begins, so that it can be fetched again without a
    scan: byte offset of its first header in a tar, row number in a table, -1 where unknown.
    """

    shard: str
    key: str
    image: bytes | None
    caption: str
    uid: str = ""
    sha256: str = ""
    url: str = ""
    at: int = -1


@dataclass(frozen=True, slots=True)
class Bad:
    """A sample that could not be read, and why. An empty key: the shard itself broke there."""

    shard: str
    key: str
    reason: str
