"""Held-out clean pairs whose pictures are in the scanned dataset too: no yardstick for it."""

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


def scanned_too(run: Run, image: Rows, clean: Run, clean_image: Rows, **how: Any) -> Array:
    """Which of the m clean pairs show a picture that the run holds, bool [m]: by its sha256 where both say
    it, or by its vector. RunError for vectors of different widths."""
    if image.d != clean_image.d:
        raise RunError(
            f"{run.path} has vectors of width {image.d}, {clean.path} of {clean_image.d}: two models"
        )
    nearest = search(clean_image, image, 1, **how).distance[:, 0]
    length = np.concatenate([np.linalg.norm(block, axis=1) for _, block in clean_image.blocks()])
    return np.asarray(nearest <= SAME * length) | _by_digest(run, clean)


def _by_digest(run: Run, clean: Run) -> Array:
    digests = [one.names("sha256")["sha256"].to_pylist() for one in (run, clean)]
    scanned = {digest.lower() for digest in digests[0] if digest}
    return np.array([bool(digest) and digest.lower() in scanned for digest in digests[1]], bool)
