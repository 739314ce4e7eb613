"""Scores that have a new name: the old one works for one version more."""

from __future__ import annotations

import warnings

RENAMED = {"hubs": "antihub"}  # old -> new


def present_name(score: str) -> str:
    """The name that a score has today, NAME or NAME@REFERENCE; others as they are."""
    name, at, reference = str(score).partition("@")
    return RENAMED[name] + at + reference if name in RENAMED else score


def warn_if_renamed(score: str, stacklevel: int = 1) -> str:
    """present_name, with a DeprecationWarning for an old one. stacklevel: 1 is the caller of this."""
    name = present_name(score)
    if name != score:
        said = f"the score {score} is named {name} now"
        warnings.warn(said, DeprecationWarning, stacklevel=stacklevel + 1)
    return name
