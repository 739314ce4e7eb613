"""RUN/invert/NAME: what a recovery leaves behind. result.json is written last: with it the work is finished.

mask.png, pattern.png      of the most telling form, as they are (a canvas may be smaller than a picture)
pictures.png               held-out pictures, above as they are, below with the trigger
control_*.png              the same of the cheapest control
result.json                settings and every figure
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipscan.data.atomic import replacing
from clipscan.data.redraw import encode
from clipscan.invert.trigger import Trigger, stamp

Pixels = NDArray[np.uint8]

SHOWN = 6  # pictures before and after
SIDE = 96  # a smaller picture is enlarged by whole pixels to about this side, so that a patch can be seen
GAP = 4  # white pixels between pictures
GREY = 0.5  # where there is no pattern


def write(folder: Path, record: dict[str, Any], pictures: dict[str, bytes]) -> None:
    """All files of a recovery at once, by renaming."""
    names = [f"{name}.png" for name in pictures]
    with replacing(*(folder / name for name in [*names, "result.json"])) as drafts:
        for draft, content in zip(drafts, pictures.values(), strict=False):
            draft.write_bytes(content)
        drafts[-1].write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def drawn(prefix: str, trigger: Trigger, pictures: Pixels, seed: int) -> dict[str, bytes]:
    """The four PNGs of one recovered trigger, by name."""
    before = pictures[:SHOWN]
    size = before.shape[1]
    mask = _centred(trigger.mask, size, 0.0)
    pattern = _centred(trigger.pattern, size, GREY)
    full = mask / max(float(mask.max()), 1e-6)  # a faint mask would show nothing
    sheets = {
        "mask": _eight_bits(mask),
        "pattern": _eight_bits(pattern),
        "seen": _eight_bits(pattern * full + GREY * (1 - full)),
        "pictures": strip(before, stamp(before, trigger, seed)),
    }
    return {f"{prefix}{name}": encode(sheet, "PNG") for name, sheet in sheets.items()}


def strip(before: Pixels, after: Pixels) -> Pixels:
    """Two rows of pictures [n, S, S, 3] on white, enlarged by whole pixels where they are small."""
    n, size = before.shape[:2]
    factor = max(1, SIDE // size)
    side = factor * size
    sheet = np.full((2 * side + GAP, n * (side + GAP) - GAP, 3), 255, np.uint8)
    for row, pictures in enumerate((before, after)):
        for column, picture in enumerate(pictures):
            top, left = row * (side + GAP), column * (side + GAP)
            sheet[top : top + side, left : left + side] = picture.repeat(factor, 0).repeat(factor, 1)
    return sheet


def _centred(canvas: NDArray[np.float32], size: int, around: float) -> NDArray[np.float32]:
    """[c, c, 1 or 3] in the middle of [size, size, 3]."""
    sheet = np.full((size, size, 3), around, np.float32)
    at = (size - len(canvas)) // 2
    sheet[at : at + len(canvas), at : at + len(canvas)] = canvas
    return sheet


def _eight_bits(values: NDArray[np.float32]) -> Pixels:
    return np.rint(np.clip(255 * values, 0, 255)).astype(np.uint8)
