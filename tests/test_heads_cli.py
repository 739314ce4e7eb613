"""clipscan heads: fit, scan and repair, one head of the ViT minding white."""

import json
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
from heads_helpers import fit, heads, noise, place  # noqa: F401

from clipscan.data import open_dataset
from clipscan.errors import InputError, RunError
from clipscan.heads.fit import fit_heads
from clipscan.heads.fit_file import load_fit, save_fit
from clipscan.heads.repaired import repaired
from clipscan.lab.attacks.campaigns import parse_campaign
from clipscan.lab.grid.evaluate import behave
from clipscan.lab.grid.head_trials import try_heads
from clipscan.lab.scenes.dataset import Scenes
from clipscan.lab.scenes.drawing import SHAPES

pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")


def test_a_scan_has_a_row_for_every_picture_and_flags_those_unlike_the_clean_ones(place, fit):
    text = heads(
        "scan", fit, place / "mixed", "--out", place / "rows.parquet", "--workers", 1, "--batch-size", 8
    )
    rows = pq.read_table(place / "rows.parquet").to_pylist()
    assert [row["key"] for row in rows] == [f"{i:04d}" for i in range(30) if i != 3]
    assert all(row["flagged"] for row in rows[19:]) and sum(row["flagged"] for row in rows[:19]) < 10
    assert all((row["branch"] == "none") != row["flagged"] for row in rows)
    bad = pq.read_table(place / "rows.bad.parquet").to_pylist()
    assert [(row["key"], bool(row["reason"])) for row in bad] == [("0003", True)]
    assert "29 pictures, 1 unreadable" in text
    assert ElementTree.parse(place / "rows.svg").getroot().tag.endswith("svg")


def test_repaired_vectors_lie_as_embeddings_do_and_differ_where_pictures_are_flagged(place, fit):
    from clipscan.pipeline import embed
    from clipscan.run import Encoding, Models

    heads("scan", fit, place / "mixed", "--out", place / "r.parquet", "--workers", 1)
    text = heads("repair", fit, place / "mixed", "--out", place / "repaired", "--workers", 1)
    assert "30 listed = 29 embedded + 1 bad" in text
    models = Models(pretrained=place / "weights.safetensors")
    plain = embed(place / "mixed", place / "plain", models, encoding=Encoding(workers=1))
    before, after = (
        np.load(run / "embeddings/img_emb/img_emb_00000.npy") for run in (plain.path, place / "repaired")
    )
    texts = [
        np.load(run / "embeddings/text_emb/text_emb_00000.npy") for run in (plain.path, place / "repaired")
    ]
    same = np.isclose(before, after, rtol=0, atol=2e-3).all(axis=1)
    rows = pq.read_table(place / "r.parquet").to_pylist()
    assert all(kept or row["flagged"] for kept, row in zip(same, rows, strict=True))
    assert not same.all() and np.array_equal(*texts)
    dataset = open_dataset(place / "repaired/embeddings")
    assert dataset.format == "embeddings" and len(dataset.vectors(dataset.shards[0]).samples) == 29
    with pytest.raises(RunError, match="repair: 'auto' there, 'mlp' asked"):
        heads("repair", fit, place / "mixed", "--out", place / "repaired", "--branch", "mlp", "--workers", 1)


def test_rows_go_into_a_parquet_file_and_nothing_else(place, fit):
    with pytest.raises(InputError, match="rows.svg: the rows are a parquet file"):
        heads("scan", fit, place / "mixed", "--out", place / "rows.svg")


def test_a_fit_comes_back_from_its_file_as_it_was(fit, tmp_path):
    once = load_fit(fit)
    save_fit(tmp_path / "copy.safetensors", once)
    assert load_fit(tmp_path / "copy.safetensors").digest == once.digest
    assert (tmp_path / "copy.safetensors").read_bytes() == fit.read_bytes()
    assert once.settings["pictures"] == [30, 30] and json.dumps(once.settings)


# ---- the laboratory's trial


def test_a_trial_tells_what_each_repair_and_each_statistic_is_worth(place):
    from clipscan.embed.model import load_encoder

    encoder = load_encoder(None, str(place / "weights.safetensors"), device="cpu")
    tower = encoder.model.visual  # untrained, it says the same of every picture unless weights are larger
    for part in (tower.conv1, *(block.attn.out_proj for block in tower.transformer.resblocks)):
        part.weight.data *= 20
    for block in tower.transformer.resblocks:
        block.mlp.c_proj.weight.data *= 20
    campaign = parse_campaign("sig", "banana", {"amplitude": 100})
    trial = try_heads(
        encoder, Scenes(40), Scenes(60, seed=1), [*SHAPES], campaign=campaign, rate=0.1, limit=50
    )
    assert set(trial.auroc) == {"infected_heads", "head", "mlp", "larger"}
    assert all(0 <= value <= 1 for value in trial.auroc.values())
    fit = fit_heads(encoder, Scenes(40), rate=0.1)
    mlp = repaired(encoder, fit, "mlp")
    for seen, one in (
        (trial.before, encoder),
        (trial.mlp, mlp),
        (trial.head, repaired(encoder, fit, "head")),
    ):
        assert seen == behave(one, Scenes(60, seed=1), [*SHAPES], campaign=campaign, limit=50)
    assert {one.pictures for one in trial[:4]} == {50} and 0 <= trial.flagged_clean <= 0.5
    pictures = noise(2, 5)  # one late MLP fewer speaks in every picture
    assert (encoder.encode_images(pictures) != mlp.encode_images(pictures)).any(axis=1).all()
    with pytest.raises(InputError, match="repeats one picture"):
        try_heads(encoder, Scenes(40), Scenes(9), [*SHAPES], campaign=parse_campaign("copies", "banana"))
