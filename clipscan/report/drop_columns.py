"""Rows of a table that a drop list keeps, by the columns that say which sample a row is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from clipscan.errors import InputError

if TYPE_CHECKING:
    from clipscan.report.droplist import DropList


def kept_rows(
    drop: DropList, table: Any, url: str | None, shard: str | None, key: str | None
) -> npt.NDArray[np.int64]:
    """Numbers of the rows to keep [kept]; arguments and errors: DropList.indices."""
    if url and shard:
        raise InputError(f"url={url!r} and shard={shard!r} both name the shard: give one of them")
    names = _names(table)
    if key is None:
        url, shard, key = _usual(names, url, shard)
    if missing := [name for name in (url, shard, key) if name and name not in names]:
        raise InputError(f"the table has no column {missing[0]!r}; it has {', '.join(map(str, names))}")
    keys = _texts(table, key)
    where = _texts(table, url or shard) if url or shard else None
    if where is not None and len(where) != len(keys):
        raise InputError(f"column {url or shard!r} has {len(where)} rows, {key!r} has {len(keys)}")
    if where is None:
        keep: Iterable[bool] = drop.mask(keys)
    elif url:
        keep = (drop(one, name) for one, name in zip(where, keys, strict=True))
    else:
        keep = drop.mask(zip(where, keys, strict=True))
    return np.flatnonzero(np.fromiter(keep, bool, len(keys))).astype(np.int64)


def _names(table: Any) -> list[str]:
    for attribute in ("column_names", "columns"):  # of Hugging Face and Arrow, of frames
        if (names := getattr(table, attribute, None)) is not None:
            return list(names)
    return list(table)


def _usual(names: list[str], url: str | None, shard: str | None) -> tuple[str | None, str | None, str]:
    key = next((name for name in ("__key__", "key") if name in names), None)
    if key is None:
        raise InputError(
            f"no column '__key__' or 'key' says which sample a row is: name one with key=; the table has "
            f"{', '.join(map(str, names))}"
        )
    if url is None and shard is None:
        url = "__url__" if key == "__key__" and "__url__" in names else None
        shard = "shard" if key == "key" and "shard" in names else None
    return url, shard, key


def _texts(table: Any, name: str | None) -> list[str]:
    column = table[name]
    values = column.to_pylist() if hasattr(column, "to_pylist") else list(column)
    if other := next((one for one in values if not isinstance(one, str)), None):
        raise InputError(f"column {name!r} holds {type(other).__name__}, not text")
    return values  # type: ignore[no-any-return]
