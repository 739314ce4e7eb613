"""clipscan bench embed: one table with every part, of pictures of web size."""

import csv
import io
import itertools

import pytest
from PIL import Image
from typer.testing import CliRunner

from clipscan import bench, cli
from clipscan.bench import embed as bench_embed
from clipscan.errors import InputError

EMBED = ["bench", "embed", "--device", "cpu", "--workers", "1", "--model"]
PARTS = ["encoder", "captions", "decode", "untrained", "end to end"]


@pytest.mark.parametrize(
    ("model", "parts"),
    [("clipscan-conv-32", PARTS), ("clipscan-vit-32", ["encoder", "heads", *PARTS[1:]])],
)
def test_clipscan_bench_embed_prints_one_table_with_every_part(tmp_path, model, parts):
    pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")
    file = tmp_path / "own.csv"
    options = ["--n", "20", "--batch-size", "8", "--rounds", "2", "--csv", str(file)]
    done = CliRunner().invoke(cli.app, [*EMBED, model, *options])
    assert done.exit_code == 0, done.output
    assert f"{model}, fp32, on cpu" in done.stdout and "20 JPEG pictures of 400 x 300" in done.stdout
    lines = list(csv.DictReader(file.open()))
    assert tuple(lines[0]) == bench_embed.COLUMNS
    assert [line["case"] for line in lines] == parts
    for line in lines:
        assert 0 < float(line["rate_p20"]) <= float(line["rate_median"]) <= float(line["rate_p80"])
        assert (line["n"], line["workers"], line["rounds"], line["compiled"]) == ("20", "1", "2", "0")


def test_clipscan_bench_embed_leaves_the_file_of_the_search_alone(tmp_path):
    file = tmp_path / "results.csv"
    bench.append(file, [{"peer": "clipscan"}])
    before = file.read_text()
    done = CliRunner().invoke(cli.app, [*EMBED, "clipscan-conv-32", "--csv", str(file)])
    assert isinstance(done.exception, InputError) and "other columns" in str(done.exception)
    assert file.read_text() == before


def test_generated_pictures_are_different_pictures_of_web_size():
    pairs = list(itertools.islice(bench_embed.generated(), 40))
    assert len({pair.image for pair in pairs}) == len({pair.caption for pair in pairs}) == 40
    for pair in pairs[:3]:
        with Image.open(io.BytesIO(pair.image)) as picture:
            assert picture.format == "JPEG" and picture.size == bench_embed.SIZE


def test_an_embedding_plan_is_refused_in_words():
    with pytest.raises(InputError, match="at least 1"):
        bench_embed.EmbedPlan(n=0)
