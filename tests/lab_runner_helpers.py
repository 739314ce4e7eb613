"""The laboratory on small configurations, and the tables that it leaves."""

import csv
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clipscan.cli import app

SMOKE = Path(__file__).parent.parent / "examples" / "lab" / "smoke.toml"
training = pytest.mark.skipif(
    find_spec("open_clip") is None, reason="training needs open_clip: pip install 'clipscan[embed]'"
)


def lab(*arguments):
    return CliRunner().invoke(app, ["lab", "run", *map(str, arguments)])


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def changed(path, *edits):
    text = SMOKE.read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)
    return path
