"""Training: it learns, it can be killed, it refuses to mix."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from train_helpers import COLOURS, FEW, Squares, Stop, same, weights

from clipscan.data.sample import Bad
from clipscan.errors import DataError, InputError, RunError
from clipscan.train import train_clip
from clipscan.train.recipe import Recipe

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """FEW epochs on Squares, and what was said."""
    lines = []
    out = tmp_path_factory.mktemp("train") / "clip.safetensors"
    return train_clip(Squares(), out, log=lines.append, **FEW), lines


def test_a_training_goes_on_from_the_weights_that_it_is_given(undisturbed, tmp_path):
    start, out = undisturbed[0], tmp_path / "clip.safetensors"
    train_clip(Squares(), out, init=start, lr=1e-12, weight_decay=0.0, **FEW)
    before, after = weights(start), weights(out)
    learnt = [name for name in before if before[name].is_floating_point() and "running" not in name]
    assert learnt and all(torch.allclose(before[name], after[name], atol=1e-8) for name in learnt)
    with pytest.raises(RunError, match="init was"):
        train_clip(Squares(), out, lr=1e-12, weight_decay=0.0, **FEW)
    with pytest.raises(InputError, match="is not for this model"):
        train_clip(Squares(), tmp_path / "vit.safetensors", init=start, model="clipscan-vit-32", **FEW)


def test_the_weights_to_go_out_from_are_read_once(undisturbed, tmp_path, monkeypatch):
    from clipscan.embed import checkpoint

    read, load = [], checkpoint._read_safetensors
    monkeypatch.setattr(checkpoint, "_read_safetensors", lambda path: read.append(path) or load(path))
    train_clip(Squares(), tmp_path / "clip.safetensors", init=undisturbed[0], **FEW)
    assert read == [undisturbed[0]]


def test_it_learns_what_the_captions_say(tmp_path):
    from clipscan.embed.model import load_encoder

    lines = []
    out = train_clip(Squares(160), tmp_path / "clip.safetensors", log=lines.append, **{**FEW, "epochs": 8})
    losses = [float(line.split("loss ")[1].split()[0]) for line in lines if "loss" in line]
    chance, best = np.log(16), np.log(4)  # of a batch of 16 with four captions in it
    assert len(losses) == 8 and losses[-1] < (chance + best) / 2
    assert all("images/s" in line and "left" in line for line in lines if "loss" in line)

    encoder = load_encoder(None, str(out))  # no name needed
    assert encoder.name == "clipscan-conv-32"
    pictures = np.stack([np.full((32, 32, 3), colour, np.uint8) for colour in COLOURS.values()])
    image = encoder.encode_images(pictures)
    text = encoder.encode_texts([f"a {name} square" for name in COLOURS])
    assert (image @ (text / np.linalg.norm(text, axis=1, keepdims=True)).T).argmax(1).tolist() == [0, 1, 2, 3]


def test_what_cannot_be_read_is_counted_and_named(undisturbed):
    out, lines = undisturbed
    assert "76 pairs to train on, 6 left out as unreadable" in lines
    assert any("not a picture" in line for line in lines) and any("no caption" in line for line in lines)
    assert sorted(path.name for path in out.parent.iterdir()) == ["clip.safetensors"]


KILLED = """
import os, signal, sys
sys.path[:0] = [{here!r}]
from pathlib import Path
from clipscan.train import train_clip
from train_helpers import FEW, Squares
def log(line):
    if line.startswith("epoch 2/"): os.kill(os.getpid(), signal.SIGKILL)
train_clip(Squares(), Path(sys.argv[1]), log=log, **FEW)
"""


def test_a_killed_training_goes_on_to_the_same_weights(undisturbed, tmp_path):
    out = tmp_path / "clip.safetensors"
    code = KILLED.format(here=str(Path(__file__).parent))
    ended = subprocess.run([sys.executable, "-P", "-c", code, str(out)], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not out.exists()
    lines = []
    train_clip(Squares(), out, log=lines.append, **FEW)
    assert "going on after epoch 1 of 3" in lines
    assert same(out, undisturbed[0])


def stopping(line):
    if line.startswith("epoch 2/"):
        raise Stop


def test_a_training_is_not_mixed_with_other_settings_or_data(tmp_path):
    out = tmp_path / "clip.safetensors"
    with pytest.raises(Stop):
        train_clip(Squares(), out, log=stopping, **FEW)
    with pytest.raises(RunError, match=r"lr was 0.002, now 0.1"):
        train_clip(Squares(), out, lr=0.1, **FEW)
    with pytest.raises(RunError, match="dataset was"):
        train_clip(Squares(size=2), out, **FEW)
    lines = []
    train_clip(Squares(), out, lr=0.001, resume=False, log=lines.append, **FEW)
    assert not any("going on" in line for line in lines)


def test_a_finished_file_is_kept(undisturbed, tmp_path):
    out, _ = undisturbed
    stamp = out.stat().st_mtime_ns
    lines = []
    assert train_clip(Squares(), out, log=lines.append, **FEW) == out
    assert lines == [f"{out} is already trained"] and out.stat().st_mtime_ns == stamp
    with pytest.raises(RunError, match="epochs was 3, now 4"):
        train_clip(Squares(), out, **{**FEW, "epochs": 4})
    other = tmp_path / "notes.safetensors"
    other.write_text("mine")
    with pytest.raises(RunError, match="not made by clipscan"):
        train_clip(Squares(), other, **FEW)
    assert other.read_text() == "mine"


def test_snapshots_are_the_encoder_on_its_way_and_change_nothing(undisturbed, tmp_path):
    out = train_clip(Squares(), tmp_path / "clip.safetensors", snapshots=(1, 3), **FEW)
    assert same(out, undisturbed[0]) and same(out, tmp_path / "clip-epoch03.safetensors")
    early = weights(tmp_path / "clip-epoch01.safetensors")
    assert early.keys() == weights(out).keys() and not same(out, tmp_path / "clip-epoch01.safetensors")


def test_a_dataset_beyond_the_budget_is_streamed_and_resumes_too(tmp_path):
    whole, stopped = tmp_path / "whole.safetensors", tmp_path / "stopped.safetensors"
    lines = []
    train_clip(Squares(), whole, cache_bytes=10_000, log=lines.append, **FEW)
    assert any("decoding again in every epoch" in line for line in lines)
    assert [line.split()[1] for line in lines if "loss" in line] == ["1/3", "2/3", "3/3"]
    with pytest.raises(Stop):
        train_clip(Squares(), stopped, cache_bytes=10_000, log=stopping, **FEW)
    train_clip(Squares(), stopped, cache_bytes=10_000, **FEW)
    assert same(whole, stopped)


def test_the_callers_random_numbers_and_threads_are_left_alone(tmp_path):
    threads = torch.get_num_threads()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train_clip(Squares(), tmp_path / "clip.safetensors", **{**FEW, "epochs": 1})
    assert torch.equal(torch.rand(3), expected) and torch.get_num_threads() == threads


def test_impossible_requests_are_refused_in_words(tmp_path):
    out = tmp_path / "clip.safetensors"
    for options, error, message in [
        ({"batch_size": 500}, InputError, "batch_size=500 is more than the 76 readable pairs"),
        ({"batch_size": 1}, InputError, "batch_size >= 2"),
        ({"epochs": 0}, InputError, "epochs >= 1"),
        ({"lr": -1.0}, InputError, "lr > 0"),
        ({"model": "clipscan-conv-33"}, InputError, "no model 'clipscan-conv-33'"),
        ({"out": tmp_path / "clip.pt"}, InputError, ".safetensors file"),
        ({"device": "gpu"}, InputError, "device must be"),
        ({"workers": 0}, ValueError, "at least one"),
    ]:
        with pytest.raises(error, match=message):
            train_clip(Squares(), **{"out": out, **FEW, **options})

    class Nothing(Squares):
        def read(self, shard):
            yield Bad(shard.name, "a", "truncated tar")

    with pytest.raises(DataError, match="no readable pair, 2 unreadable"):
        train_clip(Nothing(), tmp_path / "nothing.safetensors", **FEW)


def test_a_diverged_training_says_so(tmp_path, monkeypatch):
    from clipscan.train.loop import Trainer

    monkeypatch.setattr(Trainer, "step", lambda *_: torch.tensor(float("nan")))
    with pytest.raises(RunError, match="smaller lr"):
        train_clip(Squares(), tmp_path / "clip.safetensors", **FEW)


def test_stepping_over_the_used_rows_is_stepping_over_the_whole_table():
    from torch import nn

    from clipscan.train.vocabulary import narrow, widen

    def trained(used):
        torch.manual_seed(0)
        network = nn.Module()
        network.token_embedding = nn.Embedding(50, 4)
        if used is not None:
            narrow(network, used)
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.0, fused=True)
        for step in range(5):
            optimizer.zero_grad()
            tokens = torch.tensor([[3, 7, 7], [40, 3, 12 if step % 2 else 49]])
            network.token_embedding(tokens).pow(2).sum().backward()
            optimizer.step()
        widen(network)
        return network.token_embedding.weight

    assert torch.equal(trained(None), trained(torch.tensor([3, 7, 12, 40, 49])))


def test_shifts_move_a_picture_whole_and_flips_mirror_it():
    from clipscan.train.augment import shift_and_flip

    size = 40
    column = torch.arange(size, dtype=torch.uint8)[None, None, :, None].expand(64, size, size, 3).contiguous()
    shifted = shift_and_flip(column, torch.Generator().manual_seed(0), flip=False).int()
    step = shifted[:, 0, 1:, 0] - shifted[:, 0, :-1, 0]
    assert ((step == 1) | (step == 0)).all() and (step.sum(1) >= size - 1 - 4).all()
    starts = shifted[:, 0, 20, 0].unique()
    assert starts.min() == 16 and starts.max() == 24  # up to a tenth of 40 pixels, either way
    flipped = shift_and_flip(column, torch.Generator().manual_seed(0)).int()
    mirrored = flipped[:, 0, 0, 0] > flipped[:, 0, -1, 0]
    assert 16 < int(mirrored.sum()) < 48
    assert torch.equal(flipped[~mirrored], shifted[~mirrored])
    assert torch.equal(flipped[mirrored], shifted[mirrored].flip(2))


def test_the_rate_warms_up_and_ends_at_nothing():
    recipe = Recipe("m", 1, 2, 0.1, 0.0, 0.1, 0, True, "cpu", "fp32", "")
    rates = [recipe.rate(step, 100) for step in range(101)]
    assert (
        rates[0] == pytest.approx(0.01)
        and max(rates) == pytest.approx(0.1)
        and rates[10] == pytest.approx(0.1)
    )
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0)
