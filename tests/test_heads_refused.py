"""What clipscan heads refuses: too few pictures, other encoders, fits that were tampered with."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from heads_helpers import fit, heads, noise, place, write_folder  # noqa: F401

from clipscan.data import open_dataset
from clipscan.embed.decode_pool import DecodePool
from clipscan.errors import DataError, InputError
from clipscan.heads.fit_file import KIND, load_fit, save_fit

pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")

MODEL = "clipscan-vit-32"


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
