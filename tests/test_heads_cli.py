"""clipscan heads: fit, scan, repair, one head of the ViT minding white; and what they refuse."""

import json
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from planted import a_watchful_head
from typer.testing import CliRunner

from clipscan.cli import app
from clipscan.data import open_dataset
from clipscan.embed.decode import DecodePool
from clipscan.errors import DataError, InputError, RunError
from clipscan.heads.fit import fit_heads
from clipscan.heads.fit_file import KIND, load_fit, save_fit
from clipscan.heads.repaired import repaired
from clipscan.lab.attacks.campaigns import parse_campaign
from clipscan.lab.grid.evaluate import behave
from clipscan.lab.grid.head_trials import try_heads
from clipscan.lab.scenes.dataset import Scenes
from clipscan.lab.scenes.drawing import SHAPES

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")

MODEL = "clipscan-vit-32"


def heads(*arguments):
    """What `clipscan heads ...` prints; its errors are raised."""
    done = CliRunner().invoke(app, ["heads", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def write_folder(folder, pictures):
    folder.mkdir()
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"{number:04d}.png")
        (folder / f"{number:04d}.txt").write_text(f"picture {number}")
    return folder


def noise(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """weights.safetensors; clean: 60 pictures of noise; mixed: 20 of noise, one of them broken, 10 halved."""
    folder = tmp_path_factory.mktemp("heads")
    a_watchful_head(folder / "weights.safetensors")
    write_folder(folder / "clean", noise(60, 0))
    odd = 255 * (np.indices((10, 32, 32))[1] // 16).astype(np.uint8)[..., None].repeat(3, axis=3)
    write_folder(folder / "mixed", [*noise(20, 1), *odd])
    (folder / "mixed/0003.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def fit(place):
    text = heads(
        "fit", place / "clean", "--pretrained", place / "weights.safetensors", "--rate", 0.05,
        "--workers", 1, "--out", place / "fit.safetensors",
    )  # fmt: skip
    assert "30 clean pictures made the prototypes, 30 others the thresholds" in text
    return place / "fit.safetensors"


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


def test_a_fit_of_another_encoder_is_refused(place, fit):
    from safetensors.torch import load_file, save_file

    other = {name: weight + 0.01 for name, weight in load_file(place / "weights.safetensors").items()}
    save_file(other, place / "other.safetensors", {"clipscan_model": MODEL})
    with pytest.raises(InputError, match="another encoder.*weights_sha256.*fit anew"):
        heads(
            "scan",
            fit,
            place / "mixed",
            "--pretrained",
            place / "other.safetensors",
            "--out",
            place / "x.parquet",
        )
    assert not (place / "x.parquet").exists()


def test_too_few_clean_pictures_are_refused_with_the_number_that_would_do(place):
    weights = place / "weights.safetensors"
    with pytest.raises(DataError, match="clean: 60 readable clean pictures.*needs 198"):
        heads(
            "fit", place / "clean", "--pretrained", weights, "--out", place / "no.safetensors", "--workers", 1
        )
    with pytest.raises(InputError, match="limit=10 pictures are too few.*198"):
        heads(
            "fit", place / "clean", "--pretrained", weights, "--limit", 10, "--out", place / "no.safetensors"
        )
    assert not (place / "no.safetensors").exists()


def test_a_convolution_tower_and_a_folder_of_vectors_are_refused(place, fit):
    from safetensors.torch import save_file

    from clipscan.embed.model import create_network

    state = create_network("clipscan-conv-32").state_dict()
    save_file(state, place / "conv.safetensors", {"clipscan_model": "clipscan-conv-32"})
    with pytest.raises(InputError, match="clipscan-conv-32 cannot be taken apart into heads.*timm"):
        heads(
            "fit",
            place / "clean",
            "--pretrained",
            place / "conv.safetensors",
            "--out",
            place / "no.safetensors",
        )
    np.save(place / "vectors.npy", np.ones((9, 4), np.float32))
    for verb in ("scan", "repair"):
        with pytest.raises(InputError, match="holds embeddings"):
            heads(verb, fit, place / "vectors.npy", "--out", place / "none.parquet")


def test_rows_go_into_a_parquet_file_and_nothing_else(place, fit):
    with pytest.raises(InputError, match="rows.svg: the rows are a parquet file"):
        heads("scan", fit, place / "mixed", "--out", place / "rows.svg")


def test_a_dataset_without_one_readable_picture_is_an_error_that_leaves_nothing(place, fit, tmp_path):
    folder = write_folder(tmp_path / "broken", noise(2, 0))
    for file in folder.glob("*.png"):
        file.write_bytes(b"GIF89a")
    with pytest.raises(DataError, match="not one readable picture, 2 were refused"):
        heads("scan", fit, folder, "--out", tmp_path / "rows.parquet", "--workers", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_no_readable_clean_picture_is_an_error_that_names_the_dataset(place, tmp_path):
    folder = write_folder(tmp_path / "broken", noise(2, 0))
    for file in folder.glob("*.png"):
        file.write_bytes(b"GIF89a")
    with pytest.raises(DataError, match="broken: not one clean picture"):
        heads(
            "fit",
            folder,
            "--pretrained",
            place / "weights.safetensors",
            "--out",
            tmp_path / "fit.safetensors",
        )


def test_a_picture_without_finite_terms_is_bad_not_fatal(place):
    from clipscan.embed.model import load_encoder
    from clipscan.heads.read_terms import read_terms

    encoder = load_encoder(None, str(place / "weights.safetensors"), device="cpu")
    encoder.model.visual.proj.data.zero_()  # an embedding without length has no direction
    dataset = open_dataset(place / "mixed")
    with DecodePool(1) as pool:
        (batch,) = read_terms(dataset.read(dataset.shards[0]), encoder, pool)
    assert batch.terms is None and len(batch.bad) == 30 and not batch.samples
    assert sum("not finite, or zero" in one.reason for one in batch.bad) == 29


def hostile():
    """(what is done to a good fit's bytes or arrays, what is said of it)"""
    yield lambda arrays, told: arrays.pop("floor"), "holds no fit"
    yield lambda arrays, told: told.clear(), "holds no fit"
    yield lambda arrays, told: arrays.update(mean=arrays["mean"] * np.nan), "mean holds NaN"
    yield lambda arrays, told: arrays.update(mean=arrays["mean"].astype(np.float32)), "mean is float32"
    yield lambda arrays, told: arrays.update(mean=arrays["mean"].ravel()), "beside a mean of"
    yield lambda arrays, told: arrays.update(floor=np.zeros(99)), "floor is (99,)"
    yield lambda arrays, told: arrays.update(unit=np.zeros(2)), "not above zero"
    yield lambda arrays, told: arrays.update(threshold=np.zeros(3)), "threshold is (3,)"
    yield lambda arrays, told: told.update({KIND: "[]"}), "which encoder"
    yield lambda arrays, told: told.update({KIND: "not json"}), "which encoder"
    yield (
        lambda arrays, told: told.update({KIND: '{"encoder": {"precision": 3}, "place": 1}'}),
        "which encoder",
    )


@pytest.mark.parametrize(
    "change, words", list(hostile()), ids=lambda one: one if isinstance(one, str) else ""
)
def test_a_fit_that_was_tampered_with_is_refused_in_words(fit, tmp_path, change, words):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(fit, framework="numpy") as file:
        arrays, told = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    change(arrays, told)
    save_file(arrays, tmp_path / "fit.safetensors", told)
    with pytest.raises(InputError) as error:
        load_fit(tmp_path / "fit.safetensors")
    assert words in str(error.value) and "clipscan heads fit" in str(error.value)


def test_prototypes_of_another_shape_are_refused_for_the_right_encoder_too(place, fit):
    good = load_fit(fit)
    save_fit(place / "narrow.safetensors", replace(good, prototype=good.prototype[..., :-1]))
    for verb, out in (("scan", "x.parquet"), ("repair", "x")):
        with pytest.raises(InputError, match=r"\(6, 7, 127\), where clipscan-vit-32 has \(6, 7, 128\)"):
            heads(verb, place / "narrow.safetensors", place / "mixed", "--out", place / out)


def test_without_the_extra_the_error_names_it(fit, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match="clipscan\\[embed\\]"):
        load_fit(fit)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04N.", b"\xff" * 64])
def test_what_is_no_safetensors_file_is_refused(tmp_path, content):
    (tmp_path / "fit.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="is not a safetensors file"):
        load_fit(tmp_path / "fit.safetensors")
    with pytest.raises(InputError, match="there is no file"):
        load_fit(tmp_path / "none.safetensors")


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
