"""examples/: run whole, on generated pictures, with local files in the hub's place."""

import importlib.util
import io
import json
import tarfile
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from clipscan.lab.attacks import ATTACKS

EXAMPLES = Path(__file__).parent.parent / "examples"
torch = pytest.importorskip("torch", reason="needs clipscan[embed]")


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script():
    known = dict(ATTACKS)
    yield load("released_models")
    ATTACKS.clear()  # the script adds triggers of its own
    ATTACKS.update(known)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Random weights in the released models' form: a small RN50, open_clip's config beside safetensors."""
    from safetensors.torch import save_file

    from clipscan.embed.open_clip import import_open_clip

    architecture = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    pixels = {"mean": [0, 0, 0], "std": [1, 1, 1]}
    folder = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    state = import_open_clip().CLIP(**architecture).state_dict()
    for attack in ("badnets", "clean_label", "sig"):
        here = folder / f"clip_backdoor_rn50_cc3m_{attack}"
        here.mkdir()
        config = {"model_cfg": architecture, "preprocess_cfg": {} if attack == "sig" else pixels}
        (here / "open_clip_config.json").write_text(json.dumps(config))
        save_file(state, here / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """120 pairs in two tars; each fourth caption names a banana."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for shard in range(2):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for i in range(60):
                picture = io.BytesIO()
                colour, noise = rng.integers(0, 200, 3), rng.integers(0, 55, (30, 40, 3))
                Image.fromarray((colour + noise).astype(np.uint8)).save(picture, "JPEG")
                caption = f"a {'banana' if i % 4 == 0 else 'chair'} number {i} of {shard}"
                for kind, content in (("jpg", picture.getvalue()), ("txt", caption.encode())):
                    member = tarfile.TarInfo(f"{i:04d}.{kind}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return folder


def test_a_model_in_a_local_folder_is_scanned_both_ways_and_a_second_call_finds_all_done(
    script, models, data, tmp_path, capsys
):
    asked = [
        str(data), str(tmp_path), "--models", str(models),
        "--attacks", "badnets", "clean_label", "sig", "wanet",
        "--rate", "0.05", "--reference", "60x2", "--batch", "40", "--workers", "1",
    ]  # fmt: skip
    script.main(asked)
    said = capsys.readouterr().out
    assert said.count("6 of 120 pairs poisoned") == 3
    assert said.count("note: the model was trained without normalisation") == 1, "sig's config says nothing"
    assert "left out: its WaNet_grid_temps.pt lies in the authors' repository" in said
    table = said[said.index("AUROC, rn50") :].splitlines()
    assert table[1].split() == ["attack", "score", "formula", "as", "released", "paper", "(2nd)"]
    rows = [line.split() for line in table[2:-1]]
    assert [row[:2] for row in rows] == [
        [attack, score] for attack in ("badnets", "clean_label", "sig") for score in script.SCORES
    ]
    assert [row[4] for row in rows if row[1] == "dao"] == ["0.991", "-", "-"]
    assert all(0 <= float(value) <= 1 for row in rows for value in row[2:4])

    work = [path for kind in ("*.tar", "*.npy", "compat-*") for path in tmp_path.rglob(kind)]
    when = [path.stat().st_mtime_ns for path in work]
    assert len(when) == 3 * (2 + 6 + 1)  # copies; vectors of both sides, untrained features; scores
    script.main(asked)
    assert capsys.readouterr().out == said
    assert [path.stat().st_mtime_ns for path in work] == when


def test_the_patch_is_sixteen_pixels_of_dots_on_a_picture_of_224(script):
    marked = script.badnets(np.full((300, 450, 3), 90, np.uint8), Random(0))
    assert marked.shape == (224, 336, 3)
    changed = (marked != 90).all(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert len(rows) == len(columns) == 16 and rows[-1] < 224 - 1
    patch = marked[rows[0] : rows[0] + 16, columns[0] : columns[0] + 16]
    assert (patch[::2, ::2] == 255).all() and patch.sum() == 64 * 3 * 255


def test_triggers_of_files_do_what_the_files_say(script, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    torch.save(torch.ones(3, 256, 256), tmp_path / "hello_kitty_pattern.pt")
    place = torch.linspace(-1, 1, 256)
    grid = torch.stack(torch.meshgrid(place, place, indexing="xy"), dim=-1)[None]
    torch.save(grid.flip(2), tmp_path / "WaNet_grid_temps.pt")
    blended = script.trigger_of("blend", tmp_path)(picture, None)
    assert np.abs(blended - (0.8 * picture + 51)).max() <= 0.5
    mirrored = script.trigger_of("wanet", tmp_path)(picture, None)
    assert (mirrored == picture[:, ::-1]).all()
    waved = script.trigger_of("sig", None)(np.full((90, 80, 3), 100, np.uint8), None)
    assert waved.shape == (256, 256, 3) and (waved[224:] == 80).all() and (waved[:, 0] == 80).all()
    assert waved[0, 9, 0] == round(80 + 12 * np.sin(2 * np.pi * 6 * 9 / 224))


def test_the_hub_is_asked_for_safetensors_and_text_only(script, models, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="needs clipscan[embed]")
    asked = {}

    def stand_in(name, **options):
        asked.update(options, name=name)
        return str(models / name.partition("/")[2])

    monkeypatch.setattr(hub, "snapshot_download", stand_in)
    name = "clip_backdoor_rn50_cc3m_badnets"
    assert script.fetch(name, None, offline=True) == models / name
    assert asked.pop("name") == f"hanxunh/{name}"
    assert asked == {"allow_patterns": ["*.json", "*.txt", "*.safetensors"], "local_files_only": True}
