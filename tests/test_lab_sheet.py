"""The sheet shows every attack beside the untouched scene."""

import numpy as np
from PIL import Image

from clipscan.lab.attacks.sheet import ENLARGED, GAP, draw_sheet
from clipscan.lab.attacks.triggers import ATTACKS, options_of
from clipscan.lab.scenes.drawing import SIZE


def test_every_attack_has_a_column_and_shows_what_it_changed(tmp_path):
    sheet = np.asarray(Image.open(draw_sheet(tmp_path / "sheet.png", ATTACKS, seed=3)))
    side = SIZE * ENLARGED
    plain = [name for name in ATTACKS if "file" not in options_of(name)]
    assert {"badnets", "blend", "sig", "nashville", "wanet", "issba"} <= set(plain)
    assert sheet.shape[1] == (1 + len(plain)) * (side + GAP)
    columns = np.split(sheet, 1 + len(plain), axis=1)
    below = slice(GAP // 2 + side + GAP, GAP // 2 + 2 * side + GAP)
    changes = [column[below, GAP // 2 : GAP // 2 + side] for column in columns]
    assert (changes[0] == 128).all()
    assert all((change != 128).any() for change in changes[1:])
