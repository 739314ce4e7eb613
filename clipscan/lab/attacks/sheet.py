"""A contact sheet of the attacks: one scene with each trigger, and below it what was changed."""

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
COLUMNS = 4  # attacks side by side: 816 px, which pages show at full size
LOUDER = 4  # times the change is shown, around grey
GAP, LABEL = 12, 30  # px between pictures; below them, for a name
LETTERS = 16  # px, smaller where a name would be cut
PAPER, INK = (255, 255, 255), (40, 40, 40)


def draw_sheet(
    path: Path, attacks: Iterable[str], seed: int = 0, files: dict[str, str] | None = None
) -> Path:
    """Write a PNG of lines of COLUMNS attacks, the untouched scene first; every trigger at its defaults.

    files: attack -> the file of a learnt trigger; those without one are left out.
    """
    clean = scene(seed, 0)[0]
    shown: dict[str, Pixels] = {"clean": clean}
    for name in attacks:
        given = {"file": files[name]} if files and name in files else {}
        if "file" not in options_of(name) or given:
            shown[name] = find_attack(name)(clean, Random(seed), **given)
    tiles = [_tile(name, picture, clean) for name, picture in shown.items()]
    width, height = tiles[0].size
    lines = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (min(COLUMNS, len(tiles)) * width, lines * height), PAPER)
    for at, tile in enumerate(tiles):
        sheet.paste(tile, (at % COLUMNS * width, at // COLUMNS * height))
    with replacing(path) as (draft,):
        sheet.save(draft, "PNG", optimize=True)
    return path


def _tile(name: str, picture: Pixels, clean: Pixels) -> Image.Image:
    """Picture and change, one above the other, with the name below."""
    change = 128 + LOUDER * (picture.astype(np.int64) - clean)
    pair = [Image.fromarray(_large(one)) for one in (picture, np.clip(change, 0, 255).astype(np.uint8))]
    width, height = pair[0].size
    tile = Image.new("RGB", (width + GAP, 2 * (height + GAP) + LABEL), PAPER)
    for row, one in enumerate(pair):
        tile.paste(one, (GAP // 2, GAP // 2 + row * (height + GAP)))
    draw = ImageDraw.Draw(tile)
    draw.text((tile.width // 2, 2 * (height + GAP)), name, INK, _font(name, width), "ma")
    return tile


def _font(name: str, width: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Letters of LETTERS px, or as large as the name fits into `width` px."""
    font = ImageFont.load_default(LETTERS)
    length = font.getlength(name)
    return font if length <= width else ImageFont.load_default(LETTERS * width / length)


def _large(picture: Pixels) -> Pixels:
    return picture.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)
