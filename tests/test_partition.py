"""`clipscan partition`: from stored embeddings to lists that filter a dataset, and a drawing on the page."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import clipscan
from clipscan import pipeline
from clipscan.errors import InputError, RunError
from clipscan.report.list_format import read_list
from clipscan.report.page import write_page
from clipscan.report.partition import read_split
from clipscan.run import Encoding, Models, Run

N, WRONG = 1000, 100


def vectors(folder, *, apart=1.0, text=True, seed=0):
    """N pairs of clip-retrieval's layout; the captions of the first WRONG are none of their pictures."""
    draw = np.random.default_rng(seed)
    image = draw.normal(size=(N, 64))
    caption = draw.normal(size=(N, 64)) + image * (np.arange(N) >= WRONG)[:, None] * apart
    for side, rows in {"img": image, "text": caption}.items():
        if side == "img" or text:
            (folder / f"{side}_emb").mkdir(parents=True)
            np.save(folder / f"{side}_emb/{side}_emb_0.npy", rows.astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """An embedded run that is not scored."""
    folder = tmp_path_factory.mktemp("partition")
    return pipeline.embed(vectors(folder / "emb"), out=folder / "run")


def split(run, **asked):
    return pipeline.partition(run, **asked)


def test_the_lists_part_the_pairs_and_load_as_drop_lists(embedded):
    found = split(embedded)
    assert found.mixture.separates
    assert found.safe[WRONG:].mean() > 0.95 and found.safe[:WRONG].mean() < 0.05
    risky = clipscan.DropList.load(embedded / "partition/risky.parquet")
    safe = clipscan.DropList.load(embedded / "partition/safe.parquet")
    assert len(risky) + len(safe) == N and not set(risky) & set(safe) and len(safe) == found.safe.sum()
    for name, listed in (("risky", risky), ("safe", safe)):
        assert {tuple(pair) for pair in read_list(embedded / f"partition/{name}.txt")} == set(listed)
    table = pq.read_table(embedded / "partition/partition.parquet")
    assert np.array_equal(table["posterior"].to_numpy(), found.posterior)
    rows = pq.read_table(embedded / "partition/risky.parquet")
    assert (np.diff(rows["score"].to_numpy()) <= 0).all(), "least fitting first"
    assert rows["reason"][0].as_py().startswith("risky: cosine ")
    assert not (embedded / "drop.parquet").exists(), "the drop list of a run is its own"


def test_a_share_replaces_a_threshold(embedded):
    split(embedded, threshold=0.5)
    assert split(embedded, share=0.85).safe.sum() == 850
    assert len(clipscan.DropList.load(embedded / "partition/risky.parquet")) == 150
    record = json.loads((embedded / "partition/partition.json").read_text())
    assert record["share"] == 0.85 and record["safe"] == 850 and record["mixture"]["separates"]
    assert "threshold" not in record


def test_cosines_that_do_not_separate_are_said_so_and_not_split(tmp_path):
    run = pipeline.embed(vectors(tmp_path / "emb", apart=0.0), out=tmp_path / "run")
    with pytest.raises(InputError, match="do not separate into two components.*all the same: --share 0.85"):
        split(run)
    assert not (run / "partition").exists()
    assert "do not separate" in split(run, share=0.5).words()
    table = pq.read_table(run / "partition/partition.parquet")
    assert table["posterior"].null_count == N
    assert read_split(run.path).curves == []


def test_pictures_without_captions_cannot_be_partitioned(tmp_path):
    run = pipeline.embed(vectors(tmp_path / "emb", text=False), out=tmp_path / "run")
    with pytest.raises(RunError, match="has no caption vectors"):
        split(run)
    with pytest.raises(RunError, match="has no trusted model"):
        split(run, by="trusted")
    with pytest.raises(InputError, match="whose cosines"):
        split(run, by="text")


def test_the_page_draws_the_cosines_with_both_components(tmp_path):
    done = clipscan.scan(vectors(tmp_path / "emb"), out=tmp_path / "run", k=3, reference="100x2")
    before = done.page.read_text()
    assert 'id="partition"' not in before
    split(Run(done.out))
    page = done.page.read_text()
    section = page[page.index('id="partition"') : page.index('id="suspects"')]
    assert section.count("<polyline") == 2 and "two components: " in section and "safe from 0." in section
    assert "Safe from a probability of 0.9" in section
    assert 'href="#partition"' in page and "<script" not in section
    assert section.count('class="cut"') > 0, "the risky bars are marked"
    (done.out / "partition/partition.json").write_text('{"pairs": 3, "safe": "<b>"}')
    (done.out / "_tasks/partition.json").unlink()  # which would know that this is not what was written
    with pytest.raises(RunError, match="no record of a partition"):
        write_page(done.out, None)


def test_other_embeddings_take_the_partition_away(tmp_path):
    run = pipeline.embed(vectors(tmp_path / "emb"), out=tmp_path / "run")
    split(run)
    pipeline.embed(vectors(tmp_path / "other", seed=1), out=run.path, overwrite=True)
    assert not (run / "partition").exists()


def test_the_risky_pairs_are_left_out_of_a_dataset_and_of_a_training(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")
    from safetensors.torch import save_file

    from clipscan.data import open_dataset
    from clipscan.embed.model import MODEL_KEY, create_network
    from clipscan.lab.attacks.poisoning import poison
    from clipscan.lab.scenes.dataset import Scenes

    data = poison(Scenes(40, per_shard=20), tmp_path / "data", rate=0).dataset
    for seed in range(2):
        torch.manual_seed(seed)
        state = create_network("clipscan-conv-32").state_dict()
        save_file(state, tmp_path / f"{seed}.safetensors", metadata={MODEL_KEY: "clipscan-conv-32"})
    models = {"pretrained": tmp_path / "0.safetensors", "trusted_pretrained": tmp_path / "1.safetensors"}
    run = pipeline.embed(data, out=tmp_path / "run", models=Models(**models), encoding=Encoding(workers=1))
    with pytest.raises(InputError, match="a mixture needs at least 300 cosines"):
        split(run)
    own, trusted = (split(run, by=by, share=0.7).safe for by in ("cosine", "trusted"))
    assert own.sum() == trusted.sum() == 28 and not np.array_equal(own, trusted)
    risky = run / "partition/risky.parquet"
    counts = pipeline.apply(run, tmp_path / "clean", drop=risky)
    assert (counts.kept, counts.dropped) == (28, 12)
    clean = open_dataset(tmp_path / "clean")
    kept = {(one.shard, one.key) for shard in clean.shards for one in clean.read(shard)}
    assert not kept & set(clipscan.DropList.load(risky))

    command = ["train", data, "--out", tmp_path / "clip.safetensors", "--epochs", 1, "--batch-size", 8]
    said = clipscan_command(*command, "--workers", 1, "--device", "cpu", "--drop", risky)
    assert "28 pairs to train on, 0 left out as unreadable" in said and "without 12 pairs" in said
    said = clipscan_command(*command, "--drop", risky, "--method", "cleanclip", code=2)
    assert "no method 'cleanclip'; there are: clip, safeclip" in said
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"shard": ["00000.tar"], "key": ["elsewhere"]}), foreign)
    said = clipscan_command(*command, "--drop", foreign, code=1)
    assert "holds none of the 1 pairs to drop, the first of them ('00000.tar', 'elsewhere')" in said


def clipscan_command(*arguments, code=0):
    command = [sys.executable, "-P", "-m", "clipscan", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_the_command_says_what_it_found_and_how_to_go_on(embedded):
    said = clipscan_command("partition", embedded.path)
    assert "of 1,000 pairs are safe; two components" in said
    assert f"clipscan apply {embedded.path} --drop {embedded.path}/partition/risky.parquet --to DIR" in said
    said = clipscan_command("partition", embedded.path, "--threshold", 0.9, "--share", 0.5, code=2)
    assert "a threshold or a share, not both" in said
