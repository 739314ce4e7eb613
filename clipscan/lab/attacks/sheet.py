"""A sheet with a picture of every attack: one scene with each trigger, and below it what was changed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clipscan.data.atomic import replacing
from clipscan.data.redraw import Pixels
from clipscan.lab.attacks.triggers import find_attack, options_of
from clipscan.lab.scenes.drawing import scene

ENLARGED = 3  # screen pixels of a pixel
LOUDER = 4  # times the change is shown, around grey
GAP, LABEL = 12, 22  # px between pictures; below them, for a name
PAPER, INK = (255, 255, 255), (40, 40, 40)


def draw_sheet(
    path: Path, attacks: Iterable[str], seed: int = 0, files: dict[str, str] | None = None
) -> Path:
    """Write a PNG: a column for each attack, the untouched scene first; every trigger at its defaults.

    files: attack -> the file of a learnt trigger; those without one are left out.
    """
    clean = scene(seed, 0)[0]
    shown: dict[str, Pixels] = {"clean": clean}
    for name in attacks:
        given = {"file": files[name]} if files and name in files else {}
        if "file" not in options_of(name) or given:
            shown[name] = find_attack(name)(clean, Random(seed), **given)
    columns = [_column(name, picture, clean) for name, picture in shown.items()]
    with replacing(path) as (draft,):
        Image.fromarray(np.concatenate(columns, axis=1)).save(draft, "PNG", optimize=True)
    return path


def _column(name: str, picture: Pixels, clean: Pixels) -> Pixels:
    """Picture and change, one above the other, with the name below: [height, width, 3]."""
    change = 128 + LOUDER * (picture.astype(np.int64) - clean)
    side = [Image.fromarray(_large(one)) for one in (picture, np.clip(change, 0, 255).astype(np.uint8))]
    width, height = side[0].size
    column = Image.new("RGB", (width + GAP, 2 * (height + GAP) + LABEL), PAPER)
    for row, one in enumerate(side):
        column.paste(one, (GAP // 2, GAP // 2 + row * (height + GAP)))
    draw = ImageDraw.Draw(column)
    draw.text((width // 2 + GAP // 2, 2 * (height + GAP)), name, INK, ImageFont.load_default(14), "ma")
    return np.asarray(column)


def _large(picture: Pixels) -> Pixels:
    return picture.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)
