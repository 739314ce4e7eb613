"""How wide a dataset's embeddings are: as those of most of its files, of equally many the first's.

Files of another width come of another model, and their distances to the others mean nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cached_property

import numpy as np

from clipscan.data.array_files import array_shape
from clipscan.data.embedding_parts import Part
from clipscan.data.inventory import extension
from clipscan.data.vector_column import column_width
from clipscan.errors import DataError


class Widths:
    """The width of most image files and of most text files; their heads are read when first asked for."""

    def __init__(self, parts: Iterable[Part]) -> None:
        parts = list(parts)
        self._images = list(dict.fromkeys((part.image, part.image_name) for part in parts))
        self._texts = list(dict.fromkeys((part.text, part.text_name) for part in parts if part.text))

    @cached_property
    def image(self) -> int | None:
        return _commonest(self._images)

    @cached_property
    def text(self) -> int | None:
        return _commonest(self._texts)


def check_width(path: str, array: np.ndarray, usual: int | None) -> None:
    """DataError where the array [n, d] of the file is not as wide as most."""
    if len(array) and usual is not None and array.shape[1] != usual:
        raise DataError(f"{path} holds rows of width {array.shape[1]}, most files of the dataset {usual}")


def _commonest(arrays: list[tuple[str, str]]) -> int | None:
    counts = Counter(width for path, name in arrays if (width := _width(path, name)))
    return counts.most_common(1)[0][0] if counts else None


def _width(path: str, name: str) -> int | None:
    """None for a file that cannot be read or has no rows."""
    try:
        if extension(path) == "parquet":
            return column_width(path, name)
        shape = array_shape(path, name)
    except DataError:
        return None
    return shape[1] if len(shape) == 2 and shape[0] else None
