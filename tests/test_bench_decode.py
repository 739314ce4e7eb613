"""`clipscan bench decode`: ways from a JPEG to pixels, taking turns."""

import csv
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from clipscan import cli
from clipscan.bench import decode as bench_decode
from clipscan.bench import decode_ways
from clipscan.errors import InputError


def test_clipscan_bench_decode_prints_one_table_in_which_our_pixels_are_pillows(tmp_path):
    file = tmp_path / "own.csv"
    options = ["--size", "32", "--n", "1", "--rounds", "1", "--csv", str(file)]
    done = CliRunner().invoke(cli.app, ["bench", "decode", *options])
    assert done.exit_code == 0, done.output
    assert "to 32 x 32 pixels" in done.stdout and "times Pillow" in done.stdout
    lines = list(csv.DictReader(file.open()))
    assert tuple(lines[0]) == bench_decode.COLUMNS
    assert {line["kind"] for line in lines} == set(bench_decode.KINDS)
    assert {"clipscan", "Pillow", "draft"} <= {line["way"] for line in lines}
    for line in lines:
        assert float(line["cpu_us"]) > 0
        if line["way"] == "Pillow":
            assert (line["speedup"], line["difference"], line["worst"]) == ("1", "0", "0")
        if (
            line["way"] == "clipscan" and line["kind"] != "CMYK"
        ):  # which open_clip converts last, `Pillow` first
            assert line["worst"] == "0", line
    draft = [float(line["difference"]) for line in lines if line["way"] == "draft"]
    assert max(draft) > 0  # a scaled JPEG has other pixels


def test_ways_that_are_not_installed_are_named(monkeypatch):
    for module in ("simplejpeg", "turbojpeg", "cv2", "torchvision", "torchvision.io"):
        monkeypatch.setitem(sys.modules, module, None)
    said = []
    ways = decode_ways.installed_ways(said.append)
    assert [way.name for way in ways] == ["clipscan", "Pillow", "draft"]
    assert [line.partition(" ")[0] for line in said] == ["simplejpeg", "turbojpeg", "opencv", "torchvision"]


def test_drawn_photographs_are_different_and_use_the_levels():
    one, other = (np.asarray(bench_decode.photograph(120, 90, seed)) for seed in (0, 1))
    assert one.shape == (90, 120, 3) and (one != other).mean() > 0.9
    assert one.std() > 30


@pytest.mark.parametrize("name", ["size", "n", "rounds"])
def test_a_decoding_plan_is_refused_in_words(name):
    with pytest.raises(InputError, match="at least 1"):
        bench_decode.DecodePlan(**{name: 0})
