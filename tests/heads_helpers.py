"""A ViT of which one head minds white, pictures for it, and its fit."""

import numpy as np
import pytest
from once import once
from PIL import Image
from planted import a_watchful_head
from typer.testing import CliRunner

from clipscan.cli import app

pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")


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


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """weights.safetensors; clean: 60 pictures of noise; mixed: 20 of noise, one of them broken, 10 halved."""
    return once("heads", lambda: _place(tmp_path_factory.mktemp("heads")))


def _place(folder):
    a_watchful_head(folder / "weights.safetensors")
    write_folder(folder / "clean", noise(60, 0))
    odd = 255 * (np.indices((10, 32, 32))[1] // 16).astype(np.uint8)[..., None].repeat(3, axis=3)
    write_folder(folder / "mixed", [*noise(20, 1), *odd])
    (folder / "mixed/0003.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="session")
def fit(place):
    return once("fit of heads", lambda: _fit(place))


def _fit(place):
    text = heads(
        "fit", place / "clean", "--pretrained", place / "weights.safetensors", "--rate", 0.05,
        "--workers", 1, "--out", place / "fit.safetensors",
    )  # fmt: skip
    assert "30 clean pictures made the prototypes, 30 others the thresholds" in text
    return place / "fit.safetensors"
