"""Checks of run.json before it is used, since people edit it and versions differ."""

from __future__ import annotations

from typing import Any

OBJECTS = (
    "opened", "dataset", "embed", "encoder", "asked", "definitions", "made_by", "graph", "score", "counts",
    "estimate", "passed_over",
)  # fmt: skip


def misshapen(record: dict[str, Any]) -> str:
    """What of a run.json is not of the kind that clipscan writes, in words; "" for nothing."""
    for name in OBJECTS:
        if not isinstance(section := record.get(name, {}), dict):
            return f"{name!r} holds {_kind(section)} in place of an object"
    for stage, asked in record.get("asked", {}).items():
        if not isinstance(asked, dict):
            return f"'asked' holds {_kind(asked)} for {stage!r} in place of an object"
    if "embed" in record.get("asked", {}) and not _names(record.get("dataset", {}).get("shards")):
        return "'dataset' does not name the shards"
    source = record.get("opened", {}).get("source") or []
    if not isinstance(source, str) and not _names(source):
        return "'opened' does not say which files were read"
    return ""


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
