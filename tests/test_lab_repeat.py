"""`clipscan lab repeat`: how far the number to drop depends on seeds and identities."""

import numpy as np
import pytest
from disturbance import SEED
from typer.testing import CliRunner
from worlds import D, N, World

from clipscan import cli
from clipscan.lab.grid.cell_scores import CellVectors
from clipscan.lab.grid.repeat import Repetition, near_median, repeat


@pytest.fixture
def poisoned(monkeypatch):
    """Names of the 80 planted pairs of a world, which stands for every run folder."""
    world = World(SEED)
    rows = world.some(80)
    world.say(rows, world.draw.normal(size=(80, D)))
    world.pictures[rows] += 6 * world.trait
    names = [("00000.tar", f"{row:05d}") for row in range(N)]
    arrays = (x.astype(np.float32) for x in (world.image, world.text, world.pictures))
    image, text, pictures = arrays
    vectors = CellVectors(image, text, names, pictures)
    monkeypatch.setattr(CellVectors, "of", classmethod(lambda cls, run: vectors))
    return {names[row] for row in rows}


def test_each_seed_is_scored_by_both_identities_and_the_planted_are_counted(tmp_path, poisoned):
    found = list(repeat(tmp_path, [0, 1], poisoned))
    assert [(one.seed, one.identity) for one in found] == [
        (0, "content"), (0, "names"), (1, "content"), (1, "names"),
    ]  # fmt: skip
    assert all(72 <= one.planted <= min(80, one.dropped) for one in found)
    assert np.isnan(next(repeat(tmp_path, [0])).planted)


def test_near_the_median_is_within_a_tenth_of_it():
    found = [Repetition(0, "names", dropped, np.nan) for dropped in (100, 100, 90, 110, 89, 111)]
    assert near_median(found) == pytest.approx(4 / 6)
    assert near_median([Repetition(0, "names", 0, np.nan)] * 3) == 1.0


def test_the_command_prints_each_scoring_and_the_range(tmp_path, poisoned):
    done = CliRunner().invoke(cli.app, ["lab", "repeat", str(tmp_path), "--seeds", "2"])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert len(lines) == 5 and lines[0].startswith("seed  0, drawn by content: ")
    assert lines[-1].startswith("4 scorings: ") and "planted" not in done.stdout
