"""Trusted pairs whose pictures are among the scanned ones: they cannot vouch for themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clipscan.engine import Rows, search
from clipscan.engine.arrays import Array
from clipscan.errors import RunError

if TYPE_CHECKING:
    from clipscan.run.run import Run

# Of a vector's length. Stored as float16, the same picture of two runs differs by half of that at most.
SAME = 1e-3


def scanned_too(run: Run, image: Rows, trusted: Run, known: Rows, **how: Any) -> Array:
    """Which of the m trusted pairs show a picture that the run holds, bool [m]: by its sha256 where both say
    it, or by its vector. RunError for vectors of different widths."""
    if image.d != known.d:
        raise RunError(f"{run.path} has vectors of width {image.d}, {trusted.path} of {known.d}: two models")
    nearest = search(known, image, 1, **how).distance[:, 0]
    length = np.concatenate([np.linalg.norm(block, axis=1) for _, block in known.blocks()])
    return np.asarray(nearest <= SAME * length) | _by_digest(run, trusted)


def _by_digest(run: Run, trusted: Run) -> Array:
    digests = [one.names("sha256")["sha256"].to_pylist() for one in (run, trusted)]
    scanned = {digest.lower() for digest in digests[0] if digest}
    return np.array([bool(digest) and digest.lower() in scanned for digest in digests[1]], bool)
