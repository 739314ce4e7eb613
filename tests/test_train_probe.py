"""How long a training is, and what it says of itself at its end."""

import io

import numpy as np
import pytest
from PIL import Image
from train_helpers import FEW, Squares, same

from clipscan.data.sample import Sample
from clipscan.errors import RunError
from clipscan.scores.retrieval import Retrieval, Way, least
from clipscan.train import train_clip
from clipscan.train.recipe import epochs_for

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")


class Numbers(Squares):
    """600 pairs in two shards, of 250 captions and 200 pictures."""

    def read(self, shard):
        first = 300 * int(shard.name[0])
        for i in range(first, first + 300):
            file = io.BytesIO()
            Image.new("RGB", (32, 32), (i % 200, 255 - i % 200, 0)).save(file, "PNG")
            yield Sample(shard.name, str(i), file.getvalue(), f"number {97 * i % 250}")


def found(number):
    return Retrieval(1000, Way(0, number, 9.0), Way(0, number, 9.0))


@pytest.mark.parametrize("budget", [1 << 30, 10_000])
def test_a_probe_holds_pairs_of_the_data_no_two_of_one_picture_or_caption(tmp_path, budget):
    from clipscan.embed.decode_pool import DecodePool
    from clipscan.embed.pixels import PixelSpec
    from clipscan.train.batches import open_batches
    from clipscan.train.processes import Processes
    from clipscan.train.survey import survey

    def numbered(captions):
        return np.array([[int(caption.split()[1])] for caption in captions], np.int32)

    spec = PixelSpec(32)
    with DecodePool(1) as pool:
        data = Numbers()
        told = survey(data, tmp_path, spec, pool, budget=budget, fingerprint="", log=print)
        assert told.cached == (budget > 1 << 20)
        how = (told, data, tmp_path, spec, 0, numbered, Processes("cpu"), pool)
        probe, again = (open_batches(*how).probe() for _ in range(2))
    shade, number = probe.pixels[:, 16, 16, 0].astype(int), probe.tokens[:, 0]
    pairs = {(i % 200, 97 * i % 250) for i in range(600)}
    assert {*zip(shade.tolist(), number.tolist(), strict=True)} <= pairs
    assert len(set(shade)) == len(set(number)) == len(number) > 100
    assert (again.pixels == probe.pixels).all() and (again.tokens == probe.tokens).all()


@pytest.mark.parametrize("budget", [1 << 30, 10_000])
def test_a_training_that_is_looked_at_ends_with_the_same_weights(tmp_path, monkeypatch, budget):
    from clipscan.train import batches

    lines = []
    how = FEW | {"epochs": 4, "batch_size": 64, "cache_bytes": budget}
    train_clip(Numbers(), tmp_path / "seen.safetensors", log=lines.append, **how)
    assert sum(line.startswith("retrieval among ") for line in lines) == 1
    for source in (batches.Cached, batches.Streamed):
        monkeypatch.setattr(source, "probe", lambda _: None)
    train_clip(Numbers(), tmp_path / "unseen.safetensors", **how)
    assert same(tmp_path / "seen.safetensors", tmp_path / "unseen.safetensors")


def test_a_training_that_learns_nothing_says_so_and_how_to_go_on(tmp_path):
    lines = []
    how = FEW | {"epochs": 1, "batch_size": 64, "lr": 1e-12}
    train_clip(Numbers(), tmp_path / "clip.safetensors", log=lines.append, **how)
    assert "HARDLY LEARNT" in lines[-1] and "--epochs 2" in lines[-1]


def test_more_epochs_are_advised_where_retrieval_still_rises():
    from clipscan.train.probe import verdict

    assert "still rising" in verdict(found(400), found(300), 10)[-1]
    assert "--epochs 20" in verdict(found(400), found(300), 10)[-1]
    for before in (found(390), None):  # within what chance does to such a count; not known
        assert len(verdict(found(400), before, 10)) == 1
    assert "HARDLY LEARNT" in verdict(found(least(10) - 1), found(0), 10)[-1]


def test_small_datasets_get_more_epochs_and_no_dataset_is_learnt_by_heart():
    by_pairs = {n: epochs_for(n // 256) for n in (256, 1500, 6000, 20_000, 30_000, 50_000, 10**7)}
    assert by_pairs == {256: 150, 1500: 30, 6000: 30, 20_000: 26, 30_000: 18, 50_000: 11, 10**7: 10}


def test_a_training_sized_by_steps_is_known_again_and_is_none_of_stated_epochs(tmp_path, monkeypatch):
    from clipscan.train import recipe

    monkeypatch.setattr(recipe, "SHORTEST", 8)
    monkeypatch.setattr(recipe, "EPOCHS", (2, 3))
    lines = []
    out, how = tmp_path / "clip.safetensors", {**FEW, "epochs": None, "batch_size": 32}
    train_clip(Squares(), out, log=lines.append, **how)  # 76 pairs: 2 steps an epoch
    assert [line.split()[1] for line in lines if "loss" in line] == ["1/4", "2/4", "3/4", "4/4"]
    assert any("4 epochs, 8 steps" in line for line in lines)
    train_clip(Squares(), out, log=lines.append, **how)
    assert lines[-1].endswith("is already trained")
    with pytest.raises(RunError, match="epochs was by steps.*now 4"):
        train_clip(Squares(), out, **how | {"epochs": 4})
    stated = tmp_path / "stated.safetensors"
    train_clip(Squares(), stated, **how | {"epochs": 4})
    assert same(out, stated), "the number alone decides"
