"""The lists of a run: drop.parquet, drop.txt, keep.txt, keep_uids.npy.

Every embedded sample is in exactly one of keep.txt and drop.txt; samples that could not be read are in
neither (bad.parquet names them). keep.txt follows the order of the embeddings, drop.txt and drop.parquet that
of the rows handed in, most suspicious first as a rule.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.data.atomic import replacing, save_array
from clipscan.errors import InputError, RunError
from clipscan.report.choose import choose_drops
from clipscan.report.drop_schema import DROP_SCHEMA
from clipscan.report.droplist import SHARDS, SHARED, DropList
from clipscan.report.find_sample import without_suffix
from clipscan.report.identities import bad_pairs, identities
from clipscan.report.list_format import escape, read_list, unescape
from clipscan.report.uids import datacomp, is_uid, pack

__all__ = [
    "DROP_SCHEMA",
    "DropList",
    "Written",
    "choose_drops",
    "escape",
    "read_list",
    "unescape",
    "write_lists",
]

Pair = tuple[str, str]
Row = tuple[str, str, str, str, float]  # shard, key, uid, reason, score


class Written(NamedTuple):
    """What `write_lists` wrote: kept + dropped = embedded; `uids` rows in keep_uids.npy, None without one;
    `before`: the lists that were replaced, in words, if the caller looked."""

    kept: int
    dropped: int
    uids: int | None
    before: str = ""


def write_lists(
    folder: Path,
    dropped: pa.Table | Iterable[Row],
    *,
    to: Path | None = None,
    names: tuple[str, str] = ("keep", "drop"),
) -> Written:
    """Write the four lists for the rows to drop, by rename, into the run folder or into `to`.

    names: what the files are called, KEEP.txt, KEEP_uids.npy, DROP.txt, DROP.parquet, as below.

    Streams embeddings/metadata: in memory are the dropped pairs, and 16 bytes a row for the uids.
    keep_uids.npy appears only where every embedded sample has a uid of 32 hex digits; a uid that any
    dropped row carries is not in it, even if a kept row carries it too. drop.parquet is renamed last: a kill
    before that has not changed what is to be dropped, and the other lists follow from it (keep_outputs.py).

    Errors: RunError for a row that the run does not hold or that is given twice; nothing is changed then.
    """
    table = as_table(dropped)
    wanted = _distinct_pairs(table)
    kept, drop = names
    files = (f"{kept}_uids.npy", f"{kept}.txt", f"{drop}.txt", f"{drop}.parquet")
    final = [(to or folder) / name for name in files]
    with replacing(*final) as (uids_draft, keep_draft, drop_draft, parquet_draft):
        with keep_draft.open("w", encoding="utf-8", newline="\n") as keep:
            walk = _walk(folder, wanted, keep)
        drop_draft.write_text("".join(map(_line, wanted)), encoding="utf-8", newline="\n")
        pq.write_table(with_shards(table, walk.shards, walk.shared), parquet_draft)
        uids = None if walk.halves is None else datacomp(walk.halves)
        if uids is not None:
            save_array(uids_draft, uids)
        final[0].unlink(missing_ok=True)
    return Written(walk.kept, len(wanted), None if uids is None else len(uids))


def with_shards(table: pa.Table, shards: Iterable[str], shared: Iterable[str] | None = None) -> pa.Table:
    """The table as DropList reads it: its metadata names every shard of the dataset and, where that is known,
    the keys that samples off the list have too."""
    metadata = {**(table.schema.metadata or {}), SHARDS: json.dumps(sorted(shards)).encode()}
    if shared is not None:
        metadata[SHARED] = json.dumps(sorted(shared)).encode()
    return table.replace_schema_metadata(metadata)


def as_table(rows: pa.Table | Iterable[Row]) -> pa.Table:
    """Rows to drop as a table of DROP_SCHEMA; InputError names what is missing."""
    if not isinstance(rows, pa.Table):
        columns = list(zip(*rows, strict=True)) or [()] * len(DROP_SCHEMA)
        return pa.table(dict(zip(DROP_SCHEMA.names, columns, strict=True)), schema=DROP_SCHEMA)
    missing = set(DROP_SCHEMA.names) - set(rows.column_names)
    if missing:
        raise InputError(f"rows to drop lack the columns {sorted(missing)}; expected {DROP_SCHEMA.names}")
    return rows.select(DROP_SCHEMA.names).cast(DROP_SCHEMA.with_metadata(rows.schema.metadata))


def _distinct_pairs(table: pa.Table) -> dict[Pair, None]:
    """(shard, key) of every row, in order (a dict keeps it)."""
    pairs: dict[Pair, None] = {}
    for pair in zip(table["shard"].to_pylist(), table["key"].to_pylist(), strict=True):
        if pair in pairs:
            raise RunError(f"{pair!r} is given twice among the rows to drop; name every sample once")
        pairs[pair] = None
    return pairs


class _Walked(NamedTuple):
    kept: int
    shards: set[str]
    shared: set[str]  # keys of `wanted` that a sample has which is not wanted, kept or unreadable
    halves: npt.NDArray[np.uint64] | None  # [kept, 2] uids; None unless every embedded sample has one


def _walk(folder: Path, wanted: dict[Pair, None], keep: IO[str]) -> _Walked:
    """One pass over the identities of a run; writes the kept ones to `keep`."""
    met: set[Pair] = set()
    dropped_uids: set[str] = set()
    unreadable = bad_pairs(folder)
    shards = {shard for shard, _ in unreadable}
    keys = {key for _, key in wanted}
    shared = _claimed(keys, (key for _, key in unreadable - wanted.keys()))
    halves: list[npt.NDArray[np.uint64]] | None = []
    kept = 0
    for batch in identities(folder):
        shards.update(batch.column("shard").unique().to_pylist())
        pairs = list(zip(batch.column("shard").to_pylist(), batch.column("key").to_pylist(), strict=True))
        uids = batch.column("uid").to_pylist()
        stays = [pair not in wanted for pair in pairs]
        keep.writelines(_line(pair) for pair, stay in zip(pairs, stays, strict=True) if stay)
        met.update(pair for pair, stay in zip(pairs, stays, strict=True) if not stay)
        shared |= _claimed(keys, (key for (_, key), stay in zip(pairs, stays, strict=True) if stay))
        kept += sum(stays)
        halves = None if halves is None or not all(map(is_uid, uids)) else halves
        if halves is not None:
            halves.append(pack(uid for uid, stay in zip(uids, stays, strict=True) if stay))
            dropped_uids.update(uid for uid, stay in zip(uids, stays, strict=True) if not stay)
    _refuse_strangers(folder, wanted, met)
    return _Walked(kept, shards, shared, _without(halves, dropped_uids))


def _claimed(keys: set[str], others: Iterable[str]) -> set[str]:
    """Those of `keys` that the keys of other samples may be taken for, whole or as file names."""
    return {key for other in others for key in (other, without_suffix(other)) if key in keys}


def _refuse_strangers(folder: Path, wanted: dict[Pair, None], met: set[Pair]) -> None:
    stranger = next((pair for pair in wanted if pair not in met), None)
    if stranger is not None:
        raise RunError(
            f"{folder} holds no sample {stranger!r}, one of {len(wanted) - len(met)} such rows to drop;"
            " was the list made from another run?"
        )


def _without(halves: list[npt.NDArray[np.uint64]] | None, uids: set[str]) -> npt.NDArray[np.uint64] | None:
    """All batches as one [n, 2], less the rows whose uid is in `uids`."""
    if not halves:
        return None
    rows = np.concatenate(halves)
    return rows[~np.isin(_sortable(rows), _sortable(pack(sorted(uids))))]


def _sortable(halves: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
    """[n, 2] halves as 16-byte strings, big-endian: they compare as the numbers do."""
    return np.ascontiguousarray(halves.astype(">u8")).view("V16").reshape(-1)


def _line(pair: Pair) -> str:
    return f"{escape(pair[0])}\t{escape(pair[1])}\n"
