"""clipscan: find the poisoned pairs in an image-text dataset before a model learns from them.

r = clipscan.score(embeddings)          # suspicion of each row, [n]
g = clipscan.knn(embeddings, k=16)      # the exact neighbour graph
s = clipscan.scan("shards/", ...)       # a dataset on disk, end to end (needs clipscan[embed])
clipscan.show("run/")                   # in a notebook: counts and the first groups
keep = clipscan.DropList.load("run/drop.parquet")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from clipscan.errors import BackendError, ClipscanError, DataError, InputError, RunError

if TYPE_CHECKING:
    from clipscan.engine import Neighbors, knn
    from clipscan.pipeline import scan
    from clipscan.report.notebook import show
    from clipscan.report.write_lists import DropList
    from clipscan.scores import ScoreResult, score
    from clipscan.scores.mixture import partition

__version__ = "0.1.0"
__all__ = [
    "BackendError",
    "ClipscanError",
    "DataError",
    "DropList",
    "InputError",
    "Neighbors",
    "RunError",
    "ScoreResult",
    "knn",
    "partition",
    "scan",
    "score",
    "show",
]

# Found on first use, so that `import clipscan` costs nothing and pulls in neither pyarrow nor torch.
_HOME = {
    "DropList": "clipscan.report.write_lists",
    "Neighbors": "clipscan.engine",
    "ScoreResult": "clipscan.scores",
    "knn": "clipscan.engine",
    "partition": "clipscan.scores.mixture",
    "scan": "clipscan.pipeline",
    "score": "clipscan.scores",
    "show": "clipscan.report.notebook",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'clipscan' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
