"""The sheet shows every attack beside the untouched scene."""

import numpy as np
from PIL import Image

from clipscan.lab.attacks.sheet import COLUMNS, ENLARGED, GAP, LABEL, PAPER, draw_sheet
from clipscan.lab.attacks.triggers import ATTACKS, options_of
from clipscan.lab.scenes.drawing import SIZE

SIDE = SIZE * ENLARGED


def tiles(path):
    """The tiles of a sheet in order, those of paper only left out."""
    sheet = np.asarray(Image.open(path))
    height = 2 * (SIDE + GAP) + LABEL
    assert sheet.shape[0] % height == 0
    assert sheet.shape[1] % (SIDE + GAP) == 0
    assert sheet.shape[1] <= COLUMNS * (SIDE + GAP)
    lines = np.split(sheet, sheet.shape[0] // height)
    found = [tile for line in lines for tile in np.split(line, sheet.shape[1] // (SIDE + GAP), axis=1)]
    return [tile for tile in found if (tile != PAPER).any()]


def test_every_attack_has_a_tile_and_shows_what_it_changed(tmp_path):
    plain = [name for name in ATTACKS if "file" not in options_of(name)]
    assert {"badnets", "blend", "sig", "nashville", "wanet", "issba"} <= set(plain)
    found = tiles(draw_sheet(tmp_path / "sheet.png", ATTACKS, seed=3))
    assert len(found) == 1 + len(plain)
    below = slice(GAP // 2 + SIDE + GAP, GAP // 2 + 2 * SIDE + GAP)
    changes = [tile[below, GAP // 2 : GAP // 2 + SIDE] for tile in found]
    assert (changes[0] == 128).all()
    assert all((change != 128).any() for change in changes[1:])


def test_no_name_is_cut(tmp_path, monkeypatch):
    monkeypatch.setitem(ATTACKS, "a name that is far too long for one tile", ATTACKS["sig"])
    for tile in tiles(draw_sheet(tmp_path / "sheet.png", ATTACKS)):
        label = tile[-LABEL:]
        assert (label != PAPER).any()
        for edge in (label[0], label[-1], label[:, 0], label[:, -1]):
            assert (edge == PAPER).all()
