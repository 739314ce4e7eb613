"""DropList: the pairs to leave out, as a set, and as a filter for a training pipeline."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.data.text import printable
from clipscan.errors import DataError, InputError
from clipscan.report.drop_columns import kept_rows
from clipscan.report.find_sample import without_suffix
from clipscan.report.shard_urls import ShardUrls
from clipscan.report.uids import datacomp, is_uid, pack
from clipscan.run.markers import check_intact

# Schema metadata of drop.parquet, JSON lists:
SHARDS = b"clipscan.shards"  # every shard of the dataset
SHARED = b"clipscan.shared"  # keys on the list that name samples off it too, in other shards


class DropList:
    """Samples to leave out. A container of (shard, key) pairs, and a predicate that is True for "keep".

        keep = DropList.load("run/drop.parquet")
        ("00012.tar", "000120007") in keep          # True: it is on the list of samples to drop
        "000120007" in keep                         # the same, where the key alone says which sample
        images[keep.mask(keys)]                     # bool [n], True: it stays
        wds.WebDataset(urls).select(keep)           # reads sample["__url__"] and sample["__key__"]
        dataset.select(keep.indices(dataset))       # Hugging Face's; rows of any table with such columns

    A key, or a picture's file name, stands for its sample where no other sample of the dataset has it, as
    recorded in the drop.parquet of a run; a list made `from_rows` holds the pairs that it was given, and no
    others.

    A URL belongs to the shard whose name ends it, whole path parts at a time (shard_urls.py). With `root`,
    the name is what follows `root` in the URL, and nothing is guessed. A URL that fits several shards, or
    none, raises: dropping the wrong samples, or none, must not pass in silence. A list made `from_rows`
    without `shards` has no other shards to compare with and keeps a URL that fits none. Immutable; pickles,
    so worker processes may have it.
    """

    def __init__(
        self,
        pairs: Iterable[tuple[str, str]],
        *,
        uids: Iterable[str] = (),
        shards: Iterable[str] | None = None,
        shared: Iterable[str] | None = None,
        root: str | None = None,
    ) -> None:
        keys: dict[str, set[str]] = {}
        for shard, key in pairs:
            keys.setdefault(shard, set()).add(key)
        self._keys = {shard: frozenset(of) for shard, of in keys.items()}
        every = {*self._keys, *(shards or ())}
        alone = shards is not None and len(every) == 1  # no other shard can have a key of this one
        self._shared = None if shared is None and not alone else frozenset(shared or ())
        self._uids = frozenset(uid for uid in uids if uid)
        self._urls = ShardUrls(every, complete=shards is not None, root=root)

    @classmethod
    def load(cls, path: str | Path, *, root: str | None = None) -> DropList:
        """Read a drop.parquet, or that of a run folder. DataError where it is none."""
        path = Path(path) / "drop.parquet" if Path(path).is_dir() else Path(path)
        check_intact(path)
        if not path.exists() and (path.parent / "run.json").exists():
            raise DataError(
                f"{path.parent} is not scored yet and has no {path.name}: clipscan score {path.parent}"
            )
        if not path.exists():
            raise DataError(
                f"{path} cannot be read as a drop list: there is no such file; a scan writes RUN/drop.parquet"
            )
        try:
            table = pq.read_table(path)
        except (OSError, ValueError) as broken:  # pyarrow's own errors are both
            raise DataError(
                f"{path} cannot be read as a drop list: {broken}. Decisions in another form become one by: "
                "clipscan export RUN --decisions FILE"
            ) from broken
        missing = {"shard", "key"} - set(table.column_names)
        if missing:
            raise DataError(f"{path} lacks {sorted(missing)}; expected the drop.parquet of a run folder")
        uids = table["uid"].to_pylist() if "uid" in table.column_names else []
        shards, shared = (_stated(table, name) for name in (SHARDS, SHARED))
        pairs = zip(table["shard"].to_pylist(), table["key"].to_pylist(), strict=True)
        return cls(pairs, uids=uids, shards=shards, shared=shared, root=root)

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[tuple[Any, ...] | Mapping[str, Any]],
        *,
        shards: Iterable[str] | None = None,
        root: str | None = None,
    ) -> DropList:
        """From (shard, key), (shard, key, uid, ...) or mappings with those names."""
        listed = [
            (row["shard"], row["key"], row.get("uid", "")) if isinstance(row, Mapping) else (*row[:3], "")[:3]
            for row in rows
        ]
        return cls(
            ((shard, key) for shard, key, _ in listed),
            uids=[uid for *_, uid in listed],
            shards=shards,
            root=root,
        )

    def __contains__(self, sample: object) -> bool:
        """Whether a (shard, key) is on the list, or a key or file name that only one sample has; InputError
        where that is ambiguous."""
        if isinstance(sample, str):
            return self._on_list(printable(sample))
        if not (isinstance(sample, tuple) and len(sample) == 2):
            raise InputError(f"a DropList holds (shard, key) pairs, and takes keys; not {sample!r}")
        return sample[1] in self._keys.get(sample[0], ())

    def mask(self, samples: Iterable[str | tuple[str, str]]) -> npt.NDArray[np.bool_]:
        """Which of n keys, file names or (shard, key) pairs to keep, bool [n]. InputError for a single name,
        and as `in` has it."""
        if isinstance(samples, str):
            raise InputError(f"mask takes many samples; of one ask: {samples!r} in keep")
        return np.array([sample not in self for sample in samples], bool)

    def _on_list(self, name: str) -> bool:
        key = name if name in self._shards else without_suffix(name)
        shards = self._shards.get(key, ())
        if shards and (self._shared is None or key in self._shared):
            raise InputError(
                f"{name!r} is dropped in {', '.join(map(repr, shards[:4]))}, and other samples may have that "
                "key: ask by (shard, key) pairs"
            )
        return bool(shards)

    @cached_property
    def _shards(self) -> dict[str, list[str]]:
        """Of each key the shards that drop it."""
        found: dict[str, list[str]] = {}
        for shard in sorted(self._keys):
            for key in self._keys[shard]:
                found.setdefault(key, []).append(shard)
        return found

    def __len__(self) -> int:
        return sum(map(len, self._keys.values()))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """The pairs, sorted."""
        return ((shard, key) for shard in sorted(self._keys) for key in sorted(self._keys[shard]))

    def __repr__(self) -> str:
        return f"DropList({len(self)} samples in {len(self._keys)} shards)"

    def __call__(self, sample: Mapping[str, Any] | str, key: str | None = None) -> bool:
        """True = keep. For webdataset's `select`: reads sample["__url__"] and sample["__key__"]. As keep(url,
        key) for filter(keep, input_columns=["__url__", "__key__"]) of Hugging Face datasets. InputError where
        they are missing, DataError where the URL fits no shard, or several."""
        if isinstance(sample, str) and key is not None:
            return printable(key) not in self._keys.get(self.shard_of(sample), ())
        try:
            url, key = sample["__url__"], sample["__key__"]  # type: ignore[index]
        except (KeyError, TypeError) as missing:
            raise InputError(
                f"the sample has no {missing}; select(keep) belongs right after WebDataset(urls),"
                " before to_tuple or rename takes the names away"
            ) from missing
        return printable(key) not in self._keys.get(self.shard_of(url), ())  # as the readers name it

    def indices(
        self, table: Any, *, url: str | None = None, shard: str | None = None, key: str | None = None
    ) -> npt.NDArray[np.int64]:
        """Numbers of the rows to keep, int64 [kept], ascending, of anything that gives columns by name: a
        Hugging Face dataset (`dataset.select(keep.indices(dataset))`), a frame, an Arrow table, a dict of
        columns.

        The columns that identify a row are url or shard, and key; unless they are named "__url__" with
        "__key__", "shard" with "key", "__key__" or "key" alone, the first that are there. Keys alone must say
        which sample is meant, as in `mask`. InputError where the columns are missing or differ in length, and
        as `in` has it; DataError as `select` has it.
        """
        return kept_rows(self, table, url, shard, key)

    def shard_of(self, url: str) -> str:
        """The shard's name, "" for none known. DataError where it is ambiguous."""
        return self._urls.find(url)

    def keep_uids(self, uids: Iterable[str]) -> npt.NDArray[Any]:
        """DataComp subset array [m] (sorted "u8,u8") of those `uids` that are not to be dropped."""
        return datacomp(pack(uid for uid in uids if uid not in self._uids))

    @property
    def uids(self) -> frozenset[str]:
        """The uids among the dropped that are DataComp's (32 hex digits)."""
        return frozenset(filter(is_uid, self._uids))


def _stated(table: pa.Table, name: bytes) -> list[str] | None:
    """A list of the table's metadata, None where it has none."""
    text = (table.schema.metadata or {}).get(name)
    return None if text is None else json.loads(text)
